"""Average precision under weights: COCO's definition (Lin 2014, ECCV) for boxes, over photographs that are drawn anew.

`coco` gives the challenge's own figures of one set. Here the detections of each photograph are matched once, and any
weighting of the photographs gives a figure, so that intervals and paired differences cost little. Some detections may be
spared: they count where they hit, and are no false alarms where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.detection.matching import Instances

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Overlaps (intersection over union) of a detection's box with a crossing's from which on it is a hit; AP is their mean.
OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = 101
_MOST = 100  # detections of a photograph that count
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class OverlapOutcome:
    """One photograph or patch after matching: `scores` (n,) of its detections, and for each of `OVERLAPS` which are `hits`
    and which are `alarms`, (10, n); a spared one may be neither. `truths` is the number of crossings.
    """

    scores: Array
    hits: Mask
    alarms: Mask
    truths: int


def match_overlaps(found: Instances, truth: Instances, spared: Mask | None = None) -> OverlapOutcome:
    """Match detected boxes with true ones as COCO does: from the surest down, each with the free one of greatest overlap.

    `spared` (n,) are detections that are no false alarms where they hit nothing.
    """
    order = np.argsort(-found.scores, kind="stable")[:_MOST]
    overlaps = box_overlaps(found.boxes[order], truth.boxes)  # (n, m)
    hits = np.zeros((len(OVERLAPS), len(order)), bool)
    for level, least in enumerate(OVERLAPS):
        free = np.ones(len(truth.boxes), bool)
        for number, row in enumerate(overlaps):
            left = np.where(free, row, -1.0)
            if len(left) and left.max() >= min(least, 1 - 1e-10):
                free[left.argmax()] = False
                hits[level, number] = True
    kept = np.zeros(len(order), bool) if spared is None else np.asarray(spared, bool)[order]
    return OverlapOutcome(found.scores[order], hits, ~hits & ~kept, len(truth.boxes))


def box_overlaps(first: Array, second: Array) -> Array:
    """Intersection over union (n, m) of boxes x1 y1 x2 y2, (n, 4) and (m, 4); 0 where neither has an area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clip(0).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (first, second)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, _TINY)


@dataclass(frozen=True, slots=True, eq=False)
class OverlapRuns:
    """What several runs of a detector found: `runs` holds for each the outcomes of the same photographs or patches, of which
    `photograph` (rows,) gives the number of the photograph, 0 to `photographs` - 1, that is drawn as a whole.
    """

    runs: Sequence[Sequence[OverlapOutcome]]
    photograph: NDArray[np.int64]
    photographs: int

    def __post_init__(self) -> None:
        if any([each.truths for each in run] != [each.truths for each in self.runs[0]] for run in self.runs):
            raise UsageError("The runs are not on the same photographs. Give outcomes of the same, in order.")

    @property
    def truths(self) -> Array:
        """The number of crossings of each photograph, (photographs,)."""
        counts = [each.truths for each in self.runs[0]]
        return np.bincount(self.photograph, counts, self.photographs).astype(float)

    def figures(self, weights: Array) -> Mapping[str, Array]:
        """`ap50` and `ap` of each run, (B, runs), with photographs weighted by (B, photographs)."""
        levels = np.stack([self._levels(run, weights) for run in self.runs], axis=1)  # (B, runs, 10)
        return {"ap50": levels[:, :, 0], "ap": levels.mean(axis=2)}

    def _levels(self, run: Sequence[OverlapOutcome], weights: Array) -> Array:
        """Average precision (B, 10) of one run at each overlap; nan without crossings."""
        scores = np.concatenate([each.scores for each in run])
        order = np.argsort(-scores, kind="stable")
        owner = np.repeat(self.photograph, [len(each.scores) for each in run])[order]
        own = owner == np.arange(self.photographs)[:, None]  # (photographs, n)
        hits, alarms = (
            np.concatenate([getattr(each, what) for each in run], axis=1)[:, order] for what in ("hits", "alarms")
        )
        truths, values = weights @ self.truths, []
        for hit, alarm in zip(hits, alarms, strict=True):
            # precision falls between hits, so that only the places of hits matter
            right = np.cumsum(own[:, hit], axis=1, dtype=float)
            called = np.cumsum(own & (hit | alarm), axis=1, dtype=float)[:, hit]
            values.append(_average(weights @ right, weights @ called, truths))
        return np.stack(values, axis=1)


def _average(right: Array, called: Array, truths: Array) -> Array:
    """The mean, over 101 recalls, of the greatest precision at that recall or a higher one, (B,).

    `right` and `called` (B, hits) count the hits and all detections down to each hit, the surest first; `truths` (B,) the
    crossings.
    """
    precision = right / np.maximum(called, _TINY)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(truths, _TINY)[:, None]
    reached = np.floor(recall * (_RECALLS - 1) + 1e-9) + 1  # of the recalls 0, 0.01, ... 1, by each hit
    newly = np.diff(reached, axis=1, prepend=0)
    return np.where(truths > 0, (best * newly).sum(axis=1) / _RECALLS, np.nan)
