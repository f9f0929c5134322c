"""Do simulated eyes look enough like real ones? A vessel network that saw nothing else, on real photographs.

    python benchmarks/simulated_vessels.py [--arms simulated drive] [--out runs/simulated_vessels] [--development]

Trains the same small network twice with the same settings: on simulated adult eyes alone, and on DRIVE's 20 training
photographs. Both are scored on DRIVE's 20 test photographs: Dice of the vessel pixels inside DRIVE's field mask, against
the masks that come with RITE. By RITE's own page these are DRIVE's SECOND manual for the test photographs and a modified
first manual for training, so the figures are not comparable with those published against the first manual. The threshold is chosen where the arm may look: on simulated eyes kept out of training, and
on DRIVE training. Goes on where it was cut off. Writes docs/results/simulated_vessels.csv.
With --development the simulated arm is scored on DRIVE training only (by which the simulator may be tuned), and
nothing is written to docs; nor is it for one arm alone.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.datasets import PhotographRecord, open_dataset
from fundoscope.learning import FitOptions
from fundoscope.learning.vessel_crops import CropOptions, VesselPhotograph
from fundoscope.learning.vessel_fit import fit_vessels, predict_vessel_probabilities
from fundoscope.networks import VesselNet, VesselNetOptions, count_parameters
from fundoscope.simulate import write_adults

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "simulated_vessels.csv"

#: Folder, photographs, seed and camera of the eyes that are trained on, and of those that choose the threshold.
TRAINING_EYES = (("drive", 200, 101, {"camera": "drive"}), ("hrf", 50, 102, {"camera": "hrf", "size": 900}))
HELD_EYES = (("held", 16, 103, {"camera": "drive"}),)
NETWORK = VesselNetOptions()
CROPS = CropOptions(side=112, number=1200)
OPTIONS = FitOptions(epochs=24, batch=12, learning_rate=2e-3, average=0.99, bfloat16=True, smoothing=0.0)
THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.05), 2)
SEED = 1
TRUTHS = {
    "simulated eyes kept out": "drawn",
    "DRIVE training": "RITE: modified 1st manual",
    "DRIVE test": "RITE: 2nd manual",
}
COLUMNS = (
    "arm", "photographs", "parameters", "steps", "threshold", "threshold_from",
    "scored_on", "truth", "n", "dice", "low", "high", "worst", "best",
)  # fmt: skip


def drive(part: str) -> list[PhotographRecord]:
    return list(open_dataset(DATA / "drive_av" / part))


def simulated(sets: Iterable[tuple[str, int, int, dict]], eyes: Path, workers: int) -> list[PhotographRecord]:
    found = []
    for name, n, seed, options in sets:
        folder = eyes / name
        if not (folder / "cohort.csv").exists():
            print(f"drawing {n} simulated photographs into {folder}", flush=True)
            write_adults(n, folder, seed=seed, workers=workers, **options)
        found += open_dataset(folder)
    return found


def trained(arm: str, photographs: list[PhotographRecord], out: Path, workers: int) -> VesselNet:
    drawn = [VesselPhotograph.from_record(p) for p in photographs]
    torch.manual_seed(SEED)
    return fit_vessels(VesselNet(NETWORK), drawn, CROPS, OPTIONS, out / arm, SEED, workers)


def counts(model: VesselNet, photographs: list[PhotographRecord]) -> NDArray[np.int64]:
    """Hits, pixels called and pixels true, (photograph, threshold, 3), inside the field."""
    rows = []
    for p in photographs:
        found, true = predict_vessel_probabilities(model, p.pixels)[0][p.field], p.vessel[p.field]
        rows.append([[(true & (found >= t)).sum(), (found >= t).sum(), true.sum()] for t in THRESHOLDS])
    return np.array(rows)


def dice(counted: NDArray[np.int64]) -> NDArray[np.float64]:
    return 2 * counted[..., 0] / np.maximum(1, counted[..., 1] + counted[..., 2])


def row(arm: str, where: str, values: NDArray[np.float64]) -> dict[str, object]:
    """Mean over photographs, its 95 % percentile-bootstrap interval, worst and best."""
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    figures = {"dice": values.mean(), "low": low, "high": high, "worst": values.min(), "best": values.max()}
    return {"arm": arm, "scored_on": where, "truth": TRUTHS[where], "n": len(values)} | {
        name: round(float(value), 4) for name, value in figures.items()
    }


def run(
    arm: str, given: argparse.Namespace, scored: dict[str, Callable[[], list[PhotographRecord]]]
) -> list[dict[str, object]]:
    if arm == "simulated":
        material = simulated(TRAINING_EYES, given.eyes, given.workers)
        choosing, source = simulated(HELD_EYES, given.eyes, given.workers), "simulated eyes kept out"
    else:
        material = choosing = drive("training")
        source = "DRIVE training"
    model = trained(arm, material, given.out, given.loaders)
    at_home = dice(counts(model, choosing))
    best = int(at_home.mean(axis=0).argmax())
    about = {
        "photographs": len(material), "parameters": count_parameters(model), "steps": OPTIONS.epochs * (CROPS.number // OPTIONS.batch),
        "threshold": THRESHOLDS[best], "threshold_from": source,
    }  # fmt: skip
    rows = [row(arm, source, at_home[:, best])]
    rows += [row(arm, name, dice(counts(model, load())[:, best])) for name, load in scored.items() if name != source]
    return [{**about, **one} for one in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=("simulated", "drive"), default=["simulated", "drive"])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "simulated_vessels")
    parser.add_argument("--eyes", type=Path, help="folder of the simulated eyes; drawn where they are missing")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw eyes")
    parser.add_argument("--loaders", type=int, default=1, help="processes that take crops")
    parser.add_argument("--development", action="store_true", help="score on DRIVE training only; write nothing")
    given = parser.parse_args()
    given.eyes = given.eyes or given.out / "eyes"
    cv2.setNumThreads(1)
    scored = {"DRIVE training": lambda: drive("training")}
    if not given.development:
        scored["DRIVE test"] = lambda: drive("test")
    rows = [line for arm in given.arms for line in run(arm, given, scored)]
    for line in rows:
        print("  ".join(f"{name} {line[name]}" for name in COLUMNS), flush=True)
    if not given.development and len(given.arms) == 2:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
