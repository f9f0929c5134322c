"""The tool's grade of each patch that readers graded: from the patch itself, or from the results of `nicking grade`. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fundoscope.cohort.sheet import SheetRow, read_sheet
from fundoscope.errors import UsageError, list_names
from fundoscope.findings import Mention
from fundoscope.folders import TABLE_SUFFIXES
from fundoscope.nicking.grade_study.patch_table import PatchRow, parse_grade, read_patch_table
from fundoscope.nicking.grading.crossing_patches import KnownScale
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.runs import Walk


@dataclass(frozen=True, slots=True)
class ToolGrade:
    """The tool's `grade` of a crossing, None where it gives none; `found` says whether it found the crossing at all."""

    grade: int | None
    found: bool = True


@dataclass(frozen=True, slots=True)
class CrossingPlace:
    """Where a crossing lies in a photograph, in pixels of the file; a finding farther away than `reach` is another one."""

    photograph: str
    row: float
    column: float
    reach: float


def known_scale(row: PatchRow) -> KnownScale:
    """What a table says of the scale and the slope of a patch."""
    vein_px, slope = (None if math.isnan(value) else value for value in (row.vein_px, row.slope))
    return KnownScale(row.span, vein_px, slope)


def walk_table(named: Sequence[str]) -> tuple[Walk, dict[Path, KnownScale]] | None:
    """The patches of the one table that is named, in its order, and what is known of each by its path; None where anything else
    is named, a table of whole photographs too. Errors as `read_patch_table`.
    """
    table = Path(named[0])
    if len(named) > 1 or table.suffix.lower() not in TABLE_SUFFIXES or not table.is_file():
        return None
    if "patch" not in read_sheet(table, ("patch", "image")).titles:
        return None
    rows = read_patch_table(table)
    mentions = [Mention(str(row.path), location=row.path, table=table) for row in rows]
    return Walk(mentions), {row.path: known_scale(row) for row in rows}


def grade_table_patch(row: PatchRow, grader: NickingGrader) -> ToolGrade:
    """The tool's grade of a table's patch, by the rule by which it grades crossings of photographs.

    Raises `PhotographError` for a file that cannot be read, `BundleError` where the bundle holds no network that grades.
    """
    return ToolGrade(grader.grade_patch(row.path, row.path.name, known_scale(row)).finding.grade)


def match_results(places: Sequence[CrossingPlace], findings: Sequence[SheetRow]) -> list[ToolGrade]:
    """The grade of the nearest crossing in rows of a results.csv of `nicking grade`, for each place.

    A photograph is known by its path, or by its name without folder and suffix where the path is another. Raises
    `UsageError` for a photograph without a row, and for one whose name several files have.
    """
    by_file: dict[str, list[SheetRow]] = {}
    for row in findings:
        by_file.setdefault(row["file"], []).append(row)
    matched = []
    for place in places:
        own = [row for row in _rows_of(place.photograph, by_file) if row["crossing"]]
        away = [math.hypot(float(row["row"]) - place.row, float(row["col"]) - place.column) for row in own]
        found = bool(own) and min(away) <= place.reach
        matched.append(ToolGrade(parse_grade(own[int(np.argmin(away))], "grade") if found else None, found))
    return matched


def _rows_of(photograph: str, by_file: dict[str, list[SheetRow]]) -> list[SheetRow]:
    if photograph in by_file:
        return by_file[photograph]
    alike = [name for name in by_file if _stem(name) == _stem(photograph)]
    if len(alike) > 1:
        raise UsageError(
            f"{photograph}: the tool's results hold several photographs of that name ({list_names(alike)}). "
            "Grade the photographs under the paths that the table has."
        )
    if not alike:
        raise UsageError(
            f"{photograph} has no row in the tool's results. Grade all photographs of the list: fundoscope nicking grade"
        )
    return by_file[alike[0]]


def _stem(name: str) -> str:
    last = name.replace("\\", "/").rpartition("/")[2]
    return last.rpartition(".")[0] or last
