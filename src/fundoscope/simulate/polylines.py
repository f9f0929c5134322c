"""Many polylines laid end to end in one array, so that thousands of vessels are bent and drawn in a few operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Polylines:
    """To which polyline each of n points belongs: (n,) indices of the `first` and the `last` point of its polyline, and
    its `position` on it, from 0 on.
    """

    first: Indices
    last: Indices
    position: Indices

    @classmethod
    def of(cls, counts: Indices) -> Polylines:
        """Polylines with `counts` (k,) points each."""
        ends = np.cumsum(counts)
        first, last = np.repeat(ends - counts, counts), np.repeat(ends - 1, counts)
        return cls(first, last, np.arange(len(first)) - first)

    def links(self) -> Indices:
        """Indices of all points but the last of each polyline: each starts a segment to the next point."""
        return np.flatnonzero(np.arange(len(self.last)) < self.last)

    def shifted(self, points: Floats, steps: int) -> Floats:
        """For each point (n, 2) the point `steps` further on its polyline; beyond an end it is continued by reflection
        through the end point.
        """
        if steps == 0:
            return points
        wanted = np.arange(len(points)) + steps
        end = np.clip(wanted, self.first, self.last)
        return 2 * points[end] - points[np.clip(2 * end - wanted, self.first, self.last)]

    def normals(self, points: Floats) -> Floats:
        """Unit normals (n, 2) by central differences, one-sided at both ends of each polyline."""
        index = np.arange(len(points))
        way = points[np.minimum(index + 1, self.last)] - points[np.maximum(index - 1, self.first)]
        length = np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)
        return np.stack([-way[:, 1] / length, way[:, 0] / length], axis=1)
