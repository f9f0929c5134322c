"""What a wish for sensitivity costs: thresholds settled on inner data, and what they reach outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.decisions.calibration import target_sensitivity
from fundoscope.evaluation.metrics.intervals import Estimate, estimates, group_codes, lower_bound_with_no_misses
from fundoscope.evaluation.metrics.scores import checked

Array = NDArray[np.float64]

TARGETS = (0.85, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class Inner:
    """The inner data of one fit: labels `y` (m,), probabilities `p` (m,), and what the fit was tested on.

    `rows` are the photographs that the fit never saw, of which its threshold will decide, `run` its seed's row
    in (seeds, n).
    """

    y: ArrayLike
    p: ArrayLike
    rows: ArrayLike
    run: int = 0


def operating_rows(
    inner: Sequence[Inner],
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
    labels, scores = checked(y, p)
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


def _spread(inner: Sequence[Inner], chosen: Array, shape: tuple[int, ...]) -> Array:
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
