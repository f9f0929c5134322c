"""Patches of crossings with known nicking, which graders learn from and are measured on: `make nicked-patches`.

    python -m fundoscope.nicking.grade_study.nicked_patches --data DATA --out OUT [--recipe R] [--workers N]

At each chosen crossing of a real photograph (`chosen_crossings.py`: by the drawn maps and two readers) the vein is pinched in
every grade, and sham warps are carried out in turn: the truth of the patch is what was done. Simulated eyes bring their own truth. OUT then holds tables of `fundoscope nicking study-grades`:

    real.csv       pinched and sham-warped crossings
    banded.csv     the same crossings, narrowed in bands with gaps between the grades
    redrawn.csv    the same crossings by the second renderer, which nothing is trained on
    oblique.csv    the same crossings with lesions of another shape, which nothing is trained on
    eyes.csv       crossings of simulated eyes

The patches are cut from research
data: never commit them. The command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from fundoscope.datasets import PhotographRecord, open_dataset
from fundoscope.errors import PhotographError
from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.imaging.places import rescale_points, sample_square
from fundoscope.nicking.grade_study.chosen_crossings import chosen_places, count_chosen, has_four_arms
from fundoscope.nicking.grade_study.patch_table import COLUMNS, WIDE_SPAN
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH
from fundoscope.nicking.grading.widths import SLOPE_REACH
from fundoscope.nicking.recipes.nicked_patches import (
    DrawingNumbers,
    LesionTable,
    NickedPatchRecipe,
    SimulatedSet,
    read_nicked_patch_recipe,
)
from fundoscope.outputs import save_picture
from fundoscope.simulate import adult
from fundoscope.simulate.pinch import SHAMS, WarpPlan, draw_plan, is_usable, pinch
from fundoscope.simulate.pinch.lesion import map_widths, pinched_truth
from fundoscope.simulate.pinch.oblique_profile import pinch_obliquely
from fundoscope.simulate.pinch.second_renderer import redraw
from fundoscope.simulate.truth import CrossingTruth
from fundoscope.vessels import MeasuredCrossing, crossings_between
from fundoscope.vessels.graph import Centreline

_REACH = WIDE_SPAN + 2  # vein radii around a crossing: half a wide patch's side, and a rim to interpolate from
_SAME_PLACE = 3.0  # pixels of the masks between a chosen place and its crossing

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Row = dict[str, object]
Renderer = Callable[[Pixels, MeasuredCrossing, WarpPlan], Pixels]


def draw_nicked_patches(data: Path, out: Path, recipe: NickedPatchRecipe, workers: int = 1) -> list[Path]:
    """Write all patches of a recipe from the sets below `data`, and the tables that list them; returns these tables."""
    tables = []
    for lesions in recipe.lesions:
        parts = [
            write_nicked_patches(
                data / known.folder, out / lesions.table / known.name, lesions, recipe.drawing, workers
            )
            for known in recipe.photographs
        ]
        tables.append(_join_tables(parts, out / f"{lesions.table}.csv"))
    eyes = [
        write_simulated_patches(known, out / "eyes" / known.camera, recipe.drawing, workers)
        for known in recipe.eyes.drawn
    ]
    return [*tables, _join_tables(eyes, out / "eyes.csv", keep_every_grade_0=recipe.eyes.keep_every_grade_0)]


def _join_tables(tables: Sequence[Path], out: Path, keep_every_grade_0: int = 1) -> Path:
    """One table of several that lie below it; of the patches of grade 0 one in so many is kept."""
    rows: list[dict[str, str]] = []
    for table in tables:
        below = table.parent.relative_to(out.parent)
        found = [row | {"patch": f"{below}/{row['patch']}"} for row in _read_rows(table)]
        rows += [row for row in found if row["grade"] != "0"]
        rows += [row for row in found if row["grade"] == "0"][::keep_every_grade_0]
    return write_patch_table(out, rows)


@dataclass(frozen=True, eq=False)
class DrawnPhotograph:
    """A photograph whose arteries and veins are drawn: its pixels, `full_masks` of its arteries and veins, and masks of
    arteries, veins and field with `scale` pixels of the photograph for each of theirs.

    `chosen` are the places (n, 2) of its crossings that readers chose to be pinched, in the photograph's pixels; None where
    nobody looked at it.
    """

    name: str
    pixels: Pixels
    full_masks: tuple[Mask, Mask]
    artery: Mask
    vein: Mask
    field: Mask
    scale: float = 1.0
    chosen: Points | None = None

    @classmethod
    def from_masks(cls, name: str, pixels: Pixels, masks: Sequence[Mask], largest_field: float) -> DrawnPhotograph:
        """From masks (artery, vein, field) at the photograph's size. Where the field is more than `largest_field` times
        as wide as DRIVE's, crossings are sought in masks of DRIVE's size.
        """
        diameter = float(np.ptp(np.flatnonzero(masks[2].any(axis=0))))
        scale = diameter / DIAMETER if diameter > largest_field * DIAMETER else 1.0
        artery, vein, field = (_shrink_mask(mask, scale) for mask in masks)
        return cls(name, pixels, (masks[0], masks[1]), artery, vein, field, scale)

    @classmethod
    def from_record(cls, record: PhotographRecord, largest_field: float) -> DrawnPhotograph:
        """From a photograph of a set with drawn arteries and veins. Raises `PhotographError` if it is listed, and another
        file than the readers saw.
        """
        assert record.artery is not None and record.vein is not None
        name = f"{record.dataset}/{record.name}"
        photograph = cls.from_masks(name, record.pixels, (record.artery, record.vein, record.field), largest_field)
        return replace(photograph, chosen=chosen_places(record))

    @cached_property
    def _crossings(self) -> list[MeasuredCrossing]:
        """All crossings of the masks at their scale; widths are those of the masks at the photograph's own size."""
        found = crossings_between(self.artery, self.vein)
        if self.scale == 1:
            return found
        arteries, veins = (self._depth(mask) for mask in self.full_masks)
        return [
            replace(
                crossing,
                first=_with_radii(crossing.first, arteries, self.scale),
                second=_with_radii(crossing.second, veins, self.scale),
            )
            for crossing in found
        ]

    def usable_crossings(self) -> list[MeasuredCrossing]:
        """The crossings with four drawn arms that can be pinched, in the photograph's pixels."""
        return [
            crossing.scaled(self.scale)
            for crossing in self._crossings
            if has_four_arms(crossing, self.artery, self.vein)
            and is_usable(crossing, self._crossings, self.artery | self.vein, self.field, self.scale)
        ]

    def chosen_crossings(self) -> list[MeasuredCrossing]:
        """The crossings that readers chose, in the photograph's pixels; every usable one where nobody looked at it.

        Raises `PhotographError` where the masks have no crossing at a chosen place.
        """
        if self.chosen is None:
            return self.usable_crossings()
        every, found = [crossing.scaled(self.scale) for crossing in self._crossings], []
        for place in self.chosen:
            away = [float(np.hypot(*(crossing.at - place))) for crossing in every]
            if min(away, default=np.inf) > _SAME_PLACE * self.scale:
                cause = f"its maps have no crossing at row {place[0]:.0f}, column {place[1]:.0f}, where one was chosen"
                raise PhotographError(self.name, cause, "Use the maps that the list of crossings was made with.")
            found.append(every[int(np.argmin(away))])
        return found

    def _depth(self, mask: Mask) -> NDArray[np.float32]:
        """Distance of the vessel's middle nearby from its edge, at every pixel: a line at the masks' scale is up to a pixel
        of theirs off the middle.
        """
        depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
        square = np.ones((2 * round(self.scale) + 1,) * 2, np.uint8)
        return np.asarray(cv2.dilate(depth, square), np.float32)

    @property
    def map_scale(self) -> float:
        """How many of the photograph's pixels make one at the scale of the vessel maps."""
        return float(np.ptp(np.flatnonzero(self.field.any(axis=0)))) * self.scale / DIAMETER


def _with_radii(line: Centreline, depth: NDArray[np.float32], scale: float) -> Centreline:
    """The line with the radii that a map of depths gives, which has `scale` pixels for each of the line's."""
    columns, rows = (rescale_points(line.points, scale)[:, k].astype(np.float32) for k in (1, 0))
    return replace(line, radius=cv2.remap(depth, columns[None], rows[None], cv2.INTER_LINEAR)[0] / scale)


def _shrink_mask(mask: Mask, scale: float) -> Mask:
    if scale == 1:
        return mask
    size = (round(mask.shape[1] / scale), round(mask.shape[0] / scale))
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5


def crossing_window(crossing: MeasuredCrossing) -> tuple[tuple[slice, slice], MeasuredCrossing]:
    """As much of the photograph around a crossing as is changed, measured or cut out, and the crossing in it."""
    reach = _REACH * float(np.median(crossing.second.radius))
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.ceil(crossing.at + reach).astype(int) + 1
    first, second = (replace(s, points=s.points - low) for s in (crossing.first, crossing.second))
    return np.s_[low[0] : high[0], low[1] : high[1]], MeasuredCrossing(crossing.at - low, crossing.angle, first, second)


def draw_plans(lesions: LesionTable, rng: Generator, turn: int) -> Iterator[WarpPlan]:
    """What is done at one crossing, patch by patch; `turn` counts the crossings of a set."""
    number = turn * sum(planned.shams.count("turn") for planned in lesions.plans)
    for planned in lesions.plans:
        for sham in planned.shams:
            given = None if sham == "drawn" else SHAMS[number % len(SHAMS)] if sham == "turn" else sham
            number += sham == "turn"
            yield draw_plan(planned.grade, rng, given, planned.sides)


def repaint(pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan) -> Pixels:
    """A plan's lesion by the second renderer, which paints where `pinch` warps; it knows no shams."""
    return redraw(pixels, crossing, plan.calibre, plan.fade, _rng_of(plan))


def warp_obliquely(pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan) -> Pixels:
    """A plan by a lesion of other lengths, asymmetric and oblique to the vein."""
    return pinch_obliquely(pixels, crossing, plan, _rng_of(plan))


def _rng_of(plan: WarpPlan) -> Generator:
    return np.random.default_rng(int(1e6 * abs(plan.jitter[0])))


#: What carries out a plan: `pinch` warps, and may train a network; the second renderer paints, `oblique profile` warps a lesion
#: of another shape, and both only test.
RENDERERS: dict[str, Renderer] = {"pinch": pinch, "second renderer": repaint, "oblique profile": warp_obliquely}


def write_nicked_patches(
    folder: Path, out: Path, lesions: LesionTable, drawing: DrawingNumbers, workers: int = 1
) -> Path:
    """Write the patches of a set with drawn arteries and veins, and `out`/patches.csv; returns that table.

    Photographs that are done are not drawn again. Patches span `WIDE_SPAN` vein widths, so that they can be turned and shrunk.
    """
    sources = open_dataset(folder).sources
    # a photograph that nobody looked at counts as one crossing, so that not all begin with the same sham
    turns = np.cumsum([0, *(max(1, count_chosen(source.full_name)) for source in sources)])
    draw = partial(_pinch_photograph, folder, out, lesions, drawing, [int(turn) for turn in turns])
    return _write_by_photograph(draw, range(len(sources)), out, workers)


def write_simulated_patches(eyes: SimulatedSet, out: Path, drawing: DrawingNumbers, workers: int = 1) -> Path:
    """Write the patches of simulated eyes as `write_nicked_patches` does it; returns the table."""
    seeds = range(eyes.first_seed, eyes.first_seed + eyes.photographs)
    return _write_by_photograph(partial(_draw_eye, eyes, out, drawing), seeds, out, workers)


def _write_by_photograph(draw: Callable[[int], Path], numbers: Iterable[int], out: Path, workers: int) -> Path:
    """Have each photograph drawn into a table of its own, and join these in `out`/patches.csv."""
    (out / "patches").mkdir(parents=True, exist_ok=True)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(draw, numbers))
    else:
        parts = [draw(number) for number in numbers]
    return write_patch_table(out / "patches.csv", [row for part in parts for row in _read_rows(part)])


def _pinch_photograph(
    folder: Path, out: Path, lesions: LesionTable, drawing: DrawingNumbers, turns: Sequence[int], number: int
) -> Path:
    """The table of one real photograph's patches, written unless it is there; `turns` count the crossings before it."""
    part = out / "patches" / f"{number:04d}.csv"
    if part.exists():
        return part
    photograph = DrawnPhotograph.from_record(open_dataset(folder)[number], drawing.largest_field)
    rows = []
    for k, crossing in enumerate(photograph.chosen_crossings()):
        rng = np.random.default_rng((lesions.seed, number, k))
        window, here = crossing_window(crossing)
        for j, plan in enumerate(draw_plans(lesions, rng, turns[number] + k)):
            changed = RENDERERS[lesions.renderer](photograph.pixels[window], here, plan)
            truth = pinched_truth(here, plan)
            path = f"patches/{number:04d}_{k:02d}_{j:02d}.png"
            save_wide_patch(out / path, changed, (truth.row, truth.col), truth.vein_width_px)
            about = _describe_patch(photograph.name, map_widths(crossing)[1] / photograph.map_scale, truth)
            slope = here.second.slope(*np.multiply(SLOPE_REACH, truth.vein_width_px))
            rows.append({"patch": path, **about, "sham": plan.sham, "slope": round(slope, 1)})
    return write_patch_table(part, rows)


def _draw_eye(eyes: SimulatedSet, out: Path, drawing: DrawingNumbers, seed: int) -> Path:
    """The table of one simulated photograph's patches, written unless it is there."""
    part = out / "patches" / f"{seed:06d}.csv"
    if part.exists():
        return part
    eye = adult(seed, camera=eyes.camera, grade=seed % 4, size=eyes.size)
    diameter = float(np.ptp(np.flatnonzero(eye.truth.field.any(axis=0))))
    rows = []
    for k, true in enumerate(eye.truth.crossings):
        wide_artery = true.artery_width_px >= drawing.smallest_simulated_artery
        if wide_artery and true.vein_width_px >= drawing.smallest_simulated_vein:
            path = f"patches/{seed:06d}_{k:03d}.png"
            save_wide_patch(out / path, eye.pixels, (true.row, true.col), true.vein_width_px)
            about = _describe_patch(f"simulated/{seed}", true.vein_width_px * DIAMETER / diameter, true)
            rows.append({"patch": path, **about, "sham": "none"})
    return write_patch_table(part, rows)


def _describe_patch(photograph: str, vein_px: float, truth: CrossingTruth) -> Row:
    """What a row says besides its patch and sham: the photograph, the scale, the grade, and narrowing, calibre and fade of
    the upper (1) and the lower side (2).
    """
    row: Row = {"photograph": photograph, "span": WIDE_SPAN, "vein_px": round(vein_px, 2), "grade": truth.grade}
    losses = {
        "narrowing": (truth.narrowing_1, truth.narrowing_2), "calibre": (truth.calibre_1, truth.calibre_2),
        "fade": (truth.fade_1, truth.fade_2),
    }  # fmt: skip
    for name, sides in losses.items():
        row |= {f"{name}_{k}": round(side, 4) for k, side in enumerate(truth.upper_first(sides), 1)}
    return row


def save_wide_patch(path: Path, pixels: Pixels, at: ArrayLike, width: float) -> None:
    """Write the wide patch around a place `at` (row, column) whose vein is `width` pixels wide."""
    wide = sample_square(pixels, at, width / VEIN_WIDTH, round(WIDE_SPAN * VEIN_WIDTH))
    save_picture(path, cv2.cvtColor(wide, cv2.COLOR_RGB2BGR))


def write_patch_table(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a table of patches beside `path` and move it there; returns the path."""
    beside = path.with_suffix(".part")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return beside.replace(path)


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """The command `python -m fundoscope.nicking.grade_study.nicked_patches`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the patches; it goes on where it was cut off"
    )
    parser.add_argument("--recipe", default="usual", help="a shipped recipe's name, or a TOML file")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    given = parser.parse_args()
    for table in draw_nicked_patches(given.data, given.out, read_nicked_patch_recipe(given.recipe), given.workers):
        rows = _read_rows(table)
        print(f"{table}: {len(rows)} patches of {len({row['photograph'] for row in rows})} photographs")


if __name__ == "__main__":
    main()
