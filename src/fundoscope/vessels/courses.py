"""The vessels around the disc, each followed as one: across gaps of its map, and past the branches that it gives off.

The rule for branches: at a joint a vessel goes on into the branch that runs straightest on, the wider one where two do
alike; any other branch is a vessel of its own, which begins at the joint. A vessel counts in a zone if it runs far enough
through it (`Zone.least`). So a vessel that forks near a zone's inner circle counts as its two branches, and one that forks
near its outer circle as its trunk. No vessel counts twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fundoscope.vessels.graph import Centreline, Points, arc_length, smooth_path
from fundoscope.vessels.multigraph import VesselGraph

_STRAIGHT = np.cos(np.radians(50))  # a vessel goes on into a branch that turns it by less
_ALIKE = 0.5  # weight of the widths beside the straightness where a branch is chosen: 0.13 is a turn of 30 degrees
_SKIP, _DIRECTION_PIXELS = 2.0, 10.0  # at a joint, and over which the direction of a branch is taken
_GAP_WIDTHS, _GAP_PIXELS = 2.5, 5.0  # a gap of the map is bridged up to so many vessel widths and pixels together
_GAP_BEND = np.cos(np.radians(35))  # between a vessel and the straight line across its gap

End = tuple[int, int]  # piece, and which end of it: 0 its first point, 1 its last


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Part of an edge between two circles around the disc; `nodes` are those at its ends, None where a circle cuts it off."""

    points: Points
    radius: NDArray[np.float64]
    nodes: tuple[int | None, int | None]

    def leaving(self, end: int) -> Points:
        """Unit direction (2,) in which it leaves the node at one of its ends."""
        points = self.points if end == 0 else self.points[::-1]
        way = arc_length(points)
        first = int(np.searchsorted(way, min(_SKIP, way[-1] / 2)))
        run = points[min(int(np.searchsorted(way, way[first] + _DIRECTION_PIXELS)), len(points) - 1)] - points[first]
        return run / max(float(np.hypot(*run)), 1e-9)

    @property
    def width(self) -> float:
        """Width of the mask, pixels."""
        return 2 * float(np.median(self.radius))


def follow_vessels(graph: VesselGraph, centre: Points, inner: float, outer: float) -> list[Centreline]:
    """The vessels of the arteries' graph, or of the veins', between two circles around `centre` (row, column), in pixels.

    Each runs from the disc outwards; where a gap was bridged, its `radius` is 0.
    """
    pieces = list(_cut_pieces(graph, centre, inner, outer))
    ends: dict[int, list[End]] = defaultdict(list)
    for k, piece in enumerate(pieces):
        for end, node in enumerate(piece.nodes):
            if node is not None:
                ends[node].append((k, end))
    onward: dict[End, End] = {}
    for node, meeting in ends.items():
        for one, other in _straight_pairs(pieces, meeting, graph.degree(node) == 2):
            onward[one], onward[other] = other, one
    tips = [meeting[0] for node, meeting in ends.items() if graph.degree(node) == 1]
    for one, other in _facing_tips(pieces, tips):
        onward[one], onward[other] = other, one

    vessels, used = [], set[int]()
    firsts = [(k, end) for k in range(len(pieces)) for end in (0, 1) if (k, end) not in onward]
    for first in firsts:
        if first[0] not in used:
            line = _chain(pieces, onward, first, used)
            away = np.hypot(*(line.points - centre).T)
            backwards = away[0] > away[-1]
            vessels.append(Centreline(line.points[::-1], line.radius[::-1], 0) if backwards else line)
    return vessels


def longest_run(points: Points, centre: Points, inner: float, outer: float, least: float) -> NDArray[np.int64] | None:
    """Indices of the longest run of a vessel's points (n, 2) between two circles around `centre`; None where it comes less
    than `least` pixels nearer to the outer one on its way.
    """
    away = np.hypot(*(points - centre).T)
    within = np.flatnonzero((away >= inner) & (away <= outer))
    if not len(within):
        return None
    runs = np.split(within, np.flatnonzero(np.diff(within) > 1) + 1)
    longest = max(runs, key=lambda run: float(np.ptp(away[run])))
    return longest if np.ptp(away[longest]) >= least else None


def _cut_pieces(graph: VesselGraph, centre: Points, inner: float, outer: float) -> Iterator[_Piece]:
    for u, v, _, data in graph.edges():
        path, radius, (first, last) = data["path"], data["radius"], sorted((u, v))
        away = np.hypot(*(path - centre).T)
        within = np.flatnonzero((away >= inner) & (away <= outer))
        for run in np.split(within, np.flatnonzero(np.diff(within) > 1) + 1):
            if len(run) > 1:
                nodes = (first if run[0] == 0 else None, last if run[-1] == len(path) - 1 else None)
                yield _Piece(path[run], radius[run], nodes)


def _straight_pairs(pieces: list[_Piece], meeting: list[End], unbranched: bool) -> Iterator[tuple[End, End]]:
    """The ends at a node that belong to one vessel, the straightest and widest pair first; all if nothing branches there."""
    leaving = {end: pieces[end[0]].leaving(end[1]) for end in meeting}
    width = {end: pieces[end[0]].width for end in meeting}
    pairs = []
    for one, other in combinations(meeting, 2):
        straight = -float(leaving[one] @ leaving[other])
        if one[0] != other[0] and (unbranched or straight >= _STRAIGHT):
            narrower, wider = sorted((width[one], width[other]))
            pairs.append((straight + _ALIKE * narrower / max(wider, 1e-9), one, other))
    taken = set[End]()
    for _, one, other in sorted(pairs, reverse=True):
        if one not in taken and other not in taken:
            taken |= {one, other}
            yield one, other


def _facing_tips(pieces: list[_Piece], tips: list[End]) -> Iterator[tuple[End, End]]:
    """Loose ends that face each other across a gap, such as a vein has beneath its artery; the narrowest gaps first."""
    if len(tips) < 2:
        return
    place = np.array([pieces[k].points[0 if end == 0 else -1] for k, end in tips])
    back = np.array([pieces[k].leaving(end) for k, end in tips])
    width, own = np.array([pieces[k].width for k, _ in tips]), np.array([k for k, _ in tips])
    across = place[None] - place[:, None]
    gap = np.hypot(across[..., 0], across[..., 1])
    ahead = -np.einsum("ik,ijk->ij", back, across) / np.maximum(gap, 1e-9)  # cosine of the bend at tip i towards tip j
    facing = (ahead >= _GAP_BEND) & (ahead.T >= _GAP_BEND) & (own[:, None] != own)
    near = gap <= _GAP_WIDTHS * np.maximum(width[:, None], width) + _GAP_PIXELS
    gaps = [(float(gap[i, j]), tips[i], tips[j]) for i, j in np.argwhere(np.triu(facing & near, 1)).tolist()]
    taken = set[End]()
    for _, one, other in sorted(gaps):
        if one not in taken and other not in taken:
            taken |= {one, other}
            yield one, other


def _chain(pieces: list[_Piece], onward: dict[End, End], first: End, used: set[int]) -> Centreline:
    """The pieces from a free end on, as one line; their numbers are added to `used`."""
    points, radii, at = [], [], first
    while True:
        k, end = at
        used.add(k)
        order = 1 if end == 0 else -1
        ahead = pieces[k].points[::order]
        if points:
            bridge = _bridge(points[-1][-1], ahead[0])
            points.append(bridge)
            radii.append(np.zeros(len(bridge)))
        points.append(ahead)
        radii.append(pieces[k].radius[::order])
        leave = onward.get((k, 1 - end))
        if leave is None or leave[0] in used:
            break
        at = leave
    line, radius = np.vstack(points), np.concatenate(radii)
    moved = np.concatenate([[True], np.hypot(*np.diff(line, axis=0).T) > 1e-6])
    return Centreline(smooth_path(line[moved], 1.0), radius[moved], 0)


def _bridge(start: Points, end: Points) -> Points:
    """Points (n, 2) a pixel apart on the straight line between two, without both."""
    steps = round(float(np.hypot(*(end - start))))
    return start + (np.arange(1, steps) / max(steps, 1))[:, None] * (end - start)
