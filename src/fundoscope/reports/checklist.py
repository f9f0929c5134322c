"""Reporting checklists, filled with what a study knows of itself; the rest is marked for its authors, never invented.

TRIPOD+AI: Collins et al. 2024, BMJ 385:e078378 (27 items). CLAIM 2024: Tejani et al. 2024, Radiology: Artificial
Intelligence 6(4):e240300 (44 items). The wording of the items is ours and short: the papers say what each asks in full.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from fundoscope.errors import UsageError, nearest
from fundoscope.reports.study import Section, Table

Name = Literal["tripod_ai", "claim_2024"]

TITLES: dict[Name, str] = {"tripod_ai": "TRIPOD+AI", "claim_2024": "CLAIM 2024"}

#: What a study may say of itself.
KEYS = (
    "architecture", "calibration", "code", "data_source", "early_stopping", "exclusions",
    "explanations", "failure_gallery", "folds_and_groups", "imbalance", "initial_weights", "intended_use",
    "internal_not_external", "labels", "metrics_and_intervals", "missing_data", "operating_point", "overlap_proof",
    "parameters_and_macs", "photographs_and_infants", "preprocessing", "quality_refusals", "robustness_controls",
    "sample_size_bound", "software", "subgroups", "threshold_rule", "training", "version",
)  # fmt: skip

_HUMAN = "for the authors to supply"


@dataclass(frozen=True, slots=True)
class Answer:
    """One item of a checklist: its number, what it `asks`, the `answer`, and whether the `study` or a `human` gives it."""

    item: str
    section: str
    asks: str
    answer: str
    by: Literal["study", "human"]


def fill(checklist: Name, facts: Mapping[str, str]) -> list[Answer]:
    """Every item of a checklist, answered where `facts` (keys of `KEYS`) say something, else left to its authors.

    An item that several facts bear on gets all that are known, joined by semicolons. A blank fact says nothing.
    Raises `UsageError` for a key that no checklist asks for.
    """
    for key in facts:
        if key not in KEYS:
            raise UsageError(f"No checklist asks for '{key}': {nearest(key, KEYS)}")
    return [_answer(row, facts) for row in _rows(checklist)]


def _answer(row: Mapping[str, str], facts: Mapping[str, str]) -> Answer:
    answer = "; ".join(facts[key] for key in row["filled_from"].split() if facts.get(key, "").strip())
    return Answer(row["item"], row["section"], row["asks"], answer or _HUMAN, "study" if answer else "human")


def _rows(checklist: Name) -> list[dict[str, str]]:
    text = files("fundoscope.reports").joinpath("checklists", f"{checklist}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def write_checklist(path: Path, answers: Sequence[Answer]) -> Path:
    """Write the answers as CSV, a row an item; returns `path`. Raises `UsageError` where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["item", "section", "asks", "answer", "by"])
            table.writerows([each.item, each.section, each.asks, each.answer, each.by] for each in answers)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}). Give a folder that can.") from error
    return path


def checklist_section(filled: Mapping[Name, Sequence[Answer]]) -> Section:
    """The checklists as a section of a report, each with the number of items that the study answers."""
    paragraphs, tables = [], []
    for name, answers in filled.items():
        known = sum(each.by == "study" for each in answers)
        paragraphs.append(
            f"{TITLES[name]}: {known} of {len(answers)} items answered by the study; the rest are for the authors."
        )
        rows = [{"item": a.item, "section": a.section, "asks": a.asks, "answer": a.answer} for a in answers]
        tables.append(Table(rows, TITLES[name]))
    return Section("Reporting checklists", paragraphs=paragraphs, tables=tables)
