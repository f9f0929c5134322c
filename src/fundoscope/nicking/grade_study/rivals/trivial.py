"""The grader that looks at no patch: the shares of the grades among the training patches, for every patch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.vessels.grade_rule import GRADES

Floats = NDArray[np.float64]
Grades = NDArray[np.int64]


@dataclass(frozen=True)
class Majority:
    """`shares` (4,) of the grades in the training part."""

    shares: tuple[float, ...]

    def probabilities(self, n: int) -> Floats:
        """The shares, for each of `n` patches, (n, 4)."""
        return np.tile(np.array(self.shares), (n, 1))

    def grades(self, n: int) -> Grades:
        """The most frequent grade, (n,); of two alike the lower."""
        return np.full(n, int(np.argmax(self.shares)))


def fit(grades: ArrayLike) -> Majority:
    """The shares of training grades (n,); raises `UsageError` for none, and for others than 0 to 3."""
    known = check_grades(grades)
    return Majority(tuple(float(share) for share in np.bincount(known, minlength=GRADES) / len(known)))


def check_grades(grades: ArrayLike, patches: int | None = None) -> Grades:
    """Grades (n,) of so many patches as integers; raises `UsageError` for what is none, or not of these patches."""
    given = np.asarray(grades)
    if given.ndim != 1 or not len(given):
        raise UsageError(f"Grades of shape {given.shape} were given. Give one grade for each of one patch or more.")
    if not np.isin(given, np.arange(GRADES)).all():
        wrong = given[~np.isin(given, np.arange(GRADES))][0]
        raise UsageError(f"Nicking has no grade {wrong}. Give 0, 1, 2 or 3 for each patch.")
    if patches is not None and len(given) != patches:
        raise UsageError(f"{len(given)} grades were given for {patches} patches. Give one for each.")
    return given.astype(np.int64)
