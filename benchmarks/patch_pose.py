"""How a patch's vein lies and how wide it is: by rings around the crossing, and by moments around its middle as before.

    python benchmarks/patch_pose.py [--data ../shared/data] [--bundle nicking]

Squares are cut around crossings whose vein is known: of simulated eyes by four cameras (seeds that chose nothing), and at
chosen crossings of DRIVE's training photographs, HRF and LES-AV by their drawn maps. The vein is a 24th to a 6th of the
square's side, the square is turned at will, and its middle lies up to half a vein's width off. The middle is untouched,
pinched on both sides, or erased: the vein is painted over beside the artery, up to 1.5 of its widths from the crossing.
The maps are made by the bundle as `fundoscope nicking grade-patches` makes them. Counted are the squares of which the vein
is laid more than 10 degrees off level ("turned"), or that or its width taken for more than a fifth too large or too small
("wrong"), and those whose pose is said not to be known ("abstained"). DRIVE's veins are 4 to 6 pixels wide, so that a
fifth of their drawn width is less than a pixel.

At the chosen crossings the patches are also graded once with each pose, and so are patches that are cut from the untouched
photograph with known scale, as `fundoscope nicking grade` does it. Writes docs/results/patch_pose.csv and
patch_pose_grades.csv. It can be run in parts (--only), which are kept in runs/patch_pose.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope import simulate
from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import estimate_share
from fundoscope.imaging import Pixels, Prepared
from fundoscope.nicking.grade_study.nicked_patches import DrawnPhotograph
from fundoscope.nicking.grading.crossing_patches import (
    INPUT_ZOOM,
    VEIN_WIDTH,
    CrossingPatch,
    PredictMaps,
    cut_patch,
    map_patch,
    map_patch_of_span,
)
from fundoscope.nicking.grading.grades import grade_patches
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import WIDE_VEIN
from fundoscope.nicking.recipes.nicked_patches import read_nicked_patch_recipe
from fundoscope.simulate.pinch import draw_plan, pinch
from fundoscope.simulate.pinch.lesion import map_widths
from fundoscope.vessels import MeasuredCrossing
from fundoscope.vessels.grade_rule import SPAN
from fundoscope.vessels.graph import arc_length

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
DRAWING = read_nicked_patch_recipe().drawing
CAMERAS = {"drive": 1130, "hrf": 1400, "iostar": 1024, "clipped": 1504}  # pixels along the longer side
FIRST_SEED, CHOOSING_SEED = 910_000, 900_000  # reported, and by which the numbers of the pose were chosen
SIMULATED = "simulated"
PHOTOGRAPHS = {"DRIVE training": "drive_av/training", "HRF": "hrf_av", "LES-AV": "les_av"}
CONDITIONS = ("untouched", "pinched", "erased")
PATCHES = 300  # simulated ones of each condition
CROSSINGS_OF_EYE = 5  # at most, so that 300 patches are of 60 eyes
SPANS = (6.0, 24.0)  # widths of the vein to a side
SMALLEST_SIDE, LARGEST_SIDE = 48, 600  # pixels of a square: smaller ones are refused, larger ones are shrunk
OFF_MIDDLE = 0.5  # vein widths
ERASED, ERASED_BEYOND = 1.5, 0.75  # vein widths: from the crossing, and from the artery's wall at the least
DIRECTION, MEASURED = 3.0, 4.0  # vein widths to both sides by which the vein's true direction and width are taken
WRONG_DEGREES, WRONG_SCALE = 10.0, 0.2
BEFORE, NOW = "moments, as before", "rings"
RUNS = ROOT / "runs" / "patch_pose"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class KnownPatch:
    """A square (s, s, 3) of a photograph; `slope`, degrees by which its vein is to be turned to lie level, and the vein's
    `width` as a share of the side.
    """

    photograph: str
    condition: str
    pixels: Pixels
    slope: float
    width: float


# --- patches


def simulated_photographs(first_seed: int) -> Iterator[DrawnPhotograph]:
    """Simulated adults without nicking, the cameras in turn."""
    cameras, seed = list(CAMERAS.items()), first_seed
    while True:
        camera, size = cameras[seed % len(cameras)]
        eye = simulate.adult(seed, camera=camera, size=size, grade=0)
        masks = (eye.truth.artery, eye.truth.vein, eye.truth.field)
        yield DrawnPhotograph.from_masks(f"simulated/{seed}", eye.pixels, masks, DRAWING.largest_field)
        seed += 1


def simulated_patches(first_seed: int, number: int = PATCHES) -> Iterator[KnownPatch]:
    """So many simulated crossings, each in every condition."""
    drawn = 0
    for photograph in simulated_photographs(first_seed):
        wide = [c for c in photograph.usable_crossings() if _is_wide(c)]
        for crossing in wide[: min(CROSSINGS_OF_EYE, number - drawn)]:
            yield from patches_of(photograph, crossing, seed=drawn)
            drawn += 1
        if drawn == number:
            return


def _is_wide(crossing: MeasuredCrossing) -> bool:
    artery, vein = map_widths(crossing)
    return artery >= DRAWING.smallest_simulated_artery and vein >= DRAWING.smallest_simulated_vein


def real_photographs(folder: Path) -> Iterator[DrawnPhotograph]:
    """The photographs of a set that have chosen crossings."""
    dataset = open_dataset(folder)
    for k in range(len(dataset)):
        photograph = DrawnPhotograph.from_record(dataset[k], DRAWING.largest_field)
        if photograph.chosen is not None and len(photograph.chosen):
            yield photograph


def real_patches(folder: Path) -> Iterator[KnownPatch]:
    """The chosen crossings of a set, each in every condition."""
    crossings = ((each, crossing) for each in real_photographs(folder) for crossing in each.chosen_crossings())
    for drawn, (photograph, crossing) in enumerate(crossings):
        yield from patches_of(photograph, crossing, seed=drawn)


def patches_of(photograph: DrawnPhotograph, crossing: MeasuredCrossing, seed: int) -> Iterator[KnownPatch]:
    """One crossing in every condition, cut in the same way."""
    rng = np.random.default_rng((0x905E, seed))
    width = vein_width(crossing)
    span = float(np.exp(rng.uniform(np.log(max(SPANS[0], SMALLEST_SIDE / width)), np.log(SPANS[1]))))
    turn, way = rng.uniform(0, 360), rng.uniform(0, 2 * np.pi)
    off = OFF_MIDDLE * width * np.sqrt(rng.uniform()) * np.array([np.sin(way), np.cos(way)])
    plan = draw_plan(3, rng, "none")
    slope = (vein_slope(crossing) - turn + 90) % 180 - 90
    for condition in CONDITIONS:
        pixels = photograph.pixels
        if condition == "pinched":
            pixels = pinch(pixels, crossing, plan)
        if condition == "erased":
            pixels = erase_vein(pixels, crossing)
        square = cut_turned(pixels, crossing.at + off, span * width, turn)
        yield KnownPatch(photograph.name, condition, square, slope, 1 / span)


def vein_width(crossing: MeasuredCrossing) -> float:
    """Pixels of the vein's width by its drawn map around the crossing, the median of its radius doubled."""
    vein = crossing.second
    way = arc_length(vein.points)
    near = np.abs(way - way[vein.crossing_index]) <= MEASURED * map_widths(crossing)[1]
    return max(2 * float(np.median(vein.radius[near])), 1.0)


def vein_slope(crossing: MeasuredCrossing) -> float:
    """Degrees by which the vein is turned from level, clockwise as it is seen: the long axis of its centreline nearby."""
    vein = crossing.second
    way = arc_length(vein.points)
    near = np.abs(way - way[vein.crossing_index]) <= DIRECTION * map_widths(crossing)[1]
    points = vein.points[near] - vein.points[near].mean(axis=0)
    down, right = np.linalg.svd(points, full_matrices=False)[2][0]
    return float(np.degrees(np.arctan2(down, right)))


def erase_vein(pixels: Pixels, crossing: MeasuredCrossing) -> Pixels:
    """The photograph with the vein painted over beside the artery, from its surroundings."""
    artery, vein = map_widths(crossing)
    wall = artery / 2 / max(float(np.sin(np.radians(crossing.angle))), 0.3)
    low, high = (np.round(crossing.at + sign * 5 * vein).astype(int) for sign in (-1, 1))
    low, high = np.maximum(low, 0), np.minimum(high, pixels.shape[:2])
    window = np.s_[low[0] : high[0], low[1] : high[1]]
    changed = pixels.copy()
    shape = changed[window].shape[:2]
    way = arc_length(crossing.second.points)
    reach = max(ERASED * vein, wall + ERASED_BEYOND * vein)
    near = np.abs(way - way[crossing.second.crossing_index]) <= reach
    over = _drawn(crossing.second.points[near] - low, 1.5 * vein + 2, shape)
    over &= ~_drawn(crossing.first.points - low, artery + 1, shape)
    smooth = cv2.inpaint(changed[window], over.astype(np.uint8), max(3.0, vein / 2), cv2.INPAINT_TELEA)
    changed[window] = smooth
    return changed


def _drawn(points: NDArray[np.float64], width: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    line = np.round(points[:, ::-1]).astype(np.int32)
    cv2.polylines(mask, [line], False, 1, max(1, round(width)))
    return mask > 0


def cut_turned(pixels: Pixels, at: NDArray[np.float64], extent: float, turn: float) -> Pixels:
    """The square of `extent` pixels a side around a place (row, column), turned by `turn` degrees."""
    side = round(extent)
    matrix = cv2.getRotationMatrix2D((float(at[1]), float(at[0])), turn, side / extent)
    matrix[:, 2] += (side - 1) / 2 - at[::-1]
    square = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_CUBIC)
    size = min(side, LARGEST_SIDE)
    return np.asarray(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


# --- poses


def pose_by_moments(patch: CrossingPatch) -> tuple[float, float]:
    """Rotation and zoom as this project took them before: by second moments and the width around the patch's middle."""
    vein = np.ascontiguousarray(patch.maps[..., 2])
    rows, columns = np.indices(vein.shape) - (vein.shape[0] - 1) / 2
    weight = vein * np.exp(-(rows**2 + columns**2) / (2 * (2.5 * VEIN_WIDTH) ** 2))
    total = weight.sum() + 1e-6
    down, right = rows - (weight * rows).sum() / total, columns - (weight * columns).sum() / total
    across, along, mixed = ((weight * each).sum() for each in (down * down, right * right, down * right))
    slope = float(np.degrees(np.arctan2(2 * mixed, along - across)) / 2)
    zoom = np.clip(VEIN_WIDTH / _median_width(patch.cut(slope).maps[..., 2]), 0.5, 2.0)
    return slope, INPUT_ZOOM * float(zoom)


def _median_width(level: NDArray[np.uint8]) -> float:
    """Width of a vein that lies level: the median over the columns of the run nearest the middle."""
    columns = np.pad(level > 127, ((1, 1), (0, 0))).T.astype(np.int8)
    steps = np.diff(columns, axis=1)
    (column, first), (_, end) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    middle = (level.shape[0] - 1) / 2
    off = np.abs((first + end - 1) / 2 - middle)
    near = (off < 2.25 * VEIN_WIDTH) & (np.abs(column - middle) < 4.5 * VEIN_WIDTH)
    order = np.flatnonzero(near)[np.argsort(off[near], kind="stable")]
    chosen = order[np.unique(column[order], return_index=True)[1]]
    return float(np.median(end[chosen] - first[chosen])) if len(chosen) >= VEIN_WIDTH else VEIN_WIDTH


class PatchByMoments(CrossingPatch):
    """A patch that is posed as before, and never in doubt."""

    pose = cached_property(pose_by_moments)
    knows_pose = True

    @classmethod
    def of(cls, patch: CrossingPatch) -> PatchByMoments:
        return cls(patch.pixels, patch.maps, patch.inside)


def map_patch_by_moments(pixels: Pixels, predict_maps: PredictMaps) -> PatchByMoments:
    """The patch of a file, with the maps made anew where the vein is thinner or wider than expected, as before."""
    patch = PatchByMoments.of(map_patch_of_span(pixels, predict_maps, SPAN, WIDE_VEIN)[1])
    zoom = patch.pose[1] / INPUT_ZOOM
    if 1 / 1.3 < zoom < 1.3:
        return patch
    return PatchByMoments.of(map_patch_of_span(pixels, predict_maps, SPAN, WIDE_VEIN * zoom)[1])


MAPPED = {BEFORE: map_patch_by_moments, NOW: lambda pixels, predict: map_patch(pixels, predict)[1]}


# --- figures


def judge_patch(patch: KnownPatch, on: str, bundle: NickingBundle, graded: bool) -> Iterator[Row]:
    """What each rule makes of a patch."""
    for rule, mapped in MAPPED.items():
        start = time.process_time()
        found = mapped(patch.pixels, bundle.map_vessels)
        slope, zoom = found.pose
        seconds = time.process_time() - start
        degrees = abs((slope - patch.slope + 90) % 180 - 90)
        scale = VEIN_WIDTH / found.side / (zoom / INPUT_ZOOM) / patch.width
        grade = grade_patches([found], [None], bundle)[0].grade if graded else None
        yield {
            "on": on, "way": "patch file", "condition": patch.condition, "rule": rule, "photograph": patch.photograph,
            "degrees": degrees, "scale": scale, "abstained": int(not found.knows_pose), "seconds": seconds,
            "grade": "" if grade is None else grade,
        }  # fmt: skip


def judge_photograph(photograph: DrawnPhotograph, on: str, bundle: NickingBundle) -> Iterator[Row]:
    """The grades of a photograph's untouched chosen crossings, cut out of it, by each rule."""
    mapped = map_photograph(Prepared.read(photograph.pixels, photograph.name), bundle)
    for crossing in photograph.chosen_crossings():
        patch = cut_patch(mapped, crossing.at, map_widths(crossing)[1])
        for rule, each in ((BEFORE, PatchByMoments.of(patch.middle)), (NOW, patch)):
            start = time.process_time()
            each.pose  # noqa: B018, found once and kept
            seconds = time.process_time() - start
            grade = grade_patches([each], [None], bundle)[0].grade
            yield {
                "on": on, "way": "photograph", "condition": "untouched", "rule": rule, "photograph": photograph.name,
                "degrees": "", "scale": "", "abstained": int(not each.knows_pose), "seconds": seconds,
                "grade": "" if grade is None else grade,
            }  # fmt: skip


def is_turned(row: Row) -> bool:
    """Whether a pose was given that does not lay the vein level."""
    return float(row["degrees"]) > WRONG_DEGREES and not int(row["abstained"])


def is_wrong(row: Row) -> bool:
    """Whether a pose was given that is not the vein's, in direction or scale."""
    return is_turned(row) or (abs(float(row["scale"]) - 1) > WRONG_SCALE and not int(row["abstained"]))


def pose_figures(rows: list[Row]) -> Iterator[Row]:
    """A row a set, a condition and a rule, with 95 % intervals over photographs."""
    files = [row for row in rows if row["way"] == "patch file"]
    for on, condition, rule in dict.fromkeys((r["on"], r["condition"], r["rule"]) for r in files):
        own = [r for r in files if (r["on"], r["condition"], r["rule"]) == (on, condition, rule)]
        photographs = [r["photograph"] for r in own]
        yield {
            "on": on, "condition": condition, "rule": rule, "patches": len(own), "photographs": len(set(photographs)),
            "wrong": estimate_share([is_wrong(r) for r in own], photographs),
            "turned": estimate_share([is_turned(r) for r in own], photographs),
            "abstained": estimate_share([bool(int(r["abstained"])) for r in own], photographs),
            "milliseconds": round(1000 * float(np.median([float(r["seconds"]) for r in own])), 1),
        }  # fmt: skip


def grade_figures(rows: list[Row]) -> Iterator[Row]:
    """A row a way and a condition, all sets together: how many are graded, and as what, with each pose."""
    real = [row for row in rows if row["on"] != SIMULATED]
    for way, condition in dict.fromkeys((r["way"], r["condition"]) for r in real):
        own = [r for r in real if (r["way"], r["condition"]) == (way, condition)]
        before, now = ([r["grade"] for r in own if r["rule"] == rule] for rule in (BEFORE, NOW))
        both = [(a, b) for a, b in zip(before, now, strict=True) if a != "" and b != ""]
        figures: Row = {"way": way, "condition": condition, "patches": len(before)}
        for name, grades in (("before", before), ("now", now)):
            graded = [int(grade) for grade in grades if grade != ""]
            figures[f"graded {name}"] = len(graded)
            for low, high in ((0, 0), (1, 1), (2, 3)):
                label = f"{low}" if low == high else f"{low} or {high}"
                figures[f"grade {label} {name}"] = sum(low <= grade <= high for grade in graded)
        yield figures | {"graded both": len(both), "same grade": sum(a == b for a, b in both)}


def measure(only: str, data: Path, bundle: NickingBundle, first_seed: int) -> None:
    """Write the rows of one set below runs/patch_pose."""
    if only == SIMULATED:
        patches = simulated_patches(first_seed)
        rows = [row for patch in patches for row in judge_patch(patch, only, bundle, graded=False)]
    else:
        folder = data / PHOTOGRAPHS[only]
        rows = [row for patch in real_patches(folder) for row in judge_patch(patch, only, bundle, graded=True)]
        rows += [row for each in real_photographs(folder) for row in judge_photograph(each, only, bundle)]
    RUNS.mkdir(parents=True, exist_ok=True)
    with (RUNS / f"{only}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the public sets")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--only", action="append", choices=[SIMULATED, *PHOTOGRAPHS], help="measure this set alone")
    parser.add_argument(
        "--join", action="store_true", help="measure nothing, and write the tables of what was measured"
    )
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help=f"{CHOOSING_SEED} chose the numbers")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = open_nicking_bundle(given.bundle)
    for only in given.only or ([] if given.join else [SIMULATED, *PHOTOGRAPHS]):
        measure(only, given.data, bundle, given.first_seed)
    rows: list[Row] = []
    for path in (RUNS / f"{on}.csv" for on in (SIMULATED, *PHOTOGRAPHS)):
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows += list(csv.DictReader(file))
    for name, figures in (("patch_pose", pose_figures(rows)), ("patch_pose_grades", grade_figures(rows))):
        for row in results_table([*figures], RESULTS / f"{name}.csv"):
            print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
