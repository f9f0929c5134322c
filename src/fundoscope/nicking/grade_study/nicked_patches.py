"""Patches of crossings with known nicking: pinched and sham-warped ones of real photographs, and simulated ones.

At a crossing of an ordinary eye that measures as not narrowed, the vein is pinched in every grade, and each sham warp is
carried out: the truth of the patch is what was done. A crossing that is narrowed by itself is left out, since no pinch
could give it a known grade.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from fundoscope.datasets import PhotographRecord, open_dataset
from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.imaging.places import sample_square
from fundoscope.nicking.grade_study.patch_table import COLUMNS, WIDE_SPAN
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH
from fundoscope.simulate import adult
from fundoscope.simulate.pinch import SHAMS, Sham, WarpPlan, draw_plan, is_usable, pinch
from fundoscope.simulate.pinch.lesion import map_widths, pinched_truth
from fundoscope.vessels import CalibreModel, MeasuredCrossing, crossings_between, measure_narrowing

QUIET = 0.15  # narrowing of the worse side from which on a crossing is nicked (`vessels.nicks.grade_of`)
_LARGER = 1.2  # times DRIVE's field: a larger photograph's maps are brought to that size
_PLANS = (
    (0, SHAMS),
    *((grade, (None, None)) for grade in (1, 2, 3)),
)  # grade 0 with each sham, others as they are drawn
_AROUND = WIDE_SPAN + 2  # vein radii: half a wide patch's side, and a rim to interpolate from
_SEEN = (4.0, 6.0)  # pixels of artery and vein in a simulated eye: in thinner ones no narrowing is asked for

Mask = NDArray[np.bool_]
Row = dict[str, object]
Renderer = Callable[[Pixels, MeasuredCrossing, WarpPlan], Pixels]


@dataclass(frozen=True, eq=False)
class DrawnPhotograph:
    """A photograph whose arteries and veins are drawn: its pixels, and the masks of arteries, veins and field, with `scale`
    pixels of the photograph for each of theirs.
    """

    name: str
    pixels: Pixels
    artery: Mask
    vein: Mask
    field: Mask
    scale: float = 1.0

    @classmethod
    def of(cls, name: str, pixels: Pixels, masks: Sequence[Mask]) -> DrawnPhotograph:
        """From masks (artery, vein, field) at the photograph's size; those of large photographs are brought to DRIVE's."""
        diameter = float(np.ptp(np.flatnonzero(masks[2].any(axis=0))))
        scale = diameter / DIAMETER if diameter > _LARGER * DIAMETER else 1.0
        artery, vein, field = (_smaller(mask, scale) for mask in masks)
        return cls(name, pixels, artery, vein, field, scale)

    @classmethod
    def of_record(cls, record: PhotographRecord) -> DrawnPhotograph:
        """From a photograph whose arteries and veins are drawn."""
        assert record.artery is not None and record.vein is not None
        name = f"{record.dataset}/{record.name}"
        return cls.of(name, record.pixels, (record.artery, record.vein, record.field))

    def crossings(self) -> list[MeasuredCrossing]:
        """Those that can be pinched, in the photograph's pixels."""
        found = crossings_between(self.artery, self.vein)
        good = [c for c in found if is_usable(c, found, self.artery | self.vein, self.field, self.scale)]
        return [c.scaled(self.scale) for c in good]

    @property
    def full(self) -> tuple[Mask, Mask]:
        """Arteries and veins at the photograph's size."""
        size = (self.pixels.shape[1], self.pixels.shape[0])
        artery, vein = (
            cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
            for mask in (self.artery, self.vein)
        )
        return artery, vein


@dataclass(frozen=True)
class LesionRecipe:
    """What is done at each crossing: `plans` of (grade, shams; None where one is drawn), by a renderer of lesions."""

    seed: int = 0
    plans: Sequence[tuple[int, Sequence[Sham | None]]] = _PLANS
    render: Renderer = field(default=pinch)

    def draws(self, rng: Generator) -> Iterator[WarpPlan]:
        """The plans of one crossing."""
        for grade, shams in self.plans:
            for sham in shams:
                yield draw_plan(grade, rng, sham)


def _smaller(mask: Mask, scale: float) -> Mask:
    if scale == 1:
        return mask
    size = (round(mask.shape[1] / scale), round(mask.shape[0] / scale))
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5


def crossing_window(crossing: MeasuredCrossing) -> tuple[tuple[slice, slice], MeasuredCrossing]:
    """As much around a crossing as is changed, measured or cut out, and the crossing there."""
    reach = _AROUND * float(np.median(crossing.second.radius))
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.ceil(crossing.at + reach).astype(int) + 1
    first, second = (replace(s, points=s.points - low) for s in (crossing.first, crossing.second))
    return np.s_[low[0] : high[0], low[1] : high[1]], MeasuredCrossing(crossing.at - low, crossing.angle, first, second)


def undisturbed_crossings(photograph: DrawnPhotograph) -> list[MeasuredCrossing]:
    """The crossings that can be pinched and measure as not narrowed when they are only resampled."""
    crossings = photograph.crossings()
    if not crossings:
        return []
    ruler = CalibreModel.fit(photograph.pixels, [s for c in crossings for s in (c.first, c.second)])
    kept = []
    for crossing in crossings:
        window, here = crossing_window(crossing)
        only = pinch(photograph.pixels[window], here, WarpPlan())
        plane = np.ascontiguousarray(only[..., 1], np.float32)
        found = measure_narrowing(replace(ruler, plane=plane), here, *(mask[window] for mask in photograph.full))
        if found.larger_measured < QUIET:  # nan, where it cannot be measured, is not
            kept.append(crossing)
    return kept


def write_nicked_patches(folder: Path, out: Path, how: LesionRecipe = LesionRecipe(), workers: int = 1) -> Path:
    """Pinched and sham-warped patches of a set whose arteries and veins are drawn: `out`/patches.csv and the patches.

    It goes on where it was cut off, by photograph. Patches span `WIDE_SPAN` vein widths, so that they can be turned and shrunk.
    """
    sources = range(len(open_dataset(folder)))
    return _written(partial(_pinched, folder, out, how), sources, out, workers)


def write_simulated_patches(seeds: Iterable[int], camera: str, size: int, out: Path, workers: int = 1) -> Path:
    """Patches of simulated eyes, a photograph a seed, as `write_nicked_patches` writes them."""
    return _written(partial(_simulated, camera, size, out), seeds, out, workers)


def _written(one: Callable[[int], Path], numbers: Iterable[int], out: Path, workers: int) -> Path:
    (out / "patches").mkdir(parents=True, exist_ok=True)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(one, numbers))
    else:
        parts = [one(number) for number in numbers]
    rows = [row for part in parts for row in _rows(part)]
    return write_patch_table(out / "patches.csv", rows)


def _pinched(folder: Path, out: Path, how: LesionRecipe, number: int) -> Path:
    part = out / "patches" / f"{number:04d}.csv"
    if part.exists():
        return part
    photograph = DrawnPhotograph.of_record(open_dataset(folder)[number])
    rows = []
    for k, crossing in enumerate(undisturbed_crossings(photograph)):
        rng = np.random.default_rng((how.seed, number, k))
        window, here = crossing_window(crossing)
        for j, plan in enumerate(how.draws(rng)):
            drawn = how.render(photograph.pixels[window], here, plan)
            told = pinched_truth(here, plan)
            sides = plan.narrowing if told.side_1_up else plan.narrowing[::-1]
            path = f"patches/{number:04d}_{k:02d}_{j:02d}.png"
            about = _about(photograph.name, map_widths(crossing)[1] / _map_scale(photograph), sides)
            save_wide_patch(out / path, drawn, (told.row, told.col), told.vein_width_px)
            rows.append({"patch": path, **about, "sham": plan.sham, "grade": plan.grade})
    return write_patch_table(part, rows)


def _simulated(camera: str, size: int, out: Path, seed: int) -> Path:
    part = out / "patches" / f"{seed:06d}.csv"
    if part.exists():
        return part
    eye = adult(seed, camera=camera, grade=seed % 4, size=size)
    diameter = float(np.ptp(np.flatnonzero(eye.truth.field.any(axis=0))))
    rows = []
    for k, true in enumerate(eye.truth.crossings):
        if true.artery_width_px >= _SEEN[0] and true.vein_width_px >= _SEEN[1]:
            sides = (true.narrowing_1, true.narrowing_2)
            about = _about(
                f"simulated/{seed}", true.vein_width_px * DIAMETER / diameter, sides if true.side_1_up else sides[::-1]
            )
            path = f"patches/{seed:06d}_{k:03d}.png"
            save_wide_patch(out / path, eye.pixels, (true.row, true.col), true.vein_width_px)
            rows.append({"patch": path, **about, "sham": "none", "grade": true.grade})
    return write_patch_table(part, rows)


def _map_scale(photograph: DrawnPhotograph) -> float:
    """How many of the photograph's pixels make one at the scale of the maps."""
    return float(np.ptp(np.flatnonzero(photograph.field.any(axis=0)))) * photograph.scale / DIAMETER


def _about(name: str, vein_px: float, sides: tuple[float, float]) -> Row:
    """What a row says besides its patch: in patches side 1 is the upper one."""
    return {
        "photograph": name, "span": WIDE_SPAN, "vein_px": round(vein_px, 2),
        "narrowing_1": round(sides[0], 4), "narrowing_2": round(sides[1], 4),
    }  # fmt: skip


def save_wide_patch(path: Path, pixels: Pixels, at: ArrayLike, width: float) -> None:
    """Write the wide patch around a place `at` (row, column) whose vein is `width` pixels wide."""
    wide = sample_square(pixels, at, width / VEIN_WIDTH, round(WIDE_SPAN * VEIN_WIDTH))
    cv2.imwrite(str(path), cv2.cvtColor(wide, cv2.COLOR_RGB2BGR))


def write_patch_table(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a table of patches in one step."""
    beside = path.with_suffix(".part")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return beside.replace(path)


def _rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
