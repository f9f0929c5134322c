"""Smooth random numbers along a line, over a picture and around a circle, and two smooth curves."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.float32]


def line(n: int, wavelength: float, rng: np.random.Generator) -> Floats:
    """Band-limited noise (n,) of standard deviation 1, whose features are about `wavelength` samples long."""
    pad = int(2 * wavelength) + 8
    raw = rng.standard_normal(n + 2 * pad)
    narrow, wide = wavelength / 6, wavelength / 2.5
    band = np.convolve(raw, _bell(narrow), "same") - np.convolve(raw, _bell(wide), "same")
    # the deviation over an infinite line, so that a short vessel is not stretched to unit deviation
    power = (1 / narrow + 1 / wide) / (2 * np.sqrt(np.pi)) - 2 / np.sqrt(2 * np.pi * (narrow**2 + wide**2))
    return band[pad : pad + n] / np.sqrt(max(power, 1e-12))


def _bell(sigma: float) -> Floats:
    """Gaussian weights that add up to 1, out to four standard deviations."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


class Waves:
    """A long curve of band-limited noise; each vessel gets its own piece of it, stretched to its own wavelength."""

    _WAVELENGTH = 24.0  # samples

    def __init__(self, rng: np.random.Generator) -> None:
        self._curve = line(4096, self._WAVELENGTH, rng)
        self._rng = rng

    def pieces(self, counts: NDArray[np.integer], wavelengths: Floats) -> Floats:
        """A piece for each of k vessels, laid end to end, (sum of counts,): `counts` (k,) values with features
        `wavelengths` (k,) samples long.
        """
        start = self._rng.uniform(0, 4096, len(counts))
        along = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        place = (np.repeat(start, counts) + along * np.repeat(self._WAVELENGTH / wavelengths, counts)) % 4095
        return np.interp(place, np.arange(4096), self._curve)


def plane(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> Image:
    """Noise (rows, columns) of standard deviation about 1, whose features are `grain` pixels across."""
    grain = max(grain, 1.0)
    small = (max(2, round(shape[0] / grain) + 2), max(2, round(shape[1] / grain) + 2))
    raw = rng.standard_normal(small).astype(np.float32)
    if grain == 1.0:
        return raw[: shape[0], : shape[1]]
    return cv2.resize(raw, shape[::-1], interpolation=cv2.INTER_CUBIC) * 1.3


@cache
def _quantiles() -> Image:
    """The medians (4096,) of 4096 equal shares of the normal distribution."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((k + 0.5) / 4096) for k in range(4096)], np.float32)


def grain(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """Normal noise of standard deviation 1, independent at each pixel; faster than `Generator.standard_normal`."""
    return _quantiles().take(rng.integers(4096, size=shape, dtype=np.uint16))


def ring(n: int, harmonics: int, rng: np.random.Generator) -> Floats:
    """Noise (n,) around a circle, of standard deviation 1: a random sum of its lowest `harmonics`."""
    angle = np.arange(n) * (2 * np.pi / n)
    order = np.arange(1, harmonics + 1)
    weight = rng.standard_normal((2, harmonics)) / np.sqrt(harmonics)
    return weight[0] @ np.cos(np.outer(order, angle)) + weight[1] @ np.sin(np.outer(order, angle))


def smoothstep(low: float, high: float, x: NDArray) -> NDArray:
    """0 below `low`, 1 above `high`, and between them the cubic 3 t^2 - 2 t^3."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def spline_through(points: NDArray[np.floating], n: int) -> Floats:
    """`n` points (n, 2), evenly spaced along the polyline, on the cubic spline through `points` (m, 2), m at least 4.

    The spline has no knot at the second and the last but one point (de Boor 1978, A Practical Guide to Splines, ch. 4).
    `scipy.interpolate.CubicSpline` gives the same to 1e-8, and would change the last bits of every simulated photograph.
    """
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    knots = way[2:-2]

    def powers(at: Floats) -> Floats:
        return np.hstack([at[:, None] ** np.arange(4), np.maximum(at[:, None] - knots, 0) ** 3])

    return powers(np.linspace(0, way[-1], n)) @ np.linalg.solve(powers(way), points)
