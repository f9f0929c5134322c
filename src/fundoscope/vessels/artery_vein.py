"""Artery or vein: each vessel of the graph is made one or the other, by votes along it, through branchings and crossings.

A network judges pixels, and changes its mind along a vessel. Here each stretch of the vessel graph averages the network's
evidence on its centreline, and neighbouring stretches influence each other: a vessel that runs straight on stays what it
is, the branches of one vessel are alike, and of two vessels that cross one is an artery and one a vein. The scores are
the fixed point of a mean-field iteration (Parisi 1988, Statistical Field Theory, ch. 3). Each pixel is then decided by the
score of its stretch and by its own evidence, since two vessels side by side may share one centreline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fundoscope.vessels.graph import Branch, Mask, Points, arc_length, branches_at, vessel_graph
from fundoscope.vessels.multigraph import VesselGraph

Plane = NDArray[np.floating[Any]]
Edge = tuple[int, int, int]

_EPSILON = 1e-3  # keeps the odds of a pixel that is surely neither finite
_MAX_LOG_ODDS = 3.0  # evidence of one pixel beyond which it counts no more
_DIRECTION_SKIP, _DIRECTION_PIXELS = 2.0, 10.0  # at a joint, and over which the direction of a branch is taken
_JOINED = 1.5  # vessel widths: joints that are nearer than that are one
_ROUNDS, _DAMPING = 60, 0.5
_STRETCH = 20  # points of a centreline that vote as one
_MAX_SCORE = 0.99  # a stretch's score counts no more than that
_STRAIGHT_THROUGH = 0.7  # straightness of a pair of branches that runs through a joint of four
_BOTH = 0.5  # probability from which on of artery and of vein a pixel belongs to both


@dataclass(frozen=True)
class VoteWeights:
    """How strongly each influence counts, in log odds.

    `evidence` the network's evidence of a stretch; `onward` between parts of a vessel that run straight on; `branch`
    between all branches of a joint of three; `across` against the vessel that one crosses; `pixel` a pixel's own evidence
    beside the score of its stretch. The names are those in a bundle's card.
    """

    evidence: float = 1.0
    onward: float = 2.0
    branch: float = 0.4
    across: float = 0.6
    pixel: float = 0.7


@dataclass(frozen=True, eq=False)
class ArteryVeinMap:
    """The vessel graph and the masks (rows, columns) of arteries and veins, which share the pixels where they cross.

    Each edge of the graph has `artery_score` (n,) at the points of its path, from -1 (vein) to 1 (artery).
    """

    graph: VesselGraph
    artery: Mask
    vein: Mask

    @cached_property
    def artery_graph(self) -> VesselGraph:
        """The graph of the arteries alone, which no vein distorts."""
        return vessel_graph(self.artery)

    @cached_property
    def vein_graph(self) -> VesselGraph:
        """The graph of the veins alone."""
        return vessel_graph(self.vein)


def classify_vessels(vessel: Mask, artery: Plane, vein: Plane, weights: VoteWeights = VoteWeights()) -> ArteryVeinMap:
    """Arteries and veins of a vessel mask, from each pixel's probabilities of artery and of vein; all (rows, columns)."""
    return classify_graph(vessel_graph(vessel), vessel, artery, vein, weights)


def classify_graph(graph: VesselGraph, vessel: Mask, artery: Plane, vein: Plane, weights: VoteWeights) -> ArteryVeinMap:
    """The same for a mask whose graph exists already; its edges are given their `artery_score`."""
    vote_along_edges(graph, artery, vein, weights)
    # without any edge (a speck has no centreline) the pixels alone decide
    score = np.clip(np.nan_to_num(_nearest_score(graph, vessel)), -_MAX_SCORE, _MAX_SCORE)
    is_artery = weights.pixel * _artery_log_odds(artery, vein) + 2 * np.arctanh(score) > 0
    both = vessel & (np.minimum(artery, vein) >= _BOTH)
    return ArteryVeinMap(graph, vessel & is_artery | both, vessel & ~is_artery | both)


def _artery_log_odds(artery: Plane, vein: Plane) -> Plane:
    """Log odds of artery against vein at each pixel, within `_MAX_LOG_ODDS`."""
    return np.clip(np.log((artery + _EPSILON) / (vein + _EPSILON)), -_MAX_LOG_ODDS, _MAX_LOG_ODDS)


def _nearest_score(graph: VesselGraph, vessel: Mask) -> Plane:
    """The `artery_score` of the nearest point of an edge at each pixel (rows, columns); all NaN without an edge."""
    score = np.full(vessel.shape, np.nan)
    for *_, data in graph.edges():
        rows, columns = np.clip(np.round(data["path"]).astype(int), 0, np.array(vessel.shape) - 1).T
        score[rows, columns] = data["artery_score"]
    if np.isnan(score).all():
        return score
    nearest = ndimage.distance_transform_edt(np.isnan(score), return_distances=False, return_indices=True)
    return score[tuple(nearest)]


def vote_along_edges(graph: VesselGraph, artery: Plane, vein: Plane, weights: VoteWeights) -> None:
    """Give each edge of the graph its `artery_score` (n,), from the probabilities `artery` and `vein` (rows, columns)."""
    log_odds = _artery_log_odds(artery, vein)
    stretches = _Stretches.of(graph)
    evidence = [_evidence(graph, edge, len(own), log_odds) for edge, own in stretches.of_edge.items()]
    field = weights.evidence * np.array([value for edge in evidence for value in edge])
    coupling = np.zeros((len(field), len(field)))
    for first, second, strength in (*stretches.consecutive(weights), *_at_joints(graph, stretches, weights)):
        if first != second:
            coupling[first, second] += strength
            coupling[second, first] += strength
    score = np.tanh(field / 2)
    for _ in range(_ROUNDS):
        score = _DAMPING * score + (1 - _DAMPING) * np.tanh((field + coupling @ score) / 2)
    for edge, own in stretches.of_edge.items():
        lengths = [len(stretches.paths[k]) for k in own]
        graph.edge(*edge)["artery_score"] = np.repeat(score[own], lengths)


@dataclass(frozen=True, slots=True, eq=False)
class _Stretches:
    """The edges of a graph cut into short stretches: the path of each stretch, and for each edge the indices of its
    stretches in order.
    """

    paths: list[Points]
    of_edge: dict[Edge, list[int]]

    @classmethod
    def of(cls, graph: VesselGraph) -> _Stretches:
        paths: list[Points] = []
        of_edge: dict[Edge, list[int]] = {}
        for u, v, key, data in graph.edges():
            parts = np.array_split(data["path"], max(1, round(len(data["path"]) / _STRETCH)))
            of_edge[min(u, v), max(u, v), key] = list(range(len(paths), len(paths) + len(parts)))
            paths += parts
        return cls(paths, of_edge)

    def consecutive(self, weights: VoteWeights) -> list[tuple[int, int, float]]:
        """Coupling of each stretch with the next one of its edge."""
        return [(a, b, weights.onward) for own in self.of_edge.values() for a, b in pairwise(own)]

    def first_of(self, branch: Branch) -> int:
        """Index of the stretch with which a branch leaves its joint."""
        own = self.of_edge[branch.edge]
        starts_here = np.array_equal(branch.path[0], self.paths[own[0]][0])
        return own[0] if starts_here else own[-1]


def _evidence(graph: VesselGraph, edge: Edge, parts: int, log_odds: Plane) -> list[float]:
    """Mean log odds on the centreline of each stretch of an edge; pixels under the vessels of its joints do not count."""
    path, radius = graph.edge(*edge)["path"], graph.edge(*edge)["radius"]
    rows, columns = np.clip(np.round(path).astype(int), 0, np.array(log_odds.shape) - 1).T
    way = arc_length(path)
    clear = (way > radius[0] + 1) & (way < way[-1] - radius[-1] - 1)
    stretches = np.array_split(np.where(clear, log_odds[rows, columns], 0.0), parts)
    return [float(each.sum()) / max(_STRETCH, len(each)) for each in stretches]


def _at_joints(graph: VesselGraph, stretches: _Stretches, weights: VoteWeights) -> Iterator[tuple[int, int, float]]:
    """Couplings of the stretches that meet at each joint; joints that a short edge links are one joint."""
    linked: dict[int, dict[int, None]] = {node: {} for node in graph}
    for u, v, _, data in graph.edges():
        if u != v and arc_length(data["path"])[-1] <= _JOINED * 2 * float(data["radius"].max()):
            linked[u][v] = linked[v][u] = None
    for nodes in _connected(linked):
        branches = [b for node in nodes for b in branches_at(graph, node) if b.end not in nodes or len(nodes) == 1]
        if len(branches) > 1:
            for i, j, strength in _couplings(branches, weights):
                yield stretches.first_of(branches[i]), stretches.first_of(branches[j]), strength


def _connected(linked: dict[int, dict[int, None]]) -> Iterator[set[int]]:
    """The sets of nodes that links connect, from the nodes linked to each."""
    seen: set[int] = set()
    for first in linked:
        if first in seen:
            continue
        found, ahead = {first}, deque([first])
        while ahead:
            for node in linked[ahead.popleft()]:
                if node not in found:
                    found.add(node)
                    ahead.append(node)
        seen |= found
        yield found


def _couplings(branches: list[Branch], weights: VoteWeights) -> Iterator[tuple[int, int, float]]:
    """How strongly each two branches of a joint are alike, or, below zero, unlike.

    Where two pairs run straight through a joint of four or more, they are two vessels that cross: each pair is alike, the
    two are unlike, and further branches stand aside. Elsewhere all are alike, the more so the straighter.
    """
    directions = np.array([branch.direction(_DIRECTION_SKIP, _DIRECTION_PIXELS) for branch in branches])
    straightness = ((1 - directions @ directions.T) / 2) ** 2  # 1 straight on, 0 straight back
    crossing = _crossing_pairs(straightness) if len(branches) >= 4 else []
    in_crossing = {k for pair in crossing for k in pair}
    for i, j in combinations(range(len(branches)), 2):
        if (i, j) in crossing:
            yield i, j, weights.onward
        elif crossing:
            yield i, j, -weights.across if i in in_crossing and j in in_crossing else 0.0
        else:
            yield i, j, float(weights.branch + (weights.onward - weights.branch) * straightness[i, j])


def _crossing_pairs(straightness: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The two pairs of branches that run straightest through a joint; none unless there are two."""
    pairs = sorted(combinations(range(len(straightness)), 2), key=lambda pair: -straightness[pair])
    chosen: list[tuple[int, int]] = []
    for pair in pairs:
        if straightness[pair] >= _STRAIGHT_THROUGH and not any(set(pair) & set(other) for other in chosen):
            chosen.append(pair)
    return chosen if len(chosen) == 2 else []
