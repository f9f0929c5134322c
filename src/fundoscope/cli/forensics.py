"""`fundoscope forensics`: which whole-number tables can have given the figures of a published table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Table = Annotated[
    Path,
    typer.Argument(metavar="TABLE.csv", help="name,accuracy,precision,f1,sensitivity,specificity; blanks allowed."),
]
FoldsFile = Annotated[Path, typer.Option("--folds", metavar="FOLDS.csv", help="fold,part,class,n of the stated folds.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for solutions.csv, means.csv, report.html.")]
Thorough = Annotated[
    bool, typer.Option("--thorough", help="Ten times as long on a mean that is neither found nor ruled out (minutes).")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")]


def forensics(table: Table, folds: FoldsFile, out: Out, thorough: Thorough = False, quiet: Quiet = False) -> None:
    """Find the confusion tables behind reported figures: a single split, a mean over the stated folds, or none.

    Each row's name and verdict go to standard output, tab-separated. Exit code: 0 done, 2 a wrong call.
    """
    from fundoscope.cli.console import Console
    from fundoscope.evaluation.forensics import (
        SEARCH_STEPS,
        examine_row,
        read_reported_folds,
        read_reported_table,
        write_solutions,
    )
    from fundoscope.outputs import answer_folder
    from fundoscope.reports.forensics import summary, write_forensics_report

    console = Console(quiet)
    rows, splits = read_reported_table(table), read_reported_folds(folds)
    console.header(rows=len(rows), folds=len(splits.validation), images=splits.size)
    for problem in splits.problems:
        console.say(f"no partition: {problem}")
    steps = SEARCH_STEPS * (10 if thorough else 1)
    answers = ("solutions.csv", "means.csv", "report.html")
    with answer_folder(out, "forensics", answers, [table, folds], {"table": str(table.resolve())}) as part:
        findings = [examine_row(row, splits, steps=steps) for row in console.follow(rows, len(rows), "rows")]
        write_solutions(findings, part)
        write_forensics_report(part / "report.html", findings, splits, table.name)
    for found in findings:
        typer.echo(f"{found.row.name}\t{found.verdict}")
        console.say(f"{found.row.name}: {found.verdict}. {summary(found)}")
    console.say(f"page: {out / 'report.html'}")
