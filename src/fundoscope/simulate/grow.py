"""Vessel trees grown from the disc to cover the retina.

Carrier points spread over the retina are connected to the growing tree one at a time, each where it costs least:
the new length, more if the branch must bend back, plus a share of the way from the disc (greedy minimum spanning
tree with a balancing factor: Cuntz et al. 2010, PLoS Comput Biol 6:e1000877, equation 1; its forerunner for arteries
is constrained constructive optimisation, Schreiner and Buxton 1993). A branch leaves its parent at an acute angle
and keeps clear of its own kind, so that vessels of one kind seldom cross.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Inside = Callable[[Floats], NDArray[np.bool_]]

STEP = 0.035  # eye units between nodes
_BALANCE = 0.25  # share of the way from the disc in the cost (Cuntz et al. use 0.2 to 0.7)
_BEND = 0.9  # how much dearer a branch is that turns back on its parent
_TAKE_OFF = 0.9  # radians: widest angle at which a branch leaves its parent
_CLEARANCE = 0.055  # eye units kept from other vessels of the same kind
_APART = 0.15  # eye units between two branchings of a vessel
_TRIES = 5  # places on the tree that are tried for a carrier point before it is left out
_MAY_CROSS = (0.5, 0.06)  # share of branches that may cross the other kind, among the first (long) and the last
_ROOM = 20_000  # nodes


@dataclass(slots=True, eq=False)
class Skeleton:
    """Nodes of a forest: `at` (n, 2), `parent` (n,) with -1 at a root, `root` (n,) the trunk each descends from."""

    at: Floats
    parent: NDArray[np.int64]
    root: NDArray[np.int64]


class _Near:
    """Points sorted into square cells, to ask whether any of them lies within `reach` of another point."""

    def __init__(self, reach: float, points: Floats | None = None) -> None:
        self._reach = reach
        self._cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
        if points is not None:
            self.add(points)

    def add(self, points: Floats) -> None:
        """Put in `points`, (n, 2)."""
        cells = np.floor(points / (2 * self._reach)).astype(np.int64)
        for cell, point in zip(map(tuple, cells.tolist()), map(tuple, points.tolist()), strict=True):
            self._cells.setdefault(cell, []).append(point)

    def any(self, points: Floats) -> bool:
        """Whether a point put in lies within reach of any of `points`, (n, 2)."""
        limit, cells = self._reach**2, self._cells
        # a cell is twice as wide as the reach, so that the four around the nearest corner hold all that is near
        corners = np.rint(points / (2 * self._reach)).astype(np.int64).tolist()
        for (x, y), (i, j) in zip(points.tolist(), corners, strict=True):
            for cell in ((i, j), (i - 1, j), (i, j - 1), (i - 1, j - 1)):
                for a, b in cells.get(cell, ()):
                    if (a - x) * (a - x) + (b - y) * (b - y) < limit:
                        return True
        return False


class _Forest:
    """Nodes, with room to grow, and `open`: those that may bear a branch (their numbers, and their rows as columns)."""

    def __init__(self) -> None:
        self.n = 0
        self.rows = np.zeros((_ROOM, 5))  # x, y, heading x, heading y, way from the disc
        self.parent = np.full(_ROOM, -1)
        self.root = np.zeros(_ROOM, np.int64)
        self.forked = np.zeros(_ROOM, bool)  # bears two branches, or stands too near to one that does
        self.tip = np.zeros(_ROOM, bool)
        self.near = _Near(_CLEARANCE)
        self.open = np.zeros(0, np.int64)
        self.open_rows = np.zeros((5, 0))

    def append(self, path: Floats, parent: int, root: int) -> None:
        """A chain of nodes along `path`, hanging on `parent`."""
        new = slice(self.n, self.n + len(path))
        start, depth = (self.rows[parent, :2], self.rows[parent, 4]) if parent >= 0 else (path[0], 0.0)
        way = np.diff(path, axis=0, prepend=start[None])
        length = np.hypot(way[:, 0], way[:, 1])
        rows = self.rows[new]
        rows[:, :2], rows[:, 2:4] = path, way / np.maximum(length, 1e-9)[:, None]
        rows[:, 4] = depth + np.cumsum(length)
        self.parent[new] = np.arange(self.n - 1, self.n - 1 + len(path))
        self.parent[self.n], self.root[new] = parent, root
        self.n += len(path)
        self.tip[self.n - 1] = True
        self.near.add(path)
        self.open = np.concatenate([self.open, np.arange(new.start, new.stop)])
        if parent >= 0 and not self.tip[parent]:
            self._close_near(parent)
        elif parent >= 0:
            self.tip[parent] = False
        self.refresh()

    def _close_near(self, node: int) -> None:
        """No second branch near a branching."""
        apart = self.rows[self.open, :2] - self.rows[node, :2]
        near = self.open[(apart**2).sum(1) < _APART**2]
        self.forked[near[~self.tip[near]]] = True

    def refresh(self) -> None:
        """Let go of the nodes that may bear no further branch."""
        self.open = self.open[~self.forked[self.open]]
        self.open_rows = np.ascontiguousarray(self.rows[self.open].T)


def grow(trunks: list[Floats], carriers: Floats, inside: Inside, others: Floats, rng: np.random.Generator) -> Skeleton:
    """The forest that starts with `trunks`, each (n, 2) from the disc outwards, and reaches the `carriers`, (m, 2).

    `inside` says of (n, 2) points which may carry vessels; a trunk ends where it leaves that region. A branch seldom
    crosses the vessels of the other kind, whose nodes are `others` (k, 2).
    """
    forest = _Forest()
    for root, trunk in enumerate(trunks):
        path = _evenly(trunk, STEP)
        out = np.flatnonzero(~inside(path))
        path = path[: max(2, out[0])] if len(out) else path
        forest.forked[forest.n : forest.n + min(3, len(path))] = True
        forest.append(path, -1, root)
    other_kind = _Near(STEP, others)
    chance = _MAY_CROSS[1] + _MAY_CROSS[0] * np.exp(-4 * np.linspace(0, 1, len(carriers)))
    may_cross = rng.random(len(carriers)) < chance
    for target, crosses in zip(carriers, may_cross, strict=True):
        _connect(forest, target, inside, None if crosses else other_kind)
    n = forest.n
    return Skeleton(forest.rows[:n, :2].copy(), forest.parent[:n].copy(), forest.root[:n].copy())


def _connect(forest: _Forest, target: Floats, inside: Inside, others: _Near | None) -> None:
    if forest.n > _ROOM - 400 or forest.near.any(target[None]):
        return
    cost = _costs(forest, target)
    x, y = forest.open_rows[:2]
    for _ in range(_TRIES):
        best = int(cost.argmin())
        if not np.isfinite(cost[best]):
            return
        node = int(forest.open[best])
        path = _branch(forest.rows[node, :2], forest.rows[node, 2:4], target)
        clear = not forest.near.any(path[3::2]) and not (others is not None and others.any(path[2:]))
        if clear and inside(path).all():
            forest.append(path, node, int(forest.root[node]))
            return
        cost[(x - x[best]) ** 2 + (y - y[best]) ** 2 < (4 * STEP) ** 2] = np.inf


def _costs(forest: _Forest, target: Floats) -> Floats:
    """What it costs to reach `target` from each open node; infinite where the branch would have to turn back."""
    x, y, heading_x, heading_y, depth = forest.open_rows
    right, up = target[0] - x, target[1] - y
    distance = np.sqrt(right * right + up * up)
    ahead = right * heading_x + up * heading_y  # times the distance
    cost = (1 + _BEND) * distance - _BEND * ahead + _BALANCE * depth
    cost[ahead < -0.2 * distance] = np.inf
    return cost


def _branch(start: Floats, heading: Floats, target: Floats) -> Floats:
    """Nodes of a curve that leaves `start` at no more than the take-off angle and ends at `target`."""
    (x, y), (run, rise) = start.tolist(), heading.tolist()
    right, up = float(target[0]) - x, float(target[1]) - y
    length = math.hypot(right, up)
    turn = math.atan2(run * up - rise * right, run * right + rise * up)
    turn = min(max(turn, -_TAKE_OFF), _TAKE_OFF)
    cos, sin = 0.45 * length * math.cos(turn), 0.45 * length * math.sin(turn)
    bend = (x + cos * run - sin * rise, y + sin * run + cos * rise)
    return _bezier(max(3, round(1.08 * length / STEP))) @ np.array([(x, y), bend, target])


@cache
def _bezier(steps: int) -> Floats:
    """Weights (steps, 3) of start, bend and end on the nodes of a quadratic Bézier curve, its start left out."""
    t = np.arange(1, steps + 1) / steps
    return np.column_stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])


def _evenly(path: Floats, step: float) -> Floats:
    """The same polyline with points `step` apart."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    n = max(2, round(length[-1] / step) + 1)
    at = np.linspace(0, length[-1], n)
    return np.column_stack([np.interp(at, length, path[:, k]) for k in (0, 1)])
