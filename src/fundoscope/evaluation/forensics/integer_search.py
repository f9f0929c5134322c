"""Exhaustive search of fold tables by branch and bound, for rows close to the limit of what averages can reach.

Where a plane almost separates all averages from the window, each fold's table must lie close to that plane, since the other
folds cannot make up for one that does not. This leaves few tables (reduced-cost fixing of integer programming); they are
halved and pruned again until all can be tried (branch and bound, Land and Doig 1960).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation.forensics.fold_tables import means_fit_exactly
from fundoscope.evaluation.forensics.mean_tables import figures_of_tables, separating_plane, window_centres
from fundoscope.evaluation.forensics.reported import FIGURES, RoundingWindow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TRIED = 300_000  # choices of one table a fold that are tried at once
_HOPELESS = 1e17  # choices left by the first plane, beyond which it is not begun
_CONFIRMED = 5000  # near misses of one leaf worked out in fractions


class Undecided(Exception):  # noqa: N818
    """Too many tables are left to decide the row within the given steps."""


def search_integer_tables(
    windows: Mapping[str, RoundingWindow], counts: Ints, room: float, f1_of_means: bool = False, steps: int = 400
) -> Ints | None:
    """Tables (folds, 4) whose averages, or those of their rounded figures, lie in every window; None proves that there are none.

    `counts` (folds, 2) are positives and negatives. `room` widens the windows by so many half windows where tables are ruled
    out. Raises `Undecided` after `steps` halvings, some forty a second.
    """
    return _BranchAndBound(windows, counts, room, f1_of_means, steps).search()


class _BranchAndBound:
    def __init__(
        self, windows: Mapping[str, RoundingWindow], counts: Ints, room: float, f1_of_means: bool, steps: int
    ) -> None:
        self.windows, self.counts, self.room, self.f1_of_means = windows, counts, room, f1_of_means
        names = [name for name in windows if not (name == "f1" and f1_of_means)]
        self.columns = [FIGURES.index(name) for name in names]
        self.centre, self.half = window_centres({name: windows[name] for name in names})
        self.left = steps

    def search(self) -> Ints | None:
        """The first tables found, or None where none are left."""
        grids = [np.indices((p + 1, n + 1)).reshape(2, -1).T for p, n in self.counts]
        first, plane = self._prune(grids, None)
        if first is not None and np.prod([float(len(grid)) for grid in first]) > _HOPELESS:
            raise Undecided
        return None if first is None else self._search_below(first, plane)

    def _search_below(self, grids: Sequence[Ints], plane: Floats) -> Ints | None:
        sizes = [len(grid) for grid in grids]
        if np.prod([float(size) for size in sizes]) <= _TRIED:
            return self._try_all(grids)
        if self.left <= 0:
            raise Undecided
        widest = int(np.argmax(sizes))
        own = grids[widest]
        order = np.argsort(own[:, int(np.argmax(np.ptp(own, axis=0)))], kind="stable")
        for half in np.array_split(order, 2):
            self.left -= 1
            halved = [own[half] if at == widest else grid for at, grid in enumerate(grids)]
            some, better = self._prune(halved, plane)
            if some is not None and (found := self._search_below(some, better)) is not None:
                return found
        return None

    def _prune(self, grids: Sequence[Ints], plane: Floats | None) -> tuple[list[Ints] | None, Floats]:
        """For each fold the tp and tn (n, 2) that no plane rules out, None where a plane rules out all; and that plane."""
        kept = list(grids)
        while True:
            points = [self._points(at, grid) for at, grid in enumerate(kept)]
            outside, plane = separating_plane(points, self.centre, self.half, enough=self.room, hint=plane)
            if outside > self.room:
                return None, plane
            heights = [(cloud - self.centre) / self.half / len(points) @ plane for cloud in points]
            slack = sum(float(height.max()) for height in heights) + 1 + self.room + 1e-6
            before = sum(map(len, kept))
            kept = [g[h >= h.max() - slack] for g, h in zip(kept, heights, strict=True)]
            if sum(map(len, kept)) > 0.8 * before:
                return kept, plane

    def _points(self, fold: int, grid: Ints) -> Floats:
        positive, negative = self.counts[fold]
        return figures_of_tables(grid[:, 0], grid[:, 1], positive, negative)[:, self.columns]

    def _try_all(self, grids: Sequence[Ints]) -> Ints | None:
        sums = np.zeros((1, len(self.columns)))
        for at, grid in enumerate(grids):
            sums = (sums[:, None] + self._points(at, grid)).reshape(-1, len(self.columns))
        near = np.abs(sums / len(grids) - self.centre) <= self.half * (1 + self.room) + 1e-12
        hits = np.flatnonzero(near.all(1))
        if len(hits) > _CONFIRMED:
            raise Undecided
        for picks in np.stack(np.unravel_index(hits, [len(grid) for grid in grids]), 1):
            cells = np.array([grid[pick] for grid, pick in zip(grids, picks, strict=True)])
            right, wrong = cells, self.counts - cells
            tables = np.stack([right[:, 0], wrong[:, 0], right[:, 1], wrong[:, 1]], 1)
            if any(means_fit_exactly(self.windows, tables, self.f1_of_means, first) for first in (False, True)):
                return tables
        return None
