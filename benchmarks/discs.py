"""Whether the optic disc is found, how wide, and whether a disc out of view is believed.

    python benchmarks/discs.py --data ../shared/data [--bundle nicking] [--simulated 40]

The truth of photographs are discs marked by eye (`disc_marks.csv`): one mark a photograph, by one person, on copies of 540
pixels, before any was sought by the tool. In three photographs of DRIVE training and two of STARE the margin is in doubt. The rule of
the disc was chosen on DRIVE training, HRF, LES-AV and simulated eyes; STARE was marked and looked at once, after that. A disc is right within a quarter
of its diameter. "out of view": the same photographs, cut so that the disc lies outside. Writes docs/results/discs.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import estimate_share
from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.field import shrunk
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph, map_photograph
from fundoscope.simulate import cameras
from fundoscope.simulate.adults import AdultEye, draw_projection, grow_eye, photograph_eye
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import Truth
from fundoscope.vessels import vessel_graph
from fundoscope.vessels.disc import CONFIDENT, Disc, find_disc

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results" / "discs.csv"
SETS = {"DRIVE training": "drive_av/training", "HRF": "hrf_av", "LES-AV": "les_av", "STARE": "stare"}
NEAR = 0.25  # of its diameter: a disc's centre is right within it
APART = 0.9  # diameters from its centre beyond which a photograph shows nothing of a disc
LEAST = 200  # pixels at DRIVE's scale that must be left of a photograph without its disc
SEED = 9100

Row = dict[str, Any]


def read_marks() -> dict[tuple[str, str], tuple[Disc, bool]]:
    """Discs marked by eye, in pixels of the files, by set and photograph, and whether the mark is in doubt."""
    with (HERE / "disc_marks.csv").open(newline="", encoding="utf-8") as file:
        return {
            (row["on"], row["photograph"]): (
                Disc(float(row["row"]), float(row["column"]), float(row["diameter"]) / 2, 1.0), row["doubtful"] == "yes",
            )
            for row in csv.DictReader(file)
        }  # fmt: skip


def simulate(seed: int, camera: str) -> tuple[Pixels, AdultEye, Projection, Truth]:
    """A good photograph of a simulated adult, with its trees and how they fall on the sensor."""
    rng = np.random.default_rng([seed, 24])
    exposure = cameras.draw_exposure(
        cameras.camera_named(camera, infant=False).resized(None if camera == "drive" else 2000),
        1,
        cameras.draw_cast(rng, 0.5),
        rng,
    )
    eye = grow_eye(seed, "right" if seed % 2 else "left", 0)
    projection = draw_projection(exposure, eye.side, rng)
    shot = photograph_eye(eye, exposure, projection)
    return shot.pixels, eye, projection, shot.truth


def compare(mapped: MappedPhotograph, true: Disc, doubtful: bool, threshold: float) -> Iterator[Row]:
    """A row of a photograph as it is, and one of what is left of it beside the disc; `true` is in its pixels."""
    here, found = true.scaled(1 / mapped.scale), mapped.disc
    yield {
        "view": "in view", "doubtful": doubtful,
        "off": np.inf if found is None else float(np.hypot(*(found.centre - here.centre))) / here.diameter,
        "diameter": np.nan if found is None else found.diameter / here.diameter,
        "confidence": 0.0 if found is None else found.confidence,
    }  # fmt: skip
    rows, columns = mapped.inside.shape
    gap = round(APART * here.diameter)
    middle = round(here.column)
    kept = np.s_[:, middle + gap :] if middle < columns / 2 else np.s_[:, : max(middle - gap, 0)]
    inside = mapped.inside[kept]
    if inside.shape[1] >= LEAST:
        pixels = np.ascontiguousarray(shrunk(mapped.pixels, (rows, columns))[kept])
        beside = find_disc(vessel_graph(np.ascontiguousarray(mapped.maps[0][kept] >= threshold)), inside, pixels)
        yield {"view": "out of view", "doubtful": False, "confidence": 0.0 if beside is None else beside.confidence}


def describe(name: str, rows: list[Row]) -> Iterator[Row]:
    """Rows of the table for one set: all photographs, those whose mark is not in doubt, those without their disc."""
    seen = [row for row in rows if row["view"] == "in view"]
    sure = [row for row in seen if not row["doubtful"]]
    for which, own in ((name, seen), (f"{name}, margin not in doubt", sure)):
        if which != name and len(sure) == len(seen):
            continue
        right = [row["off"] <= NEAR for row in own]
        ratio = np.array([row["diameter"] for row, good in zip(own, right, strict=True) if good])
        believed = [row["confidence"] >= CONFIDENT for row in own]
        yield {
            "on": which, "view": "in view", "photographs": len(own), "found": estimate_share(right, range(len(own))),
            "diameter_error_percent": 100 * float(np.median(np.abs(ratio - 1))), "believed": sum(believed),
            "believed_wrong": sum(b and not r for b, r in zip(believed, right, strict=True)),
        }  # fmt: skip
    beside = [row["confidence"] >= CONFIDENT for row in rows if row["view"] == "out of view"]
    yield {
        "on": name, "view": "out of view", "photographs": len(beside), "found": "", "diameter_error_percent": "",
        "believed": sum(beside), "believed_wrong": sum(beside),
    }  # fmt: skip


def marked_photographs(data: Path, bundle: NickingBundle, threshold: float) -> Iterator[tuple[str, list[Row]]]:
    """Each set with the rows of its photographs that have a mark."""
    marks = read_marks()
    for name, part in SETS.items():
        rows: list[Row] = []
        for record in open_dataset(data / part):
            if (name, record.name) in marks:
                mapped = map_photograph(Prepared.read(record.pixels, record.name), bundle)
                rows += compare(mapped, *marks[name, record.name], threshold)
                print(f"{name} {record.name}", file=sys.stderr)
        yield name, rows


def simulated_photographs(number: int, bundle: NickingBundle, threshold: float) -> list[Row]:
    """Rows of simulated eyes."""
    rows: list[Row] = []
    for k in range(number):
        pixels, _, _, truth = simulate(SEED + k, ("drive", "hrf")[k % 2])
        places = np.argwhere(truth.disc)
        row, column = places.mean(axis=0)
        true = Disc(float(row), float(column), float((np.ptp(places, axis=0) + 1).mean()) / 2, 1.0)
        rows += compare(map_photograph(Prepared.read(pixels, f"simulated {k}"), bundle), true, False, threshold)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--simulated", type=int, default=40)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = open_nicking_bundle(given.bundle, 1)
    threshold = bundle.card.crossings.vessel_threshold
    sets = [*marked_photographs(given.data, bundle, threshold)]
    sets.append(("simulated", simulated_photographs(given.simulated, bundle, threshold)))
    for row in results_table([row for name, rows in sets for row in describe(name, rows)], RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
