"""From a vessel mask to its graph: nodes where vessels branch, cross or end, edges that follow their centrelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

_SMOOTH = 2.0  # pixels: deviation of the smoothing that takes the stairs out of a centreline
_SPUR = 1.5  # vessel radii: a dead end shorter than that (and a few pixels) is the skeleton's, not a vessel
_STRAIGHT = np.cos(np.radians(45))  # a strand goes on into an edge that turns it by less
_AHEAD = 6  # points over which an edge's direction is taken
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True, eq=False)
class Centreline:
    """A vessel followed through a place: `points` (n, 2; row, column), half a pixel to two apart, `radius` (n,) in
    pixels as the mask has it, and `here`, the index of that place.
    """

    points: Points
    radius: NDArray[np.float64]
    crossing_index: int

    @property
    def length(self) -> float:
        """Length in pixels."""
        return float(along(self.points)[-1])

    def scaled(self, scale: float) -> Centreline:
        """The strand in a picture with `scale` pixels for each of this one's."""
        return Centreline((self.points + 0.5) * scale - 0.5, self.radius * scale, self.crossing_index)


def along(points: Points) -> NDArray[np.float64]:
    """Length of the polyline (n, 2) up to each of its points, (n,)."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


def vessel_graph(mask: Mask) -> nx.MultiGraph:
    """The graph of a vessel mask (rows, columns).

    Nodes have `at` (row, column); edges have `path` (n, 2), smooth, from the node of lower number to the higher, and
    `radius` (n,), the distance to the mask's edge, all in pixels. Spurs of the skeleton are taken off.
    """
    if not mask.any():
        return nx.MultiGraph()
    # by Lee et al. 1994 (CVGIP 56:462): that of Zhang and Suen erases diagonal vessels two pixels wide
    graph = _trace(skeletonize(mask, method="lee") > 0)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    depth = np.minimum(depth, max(mask.shape) / 2)  # a mask without any edge has no distance to it
    for *_, data in graph.edges(data=True):
        data["radius"] = _at(depth, data["path"])
    _prune(graph)
    for u, v, data in graph.edges(data=True):
        first, last = sorted((u, v))
        raw = np.vstack([graph.nodes[first]["at"], data["path"], graph.nodes[last]["at"]])
        data["path"] = smoothed(raw)
        data["radius"] = _at(depth, data["path"])
    return graph


def _at(plane: NDArray[Any], points: Points) -> NDArray[np.float64]:
    rows, columns = np.clip(np.round(points).astype(int), 0, np.array(plane.shape) - 1).T
    return plane[rows, columns].astype(float)


def _trace(skeleton: Mask) -> nx.MultiGraph:
    """Joints (pixels of three neighbours or more, those that touch as one) and ends, linked by chains of pixels."""
    graph = nx.MultiGraph()
    neighbours = ndimage.convolve(skeleton.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant") - 1
    joint = skeleton & (neighbours >= 3)
    joints, n = ndimage.label(joint, _EIGHT)
    centres = ndimage.center_of_mass(joint, joints, np.arange(1, n + 1))
    graph.add_nodes_from((k, {"at": np.array(at)}) for k, at in enumerate(centres, 1))
    chains, _ = ndimage.label(skeleton & ~joint, _EIGHT)
    for k, box in enumerate(ndimage.find_objects(chains), 1):
        corner = np.array([box[0].start, box[1].start])
        pixels = np.argwhere(chains[box] == k) + corner
        _add_chain(graph, _in_order(pixels), joints)
    return graph


def _in_order(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pixels of a chain from one end to the other (of a ring: from anywhere)."""
    left = {(int(r), int(c)) for r, c in pixels}
    around = {p: [q for q in _ring(p) if q in left] for p in left}
    here: tuple[int, int] | None = next((p for p in sorted(left) if len(around[p]) < 2), min(left))
    order = []
    while here is not None:
        order.append(here)
        left.discard(here)
        here = next((q for q in around[here] if q in left), None)
    return np.array(order)


def _ring(p: tuple[int, int]) -> list[tuple[int, int]]:
    """The eight neighbours, those that share a side first."""
    r, c = p
    sides = [(r - 1, c), (r, c - 1), (r, c + 1), (r + 1, c)]
    return [*sides, (r - 1, c - 1), (r - 1, c + 1), (r + 1, c - 1), (r + 1, c + 1)]


def _add_chain(graph: nx.MultiGraph, chain: NDArray[np.int64], joints: NDArray[np.int64]) -> None:
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
    r, c = pixel
    beside = joints[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
    found = np.unique(beside[(beside > 0) & (beside != other_than)])
    return int(found[0]) if len(found) else 0


def _prune(graph: nx.MultiGraph) -> None:
    """Take off spurs, shortest first, and join the two edges that are left at a node of none but these."""
    spurs = []
    for u, v, key, data in graph.edges(keys=True, data=True):
        for end, foot in ((u, v), (v, u)):
            if graph.degree(end) == 1 and graph.degree(foot) > 2:
                spurs.append((len(data["path"]), end, foot, key, _foot_radius(graph, foot)))
    for length, end, foot, key, radius in sorted(spurs, key=lambda spur: spur[0]):
        if length < _SPUR * radius + 3 and graph.has_edge(end, foot, key) and graph.degree(foot) > 2:
            graph.remove_node(end)
            if graph.degree(foot) == 2:
                _join(graph, foot)
    graph.remove_nodes_from([node for node in list(graph) if graph.degree(node) == 0])


def _foot_radius(graph: nx.MultiGraph, node: int) -> float:
    return max(float(data["radius"].max()) for *_, data in graph.edges(node, data=True))


def _join(graph: nx.MultiGraph, node: int) -> None:
    edges = list(graph.edges(node, keys=True, data=True))
    if len(edges) != 2 or node in (edges[0][1], edges[1][1]):
        return  # a ring that closes here
    (_, a, _, first), (_, b, _, second) = edges
    at = graph.nodes[node]["at"][None]
    path = np.vstack([_from(first["path"], a < node), at, _from(second["path"], node < b)])
    middle = [float(max(first["radius"].min(), second["radius"].min()))]
    radius = np.concatenate([_from(first["radius"], a < node), middle, _from(second["radius"], node < b)])
    forward = a <= b
    graph.remove_node(node)
    graph.add_edge(a, b, path=path if forward else path[::-1], radius=radius if forward else radius[::-1])


def _from(values: NDArray[Any], forward: bool) -> NDArray[Any]:
    return values if forward else values[::-1]


def smoothed(path: Points, deviation: float = _SMOOTH) -> Points:
    """The polyline with its stairs smoothed away; both ends stay (it is continued by point reflection)."""
    m = min(int(4 * deviation), len(path) - 1)
    if m < 2:
        return path
    wide = np.concatenate([2 * path[0] - path[m:0:-1], path, 2 * path[-1] - path[-2 : -m - 2 : -1]])
    return ndimage.gaussian_filter1d(wide, deviation, axis=0, mode="nearest")[m:-m]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """An edge as it leaves a node: `path` (n, 2) and `radius` (n,) from the node outwards, `end` the node it reaches."""

    path: Points
    radius: NDArray[np.float64]
    end: int
    edge: tuple[int, int, int]

    def heading(self, skip: float = 0.0, reach: float = _AHEAD) -> Points:
        """Unit direction (2,) over `reach` pixels, the first `skip` left out (as far as the arm goes)."""
        way = along(self.path)
        first = int(np.searchsorted(way, min(skip, 0.5 * way[-1])))
        last = min(int(np.searchsorted(way, way[first] + reach)), len(way) - 1)
        run = self.path[max(last, first)] - self.path[min(first, last - 1) if last else 0]
        return run / max(float(np.hypot(*run)), 1e-9)


def branches_at(graph: nx.MultiGraph, node: int) -> list[Branch]:
    """The edges at a node, each from it outwards; a ring counts twice."""
    found = []
    for u, v, key, data in graph.edges(node, keys=True, data=True):
        edge = (*sorted((u, v)), key)
        forwards = [True, False] if u == v else [node <= (v if u == node else u)]
        for forward in forwards:
            path, radius = _from(data["path"], forward), _from(data["radius"], forward)
            found.append(Branch(path, radius, v if u == node else u, edge))
    return found


def extend_branch(graph: nx.MultiGraph, arm: Branch, reach: float) -> Branch:
    """The arm followed for `reach` pixels, through nodes into the edge that goes straightest on; else it ends there."""
    path, radius, used = arm.path, arm.radius, {arm.edge}
    while along(path)[-1] < reach:
        back = path[-1] - path[-min(len(path), _AHEAD)]
        back = back / max(float(np.hypot(*back)), 1e-9)
        onwards = [a for a in branches_at(graph, arm.end) if a.edge not in used]
        best = max(onwards, key=lambda a: float(a.heading(2.0) @ back), default=None)
        if best is None or best.heading(2.0) @ back < _STRAIGHT:
            break
        arm, used = best, used | {best.edge}
        path, radius = np.vstack([path, best.path[1:]]), np.concatenate([radius, best.radius[1:]])
    keep = along(path) <= reach
    return Branch(path[keep], radius[keep], arm.end, arm.edge)


def length(graph: nx.MultiGraph) -> float:
    """Length of all its edges, pixels."""
    return sum(float(along(data["path"])[-1]) for *_, data in graph.edges(data=True))


def edge_paths(graph: nx.MultiGraph) -> list[tuple[Points, NDArray[np.float64]]]:
    """Path and radius of each edge."""
    return [(data["path"], data["radius"]) for *_, data in graph.edges(data=True)]
