"""What a call means to the infant in front of one: predictive values at the prevalence of the place.

A cohort of as many sick as healthy infants, or one gathered case by case, shows sensitivity and specificity but
not what a positive call is worth in a clinic; Bayes' rule does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import bootstrap, thresholds_for
from fundoscope.evaluation.metrics.scores import checked, ratio, weighted

Array = NDArray[np.float64]


def predictive_values(
    y: ArrayLike,
    p: ArrayLike,
    threshold: ArrayLike,
    prevalences: Sequence[float],
    groups: Sequence[object] | NDArray | None = None,
    weights: ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """A row a prevalence (each between 0 and 1): `prevalence`, and `ppv` and `npv` as `Estimate`s.

    Positive and negative predictive value by Bayes' rule (Altman and Bland 1994, BMJ 309:102) from sensitivity
    and specificity, worked out in every bootstrap resample; the prevalence itself is taken as known. Arguments
    as in `intervals.estimate`; with several seeds the mean of their values. `weights` matter where a class is
    itself a mix. Raises `UsageError` for a prevalence that is none or shapes that do not match.
    """
    labels, scores = checked(y, p)
    if not all(0 < prevalence < 1 for prevalence in prevalences):
        raise UsageError(f"Prevalences {list(prevalences)} must lie between 0 and 1. Give shares, such as 0.1.")
    runs = np.atleast_2d(scores)
    at = thresholds_for(runs, threshold)

    def values(drawn: Array) -> dict[tuple[str, float], Array]:
        named = ("sensitivity", "specificity")
        pairs = [weighted(labels, run, drawn, cut, named) for run, cut in zip(runs, at, strict=True)]
        rates = [np.array([pair[name] for pair in pairs]) for name in named]
        found: dict[tuple[str, float], Array] = {}
        for prevalence in prevalences:
            for name, each in zip(("ppv", "npv"), _bayes(*rates, prevalence), strict=True):
                found[name, prevalence] = each.mean(axis=0)
        return found

    found = bootstrap(values, labels, groups, weights=weights)
    return [{"prevalence": each, "ppv": found["ppv", each], "npv": found["npv", each]} for each in prevalences]


def _bayes(sensitivity: Array, specificity: Array, prevalence: float) -> tuple[Array, Array]:
    """PPV and NPV, each in the shape of the rates; nan where nobody is called, or nobody passed."""
    sick, well = prevalence, 1 - prevalence
    hits, alarms = sensitivity * sick, (1 - specificity) * well
    passed, missed = specificity * well, (1 - sensitivity) * sick
    return ratio(hits, hits + alarms), ratio(passed, passed + missed)
