"""The two vessels through a place that is known to be a crossing, although their graph may be torn or tangled there.

Where an artery hides the vein beneath it, or a map confuses arteries and veins, the graph of one of them has a gap just
where it matters. So a disc around the place is cut out of the graph of all vessels, and the branches that leave the disc
are joined in two pairs: straight ones, one of them more of an artery than the other.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.vessels.crossings import (
    MAX_BEND,
    REACH,
    MeasuredCrossing,
    bends_between,
    centreline_through,
    crossing_of,
    pairings,
    passes_over,
)
from fundoscope.vessels.graph import Branch, Points, arc_length
from fundoscope.vessels.multigraph import VesselGraph

_DISCS = (6.0, 9.0, 12.0)  # pixels of radius that are tried, in this order: a wide vein's width is 8
_SHORTEST = 5.0  # pixels: a shorter branch does not show where its vessel goes
_ARTERINESS_PIXELS = 25.0  # of a branch over which artery less vein is averaged
_MIN_CONTRAST = 0.15  # by which artery less vein must differ between the two vessels
_STEP = 3.0  # pixels between two points of a path, at most
_MAX_OFFSET = 8.0  # pixels between the place and where the vessels cross, at most

Plane = NDArray[np.floating[Any]]


def crossing_through(
    graph: VesselGraph, at: Points, artery: Plane, vein: Plane, reach: float = REACH
) -> MeasuredCrossing | None:
    """The crossing at `at` (row, column) on a graph of all vessels; None where no two vessels run through.

    `artery` and `vein` are probabilities (rows, columns); `first` is the vessel with more of an artery.
    """
    for radius in _DISCS:
        branches = _branches_leaving(graph, at, radius)
        arteriness = [_mean_arteriness(branch, artery, vein) for branch in branches]
        crossing = _best_crossing(graph, branches, arteriness, at, reach)
        if crossing is not None:
            return crossing
    return None


def _branches_leaving(graph: VesselGraph, at: Points, radius: float) -> list[Branch]:
    """The parts of edges outside a disc of `radius` pixels around `at`, each from the disc's rim outwards."""
    branches = []
    for u, v, key, data in graph.edges():
        path = data["path"]
        if math.dist(path[0], at) > radius + _STEP * len(path):
            continue  # too short to come near
        inside = np.flatnonzero(np.hypot(*(path - at).T) <= radius)
        if len(inside):
            edge = (min(u, v), max(u, v), key)
            back, on = np.s_[inside[0] :: -1], np.s_[inside[-1] :]
            branches.append(Branch(data["path"][back], data["radius"][back], edge[0], edge))
            branches.append(Branch(data["path"][on], data["radius"][on], edge[1], edge))
    return [branch for branch in branches if len(branch.path) > 1 and arc_length(branch.path)[-1] >= _SHORTEST]


def _mean_arteriness(branch: Branch, artery: Plane, vein: Plane) -> float:
    """Mean probability of artery less that of vein along a branch, -1 to 1."""
    near = branch.path[arc_length(branch.path) <= _ARTERINESS_PIXELS]
    rows, columns = np.clip(np.round(near).astype(int), 0, np.array(artery.shape) - 1).T
    return float((artery[rows, columns].astype(float) - vein[rows, columns]).mean())


def _best_crossing(
    graph: VesselGraph, branches: list[Branch], arteriness: list[float], at: Points, reach: float
) -> MeasuredCrossing | None:
    """The crossing of the two pairs of branches that are straightest and differ most in arteriness."""
    bends = bends_between(branches)
    choices = []
    for four in combinations(range(len(branches)), 4):
        for pairs in pairings(four):
            bend = max(bends[pair] for pair in pairs)
            (one, other) = (arteriness[i] + arteriness[j] for i, j in pairs)
            if bend < MAX_BEND and abs(one - other) / 2 > _MIN_CONTRAST:
                choices.append((bend - abs(one - other) / 2, pairs if one > other else pairs[::-1]))
    for _, pairs in sorted(choices, key=lambda choice: choice[0]):
        first, second = (centreline_through(graph, branches[i], branches[j], reach) for i, j in pairs)
        crossing = crossing_of(first, second, link=0.0)
        if crossing is None or np.hypot(*(crossing.at - at)) > _MAX_OFFSET:
            continue
        first, second = crossing.first, crossing.second
        if passes_over(first.points, first.crossing_index, second.points, second.crossing_index):
            return crossing
    return None
