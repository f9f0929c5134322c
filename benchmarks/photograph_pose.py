"""How the vein of a crossing is laid in a whole photograph: by its centreline on the graph of vessels, and by rings around it.

    python benchmarks/photograph_pose.py --data ../shared/data [--bundle nicking]

In the training photographs of DRIVE and LES-AV the vein is pinched at all chosen crossings, each by another grade, twice, and the
photograph is mapped and its crossings are measured as `fundoscope nicking grade` does it. The truth is the slope of the drawn
vein, 2 to 5 of its widths from the crossing. Counted are the found crossings that have a pose, and those whose pose is off by
more than 10 degrees. The bundle's network of maps has learnt from DRIVE's training photographs. Writes
docs/results/photograph_pose.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundoscope.bundles.read_nicking import open_nicking_bundle
from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.detection import HIT_RADIUS
from fundoscope.evaluation.metrics import estimate_share
from fundoscope.imaging import Prepared
from fundoscope.nicking.grade_study.nicked_patches import DrawnPhotograph
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import CrossingPatch, cut_crossing
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import SLOPE_REACH, measure_crossings
from fundoscope.nicking.recipes.nicked_patches import read_nicked_patch_recipe
from fundoscope.simulate.pinch import draw_plan, pinch
from fundoscope.simulate.pinch.lesion import map_widths
from fundoscope.vessels.grade_rule import GRADES

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "photograph_pose.csv"
SETS = {"DRIVE training": "drive_av/training", "LES-AV": "les_av"}
WAYS = ("centreline, else rings", "rings alone")
WRONG_DEGREES = 10.0
SEED = 7

Row = dict[str, Any]


def pose_lesions(bundle_name: str, folder: Path, number: int) -> list[Row]:
    """A row a crossing, round and way: whether it was found, and how many degrees its pose is off; nan without a pose."""
    cv2.setNumThreads(1)
    bundle = open_nicking_bundle(bundle_name, 1)
    drawing = read_nicked_patch_recipe().drawing
    photograph = DrawnPhotograph.from_record(open_dataset(folder)[number], drawing.largest_field)
    rows = []
    for first in (0, 2):
        pixels, crossings = photograph.pixels, photograph.chosen_crossings()
        for k, crossing in enumerate(crossings):
            plan = draw_plan((k + first) % GRADES, np.random.default_rng((SEED, number, k, first)), None)
            pixels = pinch(pixels, crossing, plan)
        mapped = map_photograph(Prepared.read(pixels, photograph.name), bundle)
        found = measure_crossings(mapped, find_candidates(mapped.maps, mapped.artery_vein), bundle.card.crossings)
        for crossing in crossings:
            true = crossing.second.slope(*np.multiply(SLOPE_REACH, map_widths(crossing)[1]))
            away = [float(np.hypot(*(each.place - crossing.at))) for each in found]
            is_found = min(away, default=np.inf) <= HIT_RADIUS * mapped.scale
            posed = cut_crossing(mapped, found[int(np.argmin(away))]) if is_found else None
            for way, patch in zip(WAYS, (posed, posed and replace(posed, measured=None)), strict=True):
                rows.append(
                    {"photograph": photograph.name, "way": way, "found": is_found, "off": degrees_off(patch, true)}
                )
    return rows


def degrees_off(patch: CrossingPatch | None, true: float) -> float:
    """How many degrees the pose of a patch is off; nan where it has none."""
    return abs((patch.pose[0] - true + 90) % 180 - 90) if patch is not None and patch.knows_pose else float("nan")


def figures(name: str, rows: list[Row]) -> Iterator[Row]:
    """A row a way, with 95 % intervals over photographs."""
    for way in WAYS:
        own = [row for row in rows if row["way"] == way]
        found = [row for row in own if row["found"]]
        posed = [row for row in found if np.isfinite(row["off"])]
        yield {
            "on": name, "way": way,
            "found": estimate_share([row["found"] for row in own], [row["photograph"] for row in own]),
            "posed": estimate_share([bool(np.isfinite(row["off"])) for row in found], [row["photograph"] for row in found]),
            "wrong": estimate_share([row["off"] > WRONG_DEGREES for row in posed], [row["photograph"] for row in posed]),
            "median_degrees": float(np.median([row["off"] for row in posed])),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    table: list[Row] = []
    with get_context("spawn").Pool(given.workers) as pool:
        for name, part in SETS.items():
            folder = given.data / part
            parts = pool.map(partial(pose_lesions, given.bundle, folder), range(len(open_dataset(folder))), chunksize=1)
            table += figures(name, [row for part in parts for row in part])
    for row in results_table(table, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
