"""How well is a vein's narrowing measured, where it is known?

    python benchmarks/narrowing.py [--eyes N] [--part choose] [--measure NAME]

Simulated adults of four cameras, a quarter of the eyes in each grade of nicking: every crossing that is drawn with all four
arms, as it grew (forks beside it and veins that end soon are among them), and those with room and of one calibre again,
pinched by known amounts (0 to 0.6 on both sides, drawn apart) and once only resampled. And the crossings of DRIVE's training
photographs, HRF and LES-AV that readers chose, pinched in the same way: what a reader does not see of a vein's own narrowing
counts as an error there. Vessels are those of the drawn maps at DRIVE's scale. Widths of veins are in pixels at that scale.

The part `report` (seeds of its own, photographs of odd number) is written to docs/results/narrowing.csv under the name of
the measure, whose rows alone are replaced: a row a figure with its 95 % interval over photographs drawn with replacement.
`choose` may choose numbers and is only printed. `simulated` and `simulated pinched` stand for all cameras, `real pinched` for
all photographs.

    sd          standard deviation of the narrowing of sides that are not narrowed
    inner       half the range of its middle 68 %
    within      share of all sides within one standard error of the truth
    measured    share of the crossings of which both sides are measured
    spearman    rank correlation of drawn and measured narrowing, a side each
    bias        mean of measured less drawn narrowing, in bins of the drawn one
    ms          milliseconds of this process a crossing, the median
"""

from __future__ import annotations

import argparse
import csv
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fundoscope import simulate
from fundoscope.datasets import open_dataset
from fundoscope.imaging import Pixels
from fundoscope.nicking.grade_study.chosen_crossings import has_four_arms
from fundoscope.nicking.grade_study.nicked_patches import DrawnPhotograph, crossing_window
from fundoscope.nicking.recipes.nicked_patches import read_nicked_patch_recipe
from fundoscope.simulate.pinch import WarpPlan, pinch
from fundoscope.vessels import CalibreModel, MeasuredCrossing, Narrowing, crossings_between, measure_narrowing

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "narrowing.csv"
LARGEST_FIELD = read_nicked_patch_recipe().drawing.largest_field
CAMERAS = {"drive": None, "hrf": 1752, "iostar": None, "clipped": None}  # pixels along the longer side
SETS = {"drive": "drive_av/training", "hrf": "hrf_av", "les_av": "les_av"}
SEEDS = {"choose": 61_000, "report": 64_000}
PINCHED = 3  # times that each crossing of a real photograph is pinched
MOST = 0.6  # narrowing of a side
TAPER = (0.35, 1.0)  # share of a narrowing that is calibre, as in simulated eyes
NEAR = 4.0  # pixels at DRIVE's size between a simulated crossing and its truth
VEINS = (3.0, 4.0, 6.0, np.inf)  # pixels at DRIVE's scale
DRAWN = (0.0, 1e-6, 0.2, 0.4, 0.71)  # bins of the drawn narrowing; the first holds sides that are not narrowed
LEAST = 12  # sides that a figure needs

Mask = NDArray[np.bool_]
Row = dict[str, float | str]


@dataclass(frozen=True, eq=False)
class Case:
    """A crossing with known narrowing of both sides, as much of the photograph as is measured, and its vessels there."""

    dataset: str
    photograph: str
    vein_px: float
    drawn: tuple[float, float]
    model: CalibreModel
    crossing: MeasuredCrossing
    artery: Mask
    vein: Mask

    def measured(self) -> Row:
        start = time.process_time()
        found = measure_narrowing(self.model, self.crossing, self.artery, self.vein)
        ms = 1e3 * (time.process_time() - start)
        row: Row = {"dataset": self.dataset, "photograph": self.photograph, "vein_px": self.vein_px, "ms": ms}
        for k, (drawn, side, error) in enumerate(zip(self.drawn, found.sides, standard_errors(found), strict=True), 1):
            row |= {f"drawn_{k}": drawn, f"side_{k}": side, f"error_{k}": error}
        return row


def standard_errors(found: Narrowing) -> tuple[float, float]:
    """Standard errors of both sides; nan for a measure that does not state them."""
    return getattr(found, "standard_errors", (float("nan"), float("nan")))  # another measure may be put in its place


def simulated(camera: str, seed: int) -> Iterator[Case]:
    """The crossings of a simulated eye."""
    eye = simulate.adult(seed, camera=camera, grade=seed % 4, size=CAMERAS[camera])
    truth = eye.truth
    photograph = DrawnPhotograph.from_masks(
        f"{camera}{seed}", eye.pixels, (truth.artery, truth.vein, truth.field), LARGEST_FIELD
    )
    usable = photograph.usable_crossings()
    found = [
        each.scaled(photograph.scale)
        for each in crossings_between(photograph.artery, photograph.vein)
        if has_four_arms(each, photograph.artery, photograph.vein)
    ]
    usable = [own for each in usable for own in found if np.hypot(*(each.at - own.at)) < 1]
    model = CalibreModel.fit(eye.pixels, [line for each in found for line in (each.first, each.second)])
    for true in truth.crossings:
        at, px = np.array([true.row, true.col]), true.vein_width_px / photograph.map_scale
        nearest = min(found, key=lambda each: np.hypot(*(each.at - at)), default=None)
        if nearest is None or px < VEINS[0] or np.hypot(*(nearest.at - at)) > NEAR * photograph.map_scale:
            continue
        points, here = nearest.second.points, nearest.second.crossing_index
        up = points[:here, 0].mean() < points[here:, 0].mean()
        sides = (true.narrowing_1, true.narrowing_2)
        drawn = sides if up == true.side_1_up else sides[::-1]
        yield case(f"simulated {camera}", photograph, nearest, (px, drawn, model))
        if max(sides) == 0 and any(nearest is each for each in usable):
            yield from pinched(f"simulated {camera}", photograph, nearest, (px, model), (seed, len(found)))


def real(name: str, number: int) -> Iterator[Case]:
    """The chosen crossings of a photograph, resampled only, and pinched."""
    record = open_dataset(DATA / SETS[name])[number]
    photograph = DrawnPhotograph.from_record(record, LARGEST_FIELD)
    chosen = [] if photograph.chosen is None else photograph.chosen_crossings()
    if not chosen:
        return
    model = CalibreModel.fit(photograph.pixels, [line for each in chosen for line in (each.first, each.second)])
    for k, crossing in enumerate(chosen):
        px = 2 * float(np.median(crossing.second.radius)) / photograph.map_scale
        yield from pinched(f"real {name}", photograph, crossing, (px, model), (number, k))


def pinched(
    dataset: str,
    photograph: DrawnPhotograph,
    crossing: MeasuredCrossing,
    about: tuple[float, CalibreModel],
    seed: tuple,
) -> Iterator[Case]:
    """A crossing resampled only, and pinched by known amounts."""
    rng = np.random.default_rng((7, *seed, round(float(crossing.at[0])), round(float(crossing.at[1]))))
    sides = [(0.0, 0.0), *(tuple(float(x) for x in rng.uniform(0, MOST, 2)) for _ in range(PINCHED))]
    window, here = crossing_window(crossing)
    for drawn in sides:
        jitter = rng.uniform(0.25, 0.5, 2)
        plan = WarpPlan.of_narrowing(drawn, float(rng.uniform(*TAPER)))
        plan = replace(plan, jitter=(float(jitter[0]), float(jitter[1])))
        changed = pinch(np.ascontiguousarray(photograph.pixels[window]), here, plan)
        yield cut(f"{dataset} pinched", photograph, here, (about[0], drawn, about[1]), window, changed)


Known = tuple[float, tuple[float, float], CalibreModel]


def case(dataset: str, photograph: DrawnPhotograph, crossing: MeasuredCrossing, known: Known) -> Case:
    window, here = crossing_window(crossing)
    return cut(dataset, photograph, here, known, window, photograph.pixels[window])


def cut(
    dataset: str, photograph: DrawnPhotograph, here: MeasuredCrossing, known: Known, window: tuple, pixels: Pixels
) -> Case:
    px, drawn, model = known
    artery, vein = (np.ascontiguousarray(mask[window]) for mask in photograph.full_masks)
    return Case(dataset, photograph.name, px, drawn, model.on(pixels), here, artery, vein)


def cases(part: str, eyes: int) -> Iterator[Case]:
    """All crossings of a part."""
    for number in range(eyes):
        for camera in CAMERAS:
            yield from simulated(camera, SEEDS[part] + number)
    for name, folder in SETS.items():
        for number in range(int(part == "report"), len(open_dataset(DATA / folder)), 2):
            yield from real(name, number)


Sides = NDArray[np.float64]  # (n, 4): drawn, measured, standard error, number of the photograph


def sides_of(rows: list[Row]) -> Sides:
    names = {name: k for k, name in enumerate(dict.fromkeys(row["photograph"] for row in rows))}
    found = [
        [row[f"{part}_{k}"] for part in ("drawn", "side", "error")] + [names[row["photograph"]]]
        for row in rows
        for k in (1, 2)
    ]
    return np.array(found, float).reshape(-1, 4)


def figures(rows: list[Row]) -> Iterator[dict[str, object]]:
    """All figures, a dictionary each."""
    sets = dict.fromkeys(str(row["dataset"]) for row in rows)
    whole = {
        "simulated": [name for name in sets if name.startswith("simulated") and not name.endswith("pinched")],
        "simulated pinched": [name for name in sets if name.startswith("simulated") and name.endswith("pinched")],
        "real pinched": [name for name in sets if name.startswith("real")],
    }
    for kind, names in (whole | {name: [name] for name in sets}).items():
        own = [row for row in rows if row["dataset"] in names]
        for low, high in ((VEINS[0], VEINS[-1]), *pairwise(VEINS)):
            width = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
            some = [row for row in own if low <= float(row["vein_px"]) < high]
            if some:
                yield from _figures_of({"set": kind, "vein_px": width}, some, whole=kind in whole)


def _figures_of(about: dict[str, object], rows: list[Row], whole: bool) -> Iterator[dict[str, object]]:
    table = sides_of(rows)
    known = table[np.isfinite(table[:, 1])]
    flat = known[known[:, 0] == 0]
    stated = known[np.isfinite(known[:, 2])]
    yield _figure(about, "sd", "0", flat, lambda s: float(np.std(s[:, 1])))
    yield _figure(about, "inner", "0", flat, lambda s: float(np.ptp(np.percentile(s[:, 1], [16, 84])) / 2))
    yield _figure(about, "within", "all", stated, _within)
    yield _figure(about, "measured", "all", _both(rows), lambda s: float(s[:, 0].mean()))
    yield _figure(about, "spearman", "all", known, lambda s: float(spearmanr(s[:, 0], s[:, 1])[0]))
    if whole:
        for low, high in pairwise(DRAWN):
            name = f"{low:.2g} to {high:.2g}" if low else "0"
            inside = known[(known[:, 0] >= low) & (known[:, 0] < high)]
            yield _figure(about, "bias", name, inside, lambda s: float((s[:, 1] - s[:, 0]).mean()))
            yield _figure(about, "within", name, inside[np.isfinite(inside[:, 2])], _within)
    times = np.array([[float(row["ms"]), 0, 0, k] for k, row in enumerate(rows)]).reshape(-1, 4)
    yield _figure(about, "ms", "all", times, lambda s: float(np.median(s[:, 0])))


def _within(sides: Sides) -> float:
    return float((np.abs(sides[:, 1] - sides[:, 0]) <= sides[:, 2]).mean())


def _both(rows: list[Row]) -> Sides:
    """Whether both sides of a crossing are measured (1 or 0), and the number of the photograph."""
    table = sides_of(rows).reshape(-1, 2, 4)
    both = np.isfinite(table[:, :, 1]).all(axis=1)
    return np.column_stack([both, both, both, table[:, 0, 3]]).astype(float)


def _figure(
    about: dict[str, object], name: str, drawn: str, sides: Sides, figure: Callable[[Sides], float]
) -> dict[str, object]:
    """A figure with its interval over photographs drawn with replacement."""
    groups, rng = [sides[sides[:, 3] == k] for k in np.unique(sides[:, 3])], np.random.default_rng(0)
    value, low, high = (float("nan"),) * 3
    if len(sides) >= LEAST:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a draw of photographs may hold one value only
            again = [
                figure(np.vstack([groups[g] for g in rng.integers(len(groups), size=len(groups))])) for _ in range(200)
            ]
        value, (low, high) = figure(sides), np.nanpercentile(again, [2.5, 97.5])
    counts = {"figure": name, "drawn": drawn, "photographs": len(groups), "n": len(sides)}
    return about | counts | {key: round(float(x), 3) for key, x in (("value", value), ("low", low), ("high", high))}


def write(measure: str, lines: list[dict[str, object]]) -> None:
    """Write the lines of a measure, and keep those of others."""
    kept: list[dict[str, object]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            kept = [dict(row) for row in csv.DictReader(file) if row["measure"] != measure]
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("measure", *lines[0]))
        writer.writeheader()
        writer.writerows([*kept, *({"measure": measure} | line for line in lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyes", type=int, default=6, help="simulated eyes of each camera")
    parser.add_argument("--part", choices=tuple(SEEDS), default="report")
    parser.add_argument("--measure", default="joint fit", help="name under which the figures are written")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    rows = [each.measured() for each in cases(given.part, given.eyes)]
    lines = [line for line in figures(rows) if np.isfinite(float(str(line["value"])))]
    for line in lines:
        print("  ".join(f"{value}" for value in line.values()), flush=True)
    if given.part == "report":
        write(given.measure, lines)


if __name__ == "__main__":
    main()
