"""`fundoscope rop archive` and `fundoscope nicking archive`: a manifest in, parquet parts out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fundoscope.findings import Grader
    from fundoscope.runs.workers import WorkEngine

Manifest = Annotated[
    Path, typer.Argument(help="CSV or parquet with a column path: files, or addresses such as s3://...")
]
Parts = Annotated[
    Path, typer.Option(help="Folder of the parquet parts; the same command again finishes what is missing.")
]
Workers = Annotated[int, typer.Option(min=0, help="Workers; default: one for each processor.")]
PartSize = Annotated[int, typer.Option(min=1, max=100_000, help="Photographs in a part.")]


def archive_photographs(
    manifest: Path,
    out: Path,
    open_grader: Callable[[], Grader],
    bundle: str,
    engine: WorkEngine,
    part_size: int,
    replace: bool,
    quiet: bool,
) -> None:
    """Grade every photograph of a manifest into parquet parts, then write the page; leaves with the exit code."""
    from fundoscope.bundles import locate
    from fundoscope.cli.console import Console
    from fundoscope.errors import need
    from fundoscope.outputs import written_whole
    from fundoscope.reports.archive import archive_page
    from fundoscope.runs.archive import PAGE, ArchiveCounts, PartWriter, open_archive
    from fundoscope.runs.archive_engines import write_parts
    from fundoscope.studies import command

    need("pyarrow", what="An archive", extra="analysis")
    console, grader, start, done = Console(quiet), open_grader(), time.perf_counter(), ArchiveCounts()
    with open_archive(manifest, out, grader, command(), part_size, replace, list(locate(bundle).iterdir())) as archive:
        for counts in archive.finished.values():
            done.add(counts)
        kept = done.photographs
        console.header(
            bundle=f"{grader.identity.name} ({grader.identity.made})", photographs=archive.photographs, parts=archive.parts,
            engine=engine.name, use="research use only",
        )  # fmt: skip
        writer = PartWriter(grader, out.absolute(), manifest.absolute().parent)
        with console.stages() as report:
            report("photographs", done.photographs, archive.photographs)
            for counts in write_parts(engine, writer, archive.remaining()):
                done.add(counts)
                report("photographs", done.photographs, archive.photographs)
        seconds = time.perf_counter() - start
        page = archive_page(archive.run.manifest, archive.parts, done.to_json(), kept, seconds)
        with written_whole(out / PAGE) as place:
            place.write_bytes(page)
        archive.run.finish(dict(done.counts))
    console.say("  ".join(f"{name}: {count}" for name, count in done.counts.items()))
    if kept:
        console.say(f"kept from an earlier run: {kept} photographs; --replace begins anew")
    console.say(f"{done.photographs - kept} photographs in {seconds:.1f} s; parts and page: {out}")
    raise typer.Exit(done.exit_code)
