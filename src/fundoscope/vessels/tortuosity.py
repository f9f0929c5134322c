"""Tortuosity of a vessel: how much longer than its chord it is, and how sharply it bends on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fundoscope.vessels.graph import Points, arc_length, smooth_path

_STEP = 2.0  # pixels between the points at which curvature is taken


@dataclass(frozen=True, slots=True)
class Tortuosity:
    """Two measures of one vessel, and its `length` in pixels.

    `distance` is arc over chord less 1, 0 for a straight vessel (Lotmar et al. 1979, Graefes Arch 211:49).
    `bending` is the mean squared curvature in 1 / pixel^2 (Hart et al. 1999, Int J Med Inform 53:239: total squared
    curvature over length).
    """

    distance: float
    bending: float
    length: float


def tortuosity(points: Points, smoothing: float = 2.0) -> Tortuosity:
    """Tortuosity of a centreline (n, 2) in pixels, smoothed first by a Gaussian of `smoothing` points."""
    if len(points) < 2:
        return Tortuosity(0.0, 0.0, 0.0)
    path = smooth_path(np.asarray(points, float), smoothing)
    way = arc_length(path)
    chord = float(np.hypot(*(path[-1] - path[0])))
    if way[-1] <= 0 or chord <= 0:
        return Tortuosity(0.0, 0.0, float(way[-1]))
    at = np.linspace(0, way[-1], max(3, round(way[-1] / _STEP) + 1))
    row, column = (np.interp(at, way, path[:, k]) for k in (0, 1))
    turn = np.diff(np.unwrap(np.arctan2(np.diff(row), np.diff(column))))
    return Tortuosity(float(way[-1] / chord - 1), float(np.mean((turn / at[1]) ** 2)), float(way[-1]))
