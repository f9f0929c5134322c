"""Logistic recalibration (Cox 1958): the slope and intercept by which predicted log-odds fit the labels best.

Newton's method with step halving fits many weightings of the same scores at once, so that a bootstrap of the slope costs one
call; scikit-learn would fit them one by one. Where no finite estimate exists, the answer is nan, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Probabilities are kept this far from 0 and 1 before the log-odds are taken.
CLIP = 1e-7
_ITERATIONS = 60
_BARE_ITERATIONS = 12
_HALVINGS = 12
_MAX_REACH = 8.0  # of one step, in log-odds
_TOLERANCE = 1e-9  # of the largest gradient component, relative to the total weight


@dataclass(frozen=True, slots=True)
class RecalibrationLines:
    """Slopes and intercepts of B weightings, each (B,), and `reasons` (B) why a slope is nan, blank where it is not.

    `slope` (1 is ideal; below 1 the scores are too extreme) and `intercept` come from one fit of both;
    `in_the_large` is the intercept with the slope held at 1 (0 is ideal; above 0 the scores are too low).
    """

    slope: Array
    intercept: Array
    in_the_large: Array
    reasons: tuple[str, ...]


def log_odds(p: Array) -> Array:
    """Logits of probabilities, which are first kept `CLIP` away from 0 and 1; same shape."""
    kept = np.clip(p, CLIP, 1 - CLIP)
    return np.log(kept) - np.log1p(-kept)


def fit_recalibration(scores: Array, positives: Array, negatives: Array) -> RecalibrationLines:
    """The lines fitted to K ascending distinct probabilities `scores` (K,), weighted by class, (B, K) each."""
    z = log_odds(scores)
    count = len(positives)
    reasons = _reasons(z, positives, negatives)
    both = np.array([reason != "one class only" for reason in reasons], bool)
    fitted = np.array([not reason for reason in reasons], bool)
    large, line = np.full((count, 1), np.nan), np.full((count, 2), np.nan)
    large[both] = _newton(np.ones((len(z), 1)), z, positives[both], negatives[both])
    line[fitted] = _newton(
        np.column_stack([np.ones_like(z), z]), np.zeros_like(z), positives[fitted], negatives[fitted]
    )
    lost = fitted & np.isnan(line[:, 0])
    reasons = ["the fit did not converge" if gone else reason for gone, reason in zip(lost, reasons, strict=True)]
    return RecalibrationLines(line[:, 1], line[:, 0], large[:, 0], tuple(reasons))


def _reasons(z: Array, positives: Array, negatives: Array) -> list[str]:
    """Why a weighting has no finite slope (Albert and Anderson 1984), or a blank."""
    has_positive, has_negative = positives > 0, negatives > 0
    low_positive, high_positive = _range(z, has_positive)
    low_negative, high_negative = _range(z, has_negative)
    alone = ~(has_positive.any(axis=1) & has_negative.any(axis=1))
    level = np.maximum(high_positive, high_negative) == np.minimum(low_positive, low_negative)
    apart = (low_positive >= high_negative) | (low_negative >= high_positive)
    texts = (
        "one class only",
        "all scores are equal",
        "the scores separate the classes, so no finite slope fits",
    )
    choice = np.select([alone, level, apart], [0, 1, 2], default=3)
    return [(*texts, "")[index] for index in choice]


def _range(z: Array, present: NDArray[np.bool_]) -> tuple[Array, Array]:
    low = np.where(present, z, np.inf).min(axis=1, initial=np.inf)
    high = np.where(present, z, -np.inf).max(axis=1, initial=-np.inf)
    return low, high


def _newton(design: Array, offset: Array, positives: Array, negatives: Array) -> Array:
    """Coefficients (B, d) of the logistic model `offset + design @ b`, design (K, d); nan where the fit does not converge.

    Resamples of one sample lie close together, so all start from the fit of their mean and take plain Newton steps; the rare
    row that does not converge is fitted again from zero, with its steps halved where they overshoot.
    """
    if not len(positives):
        return np.empty((0, design.shape[1]))
    mass = positives + negatives
    mean = (positives.mean(axis=0, keepdims=True), mass.mean(axis=0, keepdims=True))
    start = _iterate(design, offset, *mean, np.zeros((1, design.shape[1])), halve=True)
    beta = _iterate(design, offset, positives, mass, np.repeat(np.nan_to_num(start), len(mass), axis=0))
    lost = np.isnan(beta[:, 0])
    if lost.any():
        zero = np.zeros((int(lost.sum()), design.shape[1]))
        beta[lost] = _iterate(design, offset, positives[lost], mass[lost], zero, halve=True)
    return beta


def _iterate(design: Array, offset: Array, positives: Array, mass: Array, beta: Array, halve: bool = False) -> Array:
    """Newton's method on all rows together until each has converged; those that never do are nan."""
    active = np.arange(len(mass))
    for _ in range(_ITERATIONS if halve else _BARE_ITERATIONS):
        step, converged = _step(design, offset, positives, mass, beta[active])
        if halve:
            step *= _halved(design, offset, (positives, mass), beta[active], step)[:, None]
        beta[active[~converged]] += step[~converged]
        if converged.any():
            active, positives, mass = active[~converged], positives[~converged], mass[~converged]
        if not active.size:
            break
    beta[active] = np.nan
    return beta


def _step(design: Array, offset: Array, positives: Array, mass: Array, beta: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Newton's step (B, d), and which rows have converged: their gradient is 0 within the tolerance."""
    width = design.shape[1]
    from scipy.special import expit

    fitted = expit(beta @ design.T + offset)
    expected = mass * fitted
    gradient = (positives - expected) @ design
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    hessian = ((expected * (1 - fitted)) @ products).reshape(-1, width, width)
    total = mass.sum(axis=1)
    hessian += 1e-12 * total[:, None, None] * np.eye(width)
    converged = np.abs(gradient).max(axis=1) <= _TOLERANCE * total
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    reach = np.abs(step) @ np.abs(design).max(axis=0)  # where all is saturated a bare step leaps too far
    return step * np.minimum(1, _MAX_REACH / np.maximum(reach, _MAX_REACH))[:, None], converged


def _halved(design: Array, offset: Array, data: tuple[Array, Array], beta: Array, step: Array) -> Array:
    """The share of each step (B,) that does not raise the loss: 1, 1/2, 1/4 ..."""
    before = _loss(design, offset, data, beta)
    size = np.ones(len(beta))
    for _ in range(_HALVINGS):
        worse = _loss(design, offset, data, beta + size[:, None] * step) > before + 1e-12 * (1 + before)
        if not worse.any():
            break
        size[worse] /= 2
    return size


def _loss(design: Array, offset: Array, data: tuple[Array, Array], beta: Array) -> Array:
    positives, mass = data
    eta = beta @ design.T + offset
    return (mass * np.logaddexp(0, eta) - positives * eta).sum(axis=1)
