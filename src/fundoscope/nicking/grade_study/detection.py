"""The second detection step of paper 002 on the patches of a study (`--detection`): tables/detection.csv.

Such patches are cut around their crossing, so a box that always stands in the middle finds nearly all of them: it is
scored beside the detector, on the same folds. Files do not tell where else vessels cross, so other boxes and masks are
not scored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from fundoscope.evaluation.detection import Instances, coco_lines, coco_scores
from fundoscope.evaluation.metrics import results_table
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import DetectorFitOptions, detect_crossings, fit_step
from fundoscope.networks.mask_rcnn import BOX, CrossingDetector, DetectorOptions
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.patch_pixels import crop_middle, read_whole
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.plan import GradePlan
from fundoscope.nicking.grade_study.prediction_table import OWN, TABLES
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, lit_pixels, resize_square
from fundoscope.nicking.grading.widths import WIDE_VEIN
from fundoscope.studies import Progress, Study
from fundoscope.vessels.grade_rule import SPAN


def detect_in_patches(plan: GradePlan, progress: Progress) -> Path:
    """Train a detector on each fold's patches of the first seed and score it on the fold's own; returns the table's path."""
    truths: list[Instances] = []
    found: dict[str, list[Instances]] = {"detector": [], "centre box": []}
    for fold in plan.folds[0]:
        detector = _train_detector(fold, plan.study)
        for k in fold.tested(OWN):
            patch = boxed_patch(fold.tables.rows[k])
            truths.append(patch.truth)
            found["detector"].append(detect_crossings(detector, patch.contrast))
            found["centre box"].append(Instances(patch.boxes.astype(float), np.ones(1)))
    rows = []
    for name, instances in found.items():
        scores = coco_scores(truths, instances, "bbox")
        for line in (name, *coco_lines(scores)):
            progress.say(line)
        averages = {"ap": scores.ap, "ap50": scores.ap50, "ap75": scores.ap75}
        rows.append({"detector": name, "patches": scores.photographs, **averages})
    path = plan.study.folder / TABLES / "detection.csv"
    results_table(rows, path)
    return path


def boxed_patch(row: PatchRow) -> CrossingPhotograph:
    """A patch at the scale of the vessel maps, with the box of its crossing in the middle."""
    side, box = round(SPAN * WIDE_VEIN), round(BOX * DetectorOptions().diameter)
    pixels, low = resize_square(crop_middle(read_whole(row), PATCH_SIDE), side), (side - box) // 2
    return CrossingPhotograph(pixels, lit_pixels(pixels), np.array([[low, low, low + box, low + box]]))


def _train_detector(fold: GradeFoldData, study: Study) -> CrossingDetector:
    """The detector of a fold, which starts from the upstream's weights where there are some."""
    torch.manual_seed(0)
    detector = CrossingDetector(DetectorOptions(pretrained=fold.recipe.network.pretrained))
    if fold.upstream.detector is not None:
        detector.load_state_dict(load_file(fold.upstream.detector), strict=False)  # it may hold body and pyramid alone
    numbers = (*fold.fold.row_numbers(fold.tables.rows, "train"), *fold.inner)
    patches = [boxed_patch(fold.tables.rows[k]) for k in numbers]
    options = DetectorFitOptions(**fold.recipe.detection.model_dump())
    folder = study.folder / "fits" / "detection" / f"fold_{fold.fold.number}"
    return fit_step(detector, patches, options, folder, 0).eval()
