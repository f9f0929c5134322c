"""Smooth random numbers: along a line, over a picture, and around a circle."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.float32]


def line(n: int, wavelength: float, rng: np.random.Generator) -> Floats:
    """`n` values of band-limited noise of unit deviation; `wavelength` is in samples."""
    pad = int(2 * wavelength) + 8
    raw = rng.standard_normal(n + 2 * pad)
    narrow, wide = wavelength / 6, wavelength / 2.5
    band = np.convolve(raw, _bell(narrow), "same") - np.convolve(raw, _bell(wide), "same")
    # the deviation over an infinite line, so that a short vessel is not stretched to unit deviation
    power = (1 / narrow + 1 / wide) / (2 * np.sqrt(np.pi)) - 2 / np.sqrt(2 * np.pi * (narrow**2 + wide**2))
    return band[pad : pad + n] / np.sqrt(max(power, 1e-12))


def _bell(sigma: float) -> Floats:
    """Gaussian weights that add up to one, out to four deviations."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


class Waves:
    """A long band-limited curve of unit deviation, of which each vessel takes its own piece at its own wavelength."""

    _WAVELENGTH = 24.0  # samples

    def __init__(self, rng: np.random.Generator) -> None:
        self._curve = line(4096, self._WAVELENGTH, rng)
        self._rng = rng

    def take(self, counts: NDArray[np.integer], wavelengths: Floats) -> Floats:
        """A piece for each vessel, laid end to end: `counts` (k,) values whose features are `wavelengths` (k,) samples
        long.
        """
        start = self._rng.uniform(0, 4096, len(counts))
        along = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        place = (np.repeat(start, counts) + along * np.repeat(self._WAVELENGTH / wavelengths, counts)) % 4095
        return np.interp(place, np.arange(4096), self._curve)


def plane(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> Image:
    """(rows, columns) of noise of about unit deviation whose features are `grain` pixels across."""
    grain = max(grain, 1.0)
    small = (max(2, round(shape[0] / grain) + 2), max(2, round(shape[1] / grain) + 2))
    raw = rng.standard_normal(small).astype(np.float32)
    if grain == 1.0:
        return raw[: shape[0], : shape[1]]
    return cv2.resize(raw, shape[::-1], interpolation=cv2.INTER_CUBIC) * 1.3


@cache
def _quantiles() -> Image:
    """The normal distribution cut into 4096 equal shares, and of each its middle."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((k + 0.5) / 4096) for k in range(4096)], np.float32)


def grain(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Normal noise of unit deviation, independent at each pixel; several times as fast as `standard_normal`."""
    return _quantiles().take(rng.integers(4096, size=shape, dtype=np.uint16))


def ring(n: int, harmonics: int, rng: np.random.Generator) -> Floats:
    """`n` values around a circle, smooth across its seam, of unit deviation: the sum of the lowest harmonics."""
    angle = np.arange(n) * (2 * np.pi / n)
    order = np.arange(1, harmonics + 1)
    weight = rng.standard_normal((2, harmonics)) / np.sqrt(harmonics)
    return weight[0] @ np.cos(np.outer(order, angle)) + weight[1] @ np.sin(np.outer(order, angle))


def smoothstep(low: float, high: float, x: NDArray) -> NDArray:
    """0 below `low`, 1 above `high`, and a cubic without kinks between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bend(points: NDArray[np.floating], n: int) -> Floats:
    """`n` points on a smooth curve through `points`, (m, 2), m at least 4: the cubic spline whose pieces join without
    a knot at the second and the last but one (de Boor 1978), in its truncated powers.
    """
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    knots = way[2:-2]

    def powers(at: Floats) -> Floats:
        return np.hstack([at[:, None] ** np.arange(4), np.maximum(at[:, None] - knots, 0) ** 3])

    return powers(np.linspace(0, way[-1], n)) @ np.linalg.solve(powers(way), points)
