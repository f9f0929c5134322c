"""Severity by the measured narrowing of both venous sides, after Nguyen et al. 2013 (IEEE TBME 60:3194).

Their formula is not public. The rule here is the simplest reading of it, in the shape of paper 002's grades: three cut
points, two on the worse side for grades 1 and 2, and one on the lesser side for grade 3, which asks for both. They are
those of the greatest quadratic weighted kappa (Cohen 1968, Psychol Bull 70:213) on the training patches of which both
sides were measured. A side that was not measured may be narrowed by anything: of the grades that it leaves possible, the
one that is most frequent in the training part is given.
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

    `shares` (4,) of the training grades; `training_accuracy` is the share that the rule grades right of the training
    patches of which both sides were measured, and `unmeasured` the number of the others.
    """

    worse_cuts: tuple[float, float]
    lesser_cut: float
    shares: tuple[float, ...]
    training_accuracy: float
    unmeasured: int

    def grades(self, narrowing: ArrayLike) -> Grades:
        """Grades (n,) of narrowing (n, 2): the likeliest by `probabilities`."""
        return self.probabilities(narrowing).argmax(axis=1)

    def probabilities(self, narrowing: ArrayLike) -> Floats:
        """(n, 4): the rule's grade with the weight `training_accuracy` (but .55 to .99), the training shares with the rest.

        Where a side (nan) leaves several grades possible, these share the weight .99 as their training shares are; where
        no side was measured, that is the training shares.
        """
        sides, shares = check_narrowing(narrowing), np.array(self.shares)
        lowest, highest = (
            grade_by_cuts(
                *worse_and_lesser(np.where(np.isnan(sides), unknown, sides)), self.worse_cuts, self.lesser_cut
            )
            for unknown in (-np.inf, np.inf)
        )
        grades = np.arange(GRADES)
        possible = (grades >= lowest[:, None]) & (grades <= highest[:, None])  # (n, 4)
        among = np.where(possible, np.maximum(shares, 1e-9), 0.0)
        among /= among.sum(axis=1, keepdims=True)
        sure = np.clip(self.training_accuracy, _LEAST_SURE, _SUREST)
        weight = np.where(lowest == highest, sure, _SUREST)[:, None]
        return weight * among + (1 - weight) * shares


def fit(narrowing: ArrayLike, grades: ArrayLike) -> NguyenRule:
    """The rule of training patches: narrowing (n, 2), nan where a side was not measured, and grades (n,).

    Raises `UsageError` for other shapes and grades.
    """
    sides = check_narrowing(narrowing)
    known = trivial.check_grades(grades, len(sides))
    shares = trivial.fit(known).shares
    seen = is_measured(sides)
    worse, lesser = worse_and_lesser(sides[seen])
    cuts, last = _best_cuts(worse, lesser, known[seen])
    right = float(np.mean(grade_by_cuts(worse, lesser, cuts, last) == known[seen])) if seen.any() else 0.0
    return NguyenRule(cuts, last, shares, right, int((~seen).sum()))


def check_narrowing(narrowing: ArrayLike) -> Floats:
    """Narrowing (n, 2) as numbers; raises `UsageError` for another shape."""
    sides = np.asarray(narrowing, np.float64)
    if sides.ndim != 2 or sides.shape[1] != 2:
        raise UsageError(f"Narrowing of shape {sides.shape} was given. Give (n, 2): both sides of each patch.")
    return sides


def is_measured(narrowing: Floats) -> NDArray[np.bool_]:
    """Whether both sides were measured, (n,)."""
    return np.isfinite(narrowing[:, 0]) & np.isfinite(narrowing[:, 1])


def worse_and_lesser(narrowing: Floats) -> tuple[Floats, Floats]:
    """The larger and the smaller narrowing of two sides, (n,) each; nan where a side was not measured."""
    return np.maximum(*narrowing.T), np.minimum(*narrowing.T)


def grade_by_cuts(worse: Floats, lesser: Floats, cuts: tuple[float, float], last: float) -> Grades:
    """Grades (n,) by the cut points."""
    return np.where(lesser >= last, 3, (worse >= cuts[0]).astype(np.int64) + (worse >= cuts[1]))


def _best_cuts(worse: Floats, lesser: Floats, grades: Grades) -> tuple[tuple[float, float], float]:
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
        kappas = np.nan_to_num(quadratic_kappas(tables), nan=1.0)  # all of one grade, and graded so
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
