"""How far two graders agree who both may be wrong: kappas, the share of equal classes, agreement by class; with intervals.

Kappa is Cohen's (1960, Educ Psychol Meas 20:37), quadratic kappa weighs a disagreement by the square of its distance (Cohen 1968,
Psychol Bull 70:213). Agreement on a class is that share of what either of two said to be of this class which both said to be
of it, 2 x both / (first + second): specific agreement (Cicchetti and Feinstein 1990, J Clin Epidemiol 43:551). What only one
of two has graded counts in coverage and in no other figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import MIN_GROUPS, Estimate, bootstrap, estimate_share
from fundoscope.evaluation.metrics.scores import ratio

Array = NDArray[np.float64]
Given = Sequence[int | None]  # the number of the class that a grader gave to each thing, None where none


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far the graders `first` and `second` agree.

    `listed` things were to be graded; `coverage` is the share that both graded. `counts` (k, k) are those, a row for each
    class by the first grader. `kappa`, `quadratic_kappa` and `same_class` are of these; `by_class` (k) is the agreement on
    each class, nan where neither gave it. `notes` say in sentences what a reader of the figures must know.
    """

    first: str
    second: str
    listed: int
    coverage: Estimate
    kappa: Estimate
    quadratic_kappa: Estimate
    same_class: Estimate
    by_class: tuple[Estimate, ...]
    counts: NDArray[np.int64]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Readings:
    """What several graders said of the same things: `given` maps each grader to the classes (n), numbered as `classes` are.

    `groups` (n) name the photograph, or the infant, of each thing: things of one group are not independent.
    """

    classes: tuple[str, ...]
    groups: Sequence[str]
    given: Mapping[str, Given]

    def measure(self, first: str, second: str) -> Agreement | None:
        """How far two graders agree; None where they graded nothing in common."""
        pairs = list(zip(self.given[first], self.given[second], self.groups, strict=True))
        both = [(one, other, group) for one, other, group in pairs if one is not None and other is not None]
        if not both:
            return None
        one, other, groups = zip(*both, strict=True)
        counts = class_counts(one, other, len(self.classes))
        found = agreement_estimates(one, other, groups, len(self.classes))
        covered = [None not in pair[:2] for pair in pairs]
        return Agreement(
            first, second, len(pairs), estimate_share(covered, self.groups), found["kappa"], found["quadratic_kappa"],
            found["same_class"], tuple(found[f"agreement_{k}"] for k in range(len(self.classes))), counts,
            tuple(self._describe(first, second, counts, len(set(groups)))),
        )  # fmt: skip

    def rank_disagreements(self, first: str, second: str) -> list[int]:
        """Numbers of the things on which two graders differ, from the farthest apart on; of those as far, by their order."""
        pairs = enumerate(zip(self.given[first], self.given[second], strict=True))
        apart = {k: abs(a - b) for k, (a, b) in pairs if a is not None and b is not None and a != b}
        return sorted(apart, key=lambda k: -apart[k])

    def _describe(self, first: str, second: str, counts: NDArray[np.int64], groups: int) -> list[str]:
        notes = []
        used = {
            name: np.flatnonzero(counts.sum(axis=axis)).tolist() for name, axis in ((first, 1), (second, 0))
        }  # classes that each of the two gave
        alone = {name: self.classes[given[0]] for name, given in used.items() if len(given) == 1}
        if len(alone) == 2 and used[first] == used[second]:
            notes.append(
                f"both gave {alone[first]} to all {counts.sum()}: they agree, and no kappa is defined, since chance alone "
                "would make them agree as well"
            )
        elif alone:
            one = " and ".join(f"{name} gave {given} alone" for name, given in alone.items())
            notes.append(f"{one}, so kappa is 0 whatever the share of equal classes is")
        for name, other in ((first, second), (second, first)):
            missing = sum(a is None and b is not None for a, b in zip(self.given[name], self.given[other], strict=True))
            if missing:
                notes.append(f"{name} left {missing} blank that {other} graded: they count in no kappa")
        if groups < MIN_GROUPS:
            notes.append(
                f"{first} and {second} met in {groups} of the {MIN_GROUPS} groups that an interval needs: too few for an interval"
            )
        return notes


def agreement_rows(agreements: Sequence[Agreement], classes: Sequence[str]) -> list[dict[str, object]]:
    """A row a pair of graders for `results_table`: kappas, the share of equal classes, agreement by class, notes."""
    return [
        {
            "first": each.first, "second": each.second, "listed": each.listed, "graded_by_both": int(each.counts.sum()),
            "kappa": each.kappa, "quadratic_kappa": each.quadratic_kappa, "same_class": each.same_class,
            **{f"agreement_{name}": value for name, value in zip(classes, each.by_class, strict=True)},
            "coverage": each.coverage, "note": "; ".join(each.notes),
        }
        for each in agreements
    ]  # fmt: skip


def confusion_rows(agreements: Sequence[Agreement], classes: Sequence[str]) -> list[dict[str, object]]:
    """A row for each pair of graders and of classes: how many things the first put in one, the second in the other."""
    return [
        {"first": each.first, "second": each.second, "by_first": one, "by_second": other, "n": int(each.counts[a, b])}
        for each in agreements
        for a, one in enumerate(classes)
        for b, other in enumerate(classes)
    ]


def agreement_estimates(
    first: ArrayLike, second: ArrayLike, groups: Sequence[object], classes: int
) -> dict[str, Estimate]:
    """`kappa`, `quadratic_kappa`, `same_class` and `agreement_k` of each class k, between the classes by two graders, (n,) each
    and 0 to `classes` - 1, with intervals over `groups`.

    Kappas are nan where both gave one and the same class throughout. Raises `UsageError` for shapes that do not match and for
    other classes.
    """
    pairs = _pairs_one_hot(first, second, classes)
    return bootstrap(
        lambda drawn: _agreement_figures((drawn @ pairs).reshape(-1, classes, classes)),
        (np.asarray(first, int) > 0).astype(float),
        groups,
    )


def class_counts(first: ArrayLike, second: ArrayLike, classes: int) -> NDArray[np.int64]:
    """The confusion table (classes, classes): how often what the first put in a class (row) the second put in another (column)."""
    return _pairs_one_hot(first, second, classes).sum(axis=0).astype(np.int64).reshape(classes, classes)


def settle(first: int | None, second: int | None, settled: int | None = None) -> int | None:
    """The class on which two readers settled; where no settled one was written, that on which they agree, else None."""
    return settled if settled is not None else first if first == second else None


def weighted_kappas(cells: Array, weights: Array) -> Array:
    """Kappas (...) of confusion tables (..., k, k) in which a disagreement costs its weight (k, k); nan where chance alone could
    make none.
    """
    chance = cells.sum(axis=-1)[..., :, None] * cells.sum(axis=-2)[..., None, :]
    off, expected = ((each * weights).sum(axis=(-2, -1)) for each in (cells, chance))
    return 1 - ratio(off * cells.sum(axis=(-2, -1)), expected)


def quadratic_weights(classes: int) -> Array:
    """The square of the distance of two classes, (classes, classes)."""
    return np.square(np.arange(classes, dtype=float)[:, None] - np.arange(classes))


def _agreement_figures(cells: Array) -> dict[str, Array]:
    classes = cells.shape[-1]
    diagonal = np.diagonal(cells, axis1=-2, axis2=-1)
    said = cells.sum(axis=-1) + cells.sum(axis=-2)
    return {
        "kappa": weighted_kappas(cells, 1 - np.eye(classes)),
        "quadratic_kappa": weighted_kappas(cells, quadratic_weights(classes)),
        "same_class": ratio(diagonal.sum(axis=-1), cells.sum(axis=(-2, -1))),
        **{f"agreement_{k}": ratio(2 * diagonal[..., k], said[..., k]) for k in range(classes)},
    }


def _pairs_one_hot(first: ArrayLike, second: ArrayLike, classes: int) -> Array:
    """Which of the pairs of classes each thing is, (n, classes squared)."""
    one, other = np.asarray(first, int), np.asarray(second, int)
    if one.shape != other.shape or one.ndim != 1:
        raise UsageError(f"{one.shape} classes stand beside {other.shape}. Give one of each grader for each thing.")
    if len(one) and (min(one.min(), other.min()) < 0 or max(one.max(), other.max()) >= classes):
        raise UsageError(f"There are other classes than 0 to {classes - 1}. Leave out what was not graded.")
    return np.eye(classes**2)[one * classes + other]
