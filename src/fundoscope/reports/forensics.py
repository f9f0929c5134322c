"""The report of table forensics: a page with the verdict on each row and what it rests on, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fundoscope.evaluation.forensics import FIGURES, MeanVerdict, ReportedFolds, RowFinding, RowVerdict
from fundoscope.evaluation.forensics.judge import MOST_SOLUTIONS, RARE
from fundoscope.reports.study import Check, Section, StudyPage, Table, write_study_report

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


def write_forensics_report(out: Path, findings: Sequence[RowFinding], splits: ReportedFolds, name: str) -> None:
    """Write the page to `out`; `name` is the table as the user gave it. Raises `UsageError` where it cannot."""
    problems = splits.problems
    counts = {verdict.value: sum(found.verdict is verdict for found in findings) for verdict in RowVerdict}
    checks = [Check("The folds are the parts of one data set", not problems, " ".join(problems))]
    sections = [
        Section("How to read this", _RULE),
        Section("The stated folds", facts={"Images": splits.size, "Folds": len(splits.validation)}, checks=checks),
        Section("Verdicts", tables=[Table([_line(found) for found in findings])]),
        *(_section(found) for found in findings),
    ]
    write_study_report(out, StudyPage(f"Table forensics: {name}", facts=counts, sections=sections))


def summary(found: RowFinding) -> str:
    """A row's finding in sentences, the weightiest first."""
    return " ".join([*_single(found), *_mean(found), *_slips(found)])


def _line(found: RowFinding) -> dict[str, Any]:
    figures = {name: str(found.row.figures[name]) if name in found.row.figures else None for name in FIGURES}
    smallest = found.solutions[0].tolist() if len(found.solutions) else None
    return {"name": found.row.name, **figures, "verdict": found.verdict.value, "tp, fn, tn, fp": smallest}


def _section(found: RowFinding) -> Section:
    tables = [
        Table(
            [_shares(table) for table in found.solutions[:_LISTED].tolist()],
            "Single tables that fit",
            _more(found),
        )
    ]
    if found.averaged is not None and found.averaged.tables is not None:
        folds = [{"fold": at} | _shares(t) for at, t in enumerate(found.averaged.tables.tolist(), 1)]
        tables.append(Table(folds, "Fold tables whose averages fit", "One choice of many."))
    return Section(f"{found.row.name}: {found.verdict.value}", [summary(found)], tables=tables)


def _shares(table: Sequence[int]) -> dict[str, str]:
    tp, fn, tn, fp = table
    return {
        "tp / positive": f"{tp}/{tp + fn}",
        "tn / negative": f"{tn}/{tn + fp}",
        "right / all": f"{tp + tn}/{sum(table)}",
        "tp / called positive": f"{tp}/{tp + fp}",
    }


def _more(found: RowFinding) -> str:
    n = len(found.solutions)
    kept = f" The first {MOST_SOLUTIONS} are in solutions.csv." if n > MOST_SOLUTIONS else ""
    return f"{n} in all, up to {found.searched} images, multiples included.{kept}" if n > _LISTED else kept.strip()


def _single(found: RowFinding) -> list[str]:
    how = "if the figures were cut off, not rounded" if found.truncated else ""
    said = [f"One table fits with the counts of {part}{_if(how)}." for part, _ in found.stated]
    if len(found.pooled):
        said.append(f"The table of all folds together fits{_if(how)}.")
    if not len(found.any_counts):
        return said or [f"No single table of up to {found.searched} images fits."]
    tp, fn, tn, fp = found.any_counts[0].tolist()
    total = tp + fn + tn + fp
    said.append(
        f"The smallest table that fits{_if(how)} has {total} images: {tp + tn}/{total} right, {tp}/{tp + fn} of the "
        f"positive, {tn}/{tn + fp} of the negative; {found.searched // total} of its multiples, itself included, and "
        f"{len(found.smallest) - 1} further ratios fit up to {found.searched} images."
    )
    rare = "hardly chance" if found.chance < RARE else "chance may have made it"
    return [*said, f"By chance about {found.chance:.2g} tables this small would fit: {rare}."]


def _mean(found: RowFinding) -> list[str]:
    if found.averaged is None:
        return ["There is one fold only, so nothing to average."]
    said = [_averaged("averages over the folds", found.averaged)]
    if found.f1_of_means is not None:
        said.append(
            _averaged("averages whose F1 was worked out from mean precision and sensitivity", found.f1_of_means)
        )
    return said


def _averaged(what: str, averaged: MeanVerdict) -> str:
    if averaged.state == "impossible":
        how = f", by at least {averaged.outside / 2:.1f} units of the last decimal" if averaged.outside else ""
        how = f": none gives the {averaged.alone} alone" if averaged.alone else how
        return f"{what[0].upper()}{what[1:]} cannot give the figures{how}."
    needs = f" Some fold must differ by about {averaged.spread:.2f} from the row's sensitivity or specificity."
    needs = needs if averaged.spread else ""
    if averaged.state == "found":
        return f"{what[0].upper()}{what[1:]} can give the figures: fold tables were found.{needs}"
    return f"Whether {what} can give the figures is open: none were found, none are ruled out.{needs}"


def _slips(found: RowFinding) -> list[str]:
    said = []
    for name, (tp, fn, tn, fp) in ((name, table.tolist()) for name, table in found.slips.items()):
        said.append(
            f"Leaving out {name}, {tp}/{tp + fn} and {tn}/{tn + fp} ({tp + fn + tn + fp} images) give all the rest."
        )
    return said


def _if(how: str) -> str:
    return f" {how}" if how else ""
