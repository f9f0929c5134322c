"""Step 3 of a study of crossings: the detectors' predictions, kept as files. Reads fits/, writes detections/.

detections/truth/               inner.jsonl test.jsonl test_<diameter>.jsonl patches.jsonl: what is truly there
detections/<pyramid>-<seed>/    step_1/ and step_2/ with the same files: what was found after either step
detections/pictures/            the first test photographs at the detectors' scale, for the report
"""

from __future__ import annotations

import cv2
import torch

from fundoscope.evaluation.detection import Instances
from fundoscope.learning.detector_fit import detect_crossings
from fundoscope.networks.mask_rcnn import CrossingDetector
from fundoscope.nicking.crossing_study.detections import (
    DETECTIONS,
    STEPS,
    PhotographDetections,
    arm_name,
    write_detections,
)
from fundoscope.nicking.crossing_study.inputs import DetectorInput, StudyInputs, tested_parts
from fundoscope.nicking.crossing_study.plan import CrossingPlan
from fundoscope.nicking.crossing_study.train import load_detector
from fundoscope.outputs import save_picture
from fundoscope.studies import Progress

SHOWN = 6  # photographs of the test part that the report shows
_WITH_MASKS = ("inner", "test", "patches")  # at other diameters boxes alone are compared
_BOX_DIGITS, _SCORE_DIGITS = 2, 5  # that are kept of a box, in pixels, and of a confidence


def write_truth(plan: CrossingPlan, inputs: StudyInputs) -> None:
    """Write what is truly there in all that detectors are tested on, and the pictures that the report shows."""
    if plan.study.done(f"{DETECTIONS}/truth"):
        return
    with plan.study.step(f"{DETECTIONS}/pictures") as folder:
        for number, each in enumerate(inputs.part("test")[:SHOWN]):
            save_picture(folder / picture_name(number), cv2.cvtColor(each.pixels, cv2.COLOR_RGB2BGR))
    with plan.study.step(f"{DETECTIONS}/truth") as folder:
        for part in tested_parts(plan.options.recipe):
            write_detections(folder / f"{part}.jsonl", [each.truth for each in inputs.part(part)])


def predict_crossings(plan: CrossingPlan, inputs: StudyInputs, progress: Progress) -> None:
    """Write what each detector finds after either step in all that it is tested on, as far as that is not done."""
    for pyramid, seed in plan.arms:
        step = f"{DETECTIONS}/{arm_name(pyramid, seed)}"
        if plan.study.done(step):
            continue
        with plan.study.step(step) as folder:
            for after in STEPS:
                written = folder / f"step_{after}"
                written.mkdir(exist_ok=True)
                detector = load_detector(plan, pyramid, seed, after)
                detector.to("cuda" if torch.cuda.is_available() else "cpu")
                for part in tested_parts(plan.options.recipe):
                    if (written / f"{part}.jsonl").exists():  # of a run that was cut off
                        continue
                    given = inputs.part(part)
                    shown = progress.follow(given, len(given), f"{pyramid}, seed {seed}, step {after}: {part}")
                    found = [_find(detector, each, part in _WITH_MASKS) for each in shown]
                    write_detections(written / f"{part}.jsonl", found)


def _find(detector: CrossingDetector, given: DetectorInput, with_masks: bool) -> PhotographDetections:
    seen = detect_crossings(detector, given.contrast)
    found = Instances(
        seen.boxes.round(_BOX_DIGITS), seen.scores.round(_SCORE_DIGITS), seen.masks if with_masks else None
    )
    return PhotographDetections(given.truth.name, given.truth.dataset, found)


def picture_name(number: int) -> str:
    """The file of the test photograph of that number, from 0, in detections/pictures."""
    return f"{number + 1:02d}.png"
