"""How many patches with known nicking there are, by table; how much of the vein the lesions take, and how they look.

    python benchmarks/nicked_patches.py --patches runs/nicked
    python benchmarks/nicked_patches.py --data ../shared/data --lesions
    python benchmarks/nicked_patches.py --data ../shared/data --sheets OUT

The first counts what `make nicked-patches` drew, and writes docs/results/nicked_patches.csv, a row a table: its patches,
crossings and photographs, the patches of each grade, those that are narrowed by less than a grade's worth (slight), and of
the veins that are healthy on both sides those with each sham.

The second puts lesions into the chosen crossings of DRIVE's training photographs, both sides narrowed alike and half of it
fade, and measures how much of the vein's darkness is lost from 0.1 to 0.4 widths beyond the artery, without any ruler:
summed over green across the vein, against the same place of the same vein that was narrowed by nothing. Writes
docs/results/nicked_lesions.csv, a row a renderer and narrowing: the median over sides (lost) with its interval over photographs drawn with
replacement, and half the distance of its quartiles (spread).

The third draws sheets of chosen crossings below OUT, which hold photographs of patients: never commit them. ladder_N.png:
a row a crossing and renderer, in columns both sides narrowed by 0, .1, .3, .5 and .7, half of it fade. shams_N.png: a row a
crossing, in columns every sham of a healthy vein.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import bootstrap
from fundoscope.imaging import Pixels
from fundoscope.imaging.places import sample_square
from fundoscope.nicking.grade_study.nicked_patches import RENDERERS, DrawnPhotograph, crossing_window
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.nicking.recipes.nicked_patches import read_nicked_patch_recipe
from fundoscope.simulate.pinch import SHAMS, WarpPlan, draw_plan
from fundoscope.simulate.pinch.course import Course
from fundoscope.simulate.pinch.lesion import map_widths
from fundoscope.vessels import MeasuredCrossing
from fundoscope.vessels.grade_rule import GRADES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "nicked_patches.csv"
LESIONS = ROOT / "docs" / "results" / "nicked_lesions.csv"
LADDER = (0.0, 0.1, 0.3, 0.5, 0.7)
TILE, SPAN, PER_SHEET = 220, 10, 3  # pixels of a tile, vein widths that it shows, crossings on a sheet


def count_tables(patches: Path) -> Iterator[dict[str, object]]:
    """A row a table; simulated eyes last, if they are drawn."""
    for name in [lesions.table for lesions in read_nicked_patch_recipe().lesions]:
        yield count_patches(name, read_patch_table(patches / f"{name}.csv"))
    if (patches / "eyes.csv").exists():
        yield count_patches("eyes", read_patch_table(patches / "eyes.csv"))


def count_patches(name: str, rows: Sequence[PatchRow]) -> dict[str, object]:
    """The counts of one table; a crossing is told by its photograph and the first two numbers of its patches' names."""
    crossings = Counter((row.photograph, *row.path.stem.split("_")[:2]) for row in rows)
    healthy = [row for row in rows if not row.is_narrowed]
    return {
        "table": name, "patches": len(rows), "crossings": len(crossings), "most_a_crossing": max(crossings.values()),
        "photographs": len({row.photograph for row in rows}),
        **{f"grade_{grade}": sum(row.grade == grade for row in rows) for grade in range(GRADES)},
        "slight": sum(row.grade == 0 and row.is_narrowed for row in rows),
        **{f"healthy_{sham}": sum(row.sham == sham for row in healthy) for sham in SHAMS},
    }  # fmt: skip


def measure_lesions(data: Path) -> Iterator[dict[str, object]]:
    """A row a renderer and narrowing, by the chosen crossings of DRIVE's training photographs."""
    lost: dict[tuple[str, float], list[tuple[str, float]]] = {}
    dataset = open_dataset(data / "drive_av/training")
    for k in range(len(dataset)):
        photograph = DrawnPhotograph.from_record(dataset[k], read_nicked_patch_recipe().drawing.largest_field)
        for crossing in photograph.chosen_crossings():
            window, here = crossing_window(crossing)
            for name, draw in RENDERERS.items():
                plans = [WarpPlan.of_narrowing((n, n), 0.5) for n in LADDER]
                dark = darkness_beside_artery([draw(photograph.pixels[window], here, plan) for plan in plans], here)
                for narrowing, sides in zip(LADDER[1:], 1 - dark[1:] / dark[0], strict=True):
                    lost.setdefault((name, narrowing), []).extend((photograph.name, float(side)) for side in sides)
    for (name, narrowing), sides in lost.items():
        groups, values = ([each[k] for each in sides] for k in (0, 1))
        low, high = np.percentile(values, (25, 75))
        median = bootstrap(lambda w, v=np.array(values): {"lost": weighted_median(v, w)}, np.ones(len(values)), groups)
        yield {"renderer": name, "narrowing": narrowing, "lost": median["lost"], "spread": round((high - low) / 2, 3)}


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The median (draws,) of values (n,) that are drawn as often as their weights (draws, n) say."""
    order = np.argsort(values)
    reached = np.cumsum(weights[:, order], axis=1)
    return values[order][(reached >= reached[:, -1:] / 2).argmax(axis=1)]


def darkness_beside_artery(pictures: Sequence[Pixels], crossing: MeasuredCrossing) -> np.ndarray:
    """How much darker than its flanks the vein is from 0.1 to 0.4 widths beyond the artery's wall, on both sides in each
    picture, (pictures, 2). All are measured along the line of the first.
    """
    artery, vein = map_widths(crossing)
    green = [np.ascontiguousarray(picture[..., 1], np.float32) for picture in pictures]
    across = Course.of(crossing.first, crossing.at, artery).drawn(green[0].shape, 1.4 * artery)
    course = Course.of(crossing.second, crossing.at, vein).centred(green[0], across, crossing.at)
    wall, away = artery / 2 / max(np.sin(np.radians(crossing.angle)), 0.3), np.abs(course.offsets(1.5)) / vein
    found = []
    for straight in (course.straightened(picture, 1.5) for picture in green):
        darker = straight[:, away > 1.15].mean(axis=1) - straight[:, away < 1.0].mean(axis=1)
        beyond = [(side * course.way - wall) / vein for side in (-1, 1)]
        found.append([darker[(side > 0.1) & (side < 0.4)].mean() for side in beyond])
    return np.array(found)


def draw_sheets(data: Path, out: Path, number: int) -> Iterator[Path]:
    """Sheets of `number` crossings of every set, of as many photographs."""
    out.mkdir(parents=True, exist_ok=True)
    recipe = read_nicked_patch_recipe()
    for known in recipe.photographs:
        ladders, shams = [], []
        dataset = open_dataset(data / known.folder)
        for k in np.unique(np.linspace(0, len(dataset) - 1, 3 * number).astype(int)):
            photograph = DrawnPhotograph.from_record(dataset[k], recipe.drawing.largest_field)
            for crossing in photograph.chosen_crossings()[:1]:
                ladders.append(np.vstack([draw_ladder(photograph.pixels, crossing, name) for name in RENDERERS]))
                shams.append(draw_shams(photograph.pixels, crossing, int(k)))
            if len(ladders) == number:
                break
        for what, rows in (("ladder", ladders), ("shams", shams)):
            for first in range(0, len(rows), PER_SHEET):
                path = out / f"{known.name}_{what}_{first // PER_SHEET}.png"
                cv2.imwrite(str(path), np.vstack(rows[first : first + PER_SHEET])[..., ::-1])
                yield path


def draw_ladder(pixels: Pixels, crossing: MeasuredCrossing, renderer: str) -> Pixels:
    """A row of tiles, both sides of the vein narrowed as `LADDER` says."""
    plans = [WarpPlan.of_narrowing((narrowing, narrowing), 0.5) for narrowing in LADDER]
    return np.hstack([draw_tile(pixels, crossing, plan, renderer) for plan in plans])


def draw_shams(pixels: Pixels, crossing: MeasuredCrossing, seed: int) -> Pixels:
    """A row of tiles, every sham of a healthy vein."""
    rng = np.random.default_rng(seed)
    return np.hstack([draw_tile(pixels, crossing, draw_plan(0, rng, sham, "healthy"), "pinch") for sham in SHAMS])


def draw_tile(pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan, renderer: str) -> Pixels:
    """The surroundings of a crossing with a plan carried out, its green channel in full contrast, named with what was done."""
    window, here = crossing_window(crossing)
    step = SPAN * map_widths(crossing)[1] / TILE
    changed = RENDERERS[renderer](pixels[window], here, plan)
    green = sample_square(changed, here.at, step, TILE)[..., 1].astype(np.float32)
    low, high = np.percentile(green, (1, 99.5))
    tile = np.clip((green - low) / (high - low + 1) * 255, 0, 255).astype(np.uint8)
    text = f"{max(plan.narrowing):.1f} {renderer}" if plan.sham == "none" else plan.sham
    cv2.putText(tile, text, (4, TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1, cv2.LINE_AA)
    return np.dstack([np.pad(tile, 1)] * 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=Path, help="folder that `make nicked-patches` wrote: count")
    parser.add_argument("--data", type=Path, help="folder that holds the public sets")
    parser.add_argument("--lesions", action="store_true", help="measure how much of the vein the lesions take")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets: draw them")
    parser.add_argument("--crossings", type=int, default=6, help="of each set on the sheets")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    rows = results_table([*count_tables(given.patches)], RESULTS) if given.patches else []
    rows += results_table([*measure_lesions(given.data)], LESIONS) if given.lesions else []
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if given.sheets:
        for path in draw_sheets(given.data, given.sheets, given.crossings):
            print(path)


if __name__ == "__main__":
    main()
