"""The answer on how far graders agree: tables, and a page with the figures and the pictures on which they differ most."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fundoscope.errors import counted
from fundoscope.evaluation.metrics import (
    Agreement,
    Estimate,
    Readings,
    agreement_rows,
    confusion_rows,
    results_table,
)
from fundoscope.reports.study import EstimateCell, ReportFigure, Section, StudyPage, Table, write_study_report

PAGE, FIGURES, CONFUSION, DIFFERENCES = "agreement.html", "agreement.csv", "confusion.csv", "differences.csv"
FILES = (PAGE, FIGURES, CONFUSION, DIFFERENCES)
_SHOWN = 12  # pictures of each pair of graders

_EXPLAINED = (
    "Kappa is 1 where two graders always say the same and 0 where they do so no more often than by chance; it is low also where "
    "nearly all is of one class. Quadratic kappa counts a disagreement by the square of its distance.",
    "Agreement on a class is 2 x both / (first + second): of what either said to be of this class, the share that both did.",
    "Where the tool learnt from these very pictures, or from one of these readers, its agreement is better than elsewhere.",
    "Intervals hold 95 % of what is found when whole groups are drawn again, since pictures of one group resemble each other.",
)


@dataclass(frozen=True)
class AgreementAnswer:
    """What an answer shows.

    `noun` is what was graded ("patch"), `group` what intervals resample ("photograph"). `described` (n) are the cells that say
    which one each is; `name` gives the caption of one by its number, `draw` writes its picture to a file of JPEG or PNG.
    """

    title: str
    lead: str
    noun: str
    group: str
    readings: Readings
    agreements: Sequence[Agreement]
    described: Sequence[Mapping[str, Any]]
    draw: Callable[[int, Path], None]
    facts: Mapping[str, Any]
    command: str
    stamps: Sequence[str] = ()
    warnings: Sequence[str] = field(default_factory=tuple)

    @property
    def graders(self) -> list[str]:
        """The graders in the order in which they are listed."""
        return list(self.readings.given)

    def said(self, number: int) -> dict[str, str | None]:
        """What each grader said of one, in words; None where nothing."""
        classes = self.readings.classes
        given = {name: classes_of[number] for name, classes_of in self.readings.given.items()}
        return {name: None if k is None else classes[k] for name, k in given.items()}


def write_agreement(folder: Path, answer: AgreementAnswer) -> None:
    """Write the tables and the page of an answer into `folder`; pictures are drawn into tiles/ there first."""
    classes = answer.readings.classes
    results_table(agreement_rows(answer.agreements, classes), folder / FIGURES)
    results_table(confusion_rows(answer.agreements, classes), folder / CONFUSION)
    readers = answer.graders[:2]
    apart = answer.readings.rank_disagreements(readers[0], readers[1])
    rows = [{**answer.described[k], **answer.said(k)} for k in apart]
    columns = {**answer.described[0], **answer.said(0)}
    results_table(rows, folder / DIFFERENCES) if rows else _write_header(folder / DIFFERENCES, list(columns))
    sections = [_figures_section(answer), _confusion_section(answer)]
    tiles = folder / "tiles"
    tiles.mkdir(exist_ok=True)
    sections += [_differences_section(each, answer, tiles) for each in answer.agreements]
    page = StudyPage(
        title=answer.title, lead=answer.lead, stamps=answer.stamps, warnings=answer.warnings, facts=answer.facts,
        commands=[answer.command], sections=sections,
    )  # fmt: skip
    write_study_report(folder / PAGE, page)


def _write_header(path: Path, columns: Sequence[str]) -> None:
    path.write_text(",".join(columns) + "\n", encoding="utf-8")


def _figures_section(answer: AgreementAnswer) -> Section:
    kappas, by_class, notes = [], [], []
    two_classes = len(answer.readings.classes) == 2  # then both kappas are one
    for each in answer.agreements:
        pair = f"{each.first}, {each.second}"
        quadratic = {} if two_classes else {"quadratic_kappa": _cell(each.quadratic_kappa)}
        kappas.append(
            {"pair": pair, "graded by both": f"{each.counts.sum()} of {each.listed}", **quadratic, "kappa": _cell(each.kappa),
             "same": _cell(each.same_class)}
        )  # fmt: skip
        values = zip(answer.readings.classes, each.by_class, strict=True)
        by_class.append({"pair": pair, **{f"on {name}": _cell(value) for name, value in values}})
        notes += [{"pair": pair, "to know": note} for note in each.notes]
    tables = [
        Table(kappas, f"Kappas and the share of equal answers, with 95 % intervals by {answer.group}", strong=[0]),
        Table(by_class, "Agreement on each class"),
        Table(notes, "What to know of these figures"),
    ]
    return Section("How far they agree", tables=tables, explained=_EXPLAINED)


def _confusion_section(answer: AgreementAnswer) -> Section:
    classes, tables = answer.readings.classes, []
    for each in answer.agreements:
        head = f"{each.first} (row), {each.second} (column)"
        rows = zip(classes, each.counts, strict=True)
        tables.append(
            Table([{head: name, **dict(zip(classes, map(int, counts), strict=True))} for name, counts in rows])
        )
    return Section("What each said", tables=tables)


def _differences_section(each: Agreement, answer: AgreementAnswer, tiles: Path) -> Section:
    """The pictures on which two differ most, and how many as far apart are not shown."""
    ranked = answer.readings.rank_disagreements(each.first, each.second)
    shown = ranked[:_SHOWN]
    figures = []
    for k in shown:
        path = tiles / f"{k:05d}.jpg"
        if not path.exists():
            answer.draw(k, path)
        name = next(iter(answer.described[k].values()))
        said = ", ".join(f"{grader} {word or 'blank'}" for grader, word in answer.said(k).items())
        figures.append(ReportFigure(path, f"{name}: {said}", f"{answer.noun} {name}"))
    text = f"They differ on {len(ranked)} of {counted(int(each.counts.sum()), answer.noun)}."
    if len(ranked) > len(shown):
        first, second = (answer.readings.given[name] for name in (each.first, each.second))
        distances = [abs((first[k] or 0) - (second[k] or 0)) for k in ranked]
        ties = sum(distance == distances[len(shown) - 1] for distance in distances[len(shown) :])
        tied = f", {ties} of them as far apart as the last one here" if ties else ""
        text += f" The {len(shown)} farthest apart are shown; {len(ranked) - len(shown)} are not{tied}."
    return Section(f"{each.first} and {each.second}: where they differ most", [text], figures=figures)


def _cell(estimate: Estimate) -> EstimateCell:
    low, high = (None if math.isnan(end) else end for end in (estimate.low, estimate.high))
    return EstimateCell(estimate.value, low, high, estimate.n)
