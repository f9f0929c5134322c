"""Do pinched veins measure as narrow as was planned, and sham warps as not narrowed?

    python benchmarks/pinch.py [--photographs N] [--sheet FILE] [--real-sheet FILE]

At usable crossings of DRIVE's training photographs, HRF's and simulated eyes without nicking, the vein is pinched by
`fundoscope.simulate.pinch` and redrawn by the second renderer, once in every grade; and each sham warp of grade 0
is carried out. `fundoscope.vessels.narrowing` then measures both sides in the changed photograph. Simulated eyes with
nicking of their own are measured against their truth as well. Goes on where it was cut off (runs/pinch/*.csv, a file a
photograph). Writes docs/results/pinch.csv, a row a figure, with the 95 % interval over photographs drawn with replacement:

    spearman        rank correlation of planned and measured narrowing of the worse side, grades 0 to 3
    error           median of the difference, measured less planned, of all narrowed sides
    undisturbed     share of shams under 0.15 on both sides ("none" stands for the resampling alone)
    measured        share of all that could be measured

Crossings are "all", or "undisturbed": those that measure under 0.15 when they are only resampled, and so have no nick of their own.

--sheet draws 4 grades x 12 crossings of simulated eyes; --real-sheet the same of real ones (never into the project).
"""

from __future__ import annotations

import argparse
import csv
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fundoscope import simulate
from fundoscope.datasets import PhotographRecord, open_dataset
from fundoscope.imaging import Pixels
from fundoscope.nicking.grade_study.nicked_patches import DrawnPhotograph
from fundoscope.nicking.recipes.nicked_patches import read_nicked_patch_recipe
from fundoscope.simulate.pinch import SHAMS, WarpPlan, draw_plan, pinch, pinched_patch
from fundoscope.simulate.pinch.second_renderer import redraw
from fundoscope.vessels.calibre import CalibreModel
from fundoscope.vessels.crossings import MeasuredCrossing, crossings_between
from fundoscope.vessels.grade_rule import NICKED_FROM, grade_of
from fundoscope.vessels.narrowing import measure_narrowing

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "pinch.csv"
RUNS = ROOT / "runs" / "pinch"
COLUMNS = ("photograph", "crossing", "renderer", "grade", "sham", "planned_1", "planned_2", "measured_1", "measured_2")
SIZE = 1130  # pixels: simulated eyes, at twice DRIVE's size
DRAWING = read_nicked_patch_recipe().drawing
NEAR = 4.0  # pixels at DRIVE's size between a crossing and its truth
REQUIRED = {
    ("spearman", "drive"): 0.7,
    ("spearman", "hrf"): 0.7,
    ("spearman", "simulated"): 0.95,
    ("undisturbed", ""): 0.85,
}
SHEET = (4, 12)
MIDDLE = slice(53, 203)  # of a patch's 256 pixels: what the sheet shows

Row = dict[str, object]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Photograph(DrawnPhotograph):
    """With the truth of a simulated eye."""

    truth: simulate.Truth | None = None


def drive() -> Iterator[Callable[[], Photograph]]:
    return _mapped(DATA / "drive_av" / "training")


def hrf() -> Iterator[Callable[[], Photograph]]:
    return _mapped(DATA / "hrf_av")


def _mapped(folder: Path) -> Iterator[Callable[[], Photograph]]:
    """The photographs of a set, with their maps brought to DRIVE's size where they are much larger."""
    dataset = open_dataset(folder)
    for k in range(len(dataset)):
        yield lambda k=k: _of_record(dataset[k])


def _of_record(record: PhotographRecord) -> Photograph:
    return _at_map_size(record.name, record.pixels, (record.artery, record.vein, record.field))


def _at_map_size(
    name: str, pixels: Pixels, masks: tuple[Mask, Mask, Mask], truth: simulate.Truth | None = None
) -> Photograph:
    return replace(Photograph.from_masks(name, pixels, masks, DRAWING.largest_field), truth=truth)


def simulated(level: str = "good") -> Iterator[Callable[[], Photograph]]:
    for seed in range(700, 716):
        yield lambda seed=seed: _simulated(seed, 0, level)


def grown() -> Iterator[Callable[[], Photograph]]:
    for seed in range(720, 744):
        yield lambda seed=seed: _simulated(seed, seed % 4, "good")


def _simulated(seed: int, grade: int, level: str) -> Photograph:
    eye = simulate.adult(seed, camera="drive", level=level, grade=grade, size=SIZE)
    truth = eye.truth
    return _at_map_size(f"eye{seed}", eye.pixels, (truth.artery, truth.vein, truth.field), truth)


def changed(photograph: Photograph) -> Iterator[Row]:
    """Every usable crossing in every grade by both renderers, and with every sham; measured."""
    crossings = photograph.usable_crossings()
    if not crossings:
        return
    model = CalibreModel.fit(photograph.pixels, [s for c in crossings for s in (c.first, c.second)])
    full = photograph.full_masks
    for k, crossing in enumerate(crossings):
        rng = np.random.default_rng([int.from_bytes(photograph.name.encode()) % 2**32, k])
        low, here = _window(crossing)
        pixels, *masks = (whole[low] for whole in (photograph.pixels, *full))
        plans = [("pinch", draw_plan(grade, rng, "none")) for grade in range(4)]
        plans += [("redraw", replace(plan, jitter=(0.0, 0.0))) for _, plan in plans]
        plans += [("pinch", draw_plan(0, rng, sham)) for sham in SHAMS if sham != "none"]
        for renderer, plan in plans:
            drawn = (
                pinch(pixels, here, plan) if renderer == "pinch" else redraw(pixels, here, plan.calibre, plan.fade, rng)
            )
            found = measure_narrowing(model.on(drawn), here, *masks)
            yield _row(photograph, k, renderer, plan.sham, plan.narrowing, (found.side_1, found.side_2))


def _window(crossing: MeasuredCrossing) -> tuple[tuple[slice, slice], MeasuredCrossing]:
    """As much around a crossing as is changed or measured, and the crossing there."""
    reach = 22 * float(np.median(crossing.second.radius))
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.ceil(crossing.at + reach).astype(int) + 1
    first, second = (replace(s, points=s.points - low) for s in (crossing.first, crossing.second))
    return np.s_[low[0] : high[0], low[1] : high[1]], MeasuredCrossing(crossing.at - low, crossing.angle, first, second)


def _row(
    photograph: Photograph,
    crossing: int,
    renderer: str,
    sham: str,
    planned: tuple[float, float],
    measured: tuple[float, float],
) -> Row:
    values = (photograph.name, crossing, renderer, grade_of(*planned), sham, *planned, *measured)
    return dict(zip(COLUMNS, (round(v, 4) if isinstance(v, float) else v for v in values), strict=True))


def as_grown(photograph: Photograph) -> Iterator[Row]:
    """The nicking that a simulated eye has grown, measured."""
    assert photograph.truth is not None
    found = [c.scaled(photograph.scale) for c in crossings_between(photograph.artery, photograph.vein)]
    model = CalibreModel.fit(photograph.pixels, [c.second for c in found])
    for k, true in enumerate(photograph.truth.crossings):
        nearest = min(found, key=lambda c: np.hypot(*(c.at - [true.row, true.col])), default=None)
        if (
            nearest is None
            or true.artery_width_px < DRAWING.smallest_simulated_artery
            or true.vein_width_px < DRAWING.smallest_simulated_vein
        ):
            continue
        if np.hypot(*(nearest.at - [true.row, true.col])) < NEAR * photograph.scale:
            measured = measure_narrowing(model, nearest, photograph.truth.artery, photograph.truth.vein)
            points, here = nearest.second.points, nearest.second.crossing_index
            up = points[:here, 0].mean() < points[here:, 0].mean()
            sides = (true.narrowing_1, true.narrowing_2)
            planned = sides if up == true.side_1_up else sides[::-1]
            yield _row(photograph, k, "grown", "none", planned, (measured.side_1, measured.side_2))


SETS = {"drive": (drive, changed), "hrf": (hrf, changed), "simulated": (simulated, changed), "grown": (grown, as_grown)}


def gathered(name: str, limit: int) -> list[Row]:
    """The rows of a set, from the files of photographs done before, and the others."""
    source, measure = SETS[name]
    rows: list[Row] = []
    for k, load in enumerate(source()):
        if k >= limit:
            break
        path = RUNS / f"{name}_{k:02d}.csv"
        if not path.exists():
            done = list(measure(load()))
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, done, COLUMNS)
            print(f"{path.name}: {len(done)} measured", flush=True)
        with path.open(newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def _write(path: Path, rows: list[Row], columns: tuple[str, ...]) -> None:
    with path.with_suffix(".part").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".part").replace(path)


Table = NDArray[np.float64]  # (n, 4): planned and measured of both sides


def _table(rows: list[Row]) -> Table:
    return np.array([[float(str(row[c])) for c in COLUMNS[-4:]] for row in rows]).reshape(-1, 4)


def spearman(rows: list[Row]) -> float:
    table = _table(rows)
    known = np.isfinite(table[:, 2:]).all(axis=1)
    worse = table[known].reshape(-1, 2, 2).max(axis=2)
    return float(spearmanr(worse[:, 0], worse[:, 1])[0]) if known.sum() > 3 else float("nan")


def error(rows: list[Row]) -> float:
    table = _table(rows)
    planned, found = table[:, :2].ravel(), table[:, 2:].ravel()
    return float(np.nanmedian((found - planned)[planned > 0])) if (planned > 0).any() else float("nan")


def undisturbed(rows: list[Row]) -> float:
    found = _table(rows)[:, 2:]
    known = np.isfinite(found).all(axis=1)
    return float((found[known] < NICKED_FROM).all(axis=1).mean()) if known.any() else float("nan")


def measured(rows: list[Row]) -> float:
    return float(np.isfinite(_table(rows)[:, 2:]).all(axis=1).mean()) if rows else float("nan")


def figures(name: str, rows: list[Row]) -> Iterator[Row]:
    """The lines of the table for one set: of all crossings, and of those that measured as not narrowed when only resampled."""
    unnarrowed = {
        _place(row) for row in rows if row["renderer"] == "pinch" and _unchanged(row) and undisturbed([row]) == 1
    }
    for crossings, chosen in (("all", rows), ("undisturbed", [row for row in rows if _place(row) in unnarrowed])):
        for renderer in sorted({str(row["renderer"]) for row in chosen}):
            own = [row for row in chosen if row["renderer"] == renderer]
            about = {"dataset": "simulated" if name == "grown" else name, "renderer": renderer, "crossings": crossings}
            for figure in (spearman, error, measured):
                yield about | {"sham": "none"} | _figure(about, figure, [row for row in own if row["sham"] == "none"])
            shams = [row for row in own if row["sham"] != "none" or (_unchanged(row) and crossings == "all")]
            for sham in ("all", *SHAMS):
                mine = [row for row in shams if row["sham"] == sham or (sham == "all" and row["sham"] != "none")]
                if mine and renderer == "pinch":
                    yield about | {"sham": sham} | _figure(about, undisturbed, mine)


def _place(row: Row) -> tuple[object, object]:
    return row["photograph"], row["crossing"]


def _unchanged(row: Row) -> bool:
    return int(str(row["grade"])) == 0 and row["sham"] == "none"


def _figure(about: Row, figure: Callable[[list[Row]], float], rows: list[Row]) -> Row:
    """A figure with its interval over photographs drawn with replacement, and the value that it should reach."""
    by_photograph: dict[object, list[Row]] = {}
    for row in rows:
        by_photograph.setdefault(row["photograph"], []).append(row)
    groups, rng = list(by_photograph.values()), np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of photographs may hold one value only
        draws = [
            figure([row for g in rng.integers(len(groups), size=len(groups)) for row in groups[g]]) for _ in range(300)
        ]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
    values = {"value": figure(rows), "low": low, "high": high}
    required = REQUIRED.get((figure.__name__, about["dataset"]), REQUIRED.get((figure.__name__, ""), ""))
    counts = {"figure": figure.__name__, "photographs": len(groups), "n": len(rows)}
    return counts | {key: round(float(value), 3) for key, value in values.items()} | {"required": required}


def sheet(sources: list[Callable[[], Photograph]], seed: int = 3) -> Pixels:
    """Patches of 12 crossings, a column each, in the grades 0 to 3 from above."""
    rng, columns = np.random.default_rng(seed), []
    while len(columns) < SHEET[1] and sources:
        photograph = sources.pop(0)()
        crossings = photograph.usable_crossings()
        for k in rng.permutation(len(crossings))[: max(1, SHEET[1] // 8)]:
            plans = [draw_plan(grade, rng, None if grade else "none") for grade in range(SHEET[0])]
            columns.append(np.vstack([_tile(photograph.pixels, crossings[k], plan) for plan in plans]))
    return np.hstack(columns[: SHEET[1]])


def _tile(pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan) -> Pixels:
    small = np.ascontiguousarray(pinched_patch(pixels, crossing, plan)[MIDDLE, MIDDLE])
    text = f"{plan.grade}: {plan.narrowing[0]:.2f} {plan.narrowing[1]:.2f}"
    cv2.putText(small, text, (4, 140), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return small[1:-1, 1:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=99, help="of each set, at the most")
    parser.add_argument("--sheet", type=Path, help="draw simulated patches and do no more")
    parser.add_argument("--real-sheet", type=Path, help="draw real patches and do no more")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    for path, sources in ((given.sheet, [*simulated("perfect")]), (given.real_sheet, [*drive()][::2] + [*hrf()][::4])):
        if path:
            cv2.imwrite(str(path), sheet(sources)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    if given.sheet or given.real_sheet:
        return
    lines = [line for name in SETS for line in figures(name, gathered(name, given.photographs))]
    for line in lines:
        print("  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    _write(RESULTS, lines, tuple(lines[0]))


if __name__ == "__main__":
    main()
