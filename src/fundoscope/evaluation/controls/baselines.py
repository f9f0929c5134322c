"""What costs nothing and must be beaten: the commonest class, and the mean colour of the field of view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.evaluation.controls.logistic import Folds, OutOfFold, checked_folds, out_of_fold
from fundoscope.evaluation.controls.nuisance import RIM
from fundoscope.imaging import Photograph, find_field

Array = NDArray[np.float64]


def majority_class(y: ArrayLike, folds: Folds) -> OutOfFold:
    """The share of positives among the training rows, as the probability of each held-out row (n,).

    Its accuracy at 0.5 and its Brier score are the ones to beat. Its AUC over pooled folds means nothing: a
    fold that holds more positives out has fewer to train on, so the constants run against the labels.
    """
    labels = np.asarray(y, float)
    p = np.full(len(labels), np.nan)
    for train, test in checked_folds(folds, np.arange(len(labels))):
        p[test] = labels[train].mean()
    return OutOfFold(p, ())


def mean_colours(photographs: Iterable[Photograph]) -> Array:
    """Mean red, green and blue inside the field of view of each photograph, (n, 3), 0 to 255."""
    return np.array([p.pixels[find_field(p.pixels).mask(shrink=RIM)].mean(axis=0) for p in photographs]).reshape(-1, 3)


def mean_colour(
    photographs: Iterable[Photograph],
    y: ArrayLike,
    folds: Folds,
    groups: Sequence[object] | NDArray | None = None,
) -> OutOfFold:
    """A logistic model of the three mean colours, out of fold; errors as in `logistic.out_of_fold`."""
    return out_of_fold(mean_colours(photographs), y, folds, groups)
