"""Points of ROC and precision-recall curves, the ROC's bootstrap band, and bins of reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import LEVEL, group_codes, resample_weights, wilson
from fundoscope.evaluation.metrics.scores import ECE_BINS, WeightedSample, check_scores, equal_mass_bins

Array = NDArray[np.float64]

FALSE_POSITIVE_RATES = np.linspace(0, 1, 101)
_BAND_REPLICATES = 500  # a band is looked at, not read off: fewer draws than for a figure


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Photographs of similar probability: mean `score`, `share` of positives with its Wilson interval, and their number."""

    score: float
    share: float
    low: float
    high: float
    n: int


def roc_points(y: ArrayLike, p: ArrayLike) -> tuple[Array, Array]:
    """1 - specificity and sensitivity at every distinct threshold, (0, 0) to (1, 1); needs both classes."""
    positives, negatives = _descending_masses(y, p)
    return _cumulative_share(negatives), _cumulative_share(positives)


def pr_points(y: ArrayLike, p: ArrayLike) -> tuple[Array, Array]:
    """Recall and precision at every distinct threshold, the highest first; both classes are needed."""
    positives, negatives = _descending_masses(y, p)
    true = positives.cumsum()
    return true / true[-1], true / (true + negatives.cumsum())


def roc_band(
    y: ArrayLike, p: ArrayLike, groups: Sequence[object] | NDArray | None = None, seed: int = 0
) -> tuple[Array, Array]:
    """Lower and upper edge of the 95 % group-bootstrap band of the sensitivity at each of `FALSE_POSITIVE_RATES`, pointwise."""
    labels, scores = check_scores(y, p)
    curves = []
    for weights in resample_weights(group_codes(groups, len(labels)), seed, _BAND_REPLICATES):
        _, positives, negatives = WeightedSample(labels, scores, weights, scores).masses
        both = (positives.sum(axis=1) > 0) & (negatives.sum(axis=1) > 0)
        pairs = zip(negatives[both, ::-1], positives[both, ::-1], strict=True)
        curves += [
            np.interp(FALSE_POSITIVE_RATES, _cumulative_share(below), _cumulative_share(above))
            for below, above in pairs
        ]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(curves, [tail, 1 - tail], axis=0)
    return low, high


def reliability_bins(y: ArrayLike, p: ArrayLike, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """The equal-mass bins of the expected calibration error, without the empty ones."""
    labels, scores = check_scores(y, p)
    _, positives, negatives = WeightedSample(labels, scores, np.ones((1, len(labels))), scores).masses
    distinct, inverse = np.unique(scores, return_inverse=True)
    numbers = equal_mass_bins(positives, negatives, bins)[0][inverse] if len(distinct) else np.empty(0, int)
    found = []
    for number in np.unique(numbers):
        y_bin, p_bin = labels[numbers == number], scores[numbers == number]
        low, high = wilson(int(y_bin.sum()), len(y_bin))
        found.append(ReliabilityBin(float(p_bin.mean()), float(y_bin.mean()), low, high, len(y_bin)))
    return found


def _descending_masses(y: ArrayLike, p: ArrayLike) -> tuple[Array, Array]:
    """Numbers of positives and negatives at each distinct score, the highest first."""
    labels, scores = check_scores(y, p)
    if scores.ndim != 1 or not 0 < labels.sum() < len(labels):
        raise UsageError("A curve needs scores (n,) of both classes. Give one run, with photographs of each class.")
    _, positives, negatives = WeightedSample(labels, scores, np.ones((1, len(labels))), scores).masses
    return positives[0, ::-1], negatives[0, ::-1]


def _cumulative_share(mass: Array) -> Array:
    """The share of all photographs that score at least each value, from 0 to 1."""
    summed = mass.cumsum()
    return np.concatenate([[0.0], summed / summed[-1]])
