"""The two vessels through a place that is known to be a crossing, although their graph may be torn or tangled there.

Where an artery hides the vein beneath it, or a map of vessels tells the kinds badly, the graph of one kind has a gap just where
it matters. So a disc around the place is cut out of the graph of all vessels, and the arms that leave the disc are joined in two
pairs: straight ones, one of them more of an artery than the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from fundoscope.vessels.crossings import (
    BEND,
    REACH,
    MeasuredCrossing,
    bends_between,
    centreline_through,
    crossing_of,
    pairings,
    passes,
)
from fundoscope.vessels.graph import Branch, Points, along

_DISCS = (6.0, 9.0, 12.0)  # pixels of radius that are tried, in this order: a wide vein's width is 8
_STUMP = 5.0  # pixels: an arm that is shorter says nothing of where its vessel goes
_TOLD = 25.0  # pixels of an arm by which its kind is told
_APART = 0.15  # by how much the probabilities of artery less vein must differ between the two vessels
_OFF = 8.0  # pixels between the place and where the vessels cross, at most

Plane = NDArray[np.floating[Any]]


def crossing_through(
    graph: nx.MultiGraph, at: Points, artery: Plane, vein: Plane, reach: float = REACH
) -> MeasuredCrossing | None:
    """The crossing at `at` (row, column) on a graph of all vessels; `first` is the vessel that is more of an artery by
    the probabilities (rows, columns). None where no two vessels run through.
    """
    near = list(_edges_near(graph, at))
    for radius in _DISCS:
        arms = _leaving(near, radius)
        crossing = _joined(graph, arms, [_lean(arm, artery, vein) for arm in arms], at, reach)
        if crossing is not None:
            return crossing
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Edge:
    """An edge with how far each of its points is `away` from the place, pixels (n,)."""

    ends: tuple[int, int, int]
    path: Points
    radius: NDArray[np.float64]
    away: NDArray[np.float64]


def _edges_near(graph: nx.MultiGraph, at: Points) -> Iterator[_Edge]:
    for u, v, key, data in graph.edges(keys=True, data=True):
        away = np.hypot(*(data["path"] - at).T)
        if away.min() <= max(_DISCS):
            yield _Edge((min(u, v), max(u, v), key), data["path"], data["radius"], away)


def _leaving(edges: list[_Edge], radius: float) -> list[Branch]:
    """The parts of edges that leave a disc, each from its rim outwards."""
    arms = []
    for edge in edges:
        inside = np.flatnonzero(edge.away <= radius)
        if len(inside):
            back, on = np.s_[inside[0] :: -1], np.s_[inside[-1] :]
            arms.append(Branch(edge.path[back], edge.radius[back], edge.ends[0], edge.ends))
            arms.append(Branch(edge.path[on], edge.radius[on], edge.ends[1], edge.ends))
    return [arm for arm in arms if len(arm.path) > 1 and along(arm.path)[-1] >= _STUMP]


def _joined(
    graph: nx.MultiGraph, arms: list[Branch], leans: list[float], at: Points, reach: float
) -> MeasuredCrossing | None:
    """The crossing of the two straightest pairs of arms of which one is more of an artery."""
    bends = bends_between(arms)
    choices = []
    for four in combinations(range(len(arms)), 4):
        for pairs in pairings(four):
            bend = max(bends[pair] for pair in pairs)
            (one, other) = (leans[i] + leans[j] for i, j in pairs)
            if bend < BEND and abs(one - other) / 2 > _APART:
                choices.append((bend - abs(one - other) / 2, pairs if one > other else pairs[::-1]))
    for _, pairs in sorted(choices, key=lambda choice: choice[0]):
        first, second = (centreline_through(graph, arms[i], arms[j], reach) for i, j in pairs)
        crossing = crossing_of(first, second, link=0.0)
        if crossing is None or np.hypot(*(crossing.at - at)) > _OFF:
            continue
        if passes(
            crossing.first.points, crossing.first.crossing_index, crossing.second.points, crossing.second.crossing_index
        ):
            return crossing
    return None


def _lean(arm: Branch, artery: Plane, vein: Plane) -> float:
    """How much more of an artery than of a vein it is, -1 to 1."""
    near = arm.path[along(arm.path) <= _TOLD]
    rows, columns = np.clip(np.round(near).astype(int), 0, np.array(artery.shape) - 1).T
    return float((artery[rows, columns].astype(float) - vein[rows, columns]).mean())
