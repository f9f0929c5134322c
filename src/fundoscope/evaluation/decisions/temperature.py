"""Temperature scaling: one number, fitted on inner data, that turns logits into calibrated probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError

Array = NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

#: Strength of the penalty that draws T towards 1, in units of one photograph's log-loss: it vanishes beside hundreds of
#: photographs, but not beside a dozen separable ones, whose fit alone would make every probability 0 or 1.
_PULL = 1.0
_MENTIONED = 0.02  # relative change of the temperature from which the pull is mentioned


@dataclass(frozen=True, slots=True)
class Temperature:
    """A fitted temperature: logits are divided by `value`. `unshrunk` is the fit of the `n` photographs without the pull towards
    1; `text` describes both.
    """

    value: float
    unshrunk: float
    n: int
    text: str

    def probabilities(self, logits: ArrayLike) -> Array:
        """Probability of the positive class (n,) for logits (n,), of every class (n, K) for logits (n, K)."""
        from scipy.special import expit, softmax

        scaled = np.asarray(logits, float) / self.value
        return expit(scaled) if scaled.ndim == 1 else softmax(scaled, axis=1)


def fit_temperature(logits: ArrayLike, y: ArrayLike) -> Temperature:
    """The temperature T, 0.05 to 20, of the least log-loss on inner data, drawn a little towards 1 (Guo et al. 2017, eq. 9).

    `logits` is (n,) log-odds of the positive class with `y` (n,) 0 or 1, or (n, K) with `y` the class. The loss is convex in
    1 / T, and so is the penalty 0.5 (1 / T - 1)^2 that draws it towards 1. Without photographs of two classes T is 1. Raises
    `UsageError` for shapes that do not match or logits that are not finite.
    """
    z, labels = _logits(logits, y)
    n = len(labels)
    if len(np.unique(labels)) < 2:
        return Temperature(1.0, 1.0, n, f"T = 1: {n} inner photographs of fewer than two classes tell nothing")
    unshrunk, value = 1 / _inverse_temperature(z, labels, 0.0), 1 / _inverse_temperature(z, labels, _PULL)
    text = f"T = {value:.2f}, fitted on {n} inner photographs"
    if abs(value - unshrunk) > _MENTIONED * unshrunk:
        text += f" and drawn towards 1, as they are few (alone they would say {unshrunk:.2f})"
    return Temperature(value, unshrunk, n, text)


def _logits(logits: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """Logits as (n, K), log-odds (n,) set beside a column of zeros, and the classes (n,)."""
    z, labels = np.asarray(logits, float), np.asarray(y)
    if z.ndim == 1:
        z = np.column_stack([np.zeros(len(z)), z])
    if z.ndim != 2 or labels.shape != z.shape[:1]:
        raise UsageError(
            f"Logits {np.shape(logits)} and labels {labels.shape} do not match. Give (n,) or (n, K) and (n,)."
        )
    if not np.isfinite(z).all():
        raise UsageError("Logits hold nan or infinity. Repair the network before calibrating it.")
    if not np.isin(labels, np.arange(z.shape[1])).all():
        raise UsageError(f"Labels lie outside 0 to {z.shape[1] - 1}. Give each photograph the number of its class.")
    return z, labels.astype(np.int64)


def _inverse_temperature(z: Array, y: NDArray[np.int64], pull: float) -> float:
    """1 / T of the least loss and penalty, within its bounds: where their derivative is 0."""
    from scipy.optimize import brentq

    own = z[np.arange(len(y)), y].sum()

    def slope(beta: float) -> float:
        grown = np.exp(beta * z - (beta * z).max(axis=1, keepdims=True))
        expected = (grown * z).sum(axis=1) / grown.sum(axis=1)
        return float(expected.sum() - own + pull * (beta - 1))

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0:
        return low
    return high if slope(high) <= 0 else float(brentq(slope, low, high, xtol=1e-10))
