"""The tool's grade of each patch that readers graded: from the patch itself, or from the results of `nicking grade`. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.cohort.sheet import SheetRow
from fundoscope.errors import UsageError, list_names
from fundoscope.imaging import read
from fundoscope.nicking.grade_study.patch_table import PatchRow, parse_grade
from fundoscope.nicking.grading.crossing_patches import (
    CrossingPatch,
    PatchPose,
    Plane,
    crop_square,
    map_patch_of_span,
)
from fundoscope.nicking.grading.grades import grade_patches
from fundoscope.nicking.grading.widths import measure_patch


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


def map_table_patch(row: PatchRow, bundle: NickingBundle) -> tuple[np.ndarray, Plane, CrossingPatch]:
    """The pixels of a table's patch (s, s, 3), its vessel maps (4, h, w), and the patch as its networks are shown it, with the
    scale and the slope that the table states.

    Raises `PhotographError` for a file that cannot be read.
    """
    pixels = crop_square(read(row.path))
    width = None if math.isnan(row.vein_px) else row.vein_px
    maps, patch = map_patch_of_span(pixels, bundle.map_vessels, row.span, width)
    if not math.isnan(row.slope):
        patch = replace(patch, measured=PatchPose(row.slope))
    return pixels, maps, patch


def grade_table_patch(row: PatchRow, bundle: NickingBundle) -> ToolGrade:
    """The tool's grade of a table's patch, by the rule by which it grades crossings of photographs.

    Raises `PhotographError` for a file that cannot be read, `BundleError` where the bundle holds no network that grades.
    """
    pixels, maps, patch = map_table_patch(row, bundle)
    narrowing = measure_patch(pixels, maps, bundle.card.crossings, pixels.shape[0] / maps.shape[1])
    (graded,) = grade_patches([patch], [narrowing], bundle)
    return ToolGrade(graded.grade)


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
