"""Step 3 of a study of crossings: the detectors' predictions, kept as files. Reads fits/, writes detections/.

    detections/truth/               inner.jsonl test.jsonl patches.jsonl: what is truly there
    detections/<pyramid>-<seed>/    inner.jsonl test.jsonl (after the first step), patches.jsonl (after the last)
    detections/pictures/            the first test photographs at the detectors' scale, for the report

Patches are cut around each crossing of the test photographs, off its middle at random, and as many without a crossing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from fundoscope.evaluation.detection import Instances
from fundoscope.imaging import Pixels
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import detect_crossings
from fundoscope.nicking.crossing_study.detections import PhotographDetections, write_detections
from fundoscope.nicking.crossing_study.plan import CrossingPlan
from fundoscope.nicking.crossing_study.train import load_detector
from fundoscope.nicking.recipes.crossings import PatchTestNumbers
from fundoscope.outputs import save_picture
from fundoscope.studies import Progress

DETECTIONS = "detections"
SHOWN = 6  # photographs of the test part that the report shows
_FIRST_STEP, _LAST_STEP = 1, 2
_PATCH_SEED = 0xC0  # patches are cut by this and the number of their photograph


@dataclass(frozen=True, slots=True, eq=False)
class DetectorInput:
    """A whole photograph of a set or a patch of one: its local contrast (3, h, w), its pixels, and its true crossings."""

    name: str
    dataset: str
    pixels: Pixels
    contrast: Tensor
    truth: Instances


def predict_crossings(plan: CrossingPlan, progress: Progress) -> None:
    """Write what each detector finds in the inner and test photographs and in the test patches, as far as that is not done."""
    inputs = StudyInputs(plan)
    if not plan.study.done(f"{DETECTIONS}/truth"):
        with plan.study.step(f"{DETECTIONS}/pictures") as folder:
            for number, each in enumerate(inputs.photographs["test"][:SHOWN]):
                save_picture(folder / picture_name(number), cv2.cvtColor(each.pixels, cv2.COLOR_RGB2BGR))
        with plan.study.step(f"{DETECTIONS}/truth") as folder:
            for part in ("inner", "test"):
                _write(
                    folder / f"{part}.jsonl",
                    inputs.photographs[part],
                    [each.truth for each in inputs.photographs[part]],
                )
            _write(folder / "patches.jsonl", inputs.patches, [each.truth for each in inputs.patches])
    for pyramid, seed in plan.arms:
        step = f"{DETECTIONS}/{pyramid}-{seed}"
        if plan.study.done(step):
            continue
        with plan.study.step(step) as folder:
            for part, inputs_of_part, after in (
                ("inner", inputs.photographs["inner"], _FIRST_STEP),
                ("test", inputs.photographs["test"], _FIRST_STEP),
                ("patches", inputs.patches, _LAST_STEP),
            ):
                detector = load_detector(plan, pyramid, seed, after)
                what = f"{pyramid}, seed {seed}: {part}"
                found = [
                    detect_crossings(detector, each.contrast)
                    for each in progress.follow(inputs_of_part, len(inputs_of_part), what)
                ]
                _write(folder / f"{part}.jsonl", inputs_of_part, found)


class StudyInputs:
    """The photographs and patches that detectors are given, read once and only when they are needed."""

    def __init__(self, plan: CrossingPlan) -> None:
        self.plan = plan

    @cached_property
    def _marked(self) -> dict[str, list[tuple[str, str, CrossingPhotograph]]]:
        labels = self.plan.options.recipe.labels
        return {
            part: [
                (record.name, record.dataset, CrossingPhotograph.from_record(record, labels))
                for record in self.plan.records(part)
            ]
            for part in ("inner", "test")
        }

    @cached_property
    def photographs(self) -> dict[str, list[DetectorInput]]:
        """The whole photographs of the parts `inner` and `test`."""
        return {
            part: [
                DetectorInput(name, dataset, each.pixels, each.contrast, each.truth) for name, dataset, each in marked
            ]
            for part, marked in self._marked.items()
        }

    @cached_property
    def patches(self) -> list[DetectorInput]:
        """The test patches of all test photographs."""
        numbers = self.plan.options.recipe.test_patches
        return [
            patch
            for k, (name, dataset, photograph) in enumerate(self._marked["test"])
            for patch in cut_test_patches(name, dataset, photograph, numbers, np.random.default_rng((_PATCH_SEED, k)))
        ]


def cut_test_patches(
    name: str, dataset: str, photograph: CrossingPhotograph, numbers: PatchTestNumbers, rng: np.random.Generator
) -> Iterator[DetectorInput]:
    """Patches around all crossings of a photograph, and as many without one, as far as such places are found."""
    side, offset = numbers.side, numbers.side // 3

    def cut(row: int, column: int, what: str) -> DetectorInput:
        contrast, patch = photograph.patch(row, column, side)
        return DetectorInput(f"{name} {what}", dataset, patch.pixels, contrast, patch.truth)

    for number, (x1, y1, x2, y2) in enumerate(photograph.boxes, start=1):
        row, column = rng.integers(-offset, offset + 1, 2)
        yield cut(int((y1 + y2) // 2 + row), int((x1 + x2) // 2 + column), f"crossing {number}")
    rows, columns = np.nonzero(photograph.inside)
    empty = 0
    for at in rng.integers(len(rows), size=numbers.tries):
        if empty == len(photograph.boxes):
            return
        patch = cut(int(rows[at]), int(columns[at]), f"empty {empty + 1}")
        if not len(patch.truth.boxes):
            empty += 1
            yield patch


def picture_name(number: int) -> str:
    """The file of the test photograph of that number, from 0, in detections/pictures."""
    return f"{number + 1:02d}.png"


def _write(path: Path, inputs: list[DetectorInput], instances: list[Instances]) -> None:
    write_detections(
        path, [PhotographDetections(a.name, a.dataset, found) for a, found in zip(inputs, instances, strict=True)]
    )
