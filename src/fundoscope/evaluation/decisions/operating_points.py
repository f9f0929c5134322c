"""Thresholds chosen on inner data by a rule, and what a wished-for sensitivity costs on the photographs tested.

Thresholds lie midway between neighbouring scores, so that a last-digit difference (INT8, another machine) changes no
decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import (
    LEVEL,
    Estimate,
    clopper_pearson,
    estimates,
    group_codes,
    lower_bound_with_no_misses,
)
from fundoscope.evaluation.metrics.scores import check_scores

Array = NDArray[np.float64]


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
        labels, scores = check_scores(y, p)
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


TARGETS = (0.85, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class InnerPredictions:
    """The inner data of one fit: labels `y` (m,), probabilities `p` (m,), and what the fit was tested on.

    `rows` are the photographs that the fit never saw, of which its threshold will decide, `run` its seed's row
    in (seeds, n).
    """

    y: ArrayLike
    p: ArrayLike
    rows: ArrayLike
    run: int = 0


def operating_rows(
    inner: Sequence[InnerPredictions],
    y: ArrayLike,
    p: ArrayLike,
    groups: Sequence[object] | NDArray | None = None,
    targets: Sequence[float] = TARGETS,
) -> list[dict[str, Any]]:
    """A row a target sensitivity: the thresholds that inner data chose for it, and what they reach on `p`.

    `y` (n,) and `p` (n,) or (seeds, n) are the photographs tested, `groups` those of `intervals.estimate`.
    Columns: `target`; `threshold` (the median over fits), `threshold_least`, `threshold_most`; `sensitivity` and
    `specificity` as `Estimate`s; `support`, in words, what so many positives can prove. Raises `UsageError`
    where a photograph is tested by no fit or by two, or inner data hold one class only.
    """
    labels, scores = check_scores(y, p)
    support = _support(labels, groups)
    rows = []
    for target in targets:
        chosen = np.array([target_sensitivity(fit.y, fit.p, target).threshold for fit in inner])
        at = _spread(inner, chosen, np.atleast_2d(scores).shape).reshape(scores.shape)
        found: dict[Any, Estimate] = estimates(
            labels, scores, metrics=("sensitivity", "specificity"), threshold=at, groups=groups
        )
        middle, least, most = np.median(chosen), chosen.min(), chosen.max()
        rows.append({
            "target": target, "threshold": float(middle), "threshold_least": float(least),
            "threshold_most": float(most), **found, "support": support.of(target),
        })  # fmt: skip
    return rows


def _spread(inner: Sequence[InnerPredictions], chosen: Array, shape: tuple[int, ...]) -> Array:
    """Each fit's threshold on the photographs that it was tested on, (seeds, n)."""
    at, times = np.full(shape, np.nan), np.zeros(shape, int)
    for fit, threshold in zip(inner, chosen, strict=True):
        rows = np.asarray(fit.rows, np.int64)
        if not 0 <= fit.run < shape[0] or ((rows < 0) | (rows >= shape[1])).any():
            raise UsageError(f"A fit names run {fit.run} or rows that are not in scores {shape}. Count from 0.")
        at[fit.run, rows] = threshold
        np.add.at(times[fit.run], rows, 1)
    if (times != 1).any():
        raise UsageError(
            f"{(times == 0).sum()} answers were tested by no fit, {(times > 1).sum()} by several. "
            "Give the inner data of each fold and seed, with the rows that it held out."
        )
    return at


@dataclass(frozen=True, slots=True)
class _Support:
    """How many positives there are, and from how many groups."""

    positives: int
    groups: int

    def of(self, target: float) -> str:
        bound = lower_bound_with_no_misses(self.groups)
        told = f"{self.positives} positives of {self.groups} groups: no miss at all would prove {bound:.3f}"
        return told if bound >= target else f"{told}, so {target:g} cannot be proved here"


def _support(y: Array, groups: Sequence[object] | NDArray | None) -> _Support:
    """Groups and not photographs are counted, as those of one infant are missed together."""
    positive = y == 1
    return _Support(int(positive.sum()), len(np.unique(group_codes(groups, len(y))[positive])))
