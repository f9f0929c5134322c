"""Options that several commands share, and the call that all graders' commands make."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fundoscope.languages import gettext_noop

if TYPE_CHECKING:
    from fundoscope.findings import Grader
    from fundoscope.runs import Walk

Report = Annotated[Path | None, typer.Option(help="Folder for results.csv, results.json, report.html and pictures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a row on standard output.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Remove the run that lies in --out, its own files only, and begin anew.")
]
Dicom = Annotated[
    bool,
    typer.Option("--dicom", help="Write the answers to DICOM photographs as DICOM objects, too, into --out/dicom."),
]
BundleName = Annotated[str, typer.Option(help="A bundle's folder, or the name of a shipped one.")]
RuntimeName = Annotated[
    str, typer.Option("--runtime", help="What runs the networks: onnxruntime, or openvino (extra of that name).")
]
Independent = Annotated[
    bool,
    typer.Option("--images-are-independent", help="The table has no infants and each photograph shows another eye."),
]
Prevalences = Annotated[
    str, typer.Option(help="Comma-separated shares of ill eyes for which predictive values are computed.")
]
Engine = Annotated[str, typer.Option(help="local (processes of this machine) or ray.")]
Address = Annotated[str, typer.Option(help="Of a Ray cluster, such as head:6379; default: one on this machine.")]
FitWorkers = Annotated[
    int,
    typer.Option(
        "--workers", min=0, help="Fits at a time; 0: one here, and on Ray as many as there are processors for."
    ),
]
FitThreads = Annotated[
    int,
    typer.Option("--threads", min=0, help="Threads of each fit; 0: this machine's, in equal shares for the workers."),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Profile = Annotated[
    bool, typer.Option("--profile", help="Print at the end where the time went: milliseconds a stage of a photograph.")
]
Lang = Annotated[
    str, typer.Option(help="Language of the page and of messages, en or zh; tables and JSON never change.")
]


#: What the summaries of graders count, to be translated.
_COUNTED = (
    gettext_noop("photographs"), gettext_noop("patches"), gettext_noop("ROP suspected"), gettext_noop("no ROP seen"),
    gettext_noop("ok"), gettext_noop("rejected"), gettext_noop("failed"), gettext_noop("crossings"),
    gettext_noop("grade 0"), gettext_noop("grade 1"), gettext_noop("grade 2"), gettext_noop("grade 3"),
)  # fmt: skip


@contextmanager
def speak(language: str) -> Generator[None]:
    """Speak a language of `--lang` within the block; raises `UsageError` for one that is not known."""
    from fundoscope.errors import UsageError, nearest
    from fundoscope.languages import LANGUAGES, speaking

    if language not in LANGUAGES:
        raise UsageError(f"--lang {language}: there is no such language; {nearest(language, LANGUAGES)}")
    with speaking(language):
        yield


@contextmanager
def profile_stages(wanted: bool) -> Generator[None]:
    """Where it is `wanted`, print on standard error, at the end of the block, how long each stage of a photograph took."""
    if not wanted:
        yield
        return
    from fundoscope.stopwatch import measured_stages

    with measured_stages() as times:
        try:
            yield
        finally:
            typer.echo(times.describe(), err=True)


def refuse_inputs_in_study(out: Path, *inputs: str | Path | None) -> None:
    """Raise `UsageError` if what a study reads lies in its folder, which is the study's own; names of shipped things pass."""
    from fundoscope.outputs import STUDY_MARKER, refuse_overwriting

    refuse_overwriting([each for each in inputs if each and Path(each).exists()], [out / STUDY_MARKER], [out])


def check_dicom(dicom: bool, out: Path | None) -> None:
    """Raise `UsageError` for `--dicom` without a folder, and `MissingExtraError` where the packages for it are missing."""
    from fundoscope.errors import UsageError, need

    if dicom and out is None:
        raise UsageError("--dicom writes objects into a folder: name it with --out, or leave --dicom out.")
    if dicom:
        need("pydicom", "highdicom", "weasyprint", what="--dicom", extra="dicom")


def grade_photographs(
    photos: list[str],
    out: Path | None,
    json: bool,
    replace: bool,
    quiet: bool,
    bundle: str,
    open_grader: Callable[[], Grader],
    next_step: str = "",
    found: Walk | None = None,
) -> None:
    """Grade all photographs with the grader that `open_grader` opens from `bundle`; leaves with the exit code.

    `next_step` is told at the end: what to do with the answer. `found` are the photographs where they need not be looked for.
    """
    from fundoscope.bundles import locate
    from fundoscope.cli.console import Console
    from fundoscope.errors import UsageError
    from fundoscope.findings import plural
    from fundoscope.languages import gettext as _
    from fundoscope.languages import ngettext, translate_kept
    from fundoscope.runs import run, walk
    from fundoscope.studies import command

    if out is None and not json:
        raise UsageError("Say where the answer shall go: --out DIR, --json, or both.")
    if replace and out is None:
        raise UsageError("--replace removes the run that lies in --out: name that folder, or leave --replace out.")
    found = walk(photos) if found is None else found
    grader = open_grader()
    found.others.extend(locate(bundle).iterdir())
    console, identity = Console(quiet or json), grader.identity

    def _count(n: int) -> str:
        one, many = {"photograph": ("{n} photograph", "{n} photographs"), "patch": ("{n} patch", "{n} patches")}[
            grader.noun
        ]
        return ngettext(one, many, n).format(n=n)

    facts = {_(plural(grader.noun)): len(found.mentions), _("use"): _("research use only")}
    console.header(**{_("bundle"): f"{identity.name} ({identity.made})", **facts})
    try:
        summary = run(grader, found, out, json, replace, command(), console)
    except SystemExit:
        console.say(_("stopped: the same command goes on where it was") if out is not None else _("stopped"))
        raise
    console.say("  ".join(f"{_(name)}: {count}" for name, count in summary.counts.items()))
    worked = summary.photographs - summary.kept
    if summary.kept:
        console.say(_("kept from an earlier run: {n}; --replace begins anew").format(n=_count(summary.kept)))
    if worked:
        console.say(_("{n} in {seconds:.1f} s").format(n=_count(worked), seconds=summary.seconds))
    for warning in summary.warnings:
        console.say(_("WARNING: {warning}").format(warning=translate_kept(warning)))
    if found.skipped:
        console.say(_("not among them: {skipped}").format(skipped=found.skipped.describe()))
    if out is not None:
        page = out / next(name for name in grader.files if name.endswith(".html"))
        console.say(_("report: {page}").format(page=page))
    if next_step:
        console.say(_("next: {step}").format(step=next_step))
    raise typer.Exit(summary.exit_code)
