"""The shuffled-label control: a study whose labels were shuffled must score chance, or labels leak into it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fundoscope.errors import ControlError, UsageError

_ALARM_ERRORS = 3.1  # standard errors above 0.5: one false alarm in a thousand


@dataclass(frozen=True, slots=True)
class ShuffleControl:
    """Result of k runs on shuffled labels.

    `mean` and `sd` are those of their AUCs (`sd` nan for one run), `expected_sd` is that of blind scores, `alarm` says whether
    the mean is too high for chance, and `text` states it all in words.
    """

    mean: float
    sd: float
    expected_sd: float
    alarm: bool
    text: str


def chance_sd(n_pos: int, n_neg: int) -> float:
    """Standard deviation of the AUC of blind scores (Mann and Whitney 1947): sqrt((n + 1) / (12 n1 n0))."""
    if min(n_pos, n_neg) < 1:
        raise UsageError(f"{n_pos} positives and {n_neg} negatives give no AUC. Both classes are needed.")
    return math.sqrt((n_pos + n_neg + 1) / (12 * n_pos * n_neg))


def shuffle_verdict(aucs: Sequence[float], n_pos: int, n_neg: int) -> ShuffleControl:
    """Whether the out-of-fold AUCs of k runs on shuffled labels are higher than chance explains.

    The alarm is one-sided: leaks raise the AUC, while cross-validation alone lowers it a little, because a class with more
    photographs in the held-out part has fewer in training (Parker, Guenter and Bedo 2007). The standard error of the mean
    comes from the scatter of the runs where that is wider than chance's, since AUCs pooled over folds scatter more (a logistic
    model of 23 blind features, five folds of 98 photographs: 0.084 instead of 0.059, mean 0.490). Raises
    `UsageError` for no runs, AUCs outside 0 to 1, or one class; `ControlError` for an AUC that is undefined.
    """
    values = np.asarray(aucs, float)
    if values.size and np.isnan(values).any():
        raise ControlError(
            "Shuffled over whole groups, the labels of a run were all of one class. Groups of either class are needed."
        )
    if not values.size or values.min() < 0 or values.max() > 1:
        raise UsageError(f"AUCs {list(aucs)[:5]} cannot be judged. Give at least one, each from 0 to 1.")
    expected = chance_sd(n_pos, n_neg)
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    error = max(expected, 0.0 if math.isnan(sd) else sd) / math.sqrt(len(values))
    alarm = mean > 0.5 + _ALARM_ERRORS * error
    return ShuffleControl(mean, sd, expected, alarm, _text(values, mean, expected, error, alarm))


def _text(values: np.ndarray, mean: float, expected: float, error: float, alarm: bool) -> str:
    runs = f"{len(values)} run{'s' * (len(values) > 1)} on shuffled labels"
    spread = f"{values.min():.3f} to {values.max():.3f}"
    chance = f"chance: 0.500, one run +- {expected:.3f}, the mean +- {error:.3f}"
    found = f"{runs}: mean AUC {mean:.3f} ({spread}; {chance})"
    if alarm:
        remedy = "Look for duplicates, augmented copies, and choices made on held-out data."
        return f"ALARM, {found}: labels leak into features or folds. {remedy}"
    low = " Below 0.5, as cross-validation is by itself on shuffled labels." if mean < 0.5 - 2 * error else ""
    return f"{found}: as chance would have it.{low}"
