"""Many lines laid end to end in one array, so that thousands of vessels are bent and drawn by a few operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Polylines:
    """Where each of n points stands: `first` and `last` (n,) the ends of its line, `along` (n,) its place on it."""

    first: Places
    last: Places
    along: Places

    @classmethod
    def of(cls, counts: Places) -> Polylines:
        """Polylines of `counts` (k,) points each."""
        ends = np.cumsum(counts)
        first, last = np.repeat(ends - counts, counts), np.repeat(ends - 1, counts)
        return cls(first, last, np.arange(len(first)) - first)

    def links(self) -> Places:
        """The points that another of their line follows."""
        return np.flatnonzero(np.arange(len(self.last)) < self.last)

    def beyond(self, points: Floats, steps: int) -> Floats:
        """(n, 2): for each point the one `steps` further along its line, which point reflection continues at its ends."""
        if steps == 0:
            return points
        wanted = np.arange(len(points)) + steps
        end = np.clip(wanted, self.first, self.last)
        return 2 * points[end] - points[np.clip(2 * end - wanted, self.first, self.last)]

    def normals(self, points: Floats) -> Floats:
        """Unit normals (n, 2) by central differences, one-sided at both ends of each line."""
        here = np.arange(len(points))
        way = points[np.minimum(here + 1, self.last)] - points[np.maximum(here - 1, self.first)]
        length = np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)
        return np.stack([-way[:, 1] / length, way[:, 0] / length], axis=1)
