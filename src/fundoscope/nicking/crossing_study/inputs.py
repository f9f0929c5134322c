"""What the detectors of a study are given: photographs with their crossings, to train on and to be tested on, and test patches.

Patches are cut around each crossing of the test photographs, off its middle at random, and as many without a crossing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from fundoscope.datasets import Dataset
from fundoscope.evaluation.detection import Instances
from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.learning.crossing_photographs import CrossingPhotograph, Labels
from fundoscope.nicking.crossing_study.detections import PhotographDetections
from fundoscope.nicking.crossing_study.plan import PARTS, CrossingPlan
from fundoscope.nicking.recipes.crossings import CrossingRecipe, PatchTestNumbers

_PATCH_SEED = 0xC0  # patches are cut by this and the number of their photograph


@dataclass(frozen=True, slots=True, eq=False)
class MarkedPhotograph:
    """A photograph of a set with its crossings, at the diameter of the field at which it is shown."""

    name: str
    dataset: str
    diameter: int
    crossings: CrossingPhotograph


@dataclass(frozen=True, slots=True, eq=False)
class DetectorInput:
    """A whole photograph or a patch of one: its pixels, its local contrast (3, h, w), and what is truly there."""

    pixels: Pixels
    contrast: Tensor
    truth: PhotographDetections


Marked = dict[str, list[MarkedPhotograph]]


def tested_parts(recipe: CrossingRecipe) -> tuple[str, ...]:
    """The names of what detectors are tested on: `inner`, `test`, `patches`, and `test_<diameter>` for other diameters."""
    return "inner", "test", *map(_other_part, recipe.test_photographs.diameters), "patches"


def mark_photographs(plan: CrossingPlan, pool: Executor | None = None) -> Marked:
    """The photographs of each part with their crossings marked; `pool` reads several at once."""
    jobs = []
    for part in PARTS:
        diameters = (DIAMETER, *plan.options.recipe.test_photographs.diameters) if part == "test" else (DIAMETER,)
        for dataset in plan.sets:
            for number, source in enumerate(dataset.sources):
                if source.full_name in plan.split.names[part]:
                    jobs.append((part, dataset, number, diameters))
    labels = [plan.options.recipe.labels] * len(jobs)
    marked: Marked = {part: [] for part in ("train", *tested_parts(plan.options.recipe)) if part != "patches"}
    for (part, *_), found in zip(jobs, (pool.map if pool else map)(_mark, jobs, labels), strict=True):
        for each in found:
            marked[part if each.diameter == DIAMETER else _other_part(each.diameter)].append(each)
    return marked


def _mark(job: tuple[str, Dataset, int, tuple[int, ...]], labels: Labels) -> list[MarkedPhotograph]:
    _, dataset, number, diameters = job
    record = dataset[number]
    return [
        MarkedPhotograph(record.name, record.dataset, each, CrossingPhotograph.from_record(record, labels, each))
        for each in diameters
    ]


def _other_part(diameter: int) -> str:
    return f"test_{diameter}"


class StudyInputs:
    """What the detectors are tested on, by part; made from marked photographs when it is needed."""

    def __init__(self, recipe: CrossingRecipe, marked: Marked) -> None:
        self.recipe, self.marked = recipe, marked

    def part(self, name: str) -> list[DetectorInput]:
        """The inputs of one of `tested_parts`."""
        return self.patches if name == "patches" else [_whole(each) for each in self.marked[name]]

    @cached_property
    def patches(self) -> list[DetectorInput]:
        """The test patches of all test photographs."""
        return [
            patch
            for k, marked in enumerate(self.marked["test"])
            for patch in cut_test_patches(marked, self.recipe.test_patches, np.random.default_rng((_PATCH_SEED, k)))
        ]


def _whole(marked: MarkedPhotograph) -> DetectorInput:
    shown = marked.crossings
    scale = marked.diameter / DIAMETER
    truth = _describe(marked.name, marked, shown, scale, None)
    return DetectorInput(shown.pixels, shown.contrast, truth)


def cut_test_patches(
    marked: MarkedPhotograph, numbers: PatchTestNumbers, rng: np.random.Generator
) -> Iterator[DetectorInput]:
    """Patches around all crossings of a photograph, and as many without one, as far as such places are found."""
    side, offset, photograph = numbers.side, numbers.side // 3, marked.crossings

    def cut(row: int, column: int, what: str) -> DetectorInput:
        contrast, patch = photograph.patch(row, column, side)
        window = (row - side // 2, column - side // 2, side)
        return DetectorInput(patch.pixels, contrast, _describe(f"{marked.name} {what}", marked, patch, 1.0, window))

    for number, (x1, y1, x2, y2) in enumerate(photograph.boxes, start=1):
        row, column = rng.integers(-offset, offset + 1, 2)
        yield cut(int((y1 + y2) // 2 + row), int((x1 + x2) // 2 + column), f"crossing {number}")
    rows, columns = np.nonzero(photograph.inside)
    empty = 0
    for at in rng.integers(len(rows), size=numbers.tries):
        if empty == len(photograph.boxes):
            return
        patch = cut(int(rows[at]), int(columns[at]), f"empty {empty + 1}")
        if not len(patch.truth.instances.boxes):
            empty += 1
            yield patch


def _describe(
    name: str, marked: MarkedPhotograph, shown: CrossingPhotograph, scale: float, window: tuple[int, int, int] | None
) -> PhotographDetections:
    """The truth of a photograph or a patch of it, as files hold it."""
    doubtful = Instances.true(shown.doubtful).centres
    return PhotographDetections(
        name, marked.dataset, shown.truth, f"{marked.dataset}/{marked.name}", scale, window, doubtful, shown.vein_widths
    )
