"""What a page is drawn from: the files of a study's folder, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fundoscope.imaging import read
from fundoscope.reports import EstimateCell, Picture
from fundoscope.rop.study.results import CURVES, read_results
from fundoscope.studies import MANIFEST

#: Digits of a number in a table that is no estimate.
_DIGITS = 4


@dataclass(frozen=True)
class StudyFiles:
    """The values of `results.json` and `study.json`, the points of curves, and the list of explained pictures.

    `drawn` is the folder of the figures.
    """

    folder: Path
    results: dict[str, Any]
    manifest: dict[str, Any]
    curves: pd.DataFrame
    explained: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> StudyFiles:
        """The files of a study that is evaluated and explained."""
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        explained = json.loads((folder / "explained" / "pictures.json").read_text(encoding="utf-8"))
        return cls(folder, read_results(folder), manifest, pd.read_csv(folder / "tables" / CURVES), explained)

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
            Picture(read(self.folder / "explained" / each["file"]).pixels, each["image"], each["lines"])
            for each in self.explained
            if each["section"] == section
        ]


def cells(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows of `results.json` as a report's table takes them, all columns of any row or some; what is undefined is blank."""
    named = columns or list(dict.fromkeys(name for row in rows for name in row))
    return [{name: _cell(row.get(name)) for name in named} for row in rows]


def _cell(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return round(value, _DIGITS) if isinstance(value, float) else value
    return None if value["value"] is None else EstimateCell(value["value"], value["low"], value["high"], value["n"])


def in_words(estimate: Mapping[str, Any]) -> str:
    """An estimate of `results.json` with its interval, as legends carry it."""
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} ({estimate['groups']} groups, no interval)"
    return f"{estimate['value']:.3f} ({estimate['low']:.2f} to {estimate['high']:.2f})"
