"""Metrics of predicted grades 0 to 3, with their intervals: kappas, accuracy, the recall of each grade, and 2 or 3 against 0 or 1.

Kappa is Cohen's (1960, Educ Psychol Meas 20:37); quadratic kappa weighs an error by the square of its distance (Cohen 1968,
Psychol Bull 70:213). Photographs are resampled, not patches, since the patches of one photograph resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.agreement import quadratic_weights, weighted_kappas
from fundoscope.evaluation.metrics.intervals import Difference, Estimate, bootstrap
from fundoscope.evaluation.metrics.scores import ratio

Array = NDArray[np.float64]

#: Numbers of patches of grade 0, 1, 2 and 3 in the 90-patch set (paper 002, table 6.1).
PAPER_MIX = (48, 16, 14, 12)
_GRADES = len(PAPER_MIX)  # those of `vessels.grade_rule`, whose import would load its image libraries
GRADE_METRICS = (
    "quadratic_kappa", "kappa", "accuracy", *(f"recall_{grade}" for grade in range(_GRADES)), "recall_2_or_3", "specificity_2_or_3",
)  # fmt: skip


def grade_estimates(
    y: ArrayLike, predicted: ArrayLike, groups: Sequence[object], weights: ArrayLike | None = None
) -> dict[str, Estimate]:
    """Each of `GRADE_METRICS` for true grades `y` (n,) and predicted ones (n,), with intervals over `groups`.

    `weights` (n,) say how much each patch counts. Raises `UsageError` for shapes that do not match and grades other than
    0 to 3.
    """
    pairs, truth = grade_pairs(y, predicted)
    return bootstrap(lambda drawn: grade_metrics(drawn @ pairs), (truth > 0).astype(float), groups, weights=weights)


def grade_difference(
    y: ArrayLike, first: ArrayLike, second: ArrayLike, groups: Sequence[object], names: tuple[str, str]
) -> Difference:
    """Quadratic kappa of the predictions `first` (n,) minus that of `second` (n,) on the same patches, paired."""
    (one, truth), (other, _) = grade_pairs(y, first), grade_pairs(y, second)

    def kappa(counts: Array) -> Array:
        return grade_metrics(counts)["quadratic_kappa"]

    difference = bootstrap(
        lambda drawn: {"": kappa(drawn @ one) - kappa(drawn @ other)}, (truth > 0).astype(float), groups
    )
    ends = (float(kappa(pairs.sum(axis=0)[None])[0]) for pairs in (one, other))
    return Difference(difference[""], *ends, names, "quadratic_kappa")


def quadratic_kappa(y: ArrayLike, predicted: ArrayLike) -> float:
    """Quadratic kappa of predicted grades (n,) against true ones (n,), without its interval."""
    return float(grade_metrics(grade_pairs(y, predicted)[0].sum(axis=0)[None])["quadratic_kappa"][0])


def quadratic_kappas(cells: Array) -> Array:
    """Quadratic kappa of confusion tables (..., 4, 4); nan where chance alone could make no error."""
    return weighted_kappas(cells, quadratic_weights(_GRADES))


def grade_counts(y: ArrayLike, predicted: ArrayLike) -> NDArray[np.int64]:
    """The confusion table (4, 4): how often each true grade (row) was predicted as each grade (column)."""
    return grade_pairs(y, predicted)[0].sum(axis=0).astype(np.int64).reshape(_GRADES, _GRADES)


def paper_weights(y: ArrayLike) -> Array:
    """Weights (n,), mean 1, under which the grades `y` (n,) have the shares of the 90-patch set."""
    grades = np.asarray(y, int)
    counts = np.bincount(grades, minlength=_GRADES)
    share = np.array(PAPER_MIX) / sum(PAPER_MIX)
    weights = (share / np.maximum(counts, 1))[grades]
    return weights / weights.mean()


def grade_pairs(y: ArrayLike, predicted: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """Which of the 16 pairs of true and predicted grade each patch is, one-hot (n, 16), and the true grades (n,); raises as
    `grade_estimates`.
    """
    truth, grades = np.asarray(y, int), np.asarray(predicted, int)
    if truth.shape != grades.shape or truth.ndim != 1:
        raise UsageError(f"{grades.shape} predictions stand beside {truth.shape} grades. Give one prediction a patch.")
    if len(truth) and (min(truth.min(), grades.min()) < 0 or max(truth.max(), grades.max()) >= _GRADES):
        raise UsageError("Grades hold values other than 0 to 3. Leave patches that are not graded out.")
    return np.eye(_GRADES**2)[truth * _GRADES + grades], truth


def grade_metrics(counts: Array) -> dict[str, Array]:
    """Each of `GRADE_METRICS` (B,) from the counts of the 16 pairs of `grade_pairs` under B weightings, (B, 16)."""
    cells = counts.reshape(-1, _GRADES, _GRADES)
    n = cells.sum(axis=(1, 2))
    chance = cells.sum(axis=2)[:, :, None] * cells.sum(axis=1)[:, None, :] / np.maximum(n, 1e-12)[:, None, None]
    right, expected = np.trace(cells, axis1=1, axis2=2), np.trace(chance, axis1=1, axis2=2)
    return {
        "quadratic_kappa": quadratic_kappas(cells),
        "kappa": ratio(right - expected, n - expected),
        "accuracy": ratio(right, n),
        **{f"recall_{k}": ratio(cells[:, k, k], cells[:, k].sum(axis=1)) for k in range(_GRADES)},
        "recall_2_or_3": ratio(cells[:, 2:, 2:].sum(axis=(1, 2)), cells[:, 2:].sum(axis=(1, 2))),
        "specificity_2_or_3": ratio(cells[:, :2, :2].sum(axis=(1, 2)), cells[:, :2].sum(axis=(1, 2))),
    }
