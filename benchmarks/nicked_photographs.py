"""From a whole photograph with a nicked vein to its grade: the shipped bundle on DRIVE's test photographs.

    python benchmarks/nicked_photographs.py --data ../shared/data [--bundle nicking]

At each crossing that measures as not narrowed the vein is pinched in the whole photograph, by grades 0 to 3 in turn (0 is a
sham warp), a photograph each, and the photograph is graded as `fundoscope nicking grade` does it. Told are: whether the
crossing was found, whether it was graded, and how. Once by our lesions, once by the second renderer, which nothing is
trained on. No photograph here has taught or chosen anything. Writes docs/results/nicked_photographs.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from nicked_patches import redrawn

from fundoscope.datasets import open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.detection import HIT_RADIUS
from fundoscope.evaluation.metrics import estimate_share, grade_estimates
from fundoscope.findings import NickingFinding
from fundoscope.imaging import Pixels
from fundoscope.nicking.grade_study.nicked_patches import DrawnPhotograph, Renderer, undisturbed_crossings
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.simulate.pinch import draw_plan, pinch
from fundoscope.vessels.grade_rule import GRADES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "nicked_photographs.csv"
RENDERERS: dict[str, Renderer] = {"pinched": pinch, "redrawn by the second renderer": redrawn}
SEED = 7


@dataclass(frozen=True, slots=True)
class Asked:
    """A crossing of a photograph that was given a grade, and what was said: None where it was not found, or not graded."""

    renderer: str
    photograph: str
    truth: int
    found: bool
    told: int | None


def ask(bundle: str, folder: Path, number: int) -> list[Asked]:
    """All crossings of one photograph, in every grade, by every renderer."""
    cv2.setNumThreads(1)
    grader, photograph = NickingGrader.open(bundle), DrawnPhotograph.of_record(open_dataset(folder)[number])
    asked = []
    for k, crossing in enumerate(undisturbed_crossings(photograph)):
        for name, render in RENDERERS.items():
            for grade in range(GRADES):
                plan = draw_plan(
                    grade, np.random.default_rng((SEED, number, k, grade)), None if render is pinch else "none"
                )
                found = nearest(grader, render(photograph.pixels, crossing, plan), crossing.at)
                told = None if found is None else found.grade
                asked.append(Asked(name, photograph.name, grade, found is not None, told))
    return asked


def nearest(grader: NickingGrader, pixels: Pixels, at: np.ndarray) -> NickingFinding | None:
    """What was found at a place of a photograph of DRIVE's size; None where nothing was."""
    every = [f for f in grader.grade(pixels) if f.row is not None and f.col is not None]
    away = [float(np.hypot(f.row - at[0], f.col - at[1])) for f in every]  # type: ignore[operator]
    return every[int(np.argmin(away))] if away and min(away) <= HIT_RADIUS else None


def figures(asked: list[Asked]) -> Iterator[dict[str, object]]:
    """Each renderer's."""
    for name in RENDERERS:
        of = [each for each in asked if each.renderer == name]
        graded = [each for each in of if each.told is not None]
        photographs = [each.photograph for each in of]
        told = grade_estimates(
            [each.truth for each in graded], [each.told for each in graded], [each.photograph for each in graded]
        )
        yield {
            "photographs of": f"DRIVE test, {name}",
            "found": estimate_share([each.found for each in of], photographs),
            "graded": estimate_share([each.told is not None for each in of], photographs),
            **{what: told[what] for what in ("quadratic_kappa", "accuracy", *(f"recall_{g}" for g in range(GRADES)))},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    folder = given.data / "drive_av/test"
    with get_context("spawn").Pool(given.workers) as pool:
        parts = pool.map(partial(ask, given.bundle, folder), range(len(open_dataset(folder))), chunksize=1)
    for row in results_table([*figures([each for part in parts for each in part])], RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
