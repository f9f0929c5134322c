"""The report of a study: one HTML file with its tables, figures and checks, to read, print and keep.

First stands what was found: warnings and verdicts, how good, how sure, against which baseline. Then come the sections, each
with its paragraphs, facts, checks, tables, figures and pictures; what explains them is folded beneath. Any study fills the
page; nothing here knows what was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fundoscope.errors import UsageError
from fundoscope.imaging import Pixels
from fundoscope.reports import page
from fundoscope.reports.overlay import jpeg_uri

#: Abbreviations in headings, as they are written.
_SHORT = {
    word.lower(): word
    for word in (
        "AUC",
        "ECE",
        "ROP",
        "INT8",
        "AP",
        "AP50",
        "AP75",
        "AR1",
        "AR10",
        "AR100",
        "F1",
        "PPV",
        "NPV",
        "ID",
        "TR",
    )
}


@dataclass(frozen=True, slots=True)
class EstimateCell:
    """A figure with its 95 % interval and the number of photographs behind it, drawn as a whisker.

    A `note` stands in the place of an interval that means nothing: that of a share which no resample changes.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the keys of the first as columns; cells are text, numbers, `EstimateCell` or None (blank).

    `reference` draws an upright line through each column of estimates: 0 for differences, 0.5 for an AUC.
    `strong` holds the indices of rows to stress: ours among the rivals.
    """

    rows: Sequence[Mapping[str, Any]]
    caption: str = ""
    note: str = ""
    reference: float | None = None
    strong: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A PNG or JPEG file, embedded; `alt` says in words what the figure shows (default: its caption)."""

    path: Path
    caption: str
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph of a gallery, uint8 RGB, with its name and short lines beneath it; `side` pixels at most."""

    pixels: Pixels
    name: str
    lines: Sequence[str] = ()
    side: int = 256


@dataclass(frozen=True, slots=True)
class Check:
    """Something that had to hold, whether it did, and what was seen."""

    what: str
    passed: bool
    detail: str = ""


Tone = Literal["good", "unsure", "poor"]


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """One answer at the head of a page: how good (`figure`), how sure (`spread`), against which baseline (`against`).

    `question` says what was asked, `basis` on what it was measured. `tone` colours it: `good` where the baseline is beaten,
    `poor` where it is not.
    """

    question: str
    figure: str
    spread: str
    against: str
    basis: str
    tone: Tone = "unsure"


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and what stands under it; what was found stands in `paragraphs`, what explains it, folded, in `explained`."""

    title: str
    paragraphs: Sequence[str] = ()
    facts: Mapping[str, Any] | None = None
    checks: Sequence[Check] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[ReportFigure] = ()
    pictures: Sequence[Picture] = ()
    explained: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StudyPage:
    """A study as it is shown.

    `warnings` and `verdicts` come first; below verdicts what was run is folded, at the end of the page. `stamps` stand on top and on every printed page ("Images assumed independent", "Simulated"); research
    use only is always added. `facts` name recipe, seeds, versions and data hash; `commands` are there to be
    copied.
    """

    title: str
    lead: str = ""
    stamps: Sequence[str] = ()
    warnings: Sequence[str] = ()
    verdicts: Sequence[StudyVerdict] = ()
    facts: Mapping[str, Any] | None = None
    commands: Sequence[str] = ()
    sections: Sequence[Section] = ()


def write_study_report(out: Path, study: StudyPage) -> None:
    """Write `study` to the file `out`, in one step: an earlier report stays until the new one is whole.

    Raises `UsageError` for a figure that is missing or no picture, and where `out` cannot be written.
    """
    stamps = [*study.stamps, *([] if page.RESEARCH_USE in study.stamps else [page.RESEARCH_USE])]
    sections = [_section(section, f"section-{at}") for at, section in enumerate(study.sections, 1)]
    data = page.render(
        "study.html.j2", page=page.shell(stamps), study=study, sections=sections, facts=_pairs(study.facts)
    )
    aside = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(out)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}). Give a folder that can.") from error


def _section(section: Section, anchor: str) -> dict[str, Any]:
    return {
        "anchor": anchor,
        "title": section.title,
        "paragraphs": section.paragraphs,
        "facts": _pairs(section.facts),
        "checks": section.checks,
        "tables": [_table(table) for table in section.tables if table.rows],
        "figures": [
            {"uri": page.image_uri(f.path), "caption": f.caption, "alt": f.alt or f.caption} for f in section.figures
        ],
        "explained": section.explained,
        "pictures": [{"uri": jpeg_uri(p.pixels, p.side), "name": p.name, "lines": p.lines} for p in section.pictures],
    }


def _pairs(facts: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in (facts or {}).items()]


def _table(table: Table) -> dict[str, Any]:
    names = list(table.rows[0])
    columns = {name: [row.get(name) for row in table.rows] for name in names}
    cells = {name: _column(values, table.reference) for name, values in columns.items()}
    return {
        "caption": table.caption,
        "note": table.note,
        "heads": [{"name": _head(name), "kind": _kind(columns[name])} for name in names],
        "rows": [
            {"strong": at in table.strong, "cells": [cells[name][at] for name in names]}
            for at in range(len(table.rows))
        ],
    }


def _head(name: str) -> str:
    """A column's name as a heading, abbreviations as they are written."""
    return " ".join(_SHORT.get(word, word) for word in name.replace("_", " ").split())


def _kind(values: Sequence[Any]) -> str:
    if any(isinstance(value, EstimateCell) for value in values):
        return "estimate"
    return "number" if all(page.is_number(value) for value in values) else "text"


def _column(values: Sequence[Any], reference: float | None) -> list[dict[str, Any]]:
    """The cells of one column, its estimates drawn on one common axis."""
    kind = _kind(values)
    known = [end for value in values if isinstance(value, EstimateCell) for end in _ends(value)]
    ends = [*known, *([reference] if known and reference is not None else [])]
    return [
        {
            "kind": kind,
            "text": _text(value),
            **(_whisker(value, min(ends), max(ends), reference) if isinstance(value, EstimateCell) and ends else {}),
        }
        for value in values
    ]


def _ends(estimate: EstimateCell) -> list[float]:
    return [end for end in (estimate.value, estimate.low, estimate.high) if end is not None and math.isfinite(end)]


def _whisker(estimate: EstimateCell, low: float, high: float, reference: float | None) -> dict[str, Any]:
    """Interval in words and, where there is one, positions on an axis of 0 to 100 from `low` to `high`."""
    n = f"n = {estimate.n}" if estimate.n is not None else ""
    if estimate.note or estimate.low is None or estimate.high is None or len(_ends(estimate)) < 3:
        return {"note": ", ".join(filter(None, (estimate.note, n)))}
    span = (high - low) or 1.0
    at = {
        name: round(4 + 92 * (value - low) / span, 1)
        for name, value in (("low", estimate.low), ("value", estimate.value), ("high", estimate.high))
    }
    line = None if reference is None else round(4 + 92 * (reference - low) / span, 1)
    words = f"{_text(estimate.low)} to {_text(estimate.high)}"
    return {"note": ", ".join(part for part in (words, n) if part), "axis": {**at, "reference": line}}


def _text(value: Any) -> str:
    """A cell in words: three decimals, true as yes, a blank as a dash."""
    if isinstance(value, EstimateCell):
        return _text(value.value)
    if value is None or value == "":
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    return ", ".join(_text(item) for item in value) if isinstance(value, list | tuple) else str(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not defined"
    small = value != 0 and abs(value) < 0.001
    return f"{value:.1e}" if small else f"{value:.3f}".replace("-", "−")
