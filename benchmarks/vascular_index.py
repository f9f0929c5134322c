"""What the vascular index of infants is worth: on simulated eyes, on the photographs of two cameras, and against itself.

    python benchmarks/vascular_index.py --data DATA [--eyes runs/infant_index/test_eyes] [--again 25]

- simulated: eyes with plus disease against eyes without, which taught the network nothing and fitted nothing. The truth is known.
- cameras: ROP against normal on HVDROPDB, by the score. The label is ROP of any stage and not plus disease, views differ between
  the classes, and the reference of the percentile are the same normal photographs; only photographs whose disc is seen count.
- again: the index of a photograph that was shifted, turned, saved as JPEG or made 10 % smaller, against its own. How vessels are read was
  chosen on every second normal photograph from the first one on; these are the others.
- discs: whether the disc is found within a quarter of its diameter, against marks made by eye (`infant_disc_marks.csv`: one person, no
  clinician, before any rule was fitted; the rule was chosen on the first half, the second half was looked at once), and whether one is
  believed where none is in view: photographs that show none, and the others cut beside their disc.
- cost: processor time of screening a photograph with the index and without it.

Photographs that could not be measured are counted. Groups are photographs and, where two photographs look like one eye, that eye. Writes
docs/results/vascular_index.csv and vascular_index_references.csv.
"""

from __future__ import annotations

import argparse
import csv
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
from fundoscope.vessels.graph import vessel_graph
from fundoscope.vessels.posterior import find_infant_disc

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results"
NEAR = 0.25  # of its diameter: a disc's centre is right within it
APART = 0.9  # diameters from its centre beyond which a photograph shows nothing of a disc
LEAST = 200  # pixels of a map that must be left of a photograph without its disc
NEARLY = 8.0  # points within which an index should come back
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


def read_infant_marks() -> list[dict[str, str]]:
    """The discs marked by eye, a row a photograph, in pixels of the files."""
    with (HERE / "infant_disc_marks.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def discs(data: Path) -> Iterator[Row]:
    """A row a half of the marks and folder: discs in view that are believed where they are, and discs that are believed where none is."""
    index = open_vascular_index()
    counts: dict[tuple[str, str], Counter[str]] = {}
    for mark in read_infant_marks():
        count = counts.setdefault((mark["half"], mark["on"]), Counter())
        (path,) = (data / mark["on"]).glob(f"{mark['photograph']}.*")
        maps, vessels = index.measure(Prepared.read(path))
        found = vessels.disc
        if mark["disc"] != "in view":
            count.update({"out": 1, "out_believed": int(found is not None)})
            continue
        scale = maps.inside.shape[0] / Prepared.read(path).pixels.shape[0]
        row, column, diameter = (float(mark[name]) * scale for name in ("row", "column", "diameter"))
        right = found is not None and np.hypot(found.row - row, found.column - column) <= NEAR * diameter
        count.update({"in": 1, "right": int(right), "wrong": int(found is not None and not right)})
        gap, middle = round(APART * diameter), round(column)
        kept = np.s_[:, middle + gap :] if middle < maps.inside.shape[1] / 2 else np.s_[:, : max(middle - gap, 0)]
        vessel, disc, inside, pixels = (
            np.ascontiguousarray(each[kept]) for each in (maps.vessel, maps.disc, maps.inside, maps.pixels)
        )
        if inside.shape[1] >= LEAST:
            beside = find_infant_disc(vessel_graph((vessel >= index.threshold) & inside), disc, inside, pixels)
            count.update({"beside": 1, "beside_believed": int(beside is not None)})
    for (half, folder), count in counts.items():
        yield {
            "task": "discs", "on": f"HVDROPDB {folder.removeprefix('hvdropdb_')}, {half} half of the marks", "photographs": count["in"],
            "found": count["right"], "wrong": count["wrong"], "out_of_view": count["out"], "out_of_view_believed": count["out_believed"],
            "cut": count["beside"], "cut_believed": count["beside_believed"],
        }  # fmt: skip


def again(data: Path, number: int) -> Iterator[Row]:
    """How far the index moves where the photograph is changed and the eye is not."""
    for camera, folder in CAMERAS.items():
        index = open_vascular_index(camera)
        moves: dict[str, list[float]] = {}
        lost: Counter[str] = Counter()
        looked = 0
        for path in sorted((data / folder / "normal").iterdir())[1::2]:
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
        for way, own in (*moves.items(), ("all four", [move for each in moves.values() for move in each])):
            yield {
                "task": "again", "on": f"HVDROPDB {camera}, normal", "way": way, "photographs": looked, "measured": len(own),
                "lost": lost[way] if way in moves else sum(lost.values()), "median_points": round(float(np.median(own)), 1),
                "p90_points": round(float(np.quantile(own, 0.9)), 1), "within_8_points": round(float(np.mean(np.array(own) <= NEARLY)), 3),
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
    parser.add_argument("--again", type=int, default=25, help="photographs of each camera that are changed")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    rows: list[Row] = []
    for part in (
        simulated(open_vascular_index(), given.eyes),
        cameras(given.data),
        again(given.data, given.again),
        discs(given.data),
        cost(given.data),
    ):
        for row in part:
            print(*(f"{name} {value}" for name, value in row.items()), sep="; ", flush=True)
            rows.append(row)
    results_table(rows, RESULTS / "vascular_index.csv")
    results_table(list(references()), RESULTS / "vascular_index_references.csv")


if __name__ == "__main__":
    main()
