"""What a page is drawn from: the files of a study's folder, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

from fundoscope.findings import counted
from fundoscope.imaging import read
from fundoscope.reports import EstimateCell, Picture
from fundoscope.rop.study.explained_pictures import EXPLAINED, PICTURES
from fundoscope.rop.study.results import CURVES, read_results
from fundoscope.studies import MANIFEST

#: Digits of a number in a table that is no estimate.
_DIGITS = 4


@dataclass(frozen=True)
class FigureWords:
    """How captions say who answered: `answers` by which networks, `decisions` at which thresholds, and the `mean` of what."""

    answers: str
    decisions: str
    mean: str


@dataclass(frozen=True)
class EvaluationFiles:
    """The values of `results.json`, the points of curves, and the list of explained pictures.

    `drawn` is the folder of the figures.
    """

    folder: Path
    results: dict[str, Any]
    curves: pd.DataFrame
    explained: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The files of an evaluation whose pictures are made."""
        explained = json.loads((folder / EXPLAINED / PICTURES).read_text(encoding="utf-8"))
        return cls(folder, read_results(folder), pd.read_csv(folder / "tables" / CURVES), explained)

    @property
    def drawn(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"

    def curve(self, question: str, curve: str, grader: str | None = None) -> pd.DataFrame:
        """The points of one curve of `tables/curves.csv`, of all graders or of one."""
        table = self.curves[(self.curves.question == question) & (self.curves.curve == curve)]
        return table if grader is None else table[table.grader == grader]

    def pictures(self, section: str) -> list[Picture]:
        """The explained pictures of one section."""
        return [
            Picture(read(self.folder / EXPLAINED / each["file"]).pixels, each["image"], each["lines"])
            for each in self.explained
            if each["section"] == section
        ]


class StudyFiles(EvaluationFiles):
    """The files of a study, `study.json` among them."""

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The values of `study.json`."""
        return json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))

    @property
    def words(self) -> FigureWords:
        """How captions say that the fold's networks answered."""
        seeds = counted(self.results["seeds"], "seed")
        return FigureWords(
            "out of fold; one line a seed", "at each fold's own operating point, seed 0", f"mean over {seeds}"
        )


def cells(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows of `results.json` as a report's table takes them, all columns of any row or some; what is undefined is blank."""
    named = columns or list(dict.fromkeys(name for row in rows for name in row))
    return [{name: _cell(row.get(name)) for name in named} for row in rows]


def _cell(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return round(value, _DIGITS) if isinstance(value, float) else value
    if value["value"] is None:
        return None
    return EstimateCell(value["value"], value["low"], value["high"], value["n"], exact_bound(value))


def exact_bound(estimate: Mapping[str, Any]) -> str:
    """What the number of groups supports of a share of 0 or 1, whose bootstrap interval means nothing; blank for others."""
    note = estimate.get("note") or ""
    return note.rpartition("; ")[2] if "exact bound" in note else ""


def in_words(estimate: Mapping[str, Any]) -> str:
    """An estimate of `results.json` with its interval, as legends carry it."""
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} ({estimate['groups']} groups, no interval)"
    return f"{estimate['value']:.3f} ({estimate['low']:.2f} to {estimate['high']:.2f})"
