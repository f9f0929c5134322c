"""What the vascular index of infants is worth: on simulated eyes, on the photographs of two cameras, and against itself.

    python benchmarks/vascular_index.py --data DATA [--eyes runs/infant_index/test_eyes] [--again 12]

- simulated: eyes with plus disease against eyes without, which taught the network nothing and fitted nothing. The truth is known.
- cameras: ROP against normal on HVDROPDB, by the score. The label is ROP of any stage and not plus disease, views differ between
  the classes, and the reference of the percentile are the same normal photographs; only photographs whose disc is seen count.
- again: the index of a photograph that was shifted, turned, saved as JPEG or made 10 % smaller, against its own.
- cost: processor time of screening a photograph with the index and without it.

Photographs that could not be measured are counted. Groups are photographs and, where two photographs look like one eye, that eye. Writes
docs/results/vascular_index.csv and vascular_index_references.csv.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from vessel_measures import changed

from fundoscope.bundles import open_bundle
from fundoscope.cohort.fingerprints import fingerprint
from fundoscope.cohort.second_views import find_second_views
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import estimate
from fundoscope.imaging import Prepared
from fundoscope.imaging.quality import judge_quality
from fundoscope.rop.screening.screener import screen_photograph
from fundoscope.rop.vascular import VascularIndex, open_vascular_index
from fundoscope.rop.vessel_training.plus_eyes import read_plus_eyes

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
SEED, EYES = 402, 160  # of the simulated eyes that only test
CAMERAS = {"retcam": "hvdropdb_retcam", "neo": "hvdropdb_neo"}
Row = dict[str, Any]


def measure(index: VascularIndex, photograph: Prepared) -> tuple[float, float, float]:
    """Score, width and tortuosity of a photograph; nan where it could not be measured."""
    _, vessels = index.measure(photograph)
    score = index.weights.score(vessels)
    nan = float("nan")
    return (nan, nan, nan) if score is None else (score, vessels.width or nan, vessels.tortuosity or nan)


def describe(task: str, on: str, label: str, y: np.ndarray, found: np.ndarray, groups: list[int]) -> Iterator[Row]:
    """A row a measure: its AUC among the photographs that were measured."""
    known = np.isfinite(found[:, 0])
    kept = [group for group, here in zip(groups, known, strict=True) if here]
    for k, name in enumerate(("score", "width", "tortuosity")):
        yield {
            "task": task, "on": on, "label": label, "measure": name, "photographs": len(y), "measured": int(known.sum()),
            "auc": estimate(y[known], found[known, k], groups=kept),
        }  # fmt: skip


def simulated(index: VascularIndex, folder: Path) -> Iterator[Row]:
    """Plus disease against none on simulated eyes."""
    eyes = list(read_plus_eyes(folder, SEED, EYES))
    found = [
        measure(index, photograph) if judge_quality(photograph, "infant").gradable else (np.nan,) * 3
        for photograph in (Prepared.read(eye.file, "a simulated eye") for eye in eyes)
    ]
    y = np.array([eye.plus == "plus" for eye in eyes], int)
    yield from describe(
        "simulated", f"SIMULATED eyes, seed {SEED}", "plus against none", y, np.array(found), list(range(len(eyes)))
    )


def eye_groups(photographs: list[Prepared]) -> list[int]:
    """The group of each photograph: those that look like one eye, with one another, are one."""
    groups = list(range(len(photographs)))
    for pair in find_second_views([fingerprint(each) for each in photographs]):
        old, new = groups[pair.second], groups[pair.first]
        groups = [new if group == old else group for group in groups]
    return groups


def cameras(data: Path) -> Iterator[Row]:
    """ROP against normal on the photographs of each camera."""
    for camera, folder in CAMERAS.items():
        index = open_vascular_index(camera)
        paths = [(path, label) for label in ("normal", "rop") for path in sorted((data / folder / label).iterdir())]
        photographs = [Prepared.read(path) for path, _ in paths]
        found = np.array(
            [measure(index, each) if judge_quality(each, "infant").gradable else (np.nan,) * 3 for each in photographs]
        )
        y = np.array([label == "rop" for _, label in paths], int)
        measured = Counter(label for (_, label), here in zip(paths, np.isfinite(found[:, 0]), strict=True) if here)
        on = f"HVDROPDB {camera}: {measured['normal']} normal and {measured['rop']} ROP with a disc"
        yield from describe("cameras", on, "ROP of any stage against normal", y, found, eye_groups(photographs))


def again(data: Path, number: int) -> Iterator[Row]:
    """How far the index moves where the photograph is changed and the eye is not."""
    for camera, folder in CAMERAS.items():
        index = open_vascular_index(camera)
        moves: dict[str, list[float]] = {}
        lost: Counter[str] = Counter()
        looked = 0
        for path in sorted((data / folder / "normal").iterdir()):
            first = index.weights.score(index.measure(Prepared.read(path))[1])
            if first is None or looked == number:
                continue
            looked += 1
            for way, make in changed(Prepared.read(path).pixels).items():
                second = index.weights.score(index.measure(Prepared.read(make(), path.name))[1])
                if second is None:
                    lost[way] += 1
                else:
                    moved = index.reference.percentile(second) - index.reference.percentile(first)
                    moves.setdefault(way, []).append(abs(moved))
        for way, own in moves.items():
            yield {
                "task": "again", "on": f"HVDROPDB {camera}, normal", "way": way, "photographs": looked, "measured": len(own),
                "lost": lost[way], "median_points": round(float(np.median(own)), 1), "p90_points": round(float(np.quantile(own, 0.9)), 1),
            }  # fmt: skip
        every = [move for own in moves.values() for move in own]
        yield {
            "task": "again", "on": f"HVDROPDB {camera}, normal", "way": "all four", "photographs": looked, "measured": len(every),
            "lost": sum(lost.values()), "median_points": round(float(np.median(every)), 1),
            "p90_points": round(float(np.quantile(every, 0.9)), 1),
        }  # fmt: skip


def cost(data: Path, number: int = 10) -> Iterator[Row]:
    """Processor time of screening a photograph with the index, against without it, photograph by photograph."""
    bundle = open_bundle("rop")
    for camera, folder in CAMERAS.items():
        index = open_vascular_index(camera)
        spent: dict[bool, list[float]] = {False: [], True: []}
        files = [path.read_bytes() for path in sorted((data / folder / "normal").iterdir())[:number]]
        for file in [files[0], *files]:  # the first one warms the networks up
            for asked in spent:
                start = time.process_time()
                screen_photograph(file, "a photograph", bundle, vascular=index if asked else None)
                spent[asked].append(1000 * (time.process_time() - start))
        plain, both = (np.array(own[1:]) for own in spent.values())
        yield {
            "task": "cost", "on": f"HVDROPDB {camera}, normal", "photographs": number,
            "ms_without": round(float(np.median(plain)), 1), "ms_with": round(float(np.median(both)), 1),
            "times": round(float(np.median(both / plain)), 1),
        }  # fmt: skip


def references() -> Iterator[Row]:
    """The scores of normal photographs by camera, at some percentiles."""
    index = open_vascular_index()
    for camera, each in (*index.references.items(), ("pooled", index.reference)):
        quantiles = {f"p{q}": round(float(np.percentile(each.scores, q)), 3) for q in (5, 25, 50, 75, 95)}
        yield {
            "camera": camera,
            "photographs": each.photographs,
            "measured": len(each.scores),
            **quantiles,
            "source": each.source,
        }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--eyes", type=Path, default=Path("runs/infant_index/test_eyes"))
    parser.add_argument("--again", type=int, default=12, help="photographs of each camera that are changed")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    rows: list[Row] = []
    for part in (
        simulated(open_vascular_index(), given.eyes),
        cameras(given.data),
        again(given.data, given.again),
        cost(given.data),
    ):
        for row in part:
            print(*(f"{name} {value}" for name, value in row.items()), sep="; ", flush=True)
            rows.append(row)
    results_table(rows, RESULTS / "vascular_index.csv")
    results_table(list(references()), RESULTS / "vascular_index_references.csv")


if __name__ == "__main__":
    main()
