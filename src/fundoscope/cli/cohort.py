"""`fundoscope cohort`: make a table of photographs, and look for what is wrong with it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make a table of photographs, audit it, and compare its readers.")

Table = Annotated[Path, typer.Argument(metavar="COHORT.csv", help="Table with the columns image and label.")]
FoldsFile = Annotated[Path | None, typer.Option("--folds", metavar="F.json", help="Look for leaks in these too.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for audit.html and problems.csv.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds normal/ and rop/.")]
TableOut = Annotated[Path, typer.Option("--out", metavar="COHORT.csv", help="Where to write the table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error.")]

_TOLD = 10  # findings that are put into words on standard error


@app.command("audit")
def audit_(table: Table, folds: FoldsFile = None, out: Out = None, quiet: Quiet = False) -> None:
    """Find duplicates, second views, contradicting labels, leaks between folds, and broken files.

    The paths concerned go to standard output, one a line. Exit code: 0 clean, 1 found, 2 a wrong call.
    """
    from fundoscope.cli.console import Console
    from fundoscope.cohort import Cohort, Folds, audit, write_audit_page
    from fundoscope.findings import counted
    from fundoscope.outputs import answer_folder
    from fundoscope.processors import share_processors

    share_processors(1)  # several photographs are compared at once
    console = Console(quiet)
    cohort = Cohort.read(table, allow_two_spellings=True)  # they are a finding
    split = None if folds is None else Folds.read(folds, cohort, allow_leaks=True)
    read = [table, *([] if folds is None else [folds]), *cohort.paths]
    page = None if out is None else out / "audit.html"
    with ExitStack() as stack:
        part = None
        if out is not None:
            answers = ("audit.html", "problems.csv")
            part = stack.enter_context(
                answer_folder(out, "cohort audit", answers, read, {"table": str(table.resolve())})
            )
        with console.stages() as step:
            found = audit(cohort, split, step)
        if part is not None:
            write_audit_page(found, part)
    for path in found.paths:
        typer.echo(os.fsencode(path))  # bytes: a name need not be text
    infants = len({record.infant for record in cohort}) if cohort.has_infants else "unknown"
    console.say(f"{counted(len(cohort), 'photograph')}, infants: {infants}")
    for kind, count in found.counts.items():
        console.say(f"{count:>6}  {kind}")
    told = [problem for problem in found.problems if problem.detail and problem.similarity is None]
    for problem in told[:_TOLD]:
        rows = ", ".join(str(cohort[row].line) for row in problem.rows[:5])
        console.say(f"row {rows}: {problem.detail}")
    if len(told) > _TOLD:
        console.say(f"and {len(told) - _TOLD} more{'' if page is None else ', in problems.csv'}")
    console.say("clean" if found.clean else f"{counted(len(found.paths), 'photograph')} with a finding")
    if page is not None:
        console.say(f"page: {page}")
    raise typer.Exit(found.exit_code)


@app.command("agreement")
def agreement(
    table: Annotated[Path, typer.Argument(metavar="READINGS.csv", help="CSV: image,reader_1,reader_2[,label,infant].")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for agreement.html, agreement.csv.")],
    bundle: Annotated[str, typer.Option(help="The tool: a bundle's folder, or the name of a shipped one.")] = "rop",
    without_tool: Annotated[bool, typer.Option("--without-tool", help="Compare the readers alone.")] = False,
    quiet: Quiet = False,
) -> None:
    """How far two readers' labels agree, and the tool's with each: kappa with its interval, confusion, where they differ.

    Exit code: 0 done, 1 done, but the tool could not read some photographs, 2 the call or its table is wrong, 3 the bundle is
    missing or broken.
    """
    from fundoscope.bundles import locate
    from fundoscope.cli.agreement import answer_agreement
    from fundoscope.cli.console import Console
    from fundoscope.cohort.label_readings import read_label_readings
    from fundoscope.findings import exit_code
    from fundoscope.rop.screening.agreement import ask_screener, describe_label_agreement
    from fundoscope.rop.screening.grader import RopGrader
    from fundoscope.studies import command

    console, rows = Console(quiet), read_label_readings(table)
    settings = {"table": str(table.resolve()), "tool": "none" if without_tool else bundle}
    inputs = [table, *(row.path for row in rows), *([] if without_tool else locate(bundle).iterdir())]
    with answer_agreement(out, "cohort agreement", inputs, settings, console) as write:
        findings, how = None, "not asked"
        if not without_tool:
            grader = RopGrader.open(bundle)
            findings = ask_screener(rows, grader, console)
            how = f"{grader.identity.name} of {grader.identity.made}"
        write(describe_label_agreement(rows, findings, how, table, command()))
    raise typer.Exit(exit_code(each.status for each in findings or ()))


@app.command("from-folders")
def from_folders(folder: Folder, out: TableOut, quiet: Quiet = False) -> None:
    """Write the table of a folder whose folders are the labels: normal/ and rop/."""
    from fundoscope.cli.console import Console
    from fundoscope.cohort import Cohort
    from fundoscope.findings import counted
    from fundoscope.folders import Skipped
    from fundoscope.outputs import new_file, written_whole

    console, skipped = Console(quiet), Skipped()
    cohort = Cohort.from_folders(folder, skipped)
    with written_whole(new_file(out, cohort.paths)) as part:
        cohort.write(part)
    if skipped:
        console.say(f"not among them: {skipped.describe()}")
    rop = int(cohort.labels.sum())
    for name, label in {Path(record.image).parts[0]: record.label for record in cohort}.items():
        if name.strip().casefold() != label:
            console.say(f"folder {name!r}: {label}")
    console.say(f"{counted(len(cohort), 'photograph')}: {len(cohort) - rop} normal, {rop} rop")
    console.say(f"next: fundoscope cohort audit {out}")
    typer.echo(os.fsencode(out))
