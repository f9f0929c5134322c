"""Detectors whose weights only start the graders of `study-grades`: each is trained without the photographs of one camera.

    python -m fundoscope.nicking.crossing_study.transfer_detectors --data DATA --without drive --out OUT

OUT/without_<camera>/fit/                     the training; it goes on where it was cut off
OUT/without_<camera>/detector.safetensors     what a grader's stream takes over: body and pyramid, in half precision
OUT/without_<camera>/seen.json                names of the photographs that it was trained on

Only sets whose crossings are all known train; HRF's are not, so the detector without HRF is that of all of them.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import torch
from safetensors.torch import save_file

from fundoscope.datasets import Dataset, PhotographRecord, open_dataset
from fundoscope.errors import FundoscopeError, UsageError, counted, nearest
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import fit_detector
from fundoscope.networks.mask_rcnn import CrossingDetector
from fundoscope.nicking.grade_study.transfer import DETECTOR, write_upstream
from fundoscope.nicking.recipes.crossings import CrossingRecipe, read_crossing_recipe

#: Folders, under the data folder, of the sets whose crossings are all known, by camera; DRIVE's part `test` is not among them.
COMPLETE_SETS = {"drive": "drive_av/training", "iostar": "iostar", "les_av": "les_av"}
CAMERAS_LEFT_OUT = (*COMPLETE_SETS, "hrf")
_TRANSFERRED = "backbone."  # the part of a detector's weights that a stream of a grader can take over


def train_transfer_detector(
    recipe: CrossingRecipe, records: Iterable[PhotographRecord], folder: Path, seed: int,
    workers: int = 0, stop_at: float = math.inf,
) -> CrossingDetector:  # fmt: skip
    """The detector of a recipe after both steps on these photographs; `folder` keeps the training, and errors are those, of
    `learning.detector_fit.fit_detector`.
    """
    marked = [CrossingPhotograph.from_record(record, recipe.labels) for record in records]
    torch.manual_seed(seed)
    return fit_detector(CrossingDetector(recipe.detector), marked, recipe.steps, folder, seed, workers, stop_at)


def write_transferred_weights(folder: Path, seen: Iterable[str], detector: CrossingDetector) -> None:
    """Write into an upstream's folder what graders take over of a detector, in half precision, and the names of the
    photographs that it has `seen`.
    """
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in detector.state_dict().items()
        if name.startswith(_TRANSFERRED)
    }
    write_upstream(folder, seen, None)
    beside = folder / f"{DETECTOR}.part"
    save_file(state, beside)
    beside.replace(folder / DETECTOR)  # its presence says that the folder is whole


def sets_without(camera: str, data: Path) -> list[Dataset]:
    """The complete sets under `data` that a camera did not take; `UsageError` for an unknown camera."""
    if camera not in CAMERAS_LEFT_OUT:
        raise UsageError(f"There is no camera '{camera}': {nearest(camera, CAMERAS_LEFT_OUT)} Give one of these.")
    return [open_dataset(data / folder) for name, folder in COMPLETE_SETS.items() if name != camera]


def make_without(
    camera: str, data: Path, out: Path, recipe: CrossingRecipe, seed: int, workers: int, stop_at: float
) -> Path:
    """Train and write the detector that has not seen a camera, unless it is there; returns its folder."""
    folder = out / f"without_{camera}"
    if (folder / DETECTOR).exists():
        return folder
    sets = sets_without(camera, data)
    names = [source.full_name for dataset in sets for source in dataset.sources]
    print(f"{folder}: {counted(len(names), 'photograph')}", flush=True)
    records = (record for dataset in sets for record in dataset)
    detector = train_transfer_detector(recipe, records, folder / "fit", seed, workers, stop_at)
    write_transferred_weights(folder, names, detector)
    return folder


def main() -> None:
    """The command `python -m fundoscope.nicking.crossing_study.transfer_detectors`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the detectors")
    parser.add_argument("--without", nargs="+", default=["drive", "les_av", "hrf"], help="cameras, one after the other")
    parser.add_argument("--recipe", default="transfer", help="a recipe of crossing detectors, or a TOML file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw the examples")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no epoch begins later; run again to go on")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("fundoscope.training").setLevel(logging.INFO)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    start = time.time()
    try:
        for camera in given.without:
            folder = make_without(
                camera, given.data, given.out, read_crossing_recipe(given.recipe), given.seed, given.workers,
                start + 60 * given.minutes,
            )  # fmt: skip
            size = (folder / DETECTOR).stat().st_size
            print(f"{folder / DETECTOR}: {size / 1e6:.1f} MB, {time.time() - start:.0f} s", flush=True)
    except FundoscopeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
