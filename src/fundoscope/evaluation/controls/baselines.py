"""The engine of the baselines: a standardised logistic model, fitted out of fold; and the commonest class.

The model is scikit-learn's, with the usual penalty: 0.5 |b|^2 + C x log-loss, the intercept free. C is chosen on inner folds
that keep groups whole and both classes in every part where there are enough groups; scikit-learn's dealers of folds promise
only one of the two, so the dealing is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import CohortError, ControlError, LeakError, need
from fundoscope.evaluation.metrics.intervals import group_codes

T = TypeVar("T")
Array = NDArray[np.float64]
Rows = NDArray[np.int64]

#: (training rows, held-out rows) of each fold; every photograph is held out once.
FoldRows = Sequence[tuple[ArrayLike, ArrayLike]]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_INNER = 5  # inner folds on which C is chosen
_SURE = 1e-12  # least probability of a held-out label in the log-loss


@dataclass(frozen=True, slots=True)
class NotMade:
    """Stands where a control or a baseline could not be made; `why` is a sentence for people."""

    why: str

    def __str__(self) -> str:
        return f"could not be made: {self.why}"


def make_or_say_why(make: Callable[[], T]) -> T | NotMade:
    """What `make` gives, or why it could not: a control that these photographs do not allow must not end a study.

    Only `ControlError` is taken for that. A leak, or folds of another cohort, end whatever asked for the control.
    """
    try:
        return make()
    except ControlError as error:
        return NotMade(str(error)[0].lower() + str(error)[1:])


@dataclass(frozen=True, slots=True)
class BaselinePredictions:
    """Probabilities `p` (n,), each from a model that never saw the photograph; `strengths`: each fold's C."""

    p: Array
    strengths: tuple[float, ...]


def predict_out_of_fold(
    features: Array,
    y: ArrayLike,
    folds: FoldRows,
    groups: Sequence[object] | NDArray | None = None,
    seed: int = 0,
) -> BaselinePredictions:
    """Probabilities of each fold's held-out photographs by a logistic model of the others, its C chosen within the others.

    `features` is (n, K), `y` (n,) 0 or 1; `groups` (n,) stay together in the inner folds too. Raises `CohortError` where the
    folds do not hold every row out once, `LeakError` where a row or a group stands on both sides, `ControlError` where
    nothing was measured of some photograph, `MissingExtraError` without scikit-learn.
    """
    labels = np.asarray(y, float)
    _check_measures(features)
    codes = group_codes(groups, len(labels))
    p, strengths = np.full(len(labels), np.nan), []
    for train, test in check_folds(folds, codes):
        strengths.append(_choose_strength(features[train], labels[train], codes[train], seed))
        p[test] = fit_logistic(features[train], labels[train], strengths[-1])(features[test])
    return BaselinePredictions(p, tuple(strengths))


def _check_measures(features: Array) -> None:
    """Raise `ControlError` where a photograph lacks a measure, `MissingExtraError` without scikit-learn."""
    need("sklearn", what="A baseline", extra="analysis")
    unknown = int((~np.isfinite(features)).any(axis=1).sum())
    if unknown or not features.shape[1]:
        lacking = f"{unknown} of {len(features)} photographs lack a measure" if unknown else "Nothing was measured"
        raise ControlError(f"{lacking} that the baseline needs. Leave such photographs out.")


def fit_logistic(features: Array, y: Array, strength: float) -> Callable[[Array], Array]:
    """A function from features (m, K) to probabilities (m,) of the positive class, fitted to `features` (n, K) and `y` (n,).

    Features are standardised; columns that are constant count nothing. `strength` is C. With one class only, every
    probability is its share, half a photograph drawn towards the other class.
    """
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(y)) < 2:
        share = (float(y.sum()) + 0.5) / (len(y) + 1)
        return lambda others: np.full(len(others), share)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 1e-12 * (1 + np.abs(mean)), deviation, np.inf)
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-9, max_iter=200)
    model.fit((features - mean) / deviation, y)
    # its own predict_proba checks its input for longer than these small fits take
    return lambda others: expit((others - mean) / deviation @ model.coef_[0] + model.intercept_[0])


def majority_baseline(y: ArrayLike, folds: FoldRows) -> BaselinePredictions:
    """The share of positives among the training rows, as the probability of each held-out row (n,).

    Its accuracy at 0.5 and its Brier score are the ones to beat. Its AUC over pooled folds means nothing: a fold that holds
    more positives out has fewer to train on, so the constants run against the labels.
    """
    labels = np.asarray(y, float)
    p = np.full(len(labels), np.nan)
    for train, test in check_folds(folds, np.arange(len(labels))):
        p[test] = labels[train].mean()
    return BaselinePredictions(p, ())


def check_folds(folds: FoldRows, groups: Rows) -> list[tuple[Rows, Rows]]:
    """The folds as arrays of rows; raises `LeakError` or `CohortError` unless no group is on two sides and each row is held
    out once.
    """
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


def _choose_strength(features: Array, y: Array, groups: Rows, seed: int) -> float:
    """The C with the least log-loss over inner folds; of equals the strongest penalty."""
    parts = _inner_folds(y, groups, seed)
    losses = []
    for strength in STRENGTHS:
        loss = 0.0
        for part in parts:
            p = fit_logistic(features[~part], y[~part], strength)(features[part])
            loss -= float(np.log(np.maximum(np.where(y[part] == 1, p, 1 - p), _SURE)).sum())
        losses.append(loss)
    return STRENGTHS[int(np.argmin(losses))]


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
