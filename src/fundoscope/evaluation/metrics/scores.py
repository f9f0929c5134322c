"""Metrics of binary scores, each computed for many weightings of the same photographs at once.

A bootstrap resample is a weighting: how often each photograph was drawn. The scores are sorted once and every metric is a
weighted sum, so that two thousand resamples of all metrics take about a second. A metric that is undefined, because there is
one class only or for 0/0, is nan: never an exception and never a silent 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.evaluation.metrics.recalibration import RecalibrationLines, fit_recalibration

Array = NDArray[np.float64]

#: Equal-mass bins of the expected calibration error. At 98 photographs a bin holds about ten.
ECE_BINS = 10


def compute_metrics(y: ArrayLike, p: ArrayLike, threshold: ArrayLike = 0.5) -> dict[str, float]:
    """Every metric of `METRICS` by its name, for labels `y` (n,; 0 or 1) and probabilities `p` (n,; 0 to 1).

    A photograph is called positive where `p >= threshold`; the threshold is one number, or (n,) where each fold has
    its own. Raises `UsageError` for labels other than 0 and 1 and for probabilities outside 0
    to 1.
    """
    labels, scores = check_scores(y, p)
    values = weighted_metrics(labels, scores, np.ones((1, len(labels))), threshold)
    return {name: float(value[0]) for name, value in values.items()}


def auc(y: ArrayLike, p: ArrayLike, cameras: NDArray[np.int64] | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Mann and Whitney (1947); Hanley and McNeil (1982). `p` (n,) may be any finite scores; nan with one class
    only. With `cameras` (n,), numbers, only pairs by one camera count.
    """
    labels, scores = check_scores(y, p)
    return float(weighted_metrics(labels, scores, np.ones((1, len(labels))), names=("auc",), cameras=cameras)["auc"][0])


def average_precision(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the precision-recall steps: sum of (R_k - R_(k-1)) P_k over distinct scores; or nan."""
    return _single(y, p, "average_precision")


def weighted_metrics(
    y: Array,
    p: Array,
    weights: Array,
    threshold: ArrayLike = 0.5,
    names: Sequence[str] | None = None,
    cameras: NDArray[np.int64] | None = None,
) -> dict[str, Array]:
    """The metrics called `names` (default: all), each (B,), under B weightings (B, n) of n photographs.

    With `cameras` (n,), numbers, the AUC is that of all pairs of a positive and a negative by one camera.
    """
    names = METRICS if names is None else names
    for name in names:
        check_metric(name)
    if not len(y):
        return {name: np.full(len(weights), np.nan) for name in names}
    if p.size and set(names) & NEED_PROBABILITIES and (p.min() < 0 or p.max() > 1):
        raise UsageError(f"Scores from {p.min():.3g} to {p.max():.3g} are no probabilities. Give values from 0 to 1.")
    sample = WeightedSample(y, p, weights, np.broadcast_to(np.asarray(threshold, float), p.shape), cameras)
    return {name: _FUNCTIONS[name](sample) for name in names}


def check_scores(y: ArrayLike, p: ArrayLike) -> tuple[Array, Array]:
    """Labels (n,) and scores (n,) or (seeds, n) as float64; raises `UsageError` where they cannot be used."""
    labels, scores = np.asarray(y, float), np.asarray(p, float)
    if labels.ndim != 1 or scores.ndim not in (1, 2) or scores.shape[-1] != len(labels):
        raise UsageError(
            f"Labels {labels.shape} and scores {scores.shape} do not match. Give (n,) and (n,) or (seeds, n)."
        )
    if not np.isin(labels, (0, 1)).all():
        raise UsageError("Labels hold values other than 0 and 1. Give 1 for the positive class and 0 for the other.")
    if not np.isfinite(scores).all():
        raise UsageError("Scores hold nan or infinity. Leave such photographs out by name, or repair the network.")
    return labels, scores


def check_metric(name: str) -> str:
    """`name` itself if it is one of `METRICS`; else `UsageError` with the nearest."""
    if name not in _FUNCTIONS:
        raise UsageError(f"There is no metric '{name}': {nearest(name, METRICS)}")
    return name


@dataclass(frozen=True)
class WeightedSample:
    """B weightings (B, n) of one set of labels and scores (n,), and the sums that several metrics share."""

    y: Array
    p: Array
    weights: Array
    threshold: Array
    cameras: NDArray[np.int64] | None = None

    @property
    def by_camera(self) -> list[WeightedSample]:
        """The sample of each camera; the whole sample where no cameras are given."""
        if self.cameras is None:
            return [self]
        parts = [self.cameras == camera for camera in np.unique(self.cameras)]
        return [WeightedSample(self.y[at], self.p[at], self.weights[:, at], self.threshold[at]) for at in parts]

    @cached_property
    def counts(self) -> tuple[Array, Array, Array, Array]:
        """True positives, false positives, false negatives and true negatives, each (B,)."""
        called = (self.p >= self.threshold).astype(float)
        cells = (called * self.y, called * (1 - self.y), (1 - called) * self.y, (1 - called) * (1 - self.y))
        tp, fp, fn, tn = (self.weights @ np.column_stack(cells)).T
        return tp, fp, fn, tn

    @cached_property
    def masses(self) -> tuple[Array, Array, Array]:
        """Distinct scores ascending (K,), and the weight of positives and of negatives at each, (B, K)."""
        order = np.argsort(self.p, kind="stable")
        scores, y, weights = self.p[order], self.y[order], self.weights[:, order]
        starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
        positives, negatives = weights * y, weights * (1 - y)
        if len(starts) < len(scores):
            positives = np.add.reduceat(positives, starts, axis=1)
            negatives = np.add.reduceat(negatives, starts, axis=1)
        return scores[starts], positives, negatives

    @cached_property
    def lines(self) -> RecalibrationLines:
        """Slope and intercepts of the logistic recalibration of each weighting."""
        return fit_recalibration(*self.masses)


def ratio(above: Array, below: Array) -> Array:
    """`above / below`, nan where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def equal_mass_bins(positives: Array, negatives: Array, bins: int = ECE_BINS) -> NDArray[np.int64]:
    """The number of the equal-mass bin that each distinct score falls into, (B, K); equal scores share a bin."""
    mass = positives + negatives
    total = mass.sum(axis=1, keepdims=True)
    middle = (mass.cumsum(axis=1) - mass / 2) / total
    return np.minimum((middle * bins + 1e-9).astype(np.int64), bins - 1)


def _single(y: ArrayLike, p: ArrayLike, name: str) -> float:
    labels, scores = check_scores(y, p)
    return float(weighted_metrics(labels, scores, np.ones((1, len(labels))), names=(name,))[name][0])


def _accuracy(sample: WeightedSample) -> Array:
    tp, fp, fn, tn = sample.counts
    return ratio(tp + tn, tp + fp + fn + tn)


def _precision(sample: WeightedSample) -> Array:
    tp, fp, _, _ = sample.counts
    return ratio(tp, tp + fp)


def _f1(sample: WeightedSample) -> Array:
    tp, fp, fn, _ = sample.counts
    return ratio(2 * tp, 2 * tp + fp + fn)


def _sensitivity(sample: WeightedSample) -> Array:
    tp, _, fn, _ = sample.counts
    return ratio(tp, tp + fn)


def _specificity(sample: WeightedSample) -> Array:
    _, fp, _, tn = sample.counts
    return ratio(tn, tn + fp)


def _auc(sample: WeightedSample) -> Array:
    ordered, pairs = np.zeros((2, len(sample.weights)))
    for part in sample.by_camera:
        _, positives, negatives = part.masses
        below = negatives.cumsum(axis=1) - negatives / 2
        ordered += (positives * below).sum(axis=1)
        pairs += positives.sum(axis=1) * negatives.sum(axis=1)
    return ratio(ordered, pairs)


def _average_precision(sample: WeightedSample) -> Array:
    _, positives, negatives = sample.masses
    true = positives[:, ::-1].cumsum(axis=1)
    called = true + negatives[:, ::-1].cumsum(axis=1)
    precision = np.divide(true, called, out=np.zeros_like(true), where=called > 0)
    found = ratio((positives[:, ::-1] * precision).sum(axis=1), true[:, -1])
    return np.where(called[:, -1] > true[:, -1], found, np.nan)


def _brier(sample: WeightedSample) -> Array:
    return ratio(sample.weights @ (sample.p - sample.y) ** 2, sample.weights.sum(axis=1))


def _ece(sample: WeightedSample) -> Array:
    """Expected calibration error (Naeini 2015), equal-mass bins; a small sample makes it too high."""
    scores, positives, negatives = sample.masses
    gap = positives - (positives + negatives) * scores
    bins = equal_mass_bins(positives, negatives)
    summed = sum(np.abs(np.where(bins == index, gap, 0).sum(axis=1)) for index in range(ECE_BINS))
    return ratio(np.asarray(summed), sample.weights.sum(axis=1))


_FUNCTIONS: dict[str, Callable[[WeightedSample], Array]] = {
    "auc": _auc,
    "average_precision": _average_precision,
    "accuracy": _accuracy,
    "precision": _precision,
    "f1": _f1,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "brier": _brier,
    "ece": _ece,
    "calibration_slope": lambda sample: sample.lines.slope,
    "calibration_intercept": lambda sample: sample.lines.intercept,
    "calibration_in_the_large": lambda sample: sample.lines.in_the_large,
}

#: The names of all metrics, in the order in which tables show them.
METRICS: tuple[str, ...] = tuple(_FUNCTIONS)

#: Metrics that need probabilities from 0 to 1; the others take any finite scores.
NEED_PROBABILITIES = frozenset(name for name in METRICS if name in ("brier", "ece") or name.startswith("calibration"))

#: Metrics of which a lower value is better.
LOWER_IS_BETTER = frozenset({"brier", "ece"})
