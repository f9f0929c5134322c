"""Figures as they would be where the classes come in other shares than in this cohort."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError


def class_weights(classes: ArrayLike, wanted: Mapping[int, float]) -> NDArray[np.float64]:
    """Weights (n,), mean 1, under which the classes (n,) have the shares `wanted` (any scale, each above 0).

    Within a class all weigh the same: what is carried over is the mix, as if infants of one class were alike
    everywhere (standardisation; Rothman, Greenland and Lash 2008). Raises `UsageError` where a
    wanted class has no photograph, or a class that has some is not wanted.
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
