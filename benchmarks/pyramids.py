"""SAFPN beside a plain pyramid, by crossing size and input resolution, and what each step of the training does.

    python benchmarks/pyramids.py fit --data DATA --out STUDY [--workers 6] [--drawing 1] [--minutes M]
    python benchmarks/pyramids.py figures STUDY

`fit` trains both pyramids at three seeds (recipe `short`) on DRIVE training, IOSTAR and LES-AV, and writes what each finds; it goes
on where it was cut off. DRIVE test is not touched: what is tested was held out of these sets. `figures` scores what was found, writes
docs/results/crossings_pyramids/*.csv and prints the comparisons; it needs the study's study.json and detections/ only.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from pathlib import Path

from fundoscope.nicking.crossing_study.evaluate import evaluate_study
from fundoscope.nicking.crossing_study.plan import CrossingOptions, Pace, plan_study
from fundoscope.nicking.crossing_study.run import LinesOnly, train_and_predict
from fundoscope.nicking.crossing_study.transfer_detectors import COMPLETE_SETS
from fundoscope.nicking.recipes.crossings import read_crossing_recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "crossings_pyramids"
TABLES = ("coco", "detection", "difference", "pyramids", "steps")


def fit(given: argparse.Namespace) -> None:
    pace = Pace(given.workers, given.drawing, time.time() + 60 * given.minutes)
    folders = tuple(given.data / name for name in COMPLETE_SETS.values())
    options = CrossingOptions(folders, given.out, read_crossing_recipe(given.recipe), seeds=given.seeds, pace=pace)
    progress = LinesOnly("study")
    train_and_predict(plan_study(options, progress), progress)


def write_figures(given: argparse.Namespace) -> None:
    results = evaluate_study(given.study)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        shutil.copy(given.study / "tables" / f"{name}.csv", RESULTS)
    for row in (*results["difference"], *results["pyramids"], *results["steps"]):
        print("  ".join(str(value) for value in row.values() if value is not None))
    print(RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    fits = jobs.add_parser("fit")
    fits.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    fits.add_argument("--out", type=Path, required=True, help="folder of the study")
    fits.add_argument("--recipe", default="short")
    fits.add_argument("--seeds", type=int, default=3)
    fits.add_argument("--workers", type=int, default=6, help="detectors that are trained at once")
    fits.add_argument("--drawing", type=int, default=1, help="processes of each that draw its examples")
    fits.add_argument("--minutes", type=float, default=math.inf, help="no epoch begins later; run again to go on")
    fits.set_defaults(work=fit)
    figures = jobs.add_parser("figures")
    figures.add_argument("study", type=Path)
    figures.set_defaults(work=write_figures)
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
