"""`fundoscope dicom`: DICOM photographs at the desk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fundoscope.cli.options import Quiet

app = typer.Typer(help="DICOM photographs: taking out what tells whose they are.", no_args_is_help=True)


@app.callback()
def _dicom() -> None:
    """DICOM photographs: taking out what tells whose they are."""


@app.command()
def deidentify(
    photos: Annotated[list[str], typer.Argument(help="DICOM files, folders, globs, a DICOMDIR, or - for a list.")],
    out: Annotated[Path, typer.Option(help="Folder for photographs/ and deidentified.csv: what may be given away.")],
    keep: Annotated[
        str,
        typer.Option(
            help="Comma-separated, what stays: dates or shifted-dates, characteristics (sex, age), device, institution, uids."
        ),
    ] = "",
    key: Annotated[
        Path | None,
        typer.Option(
            help="File with the key of pseudonyms, made where it is missing: later files fit to earlier ones."
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV that leads from the originals to their copies; never inside --out.")
    ] = None,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Keep back every file in which there may be text, instead of blacking it out."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write DICOM photographs without what tells whose they are: PS3.15's basic profile, text in the picture blacked out.

    Look at the copies before you give them away: no program finds every text in a picture.

    Exit codes: 0 all were written, 1 some were held back or could not be read, 2 the call is wrong, 4 the copies could not
    be written.
    """
    from fundoscope.cli.console import Console
    from fundoscope.errors import need

    need("pydicom", what="fundoscope dicom", extra="dicom")
    from fundoscope.dicom.deidentified_folder import ANSWER, HELD, PHOTOGRAPHS, WRITTEN, deidentify_files, read_key
    from fundoscope.dicom.deidentify import Deidentification
    from fundoscope.outputs import refuse_overwriting
    from fundoscope.runs import walk

    chosen = [name.strip() for name in keep.split(",") if name.strip()]
    Deidentification.choose(b"", chosen)
    found = walk(photos)
    files = list(dict.fromkeys(mention.file for mention in found.mentions))
    refuse_overwriting([*found.inputs, *filter(None, (key,))], [out / ANSWER], [out / PHOTOGRAPHS])
    how = Deidentification.choose(read_key(key), chosen, hold)
    console = Console(quiet)
    console.header(photographs=len(files), kept=", ".join(chosen) or "nothing beyond the basic profile", out=out)
    done = deidentify_files(files, out, how, table, console)
    for one in done:
        if one.status != WRITTEN:
            print(f"{one.original}: {one.status}: {one.reason}")
    counts = {status: sum(one.status == status for one in done) for status in (WRITTEN, HELD, "failed")}
    console.say("  ".join(f"{status}: {count}" for status, count in counts.items()))
    console.say(f"with text or marks blacked out: {sum(bool(one.blacked_out) for one in done)}")
    if found.skipped:
        console.say(f"not among them: {found.skipped.describe()}")
    console.say(f"look at each before it is given away: {out}")
    raise typer.Exit(1 if counts[WRITTEN] < len(done) else 0)
