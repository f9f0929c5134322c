"""Skeletons of vessel trees, grown from the disc to cover the retina.

Four trunks leave the disc. Target points spread over the retina are connected to the growing tree one at a time, each
where it costs least: the new length, more if the branch must bend back, plus a share of the way from the disc (greedy
minimum spanning tree with a balancing factor: Cuntz et al. 2010, PLoS Comput Biol 6:e1000877, equation 1; its forerunner
for arteries is constrained constructive optimisation, Schreiner and Buxton 1993, IEEE Trans Biomed Eng 40:482). A branch
leaves its parent at an acute angle and keeps clear of vessels of its own type, so that artery seldom crosses artery.

Growth stays ours: nodes are added one at a time, and a k-d tree (scipy) would have to be built anew for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import fundus, noise
from fundoscope.vessels.graph import arc_length

Floats = NDArray[np.float64]
VesselType = Literal["artery", "vein"]
Region = Callable[[Floats], NDArray[np.bool_]]  # which of the points (n, 2) lie in it

TRUNKS = 4  # superior temporal, inferior temporal, superior nasal, inferior nasal
_TEMPORAL = np.array(
    [[0, 0.01], [0.03, 0.13], [0.15, 0.36], [0.44, 0.6], [0.9, 0.72], [1.45, 0.7], [2.1, 0.68], [2.9, 0.8], [3.9, 1.0]]
)
_NASAL = np.array([[0, 0.01], [-0.05, 0.12], [-0.24, 0.38], [-0.65, 0.75], [-1.2, 1.1], [-1.9, 1.5], [-2.6, 1.9]])
_OFFSET = {"vein": 0.05, "artery": -0.03}  # eye units: a vein runs a little outside its artery
_SWING = (0.03, 0.075)  # eye units: how far a trunk swings from side to side,
_SWING_PERIOD = (0.9, 1.7)  # and over what length
_LATTICE_CENTRE = np.array([0.4, 0.0])  # eye units: between disc and fovea

STEP = 0.035  # eye units between nodes
_BALANCE = 0.25  # share of the way from the disc in the cost (Cuntz et al. use 0.2 to 0.7)
_BEND_COST = 0.9  # how much dearer a branch is that turns back on its parent
_MAX_TAKE_OFF = 0.9  # radians: widest angle at which a branch leaves its parent
_CLEARANCE = 0.055  # eye units kept from other vessels of the same type
_BRANCHING_DISTANCE = 0.15  # eye units between two branchings of a vessel
_TRIES = 5  # places on the tree that are tried for a target point before it is given up
_MAY_CROSS = (
    0.5,
    0.06,
)  # share of branches that may cross vessels of the other type: among the first (long) ones, and the last
_CAPACITY = 20_000  # nodes


@dataclass(slots=True, eq=False)
class Skeleton:
    """Nodes of all arterial, or all venous, trees: `at` (n, 2) eye coordinates, `parent` (n,) index of the node before, -1 at a root,
    `root` (n,) number of the trunk from which each descends.
    """

    at: Floats
    parent: NDArray[np.int64]
    root: NDArray[np.int64]


def draw_trunks(rng: np.random.Generator, vessel_type: VesselType) -> list[Floats]:
    """The four trunks of the arteries, or of the veins, each (n, 2) in eye units from the disc to the periphery, in the order of `TRUNKS`."""
    return [_draw_trunk(rng, guide, up, vessel_type) for guide in (_TEMPORAL, _NASAL) for up in (1, -1)]


def _draw_trunk(rng: np.random.Generator, guide: Floats, up: int, vessel_type: VesselType) -> Floats:
    """A trunk near a guide line (upwards 1, downwards -1), that swings so that it crosses its partner now and then."""
    points = guide * [1, up * rng.lognormal(0, 0.12)]
    reach = np.linspace(0, 1, len(points))[:, None] ** 0.7
    points = points + reach * (rng.normal(0, 0.055, points.shape) + np.array([0, up * _OFFSET[vessel_type]]))
    points[0] += rng.normal(0, 0.012, 2)
    path = noise.spline_through(points, 120)
    way = np.gradient(path, axis=0)
    normal = np.column_stack([-way[:, 1], way[:, 0]]) / np.hypot(*way.T)[:, None]
    along = arc_length(path)
    swing = rng.uniform(*_SWING) * np.sin(2 * np.pi * (along / rng.uniform(*_SWING_PERIOD) + rng.random()))
    return path + normal * (swing * noise.smoothstep(0.1, 0.7, along))[:, None]


def draw_targets(rng: np.random.Generator, lattices: tuple[tuple[float, float], ...], region: Region) -> Floats:
    """Points (n, 2) of a region for branches to reach: randomly shifted lattices, each with its spacing and its radius
    around the point (0.4, 0), eye units.
    """
    parts = []
    for spacing, radius in lattices:
        at = np.arange(-radius, radius, spacing)
        lattice = np.column_stack([np.tile(at, len(at)), np.repeat(at, len(at))])
        lattice = lattice + rng.uniform(-0.5, 0.5, lattice.shape) * spacing
        parts.append(rng.permutation(lattice[np.hypot(*lattice.T) < radius]))
    points = np.concatenate(parts) + _LATTICE_CENTRE
    return points[region(points)]


def outside_fovea(points: Floats, radius: float = 0.17) -> NDArray[np.bool_]:
    """Which points (n, 2) lie outside the zone of `radius` eye units around the fovea, which has no vessels."""
    return np.hypot(points[:, 0] - fundus.FOVEA[0], points[:, 1] - fundus.FOVEA[1]) >= radius


class _NearbyPoints:
    """Points sorted into square cells, to ask whether any of them lies within `reach` of another point."""

    def __init__(self, reach: float, points: Floats | None = None) -> None:
        self._reach = reach
        self._cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
        if points is not None:
            self.add(points)

    def add(self, points: Floats) -> None:
        """Add points (n, 2)."""
        cells = np.floor(points / (2 * self._reach)).astype(np.int64)
        for cell, point in zip(map(tuple, cells.tolist()), map(tuple, points.tolist()), strict=True):
            self._cells.setdefault(cell, []).append(point)

    def any_near(self, points: Floats) -> bool:
        """Whether one of the added points lies within reach of one of `points` (n, 2)."""
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
    """The growing arterial, or venous, trees, with room for `_CAPACITY` nodes.

    `rows` (nodes, 5) hold x, y, direction x, direction y and the length of the way from the disc. `open` are the numbers
    of the nodes that may bear a branch, and `open_rows` (5, open) their rows.
    """

    def __init__(self) -> None:
        self.n = 0
        self.rows = np.zeros((_CAPACITY, 5))
        self.parent = np.full(_CAPACITY, -1)
        self.root = np.zeros(_CAPACITY, np.int64)
        self.forked = np.zeros(_CAPACITY, bool)  # bears two branches, or is too near to a node that does
        self.tip = np.zeros(_CAPACITY, bool)
        self.nearby = _NearbyPoints(_CLEARANCE)
        self.open = np.zeros(0, np.int64)
        self.open_rows = np.zeros((5, 0))

    def append(self, path: Floats, parent: int, root: int) -> None:
        """Add a chain of nodes along `path` (n, 2), as a branch of node `parent` (-1: a trunk)."""
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
        self.nearby.add(path)
        self.open = np.concatenate([self.open, np.arange(new.start, new.stop)])
        if parent >= 0 and self.tip[parent]:
            self.tip[parent] = False
        elif parent >= 0:  # a branching: no second one near it
            apart = self.rows[self.open, :2] - self.rows[parent, :2]
            near = self.open[(apart**2).sum(1) < _BRANCHING_DISTANCE**2]
            self.forked[near[~self.tip[near]]] = True
        self.open = self.open[~self.forked[self.open]]
        self.open_rows = np.ascontiguousarray(self.rows[self.open].T)


def grow(trunks: list[Floats], targets: Floats, region: Region, others: Floats, rng: np.random.Generator) -> Skeleton:
    """The skeleton that starts with `trunks`, each (n, 2) from the disc outwards, and reaches the `targets` (m, 2).

    Vessels stay in the region: a trunk ends where it leaves it. A branch seldom crosses the vessels of the other type,
    whose nodes are `others` (k, 2).
    """
    forest = _Forest()
    for root, trunk in enumerate(trunks):
        path = _evenly_spaced(trunk, STEP)
        outside = np.flatnonzero(~region(path))
        path = path[: max(2, outside[0])] if len(outside) else path
        forest.forked[forest.n : forest.n + min(3, len(path))] = True
        forest.append(path, -1, root)
    other_type = _NearbyPoints(STEP, others)
    chance = _MAY_CROSS[1] + _MAY_CROSS[0] * np.exp(-4 * np.linspace(0, 1, len(targets)))
    may_cross = rng.random(len(targets)) < chance
    for target, crosses in zip(targets, may_cross, strict=True):
        _connect(forest, target, region, None if crosses else other_type)
    n = forest.n
    return Skeleton(forest.rows[:n, :2].copy(), forest.parent[:n].copy(), forest.root[:n].copy())


def _connect(forest: _Forest, target: Floats, region: Region, others: _NearbyPoints | None) -> None:
    """Add the cheapest branch to `target` (2,) that keeps clear of other vessels; none after `_TRIES` attempts."""
    if forest.n > _CAPACITY - 400 or forest.nearby.any_near(target[None]):
        return
    cost = _costs(forest, target)
    x, y = forest.open_rows[:2]
    for _ in range(_TRIES):
        best = int(cost.argmin())
        if not np.isfinite(cost[best]):
            return
        node = int(forest.open[best])
        path = _branch(forest.rows[node, :2], forest.rows[node, 2:4], target)
        clear = not forest.nearby.any_near(path[3::2]) and not (others is not None and others.any_near(path[2:]))
        if clear and region(path).all():
            forest.append(path, node, int(forest.root[node]))
            return
        cost[(x - x[best]) ** 2 + (y - y[best]) ** 2 < (4 * STEP) ** 2] = np.inf


def _costs(forest: _Forest, target: Floats) -> Floats:
    """Cost (open,) of a branch from each open node to `target` (2,); infinite where it would have to turn back."""
    x, y, direction_x, direction_y, depth = forest.open_rows
    right, up = target[0] - x, target[1] - y
    distance = np.sqrt(right * right + up * up)
    ahead = right * direction_x + up * direction_y  # distance times the cosine of the turn
    cost = (1 + _BEND_COST) * distance - _BEND_COST * ahead + _BALANCE * depth
    cost[ahead < -0.2 * distance] = np.inf
    return cost


def _branch(start: Floats, direction: Floats, target: Floats) -> Floats:
    """Nodes (n, 2) of a curve that leaves `start` within the take-off angle of `direction` and ends at `target`."""
    (x, y), (run, rise) = start.tolist(), direction.tolist()
    right, up = float(target[0]) - x, float(target[1]) - y
    length = math.hypot(right, up)
    turn = math.atan2(run * up - rise * right, run * right + rise * up)
    turn = min(max(turn, -_MAX_TAKE_OFF), _MAX_TAKE_OFF)
    cos, sin = 0.45 * length * math.cos(turn), 0.45 * length * math.sin(turn)
    bend = (x + cos * run - sin * rise, y + sin * run + cos * rise)
    return _bezier_weights(max(3, round(1.08 * length / STEP))) @ np.array([(x, y), bend, target])


@cache
def _bezier_weights(steps: int) -> Floats:
    """Weights (steps, 3) of start, bend and end at the nodes of a quadratic Bézier curve, without its start."""
    t = np.arange(1, steps + 1) / steps
    return np.column_stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])


def _evenly_spaced(path: Floats, step: float) -> Floats:
    """The polyline (n, 2) resampled to points about `step` apart."""
    length = arc_length(path)
    at = np.linspace(0, length[-1], max(2, round(length[-1] / step) + 1))
    return np.column_stack([np.interp(at, length, path[:, k]) for k in (0, 1)])
