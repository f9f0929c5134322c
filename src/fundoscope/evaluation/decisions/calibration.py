"""From logits to honest probabilities and to a decision, both settled on inner data and on nothing else.

A temperature divides the logits (Guo et al. 2017, equation 9); an operating point is a threshold with the
rule that chose it. Thresholds lie midway between neighbouring scores, so that a last-digit difference (INT8,
another machine) flips nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import LEVEL, clopper_pearson, lower_bound_with_no_misses
from fundoscope.evaluation.metrics.scores import checked

Array = NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

#: Strength of the pull towards temperature 1, in units of one photograph's log-loss: hundreds of photographs
#: drown it, a dozen separable ones (whose unbounded fit would call every probability 0 or 1) do not.
_PULL = 1.0
_TOLD_APART = 0.02  # relative change of the temperature from which the pull is mentioned


@dataclass(frozen=True, slots=True)
class Temperature:
    """`value` divides the logits; `unshrunk` is what `n` photographs alone would say; `text` tells both."""

    value: float
    unshrunk: float
    n: int
    text: str

    def probabilities(self, logits: ArrayLike) -> Array:
        """Probability of the positive class (n,) for logits (n,), of every class (n, K) for logits (n, K)."""
        scaled = np.asarray(logits, float) / self.value
        if scaled.ndim == 1:
            return 0.5 * (1 + np.tanh(0.5 * scaled))
        grown = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return grown / grown.sum(axis=1, keepdims=True)


def fit_temperature(logits: ArrayLike, y: ArrayLike) -> Temperature:
    """The temperature that makes the log-loss on inner data least, from 0.05 to 20, drawn a little towards 1.

    `logits` is (n,) log-odds of the positive class with `y` (n,) 0 or 1, or (n, K) with `y` the class. The
    loss is convex in 1 / T, and so is the pull 0.5 (1 / T - 1)^2. With no photographs, or those of one class,
    T is 1. Raises `UsageError` for shapes that do not match or logits that are not finite.
    """
    z, labels = _logits(logits, y)
    n = len(labels)
    if len(np.unique(labels)) < 2:
        return Temperature(1.0, 1.0, n, f"T = 1: {n} inner photographs of fewer than two classes tell nothing")
    unshrunk, value = 1 / _least(z, labels, 0.0), 1 / _least(z, labels, _PULL)
    text = f"T = {value:.2f}, fitted on {n} inner photographs"
    if abs(value - unshrunk) > _TOLD_APART * unshrunk:
        text += f" and drawn towards 1, as they are few (alone they would say {unshrunk:.2f})"
    return Temperature(value, unshrunk, n, text)


def _logits(logits: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """Logits as (n, K), log-odds (n,) set beside a column of zeros, and the classes (n,)."""
    z, labels = np.asarray(logits, float), np.asarray(y)
    if z.ndim == 1:
        z = np.column_stack([np.zeros(len(z)), z])
    if z.ndim != 2 or labels.shape != z.shape[:1]:
        raise UsageError(
            f"Logits {np.shape(logits)} and labels {labels.shape} do not match. Give (n,) or (n, K) and (n,)."
        )
    if not np.isfinite(z).all():
        raise UsageError("Logits hold nan or infinity. Repair the network before calibrating it.")
    if not np.isin(labels, np.arange(z.shape[1])).all():
        raise UsageError(f"Labels lie outside 0 to {z.shape[1] - 1}. Give each photograph the number of its class.")
    return z, labels.astype(np.int64)


def _least(z: Array, y: NDArray[np.int64], pull: float) -> float:
    """1 / T at which the slope of loss and pull is 0, or the bound it lies beyond."""
    from scipy.optimize import brentq

    own = z[np.arange(len(y)), y].sum()

    def slope(beta: float) -> float:
        grown = np.exp(beta * z - (beta * z).max(axis=1, keepdims=True))
        expected = (grown * z).sum(axis=1) / grown.sum(axis=1)
        return float(expected.sum() - own + pull * (beta - 1))

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0:
        return low
    return high if slope(high) <= 0 else float(brentq(slope, low, high, xtol=1e-10))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A photograph is called positive where its probability is `threshold` or more.

    `rule` is the rule in words, `text` the whole story; `sensitivity` and `specificity` are those on the `n`
    inner photographs that chose it (too good by a little, as the threshold was fitted to them), `positives`
    of them positive; `sensitivity_bound` is the lower 95 % Clopper-Pearson bound of that sensitivity.
    """

    threshold: float
    rule: str
    text: str
    n: int
    positives: int
    sensitivity: float
    specificity: float
    sensitivity_bound: float


def youden(y: ArrayLike, p: ArrayLike) -> OperatingPoint:
    """The threshold of the greatest sensitivity + specificity (Youden 1950); of equals the more sensitive."""
    cuts = _Cuts.of(y, p)
    best = cuts.tp * cuts.negatives - cuts.fp * cuts.positives
    return cuts.point(int(best.argmax()), "greatest sensitivity + specificity")


def max_accuracy(y: ArrayLike, p: ArrayLike) -> OperatingPoint:
    """The threshold at which most photographs are called rightly; of equals the more sensitive."""
    cuts = _Cuts.of(y, p)
    return cuts.point(int((cuts.tp - cuts.fp).argmax()), "greatest accuracy")


def target_sensitivity(y: ArrayLike, p: ArrayLike, target: float = 0.95) -> OperatingPoint:
    """The highest threshold whose sensitivity on the inner data is `target` (0 to 1) or more.

    The text says what so few positives can support: with 49, even no miss proves no more than 0.94.
    """
    if not 0 < target <= 1:
        raise UsageError(f"A target sensitivity of {target} cannot be. Give a share above 0 and up to 1.")
    cuts = _Cuts.of(y, p)
    enough = np.flatnonzero(cuts.tp >= target * cuts.positives - 1e-9)
    point = cuts.point(int(enough.max()), f"highest threshold that keeps sensitivity at {target:g} or above")
    ceiling = lower_bound_with_no_misses(cuts.positives)
    if ceiling >= target:
        return point
    caution = f"; {cuts.positives} positives cannot prove {target:g}: even no miss would show only {ceiling:.3f}"
    return replace(point, text=point.text + caution)


@dataclass(frozen=True, slots=True)
class _Cuts:
    """All thresholds that differ, ascending, with the true and false positives at each."""

    thresholds: Array
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    positives: int
    negatives: int

    @classmethod
    def of(cls, y: ArrayLike, p: ArrayLike) -> _Cuts:
        labels, scores = checked(y, p)
        if scores.ndim != 1 or not 0 < labels.sum() < len(labels):
            raise UsageError("An operating point needs scores (n,) of both classes. Give inner data that hold both.")
        if scores.min() < 0 or scores.max() > 1:
            raise UsageError("An operating point is chosen on probabilities. Give values from 0 to 1.")
        thresholds = _between(np.unique(scores))
        tp, fp = (_at_or_above(np.sort(scores[labels == label]), thresholds) for label in (1, 0))
        return cls(thresholds, tp, fp, int(labels.sum()), int((1 - labels).sum()))

    def point(self, index: int, rule: str) -> OperatingPoint:
        tp, fp, positives, negatives = (
            int(self.tp[index]),
            int(self.fp[index]),
            self.positives,
            self.negatives,
        )
        bound = clopper_pearson(tp, positives)[0]
        threshold = float(self.thresholds[index])
        text = (
            f"threshold {threshold:.3f}, {rule}, on {positives + negatives} inner photographs: "
            f"{tp} of {positives} positives called ({LEVEL:.0%} interval from {bound:.2f}), "
            f"{negatives - fp} of {negatives} negatives passed"
        )
        shares = (tp / positives, 1 - fp / negatives)
        return OperatingPoint(threshold, rule, text, positives + negatives, positives, *shares, bound)


def _between(scores: Array) -> Array:
    """Thresholds below, midway between, and above ascending distinct probabilities (K,): (K + 1,)."""
    middle = (scores[1:] + scores[:-1]) / 2
    middle = np.where(middle > scores[:-1], middle, scores[1:])  # of neighbouring floats the middle is the lower
    top = (1 + scores[-1]) / 2
    return np.concatenate([[scores[0] / 2], middle, [top if top > scores[-1] else np.nextafter(scores[-1], 2)]])


def _at_or_above(ascending: Array, thresholds: Array) -> NDArray[np.int64]:
    return len(ascending) - np.searchsorted(ascending, thresholds, side="left")
