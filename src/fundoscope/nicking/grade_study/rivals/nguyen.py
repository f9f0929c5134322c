"""Severity by the measured narrowing of both venous sides, after Nguyen et al. 2013 (IEEE TBME 60:3194).

Their formula is not public. The rule here is the simplest reading of it, in the shape of paper 002's grades: three cut
points, two on the worse side for grades 1 and 2, and one on the lesser side for grade 3, which asks for both. They are
those of the greatest quadratic weighted kappa (Cohen 1968, Psychol Bull 70:213) on the training patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics import quadratic_kappas
from fundoscope.nicking.grade_study.rivals import trivial
from fundoscope.nicking.grade_study.rivals.trivial import Floats, Grades
from fundoscope.vessels.grade_rule import GRADES

_TRIED = 100  # places of each cut point, evenly among the training patches where there are more
_NEVER = 2.0  # a cut point that no vein reaches: nothing is narrowed by more than 1
_SUREST, _LEAST_SURE = 0.99, 0.55  # weight of the rule's own grade: never certain, and always the likeliest


@dataclass(frozen=True)
class NguyenRule:
    """Cut points `worse_cuts` (from grade 1, from grade 2) and `lesser_cut` (from grade 3) of narrowing, both inclusive.

    `shares` (4,) of the training grades; `training_accuracy` is the share of measured training patches that the rule grades
    right, and `unmeasured` the number of those that it could not measure.
    """

    worse_cuts: tuple[float, float]
    lesser_cut: float
    shares: tuple[float, ...]
    training_accuracy: float
    unmeasured: int

    def grades(self, narrowing: ArrayLike) -> Grades:
        """Grades (n,) of narrowing (n, 2); the training part's most frequent where no side was measured.

        With one side measured the worse is that one, and grade 3 is not given.
        """
        sides = check_narrowing(narrowing)
        found = grade_by_cuts(*larger_and_smaller(sides), self.worse_cuts, self.lesser_cut)
        return np.where(is_measured(sides), found, int(np.argmax(self.shares)))

    def probabilities(self, narrowing: ArrayLike) -> Floats:
        """(n, 4): the rule's grade with the weight `training_accuracy` (but .55 to .99), the training shares with the rest; these
        alone where no side was measured.
        """
        sides = check_narrowing(narrowing)
        weight = np.where(is_measured(sides), np.clip(self.training_accuracy, _LEAST_SURE, _SUREST), 0.0)[:, None]
        return weight * np.eye(GRADES)[self.grades(sides)] + (1 - weight) * np.array(self.shares)


def fit(narrowing: ArrayLike, grades: ArrayLike) -> NguyenRule:
    """The rule of training patches: narrowing (n, 2), nan where a side was not measured, and grades (n,).

    Raises `UsageError` for other shapes and grades.
    """
    sides = check_narrowing(narrowing)
    known = trivial.check_grades(grades, len(sides))
    shares = trivial.fit(known).shares
    seen = is_measured(sides)
    unseen = np.zeros((GRADES, GRADES))  # given, true
    unseen[int(np.argmax(shares))] = np.bincount(known[~seen], minlength=GRADES)
    worse, lesser = larger_and_smaller(sides[seen])
    cuts, last = _best_cuts(worse, lesser, known[seen], unseen)
    right = float(np.mean(grade_by_cuts(worse, lesser, cuts, last) == known[seen])) if seen.any() else 0.0
    return NguyenRule(cuts, last, shares, right, int((~seen).sum()))


def check_narrowing(narrowing: ArrayLike) -> Floats:
    """Narrowing (n, 2) as numbers; raises `UsageError` for another shape."""
    sides = np.asarray(narrowing, np.float64)
    if sides.ndim != 2 or sides.shape[1] != 2:
        raise UsageError(f"Narrowing of shape {sides.shape} was given. Give (n, 2): both sides of each patch.")
    return sides


def is_measured(narrowing: Floats) -> NDArray[np.bool_]:
    """Whether a side at least was measured, (n,)."""
    return np.isfinite(narrowing[:, 0]) | np.isfinite(narrowing[:, 1])


def larger_and_smaller(narrowing: Floats) -> tuple[Floats, Floats]:
    """The larger narrowing of the measured sides, and the smaller of both; nan where there is no such side."""
    return np.fmax(*narrowing.T), np.minimum(*narrowing.T)


def grade_by_cuts(worse: Floats, lesser: Floats, cuts: tuple[float, float], last: float) -> Grades:
    """Grades (n,) by the cut points."""
    return np.where(lesser >= last, 3, (worse >= cuts[0]).astype(np.int64) + (worse >= cuts[1]))


def _best_cuts(worse: Floats, lesser: Floats, grades: Grades, unseen: Floats) -> tuple[tuple[float, float], float]:
    """The cut points of the greatest kappa; of equal ones those that give grade 3 most rarely, then the lowest."""
    places = _places(worse)
    first, second = np.triu_indices(len(places))
    best, found = -np.inf, ((_NEVER, _NEVER), _NEVER)
    for last in _places(lesser)[::-1]:
        severe = lesser >= last
        severe_counts = np.bincount(grades[severe], minlength=GRADES)
        below = _below(worse[~severe], grades[~severe], places)  # (places, 4)
        total = np.bincount(grades[~severe], minlength=GRADES)
        tables = np.stack([below[first], below[second] - below[first], total - below[second]], axis=1)
        tables = np.concatenate([tables, np.tile(severe_counts, (len(first), 1, 1))], axis=1)  # (pairs, 4, 4)
        kappas = np.nan_to_num(quadratic_kappas(tables + unseen), nan=1.0)  # all of one grade, and graded so
        k = int(np.argmax(kappas))
        if kappas[k] > best:
            best, found = kappas[k], ((float(places[first[k]]), float(places[second[k]])), float(last))
    return found


def _places(values: Floats) -> Floats:
    """Where a cut point may lie: at the least value, midway between neighbours, and where none reaches it; ascending."""
    known = np.unique(values[np.isfinite(values)])
    places = np.concatenate([known[:1], (known[1:] + known[:-1]) / 2])
    if len(places) > _TRIED:
        places = places[np.round(np.linspace(0, len(places) - 1, _TRIED)).astype(int)]
    return np.append(places, _NEVER)


def _below(values: Floats, grades: Grades, places: Floats) -> Floats:
    """How many of each grade lie below each place, (places, 4)."""
    return ((values[:, None] < places).T.astype(float)) @ np.eye(GRADES)[grades]
