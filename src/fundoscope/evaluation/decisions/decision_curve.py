"""Whether acting on a grader does more good than treating everybody or nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import weights_of
from fundoscope.evaluation.metrics.scores import checked

Array = NDArray[np.float64]

#: Probabilities from which one would act, 1 % to 99 %.
THRESHOLDS = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True, slots=True, eq=False)
class DecisionCurve:
    """Net benefit (K,) at `thresholds` (K,) of the model, of treating all, and of treating none (always 0).

    In true positives a photograph: at most `prevalence`, and without a bound below.
    """

    thresholds: Array
    model: Array
    treat_all: Array
    treat_none: Array
    prevalence: float


def decision_curve(
    y: ArrayLike, p: ArrayLike, thresholds: ArrayLike = THRESHOLDS, weights: ArrayLike | None = None
) -> DecisionCurve:
    """Net benefit (Vickers and Elkin 2006): TP / n - FP / n x t / (1 - t), calling positive where p >= t.

    `y` (n,) is 0 or 1, `p` (n,) or (seeds, n; then the mean over seeds) calibrated probabilities, `thresholds`
    (K,) from 0 to below 1. Net benefit depends on the prevalence: where the cohort's is not the clinic's, give
    the `weights` (n,) of `mix.class_weights`, and probabilities calibrated for that mix. Raises `UsageError` for no photographs or values out of range.
    """
    labels, scores = checked(y, p)
    at = np.asarray(thresholds, float)
    if not len(labels) or scores.min() < 0 or scores.max() > 1:
        raise UsageError("A decision curve needs photographs with probabilities from 0 to 1. Give at least one.")
    if at.ndim != 1 or not ((at >= 0) & (at < 1)).all():
        raise UsageError("Thresholds must be (K,), from 0 to below 1: at 1 a false alarm would cost without bound.")
    each, odds = weights_of(weights, len(labels)), at / (1 - at)
    prevalence = float(each @ labels / each.sum())
    model = np.mean([_benefit(labels, run, each, at) for run in np.atleast_2d(scores)], axis=0)
    return DecisionCurve(at, model, prevalence - (1 - prevalence) * odds, np.zeros_like(at), prevalence)


def _benefit(y: Array, p: Array, weights: Array, at: Array) -> Array:
    """Net benefit (K,) of one run."""
    called = p[:, None] >= at
    true, false = (weights * y) @ called, (weights * (1 - y)) @ called
    return (true - false * at / (1 - at)) / weights.sum()
