"""Circles through the rim of a lit region, on the reduced copy on which the field is sought."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def holds(circle: tuple[float, float, float], lit: NDArray[np.bool_], share: float) -> bool:
    """Return whether a circle is a field's: its centre on the photograph, and a `share` of all that is lit inside it."""
    row, column, radius = circle
    if not (0 <= row < lit.shape[0] and 0 <= column < lit.shape[1]):
        return False
    every_third = lit[::3, ::3]
    r, c = np.arange(0, lit.shape[0], 3) - row, np.arange(0, lit.shape[1], 3) - column
    inside = r[:, None] ** 2 + c[None, :] ** 2 <= (1.04 * radius + 1) ** 2
    return bool(np.count_nonzero(every_third & inside) >= share * np.count_nonzero(every_third))


def round_part(rim: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which rim points (n, 2) tell of the circle: none on the photograph's edge or a flat cut of the region."""
    low, high = rim.min(axis=0), rim.max(axis=0)
    free = np.ones(len(rim), bool)
    for axis, size in enumerate(shape):
        at = np.ascontiguousarray(rim[:, axis])
        if low[axis] <= 1 or np.count_nonzero(at <= low[axis] + 1) > 0.25 * size:
            free &= at > low[axis] + 2
        if high[axis] >= size - 2 or np.count_nonzero(at >= high[axis] - 1) > 0.25 * size:
            free &= at < high[axis] - 2
    return free


def robust_circle(points: NDArray[np.float64], limit: float) -> tuple[float, float, float] | None:
    """Return (row, column, radius) of an algebraic circle fit (Kasa 1976), refitted five times on the points that lie near it; None without one."""
    keep = np.ones(len(points), bool)
    fit = None
    for _ in range(6):
        fit = _kasa(points[keep])
        if fit is None or fit[2] > limit:
            return None
        distance = np.abs(np.hypot(points[:, 0] - fit[0], points[:, 1] - fit[1]) - fit[2])
        near = distance <= max(1.5, 2.0 * float(np.median(distance)))
        if near.sum() < 24 or (near == keep).all():
            break
        keep = near
    return fit


def _kasa(points: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """(row, column, radius) of the least-squares circle, from the normal equations about the points' mean."""
    mean = points.mean(axis=0)
    x = points - mean
    squared = (x**2).sum(axis=1)
    (a, b), (_, d) = x.T @ x
    determinant = a * d - b * b
    if determinant <= 1e-9 * max(1.0, a * d):  # all on one line
        return None
    p, q = x.T @ squared / 2
    row, column = (d * p - b * q) / determinant, (a * q - b * p) / determinant
    radius = float(np.sqrt(squared.mean() + row**2 + column**2))
    return float(mean[0] + row), float(mean[1] + column), radius
