"""Paper 002's second detection step on the patches of a study: boxes of the usual size in the middle of each.

Such patches are cut around their crossing, so a box that always stands in the middle finds nearly all: it is scored beside
the detector, on the same folds. Files do not tell where else vessels cross, so nothing is said of that, nor of masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from fundoscope.evaluation.detection import Instances, coco_lines, coco_scores
from fundoscope.evaluation.metrics import results_table
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import DetectorFitOptions, detect_crossings, fit_step
from fundoscope.networks.mask_rcnn import BOX, CrossingDetector, DetectorOptions
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.train import GradeFoldData
from fundoscope.nicking.grade_study.training_views import usual
from fundoscope.nicking.grading.crossing_patches import lit_pixels, resize_square
from fundoscope.nicking.grading.widths import WIDE_VEIN
from fundoscope.studies import Progress, Study
from fundoscope.vessels.grade_rule import SPAN

#: The second of paper 002's two steps, whole patches in place of cut ones.
STEP = DetectorFitOptions(epochs=10, batch=8, learning_rate=2e-4, warm_up=20)


def marked(row: PatchRow) -> CrossingPhotograph:
    """A patch at the scale of the maps, the box of its crossing in the middle."""
    side, box = round(SPAN * WIDE_VEIN), round(BOX * DetectorOptions().diameter)
    pixels, low = resize_square(usual(row), side), (side - box) // 2
    return CrossingPhotograph(pixels, lit_pixels(pixels), np.array([[low, low, low + box, low + box]]))


def centre(each: CrossingPhotograph) -> Instances:
    """The trivial answer."""
    return Instances(each.boxes.astype(float), np.ones(1))


def detect(folds: Sequence[GradeFoldData], study: Study, voice: Progress, step: DetectorFitOptions = STEP) -> Path:
    """Train on each fold's patches, test on its own; writes tables/detection.csv and returns its path."""
    truths: list[Instances] = []
    found: dict[str, list[Instances]] = {"detector": [], "centre box": []}
    for fold in folds:
        detector = _fitted(fold, study, step)
        for each in (marked(fold.tables.rows[k]) for k in fold.tested("")):
            truths.append(each.truth)
            found["detector"].append(detect_crossings(detector, each.contrast))
            found["centre box"].append(centre(each))
    path = study.folder / "tables" / "detection.csv"
    path.parent.mkdir(exist_ok=True)
    results_table(list(_scores(truths, found, voice)), path)
    return path


def _fitted(fold: GradeFoldData, study: Study, step: DetectorFitOptions) -> CrossingDetector:
    """The detector of a fold: from the upstream's weights, where there are some."""
    torch.manual_seed(0)
    detector = CrossingDetector(DetectorOptions(pretrained=fold.recipe.network.pretrained))
    if fold.upstream.detector is not None:
        detector.load_state_dict(load_file(fold.upstream.detector))
    train = [marked(fold.tables.rows[k]) for k in (*fold.fold.rows(fold.tables.rows, "train"), *fold.inner)]
    folder = study.folder / "fits" / "detection" / f"fold_{fold.fold.number}"
    return fit_step(detector, train, step, folder, 0).eval()


def _scores(truths: list[Instances], found: dict[str, list[Instances]], voice: Progress) -> Iterator[dict[str, object]]:
    for name, answers in found.items():
        scores = coco_scores(truths, answers, "bbox")
        for line in (name, *coco_lines(scores)):
            voice.say(line)
        yield {
            "detector": name,
            "patches": scores.photographs,
            "ap": scores.ap,
            "ap50": scores.ap50,
            "ap75": scores.ap75,
        }
