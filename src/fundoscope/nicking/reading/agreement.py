"""`fundoscope nicking agreement`: how far two readers of patches agree, and the tool with each of them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fundoscope.cohort.sheet import read_sheet
from fundoscope.errors import UsageError, counted
from fundoscope.evaluation.metrics import Readings
from fundoscope.findings import NICKING_COLUMNS
from fundoscope.imaging import read
from fundoscope.nicking.grade_study.patch_table import READERS, SETTLED, PatchRow, read_patch_table
from fundoscope.nicking.grading.crossing_patches import crop_square, resize_square
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.reading.cut import TILE_SIDE, draw_tile, tile_of
from fundoscope.nicking.reading.tool_grades import CrossingPlace, ToolGrade, grade_table_patch, match_results
from fundoscope.outputs import save_picture
from fundoscope.reports.agreement import AgreementAnswer
from fundoscope.studies import Progress
from fundoscope.vessels.grade_rule import GRADES, SPAN

TOOL = "tool"
PAIRS = (READERS, (READERS[0], TOOL), (READERS[1], TOOL), (SETTLED, TOOL))


@dataclass(frozen=True)
class ReadPatches:
    """The patches of a table and what readers and tool said of each; `how` says in words whose answers the tool's are."""

    rows: Sequence[PatchRow]
    tool: Sequence[ToolGrade] | None
    how: str = "not asked"

    @property
    def readings(self) -> Readings:
        """The grades by grader; the tool is among them where it was asked."""
        given: dict[str, list[int | None]] = {
            name: [row.readers[k] for row in self.rows] for k, name in enumerate(READERS)
        }
        given[SETTLED] = [row.grade for row in self.rows]
        if self.tool is not None:
            given[TOOL] = [each.grade for each in self.tool]
        return Readings(tuple(map(str, range(GRADES))), [row.photograph for row in self.rows], given)

    def draw(self, number: int, path: Path) -> None:
        """Write what a reader looked at: the tile beside the patch where there is one, else the middle of the patch."""
        row = self.rows[number]
        tile = Path(tile_of(str(row.path)))
        if row.path.suffix == ".png" and tile.exists():
            path.write_bytes(tile.read_bytes())
            return
        whole = crop_square(read(row.path))
        side = min(whole.shape[0], round(whole.shape[0] * SPAN / row.span))
        start = (whole.shape[0] - side) // 2
        usual = resize_square(np.ascontiguousarray(whole[start : start + side, start : start + side]), TILE_SIDE)
        save_picture(path, cv2.cvtColor(draw_tile(usual), cv2.COLOR_RGB2BGR))


def read_graded_table(path: Path) -> list[PatchRow]:
    """The patches of a table for two readers; `UsageError` where it has no columns for them, or neither has graded anything."""
    rows = read_patch_table(path)
    graded = [sum(row.readers[k] is not None for row in rows) for k in range(len(READERS))]
    if not all(graded):
        blank = " and ".join(name for name, count in zip(READERS, graded, strict=True) if not count)
        raise UsageError(
            f"{path}: holds no grade in {blank}. Fill in 0 to 3 for each patch that can be read; the columns are those of "
            "fundoscope nicking cut-patches."
        )
    return rows


def ask_tool(rows: Sequence[PatchRow], grader: NickingGrader, progress: Progress) -> ReadPatches:
    """The rows with the tool's grades of their patch files."""
    grades = [grade_table_patch(row, grader) for row in progress.follow(rows, len(rows), "patches graded by the tool")]
    card = grader.bundle.card
    return ReadPatches(rows, grades, f"{card.name} of {card.created}, on the patch files")


def take_results(rows: Sequence[PatchRow], results: Sequence[Path]) -> ReadPatches:
    """The rows with the tool's grades of the same crossings in results.csv of `nicking grade`.

    Raises `UsageError` where a row does not say where its crossing lies, or a photograph is not in the results.
    """
    unknown = [row.path.name for row in rows if math.isnan(row.place[0]) or math.isnan(row.place[1])]
    if unknown:
        raise UsageError(
            f"{unknown[0]}: its row does not say where the crossing lies. Fill in row and column, or leave out --results: "
            "then the patch files are graded."
        )
    findings = [row for path in results for row in read_sheet(path, NICKING_COLUMNS)]
    places = [
        CrossingPlace(row.photograph, *row.place, 1.0 if math.isnan(row.vein_px) else row.vein_px) for row in rows
    ]
    grades = match_results(places, findings)
    missed = sum(not each.found for each in grades)
    told = f"; {counted(missed, 'crossing')} it did not find" if missed else ""
    return ReadPatches(rows, grades, f"on the whole photographs, from {', '.join(map(str, results))}{told}")


def describe_agreement(read: ReadPatches, table: Path, command: str) -> AgreementAnswer:
    """The answer of the command, before it is written."""
    readings = read.readings
    found = [readings.measure(*pair) for pair in PAIRS if set(pair) <= set(readings.given)]
    unsettled = sum(row.grade is None and None not in row.readers for row in read.rows)
    lead = (
        f"Two readers graded {counted(len(read.rows), 'crossing')} of {counted(len({row.photograph for row in read.rows}), 'photograph')}, "
        "blind to each other and to the tool. A reader is no truth: where the readers differ, so may the tool from both."
    )
    facts = {
        "table": table,
        "tool": read.how,
        "not settled": f"{counted(unsettled, 'patch')} on which the readers differ",
    }
    described = [
        {"number": row.number or row.path.name, "patch": row.path.name, "photograph": row.photograph}
        for row in read.rows
    ]
    return AgreementAnswer(
        "How far readers and tool agree on nicking", lead, "patch", "photograph", readings,
        [each for each in found if each is not None], described, read.draw, facts, command,
    )  # fmt: skip
