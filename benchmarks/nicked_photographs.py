"""From a whole photograph with a nicked vein to its grade: the shipped bundle on photographs that it has never seen.

    python benchmarks/nicked_photographs.py --data ../shared/data [--bundle nicking] [--sets drive_av/test les_av]

At each crossing that two readers chose the vein is pinched in the whole photograph, by grades 0 to 3 in turn (0 is a
sham warp), a photograph each, and the photograph is graded as `fundoscope nicking grade` does it. Measured is whether the
crossing was found, whether it was graded, and how. Once by our lesions, once by the second renderer, and once by lesions of
another shape, which nothing is trained on. A set that the bundle learnt from is refused. Writes a table a set: docs/results/nicked_photographs.csv
of DRIVE test, nicked_photographs_les_av.csv of LES-AV.
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

from fundoscope.datasets import open_dataset
from fundoscope.errors import UsageError
from fundoscope.evaluation import results_table
from fundoscope.evaluation.detection import HIT_RADIUS
from fundoscope.evaluation.metrics import estimate_share, grade_estimates
from fundoscope.findings import NickingFinding
from fundoscope.imaging import Pixels
from fundoscope.nicking.grade_study.nicked_patches import RENDERERS, DrawnPhotograph
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.recipes.nicked_patches import read_nicked_patch_recipe
from fundoscope.simulate.pinch import draw_plan
from fundoscope.vessels.grade_rule import GRADES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = {
    "drive_av/test": ROOT / "docs/results/nicked_photographs.csv",
    "les_av": ROOT / "docs/results/nicked_photographs_les_av.csv",
}
CONDITIONS = {
    "pinched": "pinch", "redrawn by the second renderer": "second renderer", "of another shape": "oblique profile"
}  # fmt: skip
SEED = 7


@dataclass(frozen=True, slots=True)
class GradedLesion:
    """A crossing that was given a grade, whether it was found, and the grade it got; None where it was not graded."""

    condition: str
    photograph: str
    truth: int
    found: bool
    grade: int | None


def grade_lesions(bundle: str, folder: Path, number: int) -> list[GradedLesion]:
    """All crossings of one photograph, in every grade, by every renderer."""
    cv2.setNumThreads(1)
    drawing = read_nicked_patch_recipe().drawing
    grader = NickingGrader.open(bundle)
    source = open_dataset(folder).sources[number]
    if source.full_name in grader.bundle.card.photographs:
        raise UsageError(f"{source.full_name}: the bundle '{bundle}' learnt from it. Name sets that it has never seen.")
    photograph = DrawnPhotograph.from_record(open_dataset(folder)[number], drawing.largest_field)
    lesions = []
    for k, crossing in enumerate(photograph.chosen_crossings()):
        for condition, renderer in CONDITIONS.items():
            for grade in range(GRADES):
                rng = np.random.default_rng((SEED, number, k, grade))
                plan = draw_plan(grade, rng, None if renderer == "pinch" else "none")
                pixels = RENDERERS[renderer](photograph.pixels, crossing, plan)
                found = nearest_finding(grader, pixels, crossing.at, HIT_RADIUS * photograph.map_scale)
                given = None if found is None else found.grade
                lesions.append(GradedLesion(condition, photograph.name, grade, found is not None, given))
    return lesions


def nearest_finding(grader: NickingGrader, pixels: Pixels, at: np.ndarray, radius: float) -> NickingFinding | None:
    """The crossing that is found within `radius` pixels of a place; None where none is."""
    every = [f for f in grader.grade(pixels) if f.row is not None and f.col is not None]
    away = [float(np.hypot(f.row - at[0], f.col - at[1])) for f in every]  # type: ignore[operator]
    return every[int(np.argmin(away))] if away and min(away) <= radius else None


def figures(on: str, lesions: list[GradedLesion]) -> Iterator[dict[str, object]]:
    """A row a renderer, of the set `on`."""
    for condition in CONDITIONS:
        own = [each for each in lesions if each.condition == condition]
        graded = [each for each in own if each.grade is not None]
        photographs = [each.photograph for each in own]
        estimates = grade_estimates(
            [each.truth for each in graded], [each.grade for each in graded], [each.photograph for each in graded]
        )
        names = ("quadratic_kappa", "accuracy", *(f"recall_{g}" for g in range(GRADES)))
        yield {
            "condition": f"{on}, {condition}",
            "found": estimate_share([each.found for each in own], photographs),
            "graded": estimate_share([each.grade is not None for each in own], photographs),
            **{name: estimates[name] for name in names},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av")
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=list(RESULTS), default=list(RESULTS), help="folders below it")
    given = parser.parse_args()
    with get_context("spawn").Pool(given.workers) as pool:
        for name in given.sets:
            known = open_dataset(given.data / name)
            work = partial(grade_lesions, given.bundle, given.data / name)
            parts = pool.map(work, range(len(known)), chunksize=1)
            rows = [*figures(known.sources[0].dataset, [each for part in parts for each in part])]
            for row in results_table(rows, RESULTS[name]):
                print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
