"""The page of table forensics: the verdict on each row, and the tables and proofs that it rests on, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fundoscope.errors import counted
from fundoscope.evaluation.forensics import FIGURES, MeanVerdict, ReportedFolds, RowFinding, RowVerdict
from fundoscope.evaluation.forensics.judge import MOST_SOLUTIONS, RARE
from fundoscope.reports.study import Check, Section, StudyPage, Table, write_study_report

_VERDICTS = (RowVerdict.MEAN, RowVerdict.SINGLE_SPLIT, RowVerdict.NONE)
_LISTED = 8  # tables of a row that the page shows

_RULE = (
    "mean: the figures can come from all the stated folds, as the average over the folds of one table a fold (every "
    "figure averaged) or as the one table of all folds together; also where that is neither shown nor ruled out.",
    "single-split: they cannot, and one table of whole numbers gives them. none: nothing gives them.",
    "A mean is easily possible: averages over several folds reach nearly any figures that do not contradict each other. "
    "A small table that fits is the stronger sign, and the expected number of chance fits says how strong. Two tables "
    "that are multiples of each other have the same figures. What a table fits is not how it was made: forensics "
    "show what figures can have come from, never why.",
)


def write_forensics_report(out: Path, findings: Sequence[RowFinding], folds: ReportedFolds, name: str) -> None:
    """Write the page to `out`; `name` is the table as the user gave it. Raises the errors of `write_study_report`."""
    problems = folds.problems
    checks = [Check("The folds are the parts of one data set", not problems, " ".join(problems))]
    verdicts = Table([_verdict_line(finding) for finding in findings])
    sections = [
        Section("Verdicts", tables=[verdicts], explained=_RULE),
        *(_section(finding) for finding in findings),
        Section("The stated folds", facts={"Images": folds.size, "Folds": len(folds.validation)}, checks=checks),
    ]
    page = StudyPage(
        f"Table forensics: {name}",
        lead=_headline(findings),
        warnings=[problem.rstrip(".") for problem in problems],
        sections=sections,
    )
    write_study_report(out, page)


def _headline(findings: Sequence[RowFinding]) -> str:
    """One sentence: how many rows came to which verdict."""
    mean, single, none = (sum(finding.verdict is verdict for finding in findings) for verdict in _VERDICTS)
    return (
        f"Of {counted(len(findings), 'row')} of figures, {mean} can come from all the stated folds, {single} from a single "
        f"table only, and {none} from neither."
    )


def summary(finding: RowFinding) -> str:
    """The finding on a row in sentences, the most important first."""
    return " ".join([*_single_sentences(finding), *_mean_sentences(finding), *_slip_sentences(finding)])


def _verdict_line(finding: RowFinding) -> dict[str, Any]:
    figures = {name: str(finding.row.figures[name]) if name in finding.row.figures else None for name in FIGURES}
    smallest = finding.solutions[0].tolist() if len(finding.solutions) else None
    return {"name": finding.row.name, **figures, "verdict": finding.verdict.value, "tp, fn, tn, fp": smallest}


def _section(finding: RowFinding) -> Section:
    tables = [
        Table(
            [_table_line(table) for table in finding.solutions[:_LISTED].tolist()],
            "Single tables that fit",
            _count_note(finding),
        )
    ]
    if finding.averaged is not None and finding.averaged.tables is not None:
        folds = [{"fold": at} | _table_line(t) for at, t in enumerate(finding.averaged.tables.tolist(), 1)]
        tables.append(Table(folds, "Fold tables whose averages fit", "One choice of many."))
    return Section(f"{finding.row.name}: {finding.verdict.value}", [summary(finding)], tables=tables)


def _table_line(table: Sequence[int]) -> dict[str, str]:
    tp, fn, tn, fp = table
    return {
        "tp / positive": f"{tp}/{tp + fn}",
        "tn / negative": f"{tn}/{tn + fp}",
        "right / all": f"{tp + tn}/{sum(table)}",
        "tp / called positive": f"{tp}/{tp + fp}",
    }


def _count_note(finding: RowFinding) -> str:
    n = len(finding.solutions)
    kept = f" The first {MOST_SOLUTIONS} are in solutions.csv." if n > MOST_SOLUTIONS else ""
    return f"{n} in all, up to {finding.searched} images, multiples included.{kept}" if n > _LISTED else kept.strip()


def _single_sentences(finding: RowFinding) -> list[str]:
    how = " if the figures were cut off, not rounded" if finding.truncated else ""
    sentences = [f"One table fits with the counts of {part}{how}." for part, _ in finding.stated]
    if len(finding.pooled):
        sentences.append(f"The table of all folds together fits{how}.")
    if not len(finding.any_counts):
        return sentences or [f"No single table of up to {finding.searched} images fits."]
    tp, fn, tn, fp = finding.any_counts[0].tolist()
    total = tp + fn + tn + fp
    sentences.append(
        f"The smallest table that fits{how} has {total} images: {tp + tn}/{total} right, {tp}/{tp + fn} of the "
        f"positive, {tn}/{tn + fp} of the negative; {finding.searched // total} of its multiples, itself included, and "
        f"{len(finding.smallest) - 1} further ratios fit up to {finding.searched} images."
    )
    rare = "hardly chance" if finding.chance < RARE else "chance may have made it"
    return [*sentences, f"By chance about {finding.chance:.2g} tables this small would fit: {rare}."]


def _mean_sentences(finding: RowFinding) -> list[str]:
    if finding.averaged is None:
        return ["There is one fold only, so nothing to average."]
    sentences = [_average_sentence("averages over the folds", finding.averaged)]
    if finding.f1_of_means is not None:
        sentences.append(
            _average_sentence("averages whose F1 was computed from mean precision and sensitivity", finding.f1_of_means)
        )
    return sentences


def _average_sentence(what: str, averaged: MeanVerdict) -> str:
    if averaged.state == "impossible":
        how = f", by at least {averaged.outside / 2:.1f} units of the last decimal" if averaged.outside else ""
        how = f": none gives the {averaged.alone} alone" if averaged.alone else how
        return f"{what[0].upper()}{what[1:]} cannot give the figures{how}."
    needs = f" Some fold must differ by about {averaged.spread:.2f} from the row's sensitivity or specificity."
    needs = needs if averaged.spread else ""
    if averaged.state == "found":
        return f"{what[0].upper()}{what[1:]} can give the figures: fold tables were found.{needs}"
    return f"Whether {what} can give the figures is open: none were found, none are ruled out.{needs}"


def _slip_sentences(finding: RowFinding) -> list[str]:
    sentences = []
    for name, (tp, fn, tn, fp) in ((name, table.tolist()) for name, table in finding.slips.items()):
        sentences.append(
            f"Leaving out {name}, {tp}/{tp + fn} and {tn}/{tn + fp} ({tp + fn + tn + fp} images) give all the rest."
        )
    return sentences
