"""What was concluded of one photograph: the row of a results table, and the exit code that all rows add up to.

A refusal and a failure are findings too: whatever was named on the command line has its row.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

ROP_COLUMNS = ("file", "status", "reason", "p_rop", "rop", "p_tr", "treatment_requiring", "quality", "seconds")

NICKING_COLUMNS = (
    "file", "status", "reason", "crossing", "row", "col", "confidence", "artery_width_px", "vein_width_px",
    "narrowing_1", "narrowing_2", "p0", "p1", "p2", "p3", "grade",
)  # fmt: skip

PATCH_COLUMNS = ("file", "status", "reason", "narrowing_1", "narrowing_2", "p0", "p1", "p2", "p3", "grade")

#: How a negative reads wherever a person reads it.
NOTHING_SEEN = "no ROP seen in this view; this excludes nothing"


class Status(StrEnum):
    """ok: graded; rejected: read, but not graded, for the reason given; failed: could not be read."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RopFinding:
    """One photograph's row: probabilities and quality are 0 to 1, None where there is none; times in seconds."""

    file: str
    status: Status
    reason: str = ""
    p_rop: float | None = None
    rop: bool | None = None
    p_tr: float | None = None
    treatment_requiring: bool | None = None
    quality: float | None = None
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        """The columns of `ROP_COLUMNS` with numbers rounded, yes and no spelled out, and None where blank."""
        values = {column: getattr(self, column) for column in ROP_COLUMNS}
        values["status"] = self.status.value
        return {column: _plain(value) for column, value in values.items()}


@dataclass(frozen=True, slots=True)
class NickingFinding:
    """One crossing's row, numbered from 1 in its photograph; a photograph without one has a row with `crossing` None.

    `row` and `col` are pixels of the file, 0-based; widths in its pixels; `narrowing` 1 - width beside the artery over
    undisturbed width, side 1 nearer the disc; `probabilities` of grades 0 to 3, None where it was not graded.
    """

    file: str
    status: Status
    reason: str = ""
    crossing: int | None = None
    row: float | None = None
    col: float | None = None
    confidence: float | None = None
    artery_width_px: float | None = None
    vein_width_px: float | None = None
    narrowing_1: float | None = None
    narrowing_2: float | None = None
    probabilities: tuple[float, float, float, float] | None = None
    grade: int | None = None

    def as_row(self) -> dict[str, Any]:
        """The columns of `NICKING_COLUMNS` with numbers rounded, and None where blank."""
        return _graded_row(self, NICKING_COLUMNS)


@dataclass(frozen=True, slots=True)
class PatchFinding:
    """One patch's row; the rest as in `NickingFinding`, side 1 being the upper one."""

    file: str
    status: Status
    reason: str = ""
    narrowing_1: float | None = None
    narrowing_2: float | None = None
    probabilities: tuple[float, float, float, float] | None = None
    grade: int | None = None

    def as_row(self) -> dict[str, Any]:
        """The columns of `PATCH_COLUMNS` with numbers rounded, and None where blank."""
        return _graded_row(self, PATCH_COLUMNS)


def _graded_row(finding: NickingFinding | PatchFinding, columns: tuple[str, ...]) -> dict[str, Any]:
    p = dict(zip(("p0", "p1", "p2", "p3"), finding.probabilities or (None,) * 4, strict=True))
    values = {column: p[column] if column in p else getattr(finding, column) for column in columns}
    values["status"] = finding.status.value
    return {column: _plain(value) for column, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


class CsvTable:
    """A results table written row by row, so that a thousand photographs take no more memory than one."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._file: TextIO = path.open("w", newline="", encoding="utf-8", errors="surrogateescape")
        self._writer = csv.DictWriter(self._file, columns)
        self._writer.writeheader()

    def add(self, row: dict[str, Any]) -> None:
        """Write one row; None is an empty cell."""
        self._writer.writerow({key: "" if value is None else value for key, value in row.items()})

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class JsonTable:
    """The same rows as one JSON array, an object a line; None is null."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._file.write("[")
        self._first = True

    def add(self, row: dict[str, Any]) -> None:
        """Write one object."""
        self._file.write("\n" if self._first else ",\n")
        self._file.write(json.dumps(row))
        self._first = False

    def close(self) -> None:
        """Finish the file."""
        self._file.write("\n]\n")
        self._file.close()


def exit_code(statuses: Iterable[Status]) -> int:
    """0 when every photograph was read (refused ones included), 1 when some could not be."""
    return 1 if any(status is Status.FAILED for status in statuses) else 0
