"""What a grader is worth where the classes are mixed otherwise than in the cohort: weights, predictive values, net benefit.

A cohort with as many sick as healthy infants, or one gathered case by case, shows sensitivity and specificity, but not
what a positive call is worth in a clinic; Bayes' rule and net benefit do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import bootstrap, broadcast_thresholds, check_weights
from fundoscope.evaluation.metrics.scores import check_scores, ratio, weighted_metrics

Array = NDArray[np.float64]


def class_weights(classes: ArrayLike, wanted: Mapping[int, float]) -> NDArray[np.float64]:
    """Weights (n,), mean 1, under which the classes (n,) have the shares `wanted` (any scale, each above 0).

    All photographs of a class weigh the same: the mix of classes changes, while each class is taken to be alike everywhere
    (standardisation; Rothman, Greenland and Lash 2008). Raises `UsageError` where a wanted class has no photograph, or a
    class with photographs is not wanted.
    """
    each = np.asarray(classes)
    present, counts = np.unique(each, return_counts=True)
    absent, unnamed = set(wanted) - set(present.tolist()), set(present.tolist()) - set(wanted)
    if absent:
        raise UsageError(f"No photograph is of class {_listed(absent)}. Ask only for classes that are there.")
    if unnamed:
        raise UsageError(f"No share is given for class {_listed(unnamed)}. Give one, or leave its photographs out.")
    shares = np.array([wanted[name] for name in present.tolist()], float)
    if not np.isfinite(shares).all() or (shares <= 0).any():
        raise UsageError(f"Shares {dict(wanted)} cannot be. Give each class a number above 0.")
    return (shares / shares.sum() * len(each) / counts)[np.searchsorted(present, each)]


def _listed(classes: set[int]) -> str:
    return ", ".join(map(str, sorted(classes)))


def predictive_values(
    y: ArrayLike,
    p: ArrayLike,
    threshold: ArrayLike,
    prevalences: Sequence[float],
    groups: Sequence[object] | NDArray | None = None,
    weights: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """A row for each prevalence (between 0 and 1): `prevalence`, and `ppv` and `npv` as `Estimate`s.

    Positive and negative predictive value follow by Bayes' rule (Altman and Bland 1994, BMJ 309:102) from the sensitivity and
    specificity of each bootstrap resample; the prevalence itself is taken as known. Arguments as in `estimate`; with several
    seeds the mean of their values. `weights` matter where a class is itself a mix. Raises `UsageError` for prevalences
    outside 0 to 1 and shapes that do not match.
    """
    labels, scores = check_scores(y, p)
    if not all(0 < prevalence < 1 for prevalence in prevalences):
        raise UsageError(f"Prevalences {list(prevalences)} must lie between 0 and 1. Give shares, such as 0.1.")
    runs = np.atleast_2d(scores)
    at = broadcast_thresholds(runs, threshold)

    def values(drawn: Array) -> dict[tuple[str, float], Array]:
        named = ("sensitivity", "specificity")
        pairs = [weighted_metrics(labels, run, drawn, cut, named) for run, cut in zip(runs, at, strict=True)]
        rates = [np.array([pair[name] for pair in pairs]) for name in named]
        found: dict[tuple[str, float], Array] = {}
        for prevalence in prevalences:
            for name, each in zip(("ppv", "npv"), _bayes(*rates, prevalence), strict=True):
                found[name, prevalence] = each.mean(axis=0)
        return found

    found = bootstrap(values, labels, groups, weights=weights)
    return [{"prevalence": each, "ppv": found["ppv", each], "npv": found["npv", each]} for each in prevalences]


def _bayes(sensitivity: Array, specificity: Array, prevalence: float) -> tuple[Array, Array]:
    """Positive and negative predictive value in the shape of the rates; nan where no photograph is called so."""
    sick, well = prevalence, 1 - prevalence
    hits, alarms = sensitivity * sick, (1 - specificity) * well
    passed, missed = specificity * well, (1 - sensitivity) * sick
    return ratio(hits, hits + alarms), ratio(passed, passed + missed)


#: Threshold probabilities of a decision curve: from which one would act, 1 % to 99 %.
THRESHOLDS = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True, slots=True, eq=False)
class DecisionCurve:
    """Net benefit (K,) at `thresholds` (K,) of the model, of treating all, and of treating none (always 0).

    Its unit is true positives per photograph: at most `prevalence`, and without a lower bound.
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
    (K,) from 0 to below 1. Net benefit depends on the prevalence: where the cohort's is not the clinic's, give the `weights`
    (n,) of `class_weights`, and probabilities calibrated for that mix. Raises `UsageError` for no photographs or values out
    of range.
    """
    labels, scores = check_scores(y, p)
    at = np.asarray(thresholds, float)
    if not len(labels) or scores.min() < 0 or scores.max() > 1:
        raise UsageError("A decision curve needs photographs with probabilities from 0 to 1. Give at least one.")
    if at.ndim != 1 or not ((at >= 0) & (at < 1)).all():
        raise UsageError("Thresholds must be (K,), from 0 to below 1: at 1 a false alarm would cost without bound.")
    each, odds = check_weights(weights, len(labels)), at / (1 - at)
    prevalence = float(each @ labels / each.sum())
    model = np.mean([_benefit(labels, run, each, at) for run in np.atleast_2d(scores)], axis=0)
    return DecisionCurve(at, model, prevalence - (1 - prevalence) * odds, np.zeros_like(at), prevalence)


def _benefit(y: Array, p: Array, weights: Array, at: Array) -> Array:
    """Net benefit (K,) of one run."""
    called = p[:, None] >= at
    true, false = (weights * y) @ called, (weights * (1 - y)) @ called
    return (true - false * at / (1 - at)) / weights.sum()
