"""`fundoscope cohort`: make a table of photographs, and look for what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fundoscope.cohort import Audit, Cohort
    from fundoscope.cohort.auditing import Progress as Step

app = typer.Typer(no_args_is_help=True, help="Make a table of photographs, and audit it.")

Table = Annotated[Path, typer.Argument(metavar="COHORT.csv", help="Table with the columns image and label.")]
FoldsFile = Annotated[Path | None, typer.Option("--folds", metavar="F.json", help="Look for leaks in these too.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for audit.html and problems.csv.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds normal/ and rop/.")]
TableOut = Annotated[Path, typer.Option("--out", metavar="COHORT.csv", help="Where to write the table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")]


@app.command("audit")
def audit_(table: Table, folds: FoldsFile = None, out: Out = None, quiet: Quiet = False) -> None:
    """Find duplicates, second views, contradicting labels, leaks between folds, and broken files.

    The paths concerned go to standard output, one a line. Exit code: 0 clean, 1 found, 2 a wrong call.
    """
    from fundoscope.cohort import Cohort, Folds, audit, write_page

    cohort = Cohort.read(table)
    split = None if folds is None else Folds.read(folds, cohort, allow_leaks=True)
    with _progress(quiet) as step:
        found = audit(cohort, split, step)
    page = None if out is None else write_page(found, out)
    for path in found.paths:
        typer.echo(os.fsencode(path))  # bytes: a name need not be text
    _tell(cohort, found, quiet)
    if page is not None:
        _say(f"page: {page}", quiet)
    raise typer.Exit(found.exit_code)


@app.command("from-folders")
def from_folders(folder: Folder, out: TableOut, quiet: Quiet = False) -> None:
    """Write the table of a folder whose folders are the labels: normal/ and rop/."""
    from fundoscope.cohort import Cohort
    from fundoscope.errors import UsageError

    cohort = Cohort.from_folders(folder)
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"{out}: cannot be written there. Name a CSV file in a folder that exists.")
    if out.exists():
        raise UsageError(f"{out}: is there already. Give another --out, or remove it first.")
    cohort.write(out)
    rop = int(cohort.labels.sum())
    _say(f"{len(cohort)} photographs: {len(cohort) - rop} normal, {rop} rop", quiet)
    _say(f"next: fundoscope cohort audit {out}", quiet)
    typer.echo(os.fsencode(out))


def _tell(cohort: Cohort, found: Audit, quiet: bool) -> None:
    infants = len({record.infant for record in cohort}) if cohort.has_infants else "unknown"
    _say(f"{len(cohort)} photographs, infants: {infants}", quiet)
    for kind, count in found.counts.items():
        _say(f"{count:>6}  {kind}", quiet)
    _say("clean" if found.clean else f"{len(found.paths)} photographs concerned", quiet)


def _say(text: str, quiet: bool) -> None:
    from rich.console import Console

    Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False).print(text, markup=False)


@contextmanager
def _progress(quiet: bool) -> Generator[Step]:
    """A bar for each stage on standard error, with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        tasks: dict[str, TaskID] = {}

        def step(stage: str, done: int, wanted: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=wanted)
            bar.update(tasks[stage], completed=done)

        yield step
