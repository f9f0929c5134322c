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

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

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
        """A chain of nodes along `path`, hanging on `parent`."""
        new = slice(self.n, self.n + len(path))
        start = self.at[parent] if parent >= 0 else path[0]
        way = np.diff(path, axis=0, prepend=start[None])
        length = np.hypot(way[:, 0], way[:, 1])
        self.at[new], self.root[new] = path, root
        self.parent[new] = np.arange(self.n - 1, self.n - 1 + len(path))
        self.parent[self.n] = parent
        self.heading[new] = way / np.maximum(length, 1e-9)[:, None]
        self.depth[new] = (self.depth[parent] if parent >= 0 else 0.0) + np.cumsum(length)
        self.children[new] = 1
        self.children[self.n + len(path) - 1] = 0
        if parent >= 0:
            self.children[parent] += 1
        self.n += len(path)

    def close_near(self, node: int) -> None:
        """No second branch near a branching."""
        at = self.at[node]
        near = ((self.at[: self.n] - at) ** 2).sum(1) < _APART**2
        self.closed[: self.n] |= near & (self.children[: self.n] > 0)


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
        forest.append(path, -1, root)
        forest.closed[forest.n - len(path) : forest.n][:3] = True
    tree = KDTree(others) if len(others) else None
    chance = _MAY_CROSS[1] + _MAY_CROSS[0] * np.exp(-4 * np.linspace(0, 1, len(carriers)))
    may_cross = rng.random(len(carriers)) < chance
    for target, crosses in zip(carriers, may_cross, strict=True):
        _connect(forest, target, inside, None if crosses else tree)
    n = forest.n
    return Skeleton(forest.at[:n].copy(), forest.parent[:n].copy(), forest.root[:n].copy())


def _connect(forest: _Forest, target: Floats, inside: Inside, others: KDTree | None) -> None:
    n = forest.n
    if n > _ROOM - 400:
        return
    way = target - forest.at[:n]
    squared = np.einsum("ij,ij->i", way, way)
    if squared.min() < _CLEARANCE**2:
        return
    distance = np.sqrt(squared)
    ahead = np.einsum("ij,ij->i", way, forest.heading[:n]) / distance
    cost = distance * (1 + _BEND * (1 - ahead)) + _BALANCE * forest.depth[:n]
    cost[forest.closed[:n] | (forest.children[:n] > 1) | (ahead < -0.2)] = np.inf
    for _ in range(_TRIES):
        node = int(cost.argmin())
        if not np.isfinite(cost[node]):
            return
        path = _branch(forest.at[node], forest.heading[node], target)
        if _is_clear(forest.at[:n], path[3:]) and not _crosses(others, path[2:]) and inside(path).all():
            forking = forest.children[node] > 0
            forest.append(path, node, int(forest.root[node]))
            if forking:
                forest.close_near(node)
            return
        cost[((forest.at[:n] - forest.at[node]) ** 2).sum(1) < (4 * STEP) ** 2] = np.inf


def _branch(start: Floats, heading: Floats, target: Floats) -> Floats:
    """Nodes of a curve that leaves `start` at no more than the take-off angle and ends at `target`."""
    way = target - start
    length = math.hypot(way[0], way[1])
    turn = math.atan2(heading[0] * way[1] - heading[1] * way[0], heading[0] * way[0] + heading[1] * way[1])
    turn = min(max(turn, -_TAKE_OFF), _TAKE_OFF)
    cos, sin = math.cos(turn), math.sin(turn)
    first = np.array([cos * heading[0] - sin * heading[1], sin * heading[0] + cos * heading[1]])
    bend = start + first * (0.45 * length)
    steps = max(3, round(1.08 * length / STEP))
    t = (np.arange(1, steps + 1) / steps)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * target


def _is_clear(nodes: Floats, path: Floats) -> bool:
    """Whether every second point of `path` keeps clear of all `nodes` of its own kind."""
    if not len(path):
        return True
    low, high = path.min(axis=0) - _CLEARANCE, path.max(axis=0) + _CLEARANCE
    x, y = nodes[:, 0], nodes[:, 1]
    near = nodes[(x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])]
    apart = near[None] - path[::2, None]
    return bool(np.einsum("ijk,ijk->ij", apart, apart).min(initial=np.inf) > _CLEARANCE**2)


def _crosses(others: KDTree | None, path: Floats) -> bool:
    """Whether `path` comes onto a vessel of the other kind."""
    if others is None or not len(path):
        return False
    return bool(np.isfinite(others.query(path, distance_upper_bound=STEP)[0]).any())


def _evenly(path: Floats, step: float) -> Floats:
    """The same polyline with points `step` apart."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    n = max(2, round(length[-1] / step) + 1)
    at = np.linspace(0, length[-1], n)
    return np.column_stack([np.interp(at, length, path[:, k]) for k in (0, 1)])
