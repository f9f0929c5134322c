"""Vessel trees grown from the disc to cover the retina.

Carrier points spread over the retina are connected to the growing tree one at a time, each where it costs least:
the new length, more if the branch must bend back, plus a share of the way from the disc (greedy minimum spanning
tree with a balancing factor: Cuntz et al. 2010, PLoS Comput Biol 6:e1000877, equation 1; its forerunner for arteries
is constrained constructive optimisation, Schreiner and Buxton 1993). A branch leaves its parent at an acute angle
and keeps clear of its own kind, so that vessels of one kind seldom cross.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Inside = Callable[[Floats], NDArray[np.bool_]]

STEP = 0.035  # eye units between nodes
_BALANCE = 0.25  # share of the way from the disc in the cost (Cuntz et al. use 0.2 to 0.7)
_BEND = 0.9  # how much dearer a branch is that turns back on its parent
_TAKE_OFF = 0.9  # radians: widest angle at which a branch leaves its parent
_CLEARANCE = 0.055  # eye units kept from other vessels of the same kind
_TRIES = 5  # places on the tree that are tried for a carrier point before it is left out
_ROOM = 20_000  # nodes


@dataclass(slots=True, eq=False)
class Skeleton:
    """Nodes of a forest: `at` (n, 2), `parent` (n,) with -1 at a root, `root` (n,) the trunk each descends from."""

    at: Floats
    parent: NDArray[np.int64]
    root: NDArray[np.int64]


class _Forest:
    """Node arrays with room to grow."""

    def __init__(self) -> None:
        self.n = 0
        self.at = np.zeros((_ROOM, 2))
        self.heading = np.zeros((_ROOM, 2))
        self.depth = np.zeros(_ROOM)
        self.parent = np.full(_ROOM, -1)
        self.root = np.zeros(_ROOM, np.int64)
        self.children = np.zeros(_ROOM, np.int64)
        self.closed = np.zeros(_ROOM, bool)

    def append(self, path: Floats, parent: int, root: int) -> None:
        for point in path:
            i = self.n
            self.at[i], self.parent[i], self.root[i] = point, parent, root
            if parent >= 0:
                way = point - self.at[parent]
                length = float(np.hypot(*way))
                self.heading[i] = way / max(length, 1e-9)
                self.depth[i] = self.depth[parent] + length
                self.children[parent] += 1
            parent = i
            self.n += 1

    def close_near(self, node: int) -> None:
        """No second branch within three nodes up or down of a branching."""
        at = self.at[node]
        near = ((self.at[: self.n] - at) ** 2).sum(1) < (3 * STEP) ** 2
        self.closed[: self.n] |= near & (self.children[: self.n] > 0)


def grow(trunks: list[Floats], carriers: Floats, inside: Inside) -> Skeleton:
    """The forest that starts with `trunks`, each (n, 2) from the disc outwards, and reaches the `carriers`, (m, 2).

    `inside` says of (n, 2) points which may carry vessels; a trunk ends where it leaves that region.
    """
    forest = _Forest()
    for root, trunk in enumerate(trunks):
        path = _evenly(trunk, STEP)
        out = np.flatnonzero(~inside(path))
        forest.append(path[: out[0]] if len(out) else path, -1, root)
        forest.closed[forest.n - len(path) : forest.n][:3] = True
    for target in carriers:
        _connect(forest, target, inside)
    n = forest.n
    return Skeleton(forest.at[:n].copy(), forest.parent[:n].copy(), forest.root[:n].copy())


def _connect(forest: _Forest, target: Floats, inside: Inside) -> None:
    n = forest.n
    if n > _ROOM - 400:
        return
    way = target - forest.at[:n]
    distance = np.hypot(way[:, 0], way[:, 1])
    ahead = (way * forest.heading[:n]).sum(1) / np.maximum(distance, 1e-9)
    cost = distance * (1 + _BEND * (1 - ahead)) + _BALANCE * forest.depth[:n]
    cost[forest.closed[:n] | (forest.children[:n] > 1) | (ahead < -0.2)] = np.inf
    if distance.min() < _CLEARANCE:
        return
    for _ in range(_TRIES):
        node = int(cost.argmin())
        if not np.isfinite(cost[node]):
            return
        path = _branch(forest.at[node], forest.heading[node], target)
        if inside(path).all() and _is_clear(forest, path):
            forking = forest.children[node] > 0
            forest.append(path, node, int(forest.root[node]))
            if forking:
                forest.close_near(node)
            return
        cost[((forest.at[:n] - forest.at[node]) ** 2).sum(1) < (4 * STEP) ** 2] = np.inf


def _branch(start: Floats, heading: Floats, target: Floats) -> Floats:
    """Nodes of a curve that leaves `start` at no more than the take-off angle and ends at `target`."""
    way = target - start
    turn = np.arctan2(heading[0] * way[1] - heading[1] * way[0], heading @ way)
    turn = np.clip(turn, -_TAKE_OFF, _TAKE_OFF)
    cos, sin = np.cos(turn), np.sin(turn)
    first = np.array([cos * heading[0] - sin * heading[1], sin * heading[0] + cos * heading[1]])
    bend = start + first * 0.45 * np.hypot(*way)
    t = np.linspace(0, 1, max(12, int(2 * np.hypot(*way) / STEP)))[:, None]
    return _evenly((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * target, STEP)[1:]


def _is_clear(forest: _Forest, path: Floats) -> bool:
    later = path[3:]
    if not len(later):
        return False
    gap = ((forest.at[None, : forest.n] - later[::2, None]) ** 2).sum(2).min()
    return bool(gap > _CLEARANCE**2)


def _evenly(path: Floats, step: float) -> Floats:
    """The same polyline with points `step` apart."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    n = max(2, round(length[-1] / step) + 1)
    at = np.linspace(0, length[-1], n)
    return np.column_stack([np.interp(at, length, path[:, k]) for k in (0, 1)])
