"""A standardised logistic model with an L2 penalty, and its out-of-fold probabilities: the engine of the
baselines.

Deterministic and small (Newton's method), so that a baseline needs no package that screening does not have.
The penalty is the usual one: 0.5 |b|^2 + C x log-loss, the intercept free; C is chosen on inner data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import CohortError, LeakError
from fundoscope.evaluation.metrics.intervals import group_codes

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

#: (training rows, held-out rows) of each fold; every photograph is held out once.
FoldRows = Sequence[tuple[ArrayLike, ArrayLike]]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_INNER = 5  # inner folds on which C is chosen
_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class BaselinePredictions:
    """Probabilities `p` (n,), each from a model that never saw the photograph; `strengths`: each fold's C."""

    p: Array
    strengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model: features less `mean` over `deviation`, times `coefficients` (K,), plus `intercept`."""

    mean: Array
    deviation: Array
    coefficients: Array
    intercept: float

    @classmethod
    def fit(cls, features: Array, y: Array, strength: float) -> Logistic:
        """The model with penalty C = `strength` for `features` (n, K); constant columns count nothing."""
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        deviation = np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, np.inf)
        beta = _newton(np.column_stack([np.ones(len(y)), (features - mean) / deviation]), y, strength)
        return cls(mean, deviation, beta[1:], float(beta[0]))

    def probabilities(self, features: Array) -> Array:
        """Probability of the positive class, (n,)."""
        return _sigmoid((features - self.mean) / self.deviation @ self.coefficients + self.intercept)


def predict_out_of_fold(
    features: Array,
    y: ArrayLike,
    folds: FoldRows,
    groups: Sequence[object] | NDArray | None = None,
    seed: int = 0,
) -> BaselinePredictions:
    """Probabilities of the photographs of each fold by a model of the others, its C chosen within those
    others.

    `features` is (n, K); `groups` (n,) stay together in the inner folds too. Raises `CohortError` where the
    folds do not hold every row out once, `LeakError` where a row or a group stands on both sides.
    """
    labels = np.asarray(y, float)
    names = group_codes(groups, len(labels))
    p, strengths = np.full(len(labels), np.nan), []
    for train, test in check_folds(folds, names):
        strengths.append(_choose(features[train], labels[train], names[train], seed))
        p[test] = Logistic.fit(features[train], labels[train], strengths[-1]).probabilities(features[test])
    return BaselinePredictions(p, tuple(strengths))


def check_folds(folds: FoldRows, groups: Rows) -> list[tuple[Rows, Rows]]:
    """The folds as arrays of rows, once it is sure that none leaks and all rows are held out once."""
    pairs = [(np.asarray(train, np.int64), np.asarray(test, np.int64)) for train, test in folds]
    for number, (train, test) in enumerate(pairs):
        shared = np.intersect1d(groups[train], groups[test])
        if shared.size:
            raise LeakError(f"Fold {number}: {shared.size} groups stand on both sides. Make the folds by group.")
    held = np.sort(np.concatenate([test for _, test in pairs] or [np.empty(0, np.int64)]))
    if not np.array_equal(held, np.arange(len(groups))):
        raise CohortError(
            f"The folds do not hold each of {len(groups)} photographs out once. Make them from this cohort."
        )
    return pairs


def _choose(features: Array, y: Array, groups: Rows, seed: int) -> float:
    """The C with the least log-loss over inner folds; of equals the strongest penalty."""
    inner = _inner_folds(y, groups, seed)
    losses = [sum(_held_out_loss(features, y, part, strength) for part in inner) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]


def _held_out_loss(features: Array, y: Array, part: NDArray[np.bool_], strength: float) -> float:
    p = Logistic.fit(features[~part], y[~part], strength).probabilities(features[part])
    own = np.where(y[part] == 1, p, 1 - p)
    return float(-np.log(np.maximum(own, 1e-12)).sum())


def _inner_folds(y: Array, groups: Rows, seed: int) -> list[NDArray[np.bool_]]:
    """Held-out masks: groups shuffled, ordered by their share of positives, and dealt out in turn."""
    numbers = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    shares = np.bincount(numbers, weights=y) / sizes
    dealt = np.empty(len(sizes), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    dealt[shuffled[np.argsort(shares[shuffled], kind="stable")]] = np.arange(len(sizes)) % min(_INNER, len(sizes))
    parts = [dealt[numbers] == fold for fold in range(_INNER)]
    return [part for part in parts if part.any() and not part.all()]


def _newton(design: Array, y: Array, strength: float) -> Array:
    """Coefficients (1 + K,) of the least 0.5 |b|^2 + C x log-loss; steps are halved where they overshoot."""
    penalty = np.full(design.shape[1], 1.0)
    penalty[0] = 1e-8  # the intercept is free; the trace keeps one-class folds finite
    beta = np.zeros(design.shape[1])
    for _ in range(_ITERATIONS):
        fitted = _sigmoid(design @ beta)
        gradient = penalty * beta - strength * design.T @ (y - fitted)
        hessian = np.diag(penalty) + strength * (design.T * (fitted * (1 - fitted))) @ design
        step = np.linalg.solve(hessian, gradient)
        size = _step_size(design, y, strength, penalty, beta, step)
        beta = beta - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return beta


def _step_size(design: Array, y: Array, strength: float, penalty: Array, beta: Array, step: Array) -> float:
    def loss(at: Array) -> float:
        eta = design @ at
        return float(0.5 * penalty @ at**2 + strength * (np.logaddexp(0, eta) - y * eta).sum())

    before, size = loss(beta), 1.0
    while size > 1e-4 and loss(beta - size * step) > before + 1e-12 * (1 + abs(before)):
        size /= 2
    return size


def _sigmoid(eta: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * eta))


def majority_baseline(y: ArrayLike, folds: FoldRows) -> BaselinePredictions:
    """The share of positives among the training rows, as the probability of each held-out row (n,).

    Its accuracy at 0.5 and its Brier score are the ones to beat. Its AUC over pooled folds means nothing: a
    fold that holds more positives out has fewer to train on, so the constants run against the labels.
    """
    labels = np.asarray(y, float)
    p = np.full(len(labels), np.nan)
    for train, test in check_folds(folds, np.arange(len(labels))):
        p[test] = labels[train].mean()
    return BaselinePredictions(p, ())
