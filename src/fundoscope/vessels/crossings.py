"""Crossings: where two vessels run through each other, found on the vessel graph or between an arterial and a venous one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from fundoscope.imaging import Pixels
from fundoscope.vessels import draw
from fundoscope.vessels.graph import (
    Branch,
    Centreline,
    Mask,
    Points,
    along,
    branches_at,
    extend_branch,
    smoothed,
    vessel_graph,
)

REACH = 60.0  # pixels each way that strands are followed: eight widths of a wide DRIVE vein
_BRIDGE = 1.5  # vessel widths over the sine of the angle: two branch points nearer than that may be one crossing
_WIDEST = 8.0  # pixels: radius of the widest vessel at the map's scale
BEND = np.radians(42)  # a vessel that runs through a crossing turns by no more
_ANGLE = np.radians(22)  # vessels that meet at less run side by side and only touch
_HEADED = 12.0  # pixels over which the direction beside a crossing is taken
_ONE = 6.0  # pixels: crossings of the same two vessels nearer than that are one
_BESIDE, _BEHIND = 1.25, 0.5  # vessel widths that a vessel may be drawn off its line by the one it crosses
_MOVED = 3.0  # pixels by which the meeting of two straight lines may move the place that the skeletons gave


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCrossing:
    """Two strands that cross at `at` (row, column) under `angle` (degrees, up to 90).

    Where it is known which is which, `first` is the artery and `second` the vein.
    """

    at: Points
    angle: float
    first: Centreline
    second: Centreline

    def scaled(self, scale: float) -> MeasuredCrossing:
        """The crossing in a picture with `scale` pixels for each of this one's."""
        at = (self.at + 0.5) * scale - 0.5
        return MeasuredCrossing(at, self.angle, self.first.scaled(scale), self.second.scaled(scale))

    def draw(self, canvas: Pixels) -> None:
        """Both strands and a ring around their crossing, on the photograph (rows, columns, 3) itself."""
        draw.line(canvas, self.first.points, draw.ARTERY)
        draw.line(canvas, self.second.points, draw.VEIN)
        draw.ring(canvas, self.at, 3 * float(np.median(self.second.radius)), draw.MARK)


def crossings_on(graph: nx.MultiGraph, reach: float = REACH) -> list[MeasuredCrossing]:
    """The crossings of a graph of all vessels (arteries and veins in one mask), by geometry alone.

    At a node of four arms, or two branch points that lie as near to each other as a crossing would draw them, the
    arms are paired so that both vessels run straightest; a bend, a touch in parallel or a short stump is none.
    """
    found = []
    for cluster in _clusters(graph):
        crossing = _crossing_of(graph, cluster, reach)
        if crossing is not None:
            found.append(crossing)
    return _apart(found)


def _clusters(graph: nx.MultiGraph) -> list[list[int]]:
    """Nodes with four arms or more, and pairs of branch points that an edge links."""
    clusters = [[node] for node in graph if graph.degree(node) >= 4]
    linked = {(min(u, v), max(u, v)) for u, v in graph.edges() if u != v}
    return clusters + [[u, v] for u, v in sorted(linked) if graph.degree(u) >= 3 and graph.degree(v) >= 3]


def _link(graph: nx.MultiGraph, cluster: list[int]) -> float:
    """Pixels between the two branch points of a cluster, 0 for a single node."""
    if len(cluster) == 1:
        return 0.0
    return min(float(along(data["path"])[-1]) for data in graph.get_edge_data(*cluster).values())


def _crossing_of(graph: nx.MultiGraph, cluster: list[int], reach: float) -> MeasuredCrossing | None:
    link = _link(graph, cluster)
    if link > 2 * _BRIDGE * _WIDEST / np.sin(_ANGLE):
        return None
    out = [(node, arm) for node in cluster for arm in branches_at(graph, node) if arm.end not in cluster]
    bends = bends_between([arm for _, arm in out])
    best: tuple[float, tuple[tuple[Branch, Branch], tuple[Branch, Branch]]] | None = None
    for four in combinations(range(len(out)), 4):
        for pairing in pairings(four):
            bend = max(bends[pair] for pair in pairing)
            if bend >= (BEND if best is None else best[0]):
                continue
            through = [(out[i], out[j]) for i, j in pairing]
            width = 2 * max(float(np.median(out[i][1].radius)) for i in four)
            if len(cluster) == 2 and any(a[0] == b[0] or _staggered(graph, a, b, width) for a, b in through):
                continue  # a vessel that crosses passes both branch points, straight on
            best = bend, ((through[0][0][1], through[0][1][1]), (through[1][0][1], through[1][1][1]))
    if best is None:
        return None
    strands = [centreline_through(graph, a, b, reach) for a, b in best[1]]
    return crossing_of(strands[0], strands[1], link)


def pairings(four: tuple[int, ...]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    a, b, c, d = four
    return [((a, b), (c, d)), ((a, c), (b, d)), ((a, d), (b, c))]


def _staggered(graph: nx.MultiGraph, a: tuple[int, Branch], b: tuple[int, Branch], width: float) -> bool:
    """Whether the second arm does not carry on the first one's line, but leaves the other vessel beside it or behind:
    two branchings on opposite sides. `width` is the wider vessel's.
    """
    skipped = [arm.heading(_skip(arm), _HEADED) for _, arm in (a, b)]
    way = skipped[1] - skipped[0]
    way = way / max(float(np.hypot(*way)), 1e-9)
    step = graph.nodes[b[0]]["at"] - graph.nodes[a[0]]["at"]
    beside = abs(float(step[0] * way[1] - step[1] * way[0]))
    return beside > _BESIDE * width or float(step @ way) < -_BEHIND * width


def _skip(arm: Branch) -> float:
    """Pixels at an arm's start where its skeleton is drawn towards the other vessel."""
    return 1.2 * float(np.max(arm.radius[:3], initial=1.0))


def bends_between(arms: Sequence[Branch]) -> NDArray[np.float64]:
    """Turn of a vessel that comes in by one arm and goes out by another, radians, (n, n)."""
    headings = np.array([arm.heading(_skip(arm), _HEADED) for arm in arms]).reshape(-1, 2)
    return np.arccos(np.clip(-headings @ headings.T, -1, 1))


def centreline_through(graph: nx.MultiGraph, a: Branch, b: Branch, reach: float) -> Centreline:
    """The two arms as one vessel, straight across the place where the skeletons are drawn together."""
    before, after = extend_branch(graph, a, reach), extend_branch(graph, b, reach)
    cut = [min(int(np.searchsorted(along(arm.path), _skip(arm))), len(arm.path) - 1) for arm in (before, after)]
    first, last = before.path[cut[0] :][::-1], after.path[cut[1] :]
    gap = max(1, round(float(np.hypot(*(last[0] - first[-1])))))
    across = first[-1] + (np.arange(1, gap) / gap)[:, None] * (last[0] - first[-1])
    radii = [arm.radius[at:] for arm, at in zip((before, after), cut, strict=True)]
    middle = np.full(len(across), min(float(np.median(r)) for r in radii))
    path = np.vstack([first, across, last])
    return Centreline(
        smoothed(path, 1.0), np.concatenate([radii[0][::-1], middle, radii[1]]), len(first) + len(across) // 2
    )


def crossing_of(first: Centreline, second: Centreline, link: float) -> MeasuredCrossing | None:
    """The place near their `here` where two strands come nearest, if they cross there at an angle that is no touch;
    `link` pixels lie between the two branch points that the crossing drew.
    """
    part, other = (_about(strand, link / 2 + _HEADED) for strand in (first, second))
    near, far = KDTree(second.points[other]).query(first.points[part])
    k = int(np.argmin(near))
    i, j = part.start + k, other.start + int(far[k])
    angle = _angle(first.points, i, second.points, j)
    if angle < _ANGLE:
        return None
    if link > 0:
        width = 2 * max(float(np.median(first.radius)), float(np.median(second.radius)))
        near_enough = near[k] <= max(2.0, 0.35 * width) and link <= _BRIDGE * width / np.sin(angle)
        if not near_enough or not passes(first.points, i, second.points, j):
            return None
    at = _met(first.points, i, second.points, j)
    first, second = (Centreline(s.points, s.radius, int(KDTree(s.points).query(at)[1])) for s in (first, second))
    return MeasuredCrossing(at, float(np.degrees(angle)), first, second)


def _about(strand: Centreline, reach: float) -> slice:
    """The points within `reach` pixels of a strand's `here`, along it: two vessels may well cross twice."""
    way = along(strand.points)
    low, high = np.searchsorted(way, [way[strand.crossing_index] - reach, way[strand.crossing_index] + reach])
    return slice(int(low), int(high) + 1)


def _met(p: Points, i: int, q: Points, j: int) -> Points:
    """Where the straight lines along two paths meet, near p[i] and q[j]; midway between these if that is far off."""
    midway = (p[i] + q[j]) / 2
    run, turn = _direction(p, i), _direction(q, j)
    a, b = (path[max(k - 6, 0) : k + 7].mean(axis=0) for path, k in ((p, i), (q, j)))
    cross = float(run[0] * turn[1] - run[1] * turn[0]) or 1e-9
    ahead = ((b - a)[0] * turn[1] - (b - a)[1] * turn[0]) / cross
    at = a + ahead * run
    return at if np.hypot(*(at - midway)) <= _MOVED else midway


def _direction(points: Points, i: int, reach: float = _HEADED) -> Points:
    way = along(points)
    a, b = np.searchsorted(way, [way[i] - reach / 2, way[i] + reach / 2])
    run = points[min(int(b), len(points) - 1)] - points[int(a)]
    return run / max(float(np.hypot(*run)), 1e-9)


def _angle(p: Points, i: int, q: Points, j: int) -> float:
    return float(np.arccos(np.clip(abs(_direction(p, i) @ _direction(q, j)), 0, 1)))


def passes(p: Points, i: int, q: Points, j: int) -> bool:
    """Whether the second line comes from one side of the first and leaves on the other."""
    way = _direction(p, i)
    side = (q - p[i]) @ np.array([-way[1], way[0]])
    before, after = side[max(0, j - 12) : max(j - 2, 1)], side[j + 3 : j + 13]
    return len(before) > 0 and len(after) > 0 and float(np.median(before) * np.median(after)) < 0


def _apart(found: list[MeasuredCrossing]) -> list[MeasuredCrossing]:
    """One crossing a place: of those nearer than a few pixels the steepest."""
    kept: list[MeasuredCrossing] = []
    for crossing in sorted(found, key=lambda c: -c.angle):
        if all(np.hypot(*(crossing.at - other.at)) > _ONE for other in kept):
            kept.append(crossing)
    return sorted(kept, key=lambda c: tuple(c.at))


def crossings_between(artery: Mask, vein: Mask, reach: float = REACH) -> list[MeasuredCrossing]:
    """The crossings of an arterial and a venous mask (rows, columns), both of which hold the pixels where they cross.

    Each kind has its own graph, so that neither pulls at the other's centreline; `first` is the artery.
    """
    graphs = vessel_graph(artery), vessel_graph(vein)
    arteries, veins = (_edges(graph) for graph in graphs)
    found = []
    for i, j in _beside(arteries, veins):
        a, v = arteries[i], veins[j]
        found += [_strands_at(graphs, a, v, at, reach) for at in _meetings(a.path, v.path)]
    return _apart([crossing for crossing in found if crossing is not None])


@dataclass(frozen=True, slots=True, eq=False)
class _Edge:
    ends: tuple[int, int, int]
    path: Points
    radius: NDArray[np.float64]
    low: Points
    high: Points


def _edges(graph: nx.MultiGraph) -> list[_Edge]:
    edges = graph.edges(keys=True, data=True)
    return [
        _Edge((min(u, v), max(u, v), key), d["path"], d["radius"], d["path"].min(0), d["path"].max(0))
        for u, v, key, d in edges
        if len(d["path"]) > 3
    ]


def _beside(some: list[_Edge], others: list[_Edge]) -> NDArray[np.int64]:
    """Ranks (n, 2) of edges whose boxes come within a pixel of each other."""
    if not some or not others:
        return np.zeros((0, 2), np.int64)
    (low, high), (least, most) = (
        [np.array([e.low for e in es]), np.array([e.high for e in es])] for es in (some, others)
    )
    return np.argwhere(((low[:, None] <= most + 1) & (least <= high[:, None] + 1)).all(axis=2))


def _meetings(p: Points, q: Points) -> list[tuple[int, int]]:
    """Indices before each crossing of two polylines: their nearest samples where the distance has a minimum."""
    near, which = KDTree(q).query(p, distance_upper_bound=1.5)
    places: list[tuple[int, int]] = []
    for run in np.split(
        np.flatnonzero(np.isfinite(near)), np.flatnonzero(np.diff(np.flatnonzero(np.isfinite(near))) > 3) + 1
    ):
        if len(run):
            i = int(run[np.argmin(near[run])])
            places.append((i, int(which[i])))
    return places


def _strands_at(
    graphs: tuple[nx.MultiGraph, nx.MultiGraph], a: _Edge, v: _Edge, at: tuple[int, int], reach: float
) -> MeasuredCrossing | None:
    strands = [_followed(graph, edge, i, reach) for graph, edge, i in zip(graphs, (a, v), at, strict=True)]
    crossing = crossing_of(strands[0], strands[1], link=0.0)
    if crossing is None or not passes(
        strands[0].points, strands[0].crossing_index, strands[1].points, strands[1].crossing_index
    ):
        return None
    return crossing


def _followed(graph: nx.MultiGraph, edge: _Edge, i: int, reach: float) -> Centreline:
    """The vessel through sample `i` of an edge, both ways."""
    u, v, _ = edge.ends
    back = extend_branch(graph, Branch(edge.path[: i + 1][::-1], edge.radius[: i + 1][::-1], u, edge.ends), reach)
    forth = extend_branch(graph, Branch(edge.path[i:], edge.radius[i:], v, edge.ends), reach)
    points = np.vstack([back.path[::-1], forth.path[1:]])
    return Centreline(points, np.concatenate([back.radius[::-1], forth.radius[1:]]), len(back.path) - 1)
