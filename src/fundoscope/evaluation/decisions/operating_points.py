"""Thresholds chosen on inner data by a rule, and what a wished-for sensitivity costs on the photographs tested.

Thresholds lie midway between neighbouring scores, so that a last-digit difference (INT8, another machine) changes no
decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

#: Target sensitivities for which a study shows what they cost.
TARGETS = (0.85, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold chosen on inner data: a photograph is called positive where its probability is `threshold` or more.

    `rule` is the rule that chose it and `text` describes choice and result. `sensitivity` and `specificity` are those on the
    `n` inner photographs, `positives` of them positive: a little too good, since the threshold was fitted to them.
    `sensitivity_bound` is the lower 95 % Clopper-Pearson bound of that sensitivity.
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
    """The operating point of the greatest sensitivity + specificity (Youden 1950); among equals the most sensitive."""
    counts = _ThresholdCounts.from_scores(y, p)
    best = counts.tp * counts.negatives - counts.fp * counts.positives
    return counts.point(int(best.argmax()), "greatest sensitivity + specificity")


def max_accuracy(y: ArrayLike, p: ArrayLike) -> OperatingPoint:
    """The operating point of the greatest accuracy; among equals the most sensitive."""
    counts = _ThresholdCounts.from_scores(y, p)
    return counts.point(int((counts.tp - counts.fp).argmax()), "greatest accuracy")


def target_sensitivity(y: ArrayLike, p: ArrayLike, target: float = 0.95) -> OperatingPoint:
    """The operating point with the highest threshold whose sensitivity on the inner data is `target` (0 to 1) or more.

    Its text says where the positives are too few to prove the target: with 49, even no miss proves no more than 0.94.
    """
    if not 0 < target <= 1:
        raise UsageError(f"A target sensitivity of {target} cannot be. Give a share above 0 and up to 1.")
    counts = _ThresholdCounts.from_scores(y, p)
    enough = np.flatnonzero(counts.tp >= target * counts.positives - 1e-9)
    point = counts.point(int(enough.max()), f"highest threshold that keeps sensitivity at {target:g} or above")
    ceiling = lower_bound_with_no_misses(counts.positives)
    if ceiling >= target:
        return point
    caution = f"; {counts.positives} positives cannot prove {target:g}: even no miss would show only {ceiling:.3f}"
    return replace(point, text=point.text + caution)


def worst_target_sensitivity(
    variants: Mapping[str, tuple[ArrayLike, ArrayLike]], target: float = 0.95
) -> OperatingPoint:
    """The operating point of `target_sensitivity` of that variant of the inner data whose threshold is lowest, so that the
    target is kept on all of them.

    `variants` have by name labels (n,) and probabilities (n,). The counts of the point are those of that worst variant, and its
    rule names it where there are several.
    """
    points = {name: target_sensitivity(y, p, target) for name, (y, p) in variants.items()}
    worst = min(points, key=lambda name: points[name].threshold)
    if len(points) == 1:
        return points[worst]
    rule = f"{points[worst].rule} on the worst of {len(points)} renderings ({worst})"
    return replace(points[worst], rule=rule, text=points[worst].text.replace(points[worst].rule, rule))


@dataclass(frozen=True, slots=True)
class _ThresholdCounts:
    """Every threshold that changes a decision, ascending, with the true and false positives at each."""

    thresholds: Array
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    positives: int
    negatives: int

    @classmethod
    def from_scores(cls, y: ArrayLike, p: ArrayLike) -> _ThresholdCounts:
        labels, scores = check_scores(y, p)
        if scores.ndim != 1 or not 0 < labels.sum() < len(labels):
            raise UsageError("An operating point needs scores (n,) of both classes. Give inner data that hold both.")
        if scores.min() < 0 or scores.max() > 1:
            raise UsageError("An operating point is chosen on probabilities. Give values from 0 to 1.")
        thresholds = between_scores(np.unique(scores))
        ascending = [np.sort(scores[labels == label]) for label in (1, 0)]
        tp, fp = (len(each) - np.searchsorted(each, thresholds, side="left") for each in ascending)
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


def between_scores(scores: Array) -> Array:
    """Thresholds below, midway between, and above ascending distinct probabilities (K,): (K + 1,)."""
    middle = (scores[1:] + scores[:-1]) / 2
    middle = np.where(middle > scores[:-1], middle, scores[1:])  # of neighbouring floats the middle is the lower
    top = (1 + scores[-1]) / 2
    return np.concatenate([[scores[0] / 2], middle, [top if top > scores[-1] else np.nextafter(scores[-1], 2)]])


@dataclass(frozen=True, slots=True, eq=False)
class InnerPredictions:
    """The inner data of one fit: labels `y` (m,) and probabilities `p` (m,), and which photographs it is tested on.

    `rows` are the held-out photographs that its threshold decides on, `run` the row of its seed in arrays (seeds, n).
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
    """A row for each target sensitivity: the thresholds that inner data chose for it, and what they reach on held-out data.

    `y` (n,) and `p` (n,) or (seeds, n) are the held-out photographs, `groups` as in `estimate`. Columns: `target`; `threshold`
    (the median over fits), `threshold_lowest`, `threshold_highest`; the `Estimate`s `sensitivity` and `specificity`; and
    `support`, in words, what so many positives can prove. Raises `UsageError` where a photograph is held out by no fit or by
    two, or inner data hold one class only.
    """
    labels, scores = check_scores(y, p)
    positive = labels == 1
    # groups and not photographs are counted, since those of one infant are missed together
    n_groups = len(np.unique(group_codes(groups, len(labels))[positive]))
    bound = lower_bound_with_no_misses(n_groups)
    support = f"{int(positive.sum())} positives of {n_groups} groups: no miss at all would prove {bound:.3f}"
    rows = []
    for target in targets:
        chosen = np.array([target_sensitivity(fit.y, fit.p, target).threshold for fit in inner])
        thresholds = _held_out_thresholds(inner, chosen, np.atleast_2d(scores).shape).reshape(scores.shape)
        reached: dict[Any, Estimate] = estimates(
            labels, scores, metrics=("sensitivity", "specificity"), threshold=thresholds, groups=groups
        )
        rows.append({
            "target": target, "threshold": float(np.median(chosen)), "threshold_lowest": float(chosen.min()),
            "threshold_highest": float(chosen.max()), **reached,
            "support": support if bound >= target else f"{support}, so {target:g} cannot be proved here",
        })  # fmt: skip
    return rows


def _held_out_thresholds(inner: Sequence[InnerPredictions], chosen: Array, shape: tuple[int, ...]) -> Array:
    """The threshold of each photograph, (seeds, n): that of the fit which held it out."""
    thresholds, times = np.full(shape, np.nan), np.zeros(shape, int)
    for fit, threshold in zip(inner, chosen, strict=True):
        rows = np.asarray(fit.rows, np.int64)
        if not 0 <= fit.run < shape[0] or ((rows < 0) | (rows >= shape[1])).any():
            raise UsageError(f"A fit names run {fit.run} or rows that are not in scores {shape}. Count from 0.")
        thresholds[fit.run, rows] = threshold
        np.add.at(times[fit.run], rows, 1)
    if (times != 1).any():
        raise UsageError(
            f"{(times == 0).sum()} answers were tested by no fit, {(times > 1).sum()} by several. "
            "Give the inner data of each fold and seed, with the rows that it held out."
        )
    return thresholds
