"""How well grades 0 to 3 are told: accuracy, kappa, quadratic kappa, the recall of each grade, and how well 2 or 3 is told
from 0 or 1, with their intervals.

Kappa is Cohen's (1960, Educ Psychol Meas 20:37), quadratic kappa weighs an error by the square of its distance (Cohen
1968, Psychol Bull 70:213). Photographs are what is resampled, since patches of one photograph stand or fall together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import Difference, Estimate, bootstrap
from fundoscope.evaluation.metrics.scores import ratio

Array = NDArray[np.float64]

#: Shares of the grades in the 90-patch set: 48, 16, 14, 12 (paper 002, table 6.1).
PAPER_MIX = (48, 16, 14, 12)
_GRADES = len(PAPER_MIX)  # those of `vessels.grade_rule`, whose import would load its image libraries
GRADE_METRICS = (
    "quadratic_kappa", "kappa", "accuracy", *(f"recall_{grade}" for grade in range(_GRADES)), "recall_2_or_3", "specificity_2_or_3",
)  # fmt: skip

_QUADRATIC = (np.arange(_GRADES)[:, None] - np.arange(_GRADES)) ** 2


def grade_estimates(
    y: ArrayLike, called: ArrayLike, groups: Sequence[object], weights: ArrayLike | None = None
) -> dict[str, Estimate]:
    """Each of `FIGURES` for grades `y` (n,) told as `called` (n,); intervals over groups. `weights` (n,) of patches."""
    pairs, truth = _pairs(y, called)
    return bootstrap(lambda w: _figures(w @ pairs), (truth > 0).astype(float), groups, weights=weights)


def grade_difference(
    y: ArrayLike, first: ArrayLike, second: ArrayLike, groups: Sequence[object], names: tuple[str, str]
) -> Difference:
    """Quadratic kappa of one way of grading less another's on the same patches, paired."""
    (one, truth), (other, _) = _pairs(y, first), _pairs(y, second)

    def apart(w: Array) -> dict[str, Array]:
        return {"apart": _figures(w @ one)["quadratic_kappa"] - _figures(w @ other)["quadratic_kappa"]}

    found = bootstrap(apart, (truth > 0).astype(float), groups)["apart"]
    ends = (float(_figures(each.sum(0)[None])["quadratic_kappa"][0]) for each in (one, other))
    return Difference(found, *ends, names, "quadratic_kappa")


def quadratic_kappa(y: ArrayLike, called: ArrayLike) -> float:
    """The one figure, without its interval."""
    return float(_figures(_pairs(y, called)[0].sum(axis=0)[None])["quadratic_kappa"][0])


def grade_counts(y: ArrayLike, called: ArrayLike) -> NDArray[np.int64]:
    """How often each grade (row) was told as each (column), (4, 4)."""
    return _pairs(y, called)[0].sum(axis=0).astype(np.int64).reshape(_GRADES, _GRADES)


def paper_weights(y: ArrayLike) -> Array:
    """The weight of each patch that gives grades the shares of the 90-patch set, of mean 1."""
    grades = np.asarray(y, int)
    counts = np.bincount(grades, minlength=_GRADES)
    share = np.array(PAPER_MIX) / sum(PAPER_MIX)
    weights = (share / np.maximum(counts, 1))[grades]
    return weights / weights.mean()


def _pairs(y: ArrayLike, called: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """Which of the 16 pairs of truth and call each patch is, (n, 16), and the truth."""
    truth, told = np.asarray(y, int), np.asarray(called, int)
    if truth.shape != told.shape or truth.ndim != 1:
        raise UsageError(f"{told.shape} calls stand beside {truth.shape} grades. Give one call a patch.")
    if len(truth) and (min(truth.min(), told.min()) < 0 or max(truth.max(), told.max()) >= _GRADES):
        raise UsageError("Grades hold values other than 0 to 3. Leave patches that are not graded out.")
    return np.eye(_GRADES**2)[truth * _GRADES + told], truth


def quadratic_kappas(cells: Array) -> Array:
    """Quadratic kappa of tables (..., 4, 4) of one against the other, nan where chance alone could not err."""
    chance = cells.sum(axis=-1)[..., :, None] * cells.sum(axis=-2)[..., None, :]
    off, off_expected = ((each * _QUADRATIC).sum(axis=(-2, -1)) for each in (cells, chance))
    return 1 - ratio(off * cells.sum(axis=(-2, -1)), off_expected)


def _figures(counts: Array) -> dict[str, Array]:
    """Each figure (B,) of weightings' counts of the pairs (B, 16)."""
    cells = counts.reshape(-1, _GRADES, _GRADES)
    n = cells.sum(axis=(1, 2))
    chance = cells.sum(axis=2)[:, :, None] * cells.sum(axis=1)[:, None, :] / np.maximum(n, 1e-12)[:, None, None]
    right, expected = np.trace(cells, axis1=1, axis2=2), np.trace(chance, axis1=1, axis2=2)
    recall = {f"recall_{k}": ratio(cells[:, k, k], cells[:, k].sum(axis=1)) for k in range(_GRADES)}
    kappas = {"quadratic_kappa": quadratic_kappas(cells), "kappa": ratio(right - expected, n - expected)}
    told = {
        "recall_2_or_3": ratio(cells[:, 2:, 2:].sum(axis=(1, 2)), cells[:, 2:].sum(axis=(1, 2))),
        "specificity_2_or_3": ratio(cells[:, :2, :2].sum(axis=(1, 2)), cells[:, :2].sum(axis=(1, 2))),
    }
    return {**kappas, "accuracy": ratio(right, n), **recall, **told}
