"""The tables and figures of paper 000, with intervals, baselines and controls."""

from __future__ import annotations

from typing import Any

from fundoscope.reports import ReportFigure, Section, Table
from fundoscope.reports.clinic_plots import draw_confusions
from fundoscope.reports.plots import PlottedCurve, ReliabilityPoints, draw_precision_recall, draw_reliability, draw_roc
from fundoscope.rop.study.pages.files import EvaluationFiles, FigureWords, StudyFiles, cells, in_words
from fundoscope.rop.study.questions import ROP

TITLES = {"rop": "Stage 1: normal or ROP", "treatment": "Stage 2: ROP that needs treatment or not"}
_TABLES = {
    "Discrimination and decisions": ("auc", "accuracy", "sensitivity", "specificity"),
    "What a positive answer is worth here": ("precision", "f1", "average_precision"),
    "Probabilities": ("brier", "ece", "calibration_slope", "calibration_intercept"),
}


_GATE = (
    "In use, a photograph that is not fit to be graded is refused, so the rule that ships answers for fewer photographs "
    "than were studied. Networks learn from all of them and thresholds are chosen on all of them."
)


def sections(files: StudyFiles) -> list[Section]:
    """Each question with its curves, what screening would refuse, what might fool the reader, every other metric."""
    results = files.results
    controls = Section(
        "Without the shortcuts",
        explained=(
            "The same networks on the same photographs, made alike in what is not disease. A grader that lived on a "
            "shortcut would fall to the nuisance baseline here.",
        ),
        tables=(Table(cells(results["controls"])),),
    )
    int8 = Section(
        "What INT8 costs",
        explained=(
            f"Each fold's {results['exported']} exported, INT8 calibrated on its inner photographs, both run on its held-out "
            "ones (stage 1, seed 0). The inner photographs of all folds together chose this network to leave in a bundle.",
        ),
        tables=(Table(cells(results["int8"])),),
    )
    found = results["questions"]
    missing = results["sample"]["missing_question"]
    return [
        *(question_section(files, each, note_of(each), files.words) for each in found),
        *([Section("Stage 2", (missing,))] if missing else []), quality_gate(found, _GATE), controls, int8,
        *(more_figures(each) for each in found),
    ]  # fmt: skip


def network_sections(files: StudyFiles) -> list[Section]:
    """What the networks are and cost."""
    text = (
        "Measured here; a multiply-accumulate (MAC) is two floating-point operations. Stage 2 begins with stage 1. What is "
        "frozen stays as it began, its batch statistics too; of several streams each is named in turn."
    )
    return [
        Section("Networks", explained=(text,), tables=(Table(files.results["networks"], "As table 5 of the paper"),))
    ]


def note_of(found: dict[str, Any]) -> str:
    """On what a study's figures rest."""
    return (
        f"{describe_basis(found)}; with several seeds the "
        "mean over seeds. An interval of a difference that holds 0 cannot tell the two apart. Stopping, temperature and "
        "threshold were settled on the fold's inner photographs, the choice between networks on those of all folds together."
    )


def describe_basis(found: dict[str, Any]) -> str:
    """How many photographs a question's figures rest on, and what their intervals are."""
    return f"All {found['n']} photographs. Intervals: 95 %, {found['groups']} groups resampled 2000 times"


def question_section(files: EvaluationFiles, found: dict[str, Any], note: str, words: FigureWords) -> Section:
    """One question: its figures beside the baselines, its curves; `note` says what they rest on."""
    name, graders = found["name"], found["graders"]
    missing = [
        f"The baseline '{row['grader']}' could not be made: {row['could not be made']}"
        for row in graders if "could not be made" in row
    ]  # fmt: skip
    more = ("The nuisance baseline knows only file size, field shape, colour and sharpness: a network must beat it.",)
    caption, columns = next(iter(_TABLES.items()))
    return Section(
        TITLES[name], missing, tables=(Table(cells(graders, ("grader", *columns)), caption),), figures=_figures(files, found, words),
        explained=(note, *(more if name == ROP else ())),
    )  # fmt: skip


def more_figures(found: dict[str, Any]) -> Section:
    """Every other metric of a question, and the differences between its networks."""
    graders, reference = found["graders"], found["reference"]
    tables = [Table(cells(graders, ("grader", *part)), caption) for caption, part in list(_TABLES.items())[1:]]
    if found["differences"]:
        against = f"Each network less the {reference}, paired on the same photographs"
        tables.append(Table(cells(found["differences"]), against, reference=0))
    return Section(f"{TITLES[found['name']]}: further figures", tables=tables)


def quality_gate(questions: list[dict[str, Any]], text: str) -> Section:
    """The figures with and without the photographs that screening would refuse; `text` says what that means."""
    told = [
        f"{TITLES[found['name']]}: screening would refuse {found['refused'] or 'none'} of {found['n']} photographs."
        for found in questions
    ]
    columns = ("photographs", "grader", "auc", "sensitivity", "specificity")
    tables = [
        Table(
            cells([
                {"photographs": name, **row}
                for name, part in (("that screening grades", "graded"), ("all", "graders")) for row in found[part]
                if "auc" in row
            ], columns),
            f"{line} With these and without:",
        )
        for found, line in zip(questions, told, strict=True) if found["refused"]
    ]  # fmt: skip
    return Section("What screening would refuse", () if tables else told, tables=tables, explained=(text,))


def _figures(files: EvaluationFiles, found: dict[str, Any], words: FigureWords) -> tuple[ReportFigure, ...]:
    name, drawn = found["name"], files.drawn
    basis = f"n={found['n']}, {found['positives']} positive"
    grouped = f"{basis}, {found['groups']} groups"
    bins = files.curve(name, "reliability")
    points = ReliabilityPoints(bins.x, bins.y, bins.low, bins.high, bins.n)
    calibration = found["calibration"]
    notes = (f"ECE {in_words(calibration['ece'])}", f"slope {in_words(calibration['calibration_slope'])}")
    prevalence = found["positives"] / found["n"]
    precision = _curves(files, found, "precision_recall", "average_precision", "AP")
    return (
        ReportFigure(
            draw_roc(drawn / f"roc_{name}.png", _curves(files, found, "roc", "auc", "AUC"), grouped),
            f"ROC, {words.answers}",
        ),
        ReportFigure(
            draw_precision_recall(drawn / f"pr_{name}.png", precision, prevalence, grouped),
            f"Precision and recall, {words.answers}",
        ),
        ReportFigure(
            draw_confusions(drawn / f"confusion_{name}.png", found["confusions"], tuple(found["classes"])),
            f"Decisions {words.decisions}",
        ),
        ReportFigure(
            draw_reliability(drawn / f"reliability_{name}.png", points, notes, basis),
            f"Calibration of the {found['reference']}'s {words.mean}",
        ),
    )


def _curves(files: EvaluationFiles, found: dict[str, Any], curve: str, metric: str, short: str) -> list[PlottedCurve]:
    """The curves of each grader that has points, a run a seed, with the metric in the legend."""
    estimates = {row["grader"]: row[metric] for row in found["graders"] if metric in row}
    plotted = []
    for grader, table in files.curve(found["name"], curve).groupby("grader", sort=False):
        runs = [(run.x, run.y) for _, run in table.groupby("seed")]
        plotted.append(PlottedCurve(f"{grader}: {short} {in_words(estimates[str(grader)])}", runs))
    return plotted
