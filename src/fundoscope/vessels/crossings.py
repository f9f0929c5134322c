"""Crossings: where one vessel runs over another, found on the graph of all vessels or between arteries and veins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.vessels import draw
from fundoscope.vessels.graph import (
    Branch,
    Centreline,
    Mask,
    Points,
    arc_length,
    branches_at,
    extend_branch,
    nearest_points,
    smooth_path,
    vessel_graph,
)
from fundoscope.vessels.multigraph import VesselGraph

REACH = 60.0  # pixels to each side that centrelines are followed: eight widths of a wide DRIVE vein
MAX_BEND = np.radians(42)  # a vessel turns by no more on its way through a crossing
_MIN_ANGLE = np.radians(22)  # vessels that meet at less run side by side and only touch
_LINK = 1.5  # vessel widths over the sine of the angle: two branch points nearer than that may be one crossing
_WIDEST = 8.0  # pixels: radius of the widest vessel at the map's scale
_DIRECTION_PIXELS = 12.0  # over which the direction beside a crossing is taken
_MEETING = 1.5  # pixels within which an artery and a vein meet
_SAME_PLACE = 6.0  # pixels: crossings nearer than that are one
_BESIDE, _BEHIND = 1.25, 0.5  # vessel widths by which the other vessel's skeleton may draw a vessel off its line
_MOVED = 3.0  # pixels by which straight lines may correct the place that the skeletons give


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCrossing:
    """Two vessels that cross at `at` (row, column) under `angle` (degrees, up to 90).

    Where it is known which is which, `first` is the artery and `second` the vein.
    """

    at: Points
    angle: float
    first: Centreline
    second: Centreline

    def scaled(self, scale: float) -> MeasuredCrossing:
        """The same crossing in a picture that is resampled to `scale` times the size."""
        at = (self.at + 0.5) * scale - 0.5
        return MeasuredCrossing(at, self.angle, self.first.scaled(scale), self.second.scaled(scale))

    def draw(self, canvas: Pixels) -> None:
        """Draw both centrelines and a ring around the crossing onto a photograph (rows, columns, 3)."""
        draw.line(canvas, self.first.points, draw.ARTERY)
        draw.line(canvas, self.second.points, draw.VEIN)
        draw.ring(canvas, self.at, 3 * float(np.median(self.second.radius)), draw.MARK)


def crossings_on(graph: VesselGraph, reach: float = REACH) -> list[MeasuredCrossing]:
    """The crossings on a graph of all vessels, without knowing which are arteries.

    Candidates are nodes with four branches, and pairs of branch points that are near enough to be one crossing. Their
    branches are paired into the two straightest vessels; bends, parallel touches and short stumps are left out.
    """
    clusters = [[node] for node in graph if graph.degree(node) >= 4]
    linked = {(min(u, v), max(u, v)) for u, v, *_ in graph.edges() if u != v}
    clusters += [[u, v] for u, v in sorted(linked) if graph.degree(u) >= 3 and graph.degree(v) >= 3]
    found = [_crossing_in(graph, cluster, reach) for cluster in clusters]
    return _one_each_place([crossing for crossing in found if crossing is not None])


def _crossing_in(graph: VesselGraph, cluster: list[int], reach: float) -> MeasuredCrossing | None:
    """The crossing of the two straightest vessels through a node, or through a pair of linked nodes."""
    link = 0.0  # pixels between the two nodes
    if len(cluster) == 2:
        link = min(float(arc_length(data["path"])[-1]) for data in graph.between(*cluster).values())
    if link > 2 * _LINK * _WIDEST / np.sin(_MIN_ANGLE):
        return None
    leaving = [(node, branch) for node in cluster for branch in branches_at(graph, node) if branch.end not in cluster]
    bends = bends_between([branch for _, branch in leaving])
    best: tuple[float, list[tuple[Branch, Branch]]] | None = None
    for four in combinations(range(len(leaving)), 4):
        for pairing in pairings(four):
            bend = max(bends[pair] for pair in pairing)
            if bend >= (MAX_BEND if best is None else best[0]):
                continue
            vessels = [(leaving[i], leaving[j]) for i, j in pairing]
            width = 2 * max(float(np.median(leaving[i][1].radius)) for i in four)
            if len(cluster) == 2 and any(a[0] == b[0] or _is_offset(graph, a, b, width) for a, b in vessels):
                continue  # a vessel that crosses passes both branch points, straight on
            best = bend, [(a[1], b[1]) for a, b in vessels]
    if best is None:
        return None
    first, second = (centreline_through(graph, a, b, reach) for a, b in best[1])
    return crossing_of(first, second, link)


def pairings(four: tuple[int, ...]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The three ways in which four branches can form two vessels."""
    a, b, c, d = four
    return [((a, b), (c, d)), ((a, c), (b, d)), ((a, d), (b, c))]


def _is_offset(graph: VesselGraph, a: tuple[int, Branch], b: tuple[int, Branch], width: float) -> bool:
    """Whether two branches (each with its node) lie on parallel lines rather than on one: then they are two branchings
    on opposite sides of a vessel, and no crossing. `width` is the wider vessel's, pixels.
    """
    directions = [branch.direction(_distorted_pixels(branch), _DIRECTION_PIXELS) for _, branch in (a, b)]
    way = directions[1] - directions[0]
    way = way / max(float(np.hypot(*way)), 1e-9)
    step = graph.nodes[b[0]]["at"] - graph.nodes[a[0]]["at"]
    beside = abs(float(step[0] * way[1] - step[1] * way[0]))
    return beside > _BESIDE * width or float(step @ way) < -_BEHIND * width


def _distorted_pixels(branch: Branch) -> float:
    """Pixels at a branch's start where the other vessel draws its skeleton aside."""
    return 1.2 * float(np.max(branch.radius[:3], initial=1.0))


def bends_between(branches: Sequence[Branch]) -> NDArray[np.float64]:
    """Angle by which a vessel turns that comes in by one branch and goes out by another, radians, (n, n)."""
    directions = [branch.direction(_distorted_pixels(branch), _DIRECTION_PIXELS) for branch in branches]
    unit = np.array(directions).reshape(-1, 2)
    return np.arccos(np.clip(-unit @ unit.T, -1, 1))


def centreline_through(graph: VesselGraph, a: Branch, b: Branch, reach: float) -> Centreline:
    """Two branches joined to one vessel, `reach` pixels to each side, with a straight line where their skeletons are
    distorted by the other vessel.
    """
    before, after = extend_branch(graph, a, reach), extend_branch(graph, b, reach)
    start_before, start_after = (
        min(int(np.searchsorted(arc_length(each.path), _distorted_pixels(each))), len(each.path) - 1)
        for each in (before, after)
    )
    first, last = before.path[start_before:][::-1], after.path[start_after:]
    gap = max(1, round(float(np.hypot(*(last[0] - first[-1])))))
    bridge = first[-1] + (np.arange(1, gap) / gap)[:, None] * (last[0] - first[-1])
    radii = before.radius[start_before:], after.radius[start_after:]
    middle = np.full(len(bridge), min(float(np.median(radius)) for radius in radii))
    points = smooth_path(np.vstack([first, bridge, last]), 1.0)
    return Centreline(points, np.concatenate([radii[0][::-1], middle, radii[1]]), len(first) + len(bridge) // 2)


def crossing_of(first: Centreline, second: Centreline, link: float) -> MeasuredCrossing | None:
    """The crossing of two vessels near their `crossing_index`; None where they only touch or run side by side.

    `link` is the distance in pixels between the two branch points that the skeleton made of the crossing, 0 for one.
    """
    near_first, near_second = (_indices_near_crossing(line, link / 2 + _DIRECTION_PIXELS) for line in (first, second))
    distance, nearest = nearest_points(first.points[near_first], second.points[near_second])
    k = int(np.argmin(distance))
    i, j = near_first.start + k, near_second.start + int(nearest[k])
    cosine = abs(_direction(first.points, i) @ _direction(second.points, j))
    angle = float(np.arccos(np.clip(cosine, 0, 1)))
    if angle < _MIN_ANGLE:
        return None
    if link > 0:
        width = 2 * max(float(np.median(first.radius)), float(np.median(second.radius)))
        near_enough = distance[k] <= max(2.0, 0.35 * width) and link <= _LINK * width / np.sin(angle)
        if not near_enough or not passes_over(first.points, i, second.points, j):
            return None
    at = _intersection(first.points, i, second.points, j)
    first, second = (
        Centreline(line.points, line.radius, int(nearest_points(at[None], line.points)[1][0]))
        for line in (first, second)
    )
    return MeasuredCrossing(at, float(np.degrees(angle)), first, second)


def _indices_near_crossing(line: Centreline, reach: float) -> slice:
    """The points within `reach` pixels of the crossing along a centreline: two vessels may well cross twice."""
    way = arc_length(line.points)
    low, high = np.searchsorted(way, [way[line.crossing_index] - reach, way[line.crossing_index] + reach])
    return slice(int(low), int(high) + 1)


def _intersection(p: Points, i: int, q: Points, j: int) -> Points:
    """Where the straight lines along two paths meet, near p[i] and q[j]; midway between these if that is far off."""
    midway = (p[i] + q[j]) / 2
    along_p, along_q = _direction(p, i), _direction(q, j)
    a, b = (path[max(k - 6, 0) : k + 7].mean(axis=0) for path, k in ((p, i), (q, j)))
    determinant = float(along_p[0] * along_q[1] - along_p[1] * along_q[0]) or 1e-9
    ahead = ((b - a)[0] * along_q[1] - (b - a)[1] * along_q[0]) / determinant
    at = a + ahead * along_p
    return at if np.hypot(*(at - midway)) <= _MOVED else midway


def _direction(points: Points, i: int, reach: float = _DIRECTION_PIXELS) -> Points:
    """Unit direction (2,) of a path (n, 2) over `reach` pixels around its point `i`."""
    way = arc_length(points)
    a, b = np.searchsorted(way, [way[i] - reach / 2, way[i] + reach / 2])
    run = points[min(int(b), len(points) - 1)] - points[int(a)]
    return run / max(float(np.hypot(*run)), 1e-9)


def passes_over(p: Points, i: int, q: Points, j: int) -> bool:
    """Whether path `q` (n, 2) comes from one side of path `p` and leaves on the other, near q[j] and p[i]."""
    way = _direction(p, i)
    side = (q - p[i]) @ np.array([-way[1], way[0]])
    before, after = side[max(0, j - 12) : max(j - 2, 1)], side[j + 3 : j + 13]
    return len(before) > 0 and len(after) > 0 and float(np.median(before) * np.median(after)) < 0


def _one_each_place(found: list[MeasuredCrossing]) -> list[MeasuredCrossing]:
    """The crossings by row and column, of several at one place only the one with the largest angle."""
    kept: list[MeasuredCrossing] = []
    for crossing in sorted(found, key=lambda c: -c.angle):
        if all(np.hypot(*(crossing.at - other.at)) > _SAME_PLACE for other in kept):
            kept.append(crossing)
    return sorted(kept, key=lambda c: tuple(c.at))


def crossings_between(artery: Mask, vein: Mask, reach: float = REACH) -> list[MeasuredCrossing]:
    """The crossings of an arterial and a venous mask (rows, columns), both of which hold the pixels where they cross.

    Arteries and veins have a graph each, so that neither distorts the other's centreline; `first` is the artery.
    """
    return crossings_of_graphs(vessel_graph(artery), vessel_graph(vein), reach)


def crossings_of_graphs(
    artery_graph: VesselGraph, vein_graph: VesselGraph, reach: float = REACH
) -> list[MeasuredCrossing]:
    """The same for graphs of the arteries and of the veins that exist already."""
    arteries, veins = _edges(artery_graph), _edges(vein_graph)
    found = []
    for i, j in _pairs_that_may_meet(arteries, veins):
        for at_artery, at_vein in _meeting_points(arteries[i].path, veins[j].path):
            first = _centreline_on(artery_graph, arteries[i], at_artery, reach)
            second = _centreline_on(vein_graph, veins[j], at_vein, reach)
            crossing = crossing_of(first, second, link=0.0)
            if crossing is not None and passes_over(
                first.points, first.crossing_index, second.points, second.crossing_index
            ):
                found.append(crossing)
    return _one_each_place(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Edge:
    """An edge of a graph with the corners of its bounding box, `low` and `high` (row, column)."""

    edge: tuple[int, int, int]
    path: Points
    radius: NDArray[np.float64]
    low: Points
    high: Points


def _edges(graph: VesselGraph) -> list[_Edge]:
    return [
        _Edge((min(u, v), max(u, v), key), d["path"], d["radius"], d["path"].min(0), d["path"].max(0))
        for u, v, key, d in graph.edges()
        if len(d["path"]) > 3
    ]


def _pairs_that_may_meet(some: list[_Edge], others: list[_Edge]) -> NDArray[np.int64]:
    """Indices (n, 2) of edges whose bounding boxes come within a pixel of each other."""
    if not some or not others:
        return np.zeros((0, 2), np.int64)
    (low, high), (other_low, other_high) = (
        [np.array([e.low for e in edges]), np.array([e.high for e in edges])] for edges in (some, others)
    )
    return np.argwhere(((low[:, None] <= other_high + 1) & (other_low <= high[:, None] + 1)).all(axis=2))


def _meeting_points(p: Points, q: Points) -> Iterator[tuple[int, int]]:
    """Indices of the nearest points of two paths at each place where they come within `_MEETING` of each other."""
    distance, nearest = nearest_points(p, q)
    close = np.flatnonzero(distance < _MEETING)
    for run in np.split(close, np.flatnonzero(np.diff(close) > 3) + 1):
        if len(run):
            i = int(run[np.argmin(distance[run])])
            yield i, int(nearest[i])


def _centreline_on(graph: VesselGraph, edge: _Edge, i: int, reach: float) -> Centreline:
    """The vessel through point `i` of an edge, followed for `reach` pixels to both sides."""
    lower, higher, _ = edge.edge
    back = extend_branch(graph, Branch(edge.path[: i + 1][::-1], edge.radius[: i + 1][::-1], lower, edge.edge), reach)
    forth = extend_branch(graph, Branch(edge.path[i:], edge.radius[i:], higher, edge.edge), reach)
    points = np.vstack([back.path[::-1], forth.path[1:]])
    return Centreline(points, np.concatenate([back.radius[::-1], forth.radius[1:]]), len(back.path) - 1)
