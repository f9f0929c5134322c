"""The graph of a vessel mask: nodes where vessels branch, cross or end, edges that follow their centrelines.

Skeletonisation is scikit-image's. Tracing the skeleton stays ours: edges need
sub-pixel smooth paths with a radius at each point, and no dead ends that only the skeleton has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from fundoscope.vessels.multigraph import VesselGraph

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

_SMOOTHING = 2.0  # pixels: deviation of the smoothing that takes the stairs out of a centreline
_SPUR_RADII, _SPUR_PIXELS = 1.5, 3  # a dead end shorter than their sum is the skeleton's, not a vessel
_STRAIGHT = np.cos(np.radians(45))  # a branch goes on into an edge that turns it by less
_DIRECTION_PIXELS = 6  # over which a branch's direction is taken
_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True, eq=False)
class Centreline:
    """The centreline of one vessel, followed to both sides of a crossing.

    `points` (n, 2; row, column) lie half a pixel to two pixels apart, `radius` (n,) is the mask's half width in pixels,
    `crossing_index` the index of the point at the crossing (0 for a vessel that is measured without one).
    """

    points: Points
    radius: NDArray[np.float64]
    crossing_index: int

    @property
    def length(self) -> float:
        """Length in pixels."""
        return float(arc_length(self.points)[-1])

    def slope(self, nearest: float, farthest: float) -> float:
        """Degrees, -90 to 90, by which the vessel is turned clockwise from level, nan where it cannot be said.

        It is that of the line between the middles of its points on both sides, those `nearest` to `farthest` pixels from the
        crossing.
        """
        along = arc_length(self.points) - arc_length(self.points)[self.crossing_index]
        sides = [self.points[(sign * along >= nearest) & (sign * along <= farthest)] for sign in (-1, 1)]
        if not all(len(side) for side in sides):
            return float("nan")
        down, right = sides[1].mean(axis=0) - sides[0].mean(axis=0)
        return float((np.degrees(np.arctan2(down, right)) + 90) % 180 - 90)

    def scaled(self, scale: float) -> Centreline:
        """The same centreline in a picture that is resampled to `scale` times the size."""
        return Centreline((self.points + 0.5) * scale - 0.5, self.radius * scale, self.crossing_index)


def arc_length(points: Points) -> NDArray[np.float64]:
    """Length of a polyline (n, 2) from its first point to each of its points, (n,)."""
    steps = points[1:] - points[:-1]
    way = np.zeros(max(1, len(points)))
    np.cumsum(np.hypot(steps[:, 0], steps[:, 1]), out=way[1:])
    return way


def nearest_points(points: Points, others: Points) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distance of each point (n, 2) to the nearest of `others` (m, 2), and that one's index, (n,) both; the first of equal ones.

    All pairs are compared, which for vessels of some hundred points is as fast as a tree.
    """
    down, right = (points[:, None, k] - others[:, k] for k in (0, 1))
    squared = down * down + right * right
    nearest = squared.argmin(axis=1)
    return np.sqrt(squared[np.arange(len(points)), nearest]), nearest


def vessel_graph(mask: Mask) -> VesselGraph:
    """The graph of a vessel mask (rows, columns).

    Nodes have `at` (row, column). Edges have `path` (n, 2; row, column), smooth, from the node of the lower number to
    the node of the higher one, and `radius` (n,), the distance to the mask's edge; all in pixels.
    """
    if not mask.any():
        return VesselGraph()
    # Lee et al. 1994 (CVGIP 56:462), since the method of Zhang and Suen erases diagonal vessels two pixels wide
    graph = _trace(skeletonize(mask, method="lee") > 0)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    depth = np.minimum(depth, max(mask.shape) / 2)  # a mask without any edge has no distance to it
    for *_, data in graph.edges():
        data["radius"] = _values_at(depth, data["path"])
    _remove_spurs(graph)
    for u, v, _, data in graph.edges():
        first, last = sorted((u, v))
        raw = np.vstack([graph.nodes[first]["at"], data["path"], graph.nodes[last]["at"]])
        data["path"] = smooth_path(raw)
        data["radius"] = _values_at(depth, data["path"])
    return graph


def _values_at(plane: NDArray[Any], points: Points) -> NDArray[np.float64]:
    rows, columns = np.clip(np.round(points).astype(int), 0, np.array(plane.shape) - 1).T
    return plane[rows, columns].astype(float)


def _trace(skeleton: Mask) -> VesselGraph:
    """The skeleton as a graph: its joints (touching pixels with three neighbours or more) and ends are nodes, the
    chains of pixels between them are edges.
    """
    graph = VesselGraph()
    around = cv2.boxFilter(skeleton.view(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    is_joint = skeleton & (np.asarray(around) > 3)
    joints, n = ndimage.label(is_joint, _EIGHT_NEIGHBOURS)
    pixels = np.argwhere(is_joint)
    own = joints[is_joint]
    centres = np.stack([np.bincount(own, each, n + 1)[1:] for each in pixels.T], axis=1) / np.bincount(own)[1:, None]
    for k, at in enumerate(centres, 1):
        graph.add_node(k, at=at)
    is_chain = skeleton & ~is_joint
    chains, _ = ndimage.label(is_chain, _EIGHT_NEIGHBOURS)
    own = chains[is_chain]
    ends = np.cumsum(np.bincount(own)[1:])[:-1]
    for chain in np.split(np.argwhere(is_chain)[np.argsort(own, kind="stable")], ends) if len(own) else ():
        _add_chain(graph, _ordered_chain(chain), joints)
    return graph


def _ordered_chain(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pixels (n, 2) of a chain from one end to the other; of a ring from its first pixel on."""
    left = {(int(r), int(c)) for r, c in pixels}
    steps = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]  # neighbours by a side come first
    around = {(r, c): [(r + i, c + j) for i, j in steps if (r + i, c + j) in left] for r, c in left}
    pixel: tuple[int, int] | None = next((p for p in sorted(left) if len(around[p]) < 2), min(left))
    order = []
    while pixel is not None:
        order.append(pixel)
        left.discard(pixel)
        pixel = next((q for q in around[pixel] if q in left), None)
    return np.array(order)


def _add_chain(graph: VesselGraph, chain: NDArray[np.int64], joints: NDArray[np.int64]) -> None:
    """Add an edge along a chain (n, 2) between the joints that it touches; a free end becomes a node of its own."""
    ends = [_joint_beside(chain[0], joints, 0), _joint_beside(chain[-1], joints, 0)]
    if len(chain) == 1 and ends[0]:  # one pixel between two joints, or beside one
        ends[1] = _joint_beside(chain[0], joints, ends[0])
    for k, place in ((0, 0), (1, -1)):
        if not ends[k]:
            ends[k] = max(graph.nodes, default=0) + 1
            graph.add_node(ends[k], at=chain[place].astype(float))
    path = chain.astype(float)
    graph.add_edge(*ends, path=path if ends[0] <= ends[1] else path[::-1])


def _joint_beside(pixel: NDArray[np.int64], joints: NDArray[np.int64], other_than: int) -> int:
    """Number of the joint that a pixel touches, 0 if it touches none."""
    r, c = pixel
    beside = joints[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
    found = beside[(beside > 0) & (beside != other_than)]
    return int(found.min()) if found.size else 0


def _remove_spurs(graph: VesselGraph) -> None:
    """Remove short dead ends, the shortest first; a node that is left with two edges makes them one edge."""
    spurs = []
    for u, v, key, data in graph.edges():
        for tip, foot in ((u, v), (v, u)):
            if graph.degree(tip) == 1 and graph.degree(foot) > 2:
                widest = max(float(edge["radius"].max()) for *_, edge in graph.edges(foot))
                spurs.append((len(data["path"]), tip, foot, key, widest))
    for length, tip, foot, key, widest in sorted(spurs, key=lambda spur: spur[0]):
        short = length < _SPUR_RADII * widest + _SPUR_PIXELS
        if short and graph.has_edge(tip, foot, key) and graph.degree(foot) > 2:
            graph.remove_nodes([tip])
            if graph.degree(foot) == 2:
                _merge_edges(graph, foot)
    graph.remove_nodes([node for node in list(graph) if graph.degree(node) == 0])


def _merge_edges(graph: VesselGraph, node: int) -> None:
    """Make the two edges at a node one edge and remove the node, unless they are one ring that closes there."""
    edges = list(graph.edges(node))
    if len(edges) != 2 or node in (edges[0][1], edges[1][1]):
        return
    (_, a, _, first), (_, b, _, second) = edges
    at = graph.nodes[node]["at"][None]
    path = np.vstack([_directed(first["path"], a < node), at, _directed(second["path"], node < b)])
    middle = [float(max(first["radius"].min(), second["radius"].min()))]
    radius = np.concatenate([_directed(first["radius"], a < node), middle, _directed(second["radius"], node < b)])
    graph.remove_nodes([node])
    graph.add_edge(a, b, path=_directed(path, a <= b), radius=_directed(radius, a <= b))


def _directed(values: NDArray[Any], forward: bool) -> NDArray[Any]:
    return values if forward else values[::-1]


def smooth_path(path: Points, deviation: float = _SMOOTHING) -> Points:
    """The polyline (n, 2) smoothed by a Gaussian of `deviation` points.

    It is continued by point reflection, which keeps both ends in place if it has more than four deviations of points.
    """
    m = min(int(4 * deviation), len(path) - 1)
    if m < 2:
        return path
    wide = np.concatenate([2 * path[0] - path[m:0:-1], path, 2 * path[-1] - path[-2 : -m - 2 : -1]])
    return ndimage.gaussian_filter1d(wide, deviation, axis=0, mode="nearest")[m:-m]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A vessel as it leaves a node: `path` (n, 2) and `radius` (n,) from the node outwards, `end` the node that it
    reaches, `edge` the graph's edge (lower node, higher node, key).
    """

    path: Points
    radius: NDArray[np.float64]
    end: int
    edge: tuple[int, int, int]

    def direction(self, skip: float = 0.0, reach: float = _DIRECTION_PIXELS) -> Points:
        """Unit direction (2,) over `reach` pixels of the path, after the first `skip` pixels (at most half of it)."""
        way = arc_length(self.path)
        first = int(np.searchsorted(way, min(skip, 0.5 * way[-1])))
        last = min(int(np.searchsorted(way, way[first] + reach)), len(way) - 1)
        run = self.path[max(last, first)] - self.path[min(first, last - 1) if last else 0]
        return run / max(float(np.hypot(*run)), 1e-9)


def branches_at(graph: VesselGraph, node: int) -> list[Branch]:
    """The branches that leave a node; a ring counts twice."""
    found = []
    for u, v, key, data in graph.edges(node):
        edge = (min(u, v), max(u, v), key)
        directions = [True, False] if u == v else [node <= (v if u == node else u)]
        for forward in directions:
            path, radius = _directed(data["path"], forward), _directed(data["radius"], forward)
            found.append(Branch(path, radius, v if u == node else u, edge))
    return found


def extend_branch(graph: VesselGraph, branch: Branch, reach: float) -> Branch:
    """The branch followed for `reach` pixels: at each node it goes on into the edge that turns least.

    It stops before that where every edge turns by 45 degrees or more.
    """
    path, radius, used = branch.path, branch.radius, {branch.edge}
    while arc_length(path)[-1] < reach:
        heading = path[-1] - path[-min(len(path), _DIRECTION_PIXELS)]
        heading = heading / max(float(np.hypot(*heading)), 1e-9)
        onwards = [other for other in branches_at(graph, branch.end) if other.edge not in used]
        best = max(onwards, key=lambda other: float(other.direction(2.0) @ heading), default=None)
        if best is None or best.direction(2.0) @ heading < _STRAIGHT:
            break
        branch, used = best, used | {best.edge}
        path, radius = np.vstack([path, best.path[1:]]), np.concatenate([radius, best.radius[1:]])
    within = arc_length(path) <= reach
    return Branch(path[within], radius[within], branch.end, branch.edge)


def total_length(graph: VesselGraph) -> float:
    """Length of all edges of a graph, pixels."""
    return sum(float(arc_length(data["path"])[-1]) for *_, data in graph.edges())


def edge_paths(graph: VesselGraph) -> list[tuple[Points, NDArray[np.float64]]]:
    """Path (n, 2) and radius (n,) of each edge of a graph, pixels."""
    return [(data["path"], data["radius"]) for *_, data in graph.edges()]
