"""How well crossings are found: detections matched one to one with true crossings, precision, recall and F1 with intervals.

A detection is a hit if a true crossing lies within a radius (half the box side, 10 pixels at DRIVE's scale) that no more
confident detection has been matched with. Photographs are resampled, not crossings, since those of one eye resemble each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.detection.paired import FiguresOfRuns, paired_differences
from fundoscope.evaluation.metrics.intervals import Difference, Estimate, bootstrap
from fundoscope.evaluation.metrics.scores import ratio

Array = NDArray[np.float64]

#: Pixels at DRIVE's scale (a field 540 pixels wide) within which a detection is a hit: half of paper 002's box.
HIT_RADIUS = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The crossings of one photograph, found or true: `boxes` (n, 4) x1 y1 x2 y2 in pixels, `scores` (n,) confidences
    (1 for true ones), `masks` (n, rows, columns) the vessels of each, or none where they are not known.
    """

    boxes: Array
    scores: Array
    masks: NDArray[np.bool_] | None = None

    @classmethod
    def true(cls, boxes: ArrayLike, masks: NDArray[np.bool_] | None = None) -> Instances:
        """The crossings that a person marked, with confidence 1."""
        corners = np.asarray(boxes, float).reshape(-1, 4)
        return cls(corners, np.ones(len(corners)), masks)

    @property
    def centres(self) -> Array:
        """Row and column (n, 2) of the middle of each box, 0-based: a pixel's own middle is a whole number."""
        return (self.boxes[:, [1, 0]] + self.boxes[:, [3, 2]]) / 2 - 0.5


@dataclass(frozen=True, slots=True, eq=False)
class DetectionOutcome:
    """Result of matching one photograph: `scores` (n,) and `hits` (n,) of its detections, and the number of `truths`."""

    scores: Array
    hits: NDArray[np.bool_]
    truths: int

    def counts(self, threshold: float) -> tuple[int, int, int]:
        """Hits, false alarms and misses of the detections whose score is `threshold` or more."""
        called = self.scores >= threshold
        hits = int((self.hits & called).sum())
        return hits, int(called.sum()) - hits, self.truths - hits


def match_detections(
    points: ArrayLike, scores: ArrayLike, truth: ArrayLike, radius: float = HIT_RADIUS
) -> NDArray[np.int64]:
    """For each detection at `points` (n, 2) the index of its crossing in `truth` (m, 2), or -1 for a false alarm.

    From the most confident down (equals in the order given), each is matched with the nearest crossing within `radius`
    (inclusive) that is still free, so that the matches above a threshold do not depend on detections below it.
    """
    places, marks = (np.asarray(each, float).reshape(-1, 2) for each in (points, truth))
    confidence = np.asarray(scores, float)
    if confidence.shape != (len(places),) or not np.isfinite(confidence).all():
        raise UsageError(f"{len(places)} points have scores {confidence.shape}. Give one finite score a point.")
    away = np.hypot(*(places[:, None] - marks[None]).transpose(2, 0, 1))  # (n, m)
    taken = np.full(len(places), -1, np.int64)
    for number in np.argsort(-confidence, kind="stable"):
        if away.shape[1] and away[number].min() <= radius:
            taken[number] = away[number].argmin()
            away[:, taken[number]] = np.inf
    return taken


def score_points(
    points: ArrayLike, scores: ArrayLike, truth: ArrayLike, radius: float = HIT_RADIUS, doubtful: ArrayLike = ()
) -> DetectionOutcome:
    """Hits and misses of one photograph's detections at `points` (n, 2) against true crossings (m, 2).

    A detection that hits no crossing, within `radius` of a `doubtful` place (k, 2), is neither a hit nor a false alarm.
    """
    hits = match_detections(points, scores, truth, radius) >= 0
    counted = hits | ~near_any(points, doubtful, radius)
    return DetectionOutcome(
        np.asarray(scores, float)[counted], hits[counted], len(np.asarray(truth, float).reshape(-1, 2))
    )


def near_any(points: ArrayLike, places: ArrayLike, radius: float = HIT_RADIUS) -> NDArray[np.bool_]:
    """Which of the points (n, 2) lie within `radius` (inclusive) of any of the places (k, 2)."""
    here, there = (np.asarray(each, float).reshape(-1, 2) for each in (points, places))
    away = np.hypot(*(here[:, None] - there[None]).transpose(2, 0, 1))  # (n, k)
    return away.min(axis=1, initial=np.inf) <= radius


def score_instances(found: Instances, truth: Instances, radius: float = HIT_RADIUS) -> DetectionOutcome:
    """Hits and misses of one photograph's detected boxes, by their centres."""
    return score_points(found.centres, found.scores, truth.centres, radius)


def detection_estimates(
    outcomes: Sequence[DetectionOutcome], threshold: float, groups: Sequence[object] | None = None, seed: int = 0
) -> dict[str, Estimate]:
    """`precision`, `recall` and `f1` at a threshold, pooled over photographs, with 95 % bootstrap intervals.

    Photographs are drawn, or the `groups` (a name each) that they belong to. In each estimate `n` counts photographs and
    `positives` crossings. A figure without a denominator is nan.
    """
    counts, truths = _counts(outcomes, threshold), np.array([each.truths for each in outcomes], float)
    return bootstrap(lambda weights: _ratios(weights @ counts), truths, groups, seed=seed)


def f1_difference(
    first: Sequence[Sequence[DetectionOutcome]], second: Sequence[Sequence[DetectionOutcome]],
    thresholds: tuple[Sequence[float], Sequence[float]],
    names: tuple[str, str] = ("first", "second"), seed: int = 0,
) -> Difference:  # fmt: skip
    """F1 of one detector minus another's on the same photographs, paired; each given as runs (seeds) of outcomes.

    The figure of each is the mean over its runs, of which each counts from its own threshold on. The interval draws
    photographs and runs anew; the runs of both are drawn together where they are as many, since they share their seeds.
    Few runs are drawn from few: their share of the interval is too narrow rather than too wide. Raises `UsageError` if
    photographs differ, or where thresholds are not one a run.
    """
    for each, own in zip((first, second), thresholds, strict=True):
        if len(each) != len(own):
            raise UsageError(f"{len(own)} thresholds were given for {len(each)} runs. Give each run its own.")
    runs = [
        np.array([_counts(run, at) for run, at in zip(each, own, strict=True)])
        for each, own in zip((first, second), thresholds, strict=True)
    ]
    truths = [[each.truths for each in run] for run in (*first, *second)]
    if any(run != truths[0] for run in truths):
        raise UsageError(
            "The runs to be compared are not on the same photographs. Give outcomes of the same, in order."
        )

    def figures(counts: Array) -> FiguresOfRuns:
        return lambda weights: {"f1": np.stack([_ratios(weights @ run)["f1"] for run in counts], axis=1)}

    return paired_differences(figures(runs[0]), figures(runs[1]), truths[0], names, seed)["f1"]


def _counts(outcomes: Sequence[DetectionOutcome], threshold: float) -> Array:
    """Hits, false alarms and misses (photographs, 3)."""
    return np.array([each.counts(threshold) for each in outcomes], float).reshape(-1, 3)


def _ratios(counts: Array) -> Mapping[str, Array]:
    """Precision, recall and F1 of counts (B, 3)."""
    hits, alarms, misses = counts.T
    return {
        "precision": ratio(hits, hits + alarms),
        "recall": ratio(hits, hits + misses),
        "f1": ratio(2 * hits, 2 * hits + alarms + misses),
    }


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Precision, recall and F1 with each occurring score as the threshold, from the highest down; all arrays (k,)."""

    scores: Array
    precision: Array
    recall: Array
    f1: Array


def precision_recall(outcomes: Sequence[DetectionOutcome]) -> PrecisionRecall:
    """Precision and recall over confidence, pooled over photographs, without interpolation."""
    scores = np.concatenate([each.scores for each in outcomes] or [np.empty(0)])
    hits = np.concatenate([each.hits for each in outcomes] or [np.empty(0, bool)])
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # equal scores are called together
    right, called = np.cumsum(hits[order])[last], last + 1
    truths = sum(each.truths for each in outcomes)
    ratios = _ratios(np.column_stack([right, called - right, truths - right]).astype(float))
    return PrecisionRecall(scores[order][last], ratios["precision"], ratios["recall"], ratios["f1"])


@dataclass(frozen=True, slots=True)
class DetectionPoint:
    """A confidence threshold of detections; precision, recall and F1 are those on the data that chose it."""

    threshold: float
    precision: float
    recall: float
    f1: float
    text: str


def best_worst_f1(cameras: Mapping[str, Sequence[DetectionOutcome]]) -> DetectionPoint:
    """The threshold at which the camera with the lowest F1 has the greatest one; `cameras` holds outcomes by camera.

    Precision, recall and F1 are those of that camera. Raises `UsageError` where a camera has nothing to find, or nothing was
    found.
    """
    if not cameras or any(not sum(each.truths for each in outcomes) for outcomes in cameras.values()):
        raise UsageError(
            "No threshold can be chosen without crossings. Give inner data of which each camera holds some."
        )
    scores = np.unique(np.concatenate([each.scores for outcomes in cameras.values() for each in outcomes]))
    if not len(scores):
        raise UsageError("No threshold can be chosen without detections. Give inner data in which something is found.")
    thresholds = (scores + np.concatenate([[0.0], scores[:-1]])) / 2  # midway to the next lower score
    counts = np.array(
        [[np.sum([each.counts(t) for each in outcomes], axis=0) for t in thresholds] for outcomes in cameras.values()]
    )  # (cameras, thresholds, 3)
    f1 = np.stack([_ratios(own.astype(float))["f1"] for own in counts])
    at = int(f1.min(axis=0).argmax())
    worst = int(f1[:, at].argmin())
    values = {name: float(value[0]) for name, value in _ratios(counts[worst, at][None].astype(float)).items()}
    each_camera = ", ".join(f"{name} {value:.3f}" for name, value in zip(cameras, f1[:, at], strict=True))
    text = f"threshold {thresholds[at]:.3f}, greatest F1 of the worst camera; F1 by camera left out: {each_camera}"
    return DetectionPoint(float(thresholds[at]), values["precision"], values["recall"], values["f1"], text)


def best_f1(outcomes: Sequence[DetectionOutcome]) -> DetectionPoint:
    """The threshold of the greatest F1 on inner data, midway to the next lower score; among equals the lower.

    Raises `UsageError` where nothing was found or there is nothing to find.
    """
    curve = precision_recall(outcomes)
    truths = sum(each.truths for each in outcomes)
    if not len(curve.scores) or not truths:
        raise UsageError("No threshold can be chosen without detections and crossings. Give inner data that hold both.")
    at = len(curve.f1) - 1 - int(np.argmax(curve.f1[::-1]))
    below = curve.scores[at + 1] if at + 1 < len(curve.scores) else 0.0
    values = [float(each[at]) for each in (curve.precision, curve.recall, curve.f1)]
    threshold = float(curve.scores[at] + below) / 2
    text = (
        f"threshold {threshold:.3f}, greatest F1 on {len(outcomes)} inner photographs with {truths} crossings: "
        f"precision {values[0]:.3f}, recall {values[1]:.3f}, F1 {values[2]:.3f}"
    )
    return DetectionPoint(threshold, *values, text)
