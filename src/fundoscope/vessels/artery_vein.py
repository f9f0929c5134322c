"""Artery or vein: each vessel of the graph made one kind, by vote along it, on through branchings and across crossings.

A network judges pixels, and changes its mind along a vessel. Here each stretch of the vessel graph pools the evidence on
its centreline, and stretches that meet persuade each other: a vessel that runs straight on stays what it is, the branches
of one vessel are of its kind, and where two vessels cross they are of different kinds (arteries do not cross arteries,
nor veins veins). The votes settle by mean-field iteration (Parisi 1988, Statistical Field Theory, ch. 3). Each pixel then
hears the vote of its stretch beside its own evidence, since two vessels that run side by side share one centreline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fundoscope.vessels.graph import Branch, Mask, Points, along, branches_at, vessel_graph

Plane = NDArray[np.floating[Any]]
Edge = tuple[int, int, int]

_EVEN = 1e-3  # keeps the odds of a pixel that is surely neither kind finite
_LOUDEST = 3.0  # log odds beyond which a pixel is not heard any louder
_HEADED = 10.0  # pixels over which the direction of an edge is taken
_LINK = 1.5  # vessel widths: joints nearer than that are one
_ROUNDS, _DAMPING = 60, 0.5
_STRETCH = 20  # points of a centreline that vote as one
_SUREST = 0.99  # a vote is heard no louder than that


@dataclass(frozen=True)
class VoteWeights:
    """How much each witness weighs: `evidence` of a stretch's own pixels, in log odds; `onward` for a vessel that runs
    straight on, `branch` for all who meet at a joint of three, `across` against those whom one crosses; and `pixel`, a
    pixel's own evidence against the vote of its stretch.
    """

    evidence: float = 1.0
    onward: float = 2.0
    branch: float = 0.4
    across: float = 0.6
    pixel: float = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class ArteryVeinMap:
    """The vessel graph, whose edges carry `artery_score` (n,), from -1 (vein) to 1 (artery) at each point of their path, and the
    masks (rows, columns) of both kinds, which share the pixels where they cross.
    """

    graph: nx.MultiGraph
    artery: Mask
    vein: Mask


def classify_vessels(vessel: Mask, artery: Plane, vein: Plane, votes: VoteWeights = VoteWeights()) -> ArteryVeinMap:
    """Kinds of the vessels in a mask (rows, columns), from each pixel's probabilities of being artery and of being vein."""
    return classify_graph(vessel_graph(vessel), vessel, artery, vein, votes)


def classify_graph(graph: nx.MultiGraph, vessel: Mask, artery: Plane, vein: Plane, votes: VoteWeights) -> ArteryVeinMap:
    """The same where the mask's graph is there already; its edges are given their kinds."""
    vote_along_edges(graph, artery, vein, votes)
    # no stretch anywhere (a speck without a centreline): the pixels speak for themselves
    vote = 2 * np.arctanh(np.clip(np.nan_to_num(_spread(graph, vessel)), -_SUREST, _SUREST))
    is_artery = votes.pixel * log_odds(artery, vein) + vote > 0
    both = vessel & (np.minimum(artery, vein) >= 0.5)
    return ArteryVeinMap(graph, vessel & is_artery | both, vessel & ~is_artery | both)


def log_odds(artery: Plane, vein: Plane) -> Plane:
    """How much each pixel speaks for an artery against a vein, bounded."""
    return np.clip(np.log((artery + _EVEN) / (vein + _EVEN)), -_LOUDEST, _LOUDEST)


def vote_along_edges(graph: nx.MultiGraph, artery: Plane, vein: Plane, votes: VoteWeights) -> None:
    """Give each edge its `artery_score`, a value a point."""
    odds = log_odds(artery, vein)
    stretches = _Stretches.of(graph)
    heard = [_evidence(graph, edge, len(numbers), odds) for edge, numbers in stretches.of_edge.items()]
    own = votes.evidence * np.array([value for edge in heard for value in edge])
    pull = np.zeros((len(own), len(own)))
    for first, second, strength in (*stretches.onward(votes), *_at_joints(graph, stretches, votes)):
        if first != second:
            pull[first, second] += strength
            pull[second, first] += strength
    kind = np.tanh(own / 2)
    for _ in range(_ROUNDS):
        kind = _DAMPING * kind + (1 - _DAMPING) * np.tanh((own + pull @ kind) / 2)
    for edge, numbers in stretches.of_edge.items():
        lengths = [len(stretches.paths[number]) for number in numbers]
        graph.edges[edge]["artery_score"] = np.repeat(kind[numbers], lengths)


@dataclass(frozen=True, slots=True, eq=False)
class _Stretches:
    """The edges cut into stretches: the path of each, and the numbers of an edge's stretches in order."""

    paths: list[Points]
    of_edge: dict[Edge, list[int]]

    @classmethod
    def of(cls, graph: nx.MultiGraph) -> _Stretches:
        paths: list[Points] = []
        of_edge: dict[Edge, list[int]] = {}
        for u, v, key, data in graph.edges(keys=True, data=True):
            parts = np.array_split(data["path"], max(1, round(len(data["path"]) / _STRETCH)))
            of_edge[min(u, v), max(u, v), key] = list(range(len(paths), len(paths) + len(parts)))
            paths += parts
        return cls(paths, of_edge)

    def onward(self, votes: VoteWeights) -> list[tuple[int, int, float]]:
        """Each stretch and the next of its edge."""
        return [(a, b, votes.onward) for numbers in self.of_edge.values() for a, b in pairwise(numbers)]

    def leaving(self, arm: Branch) -> int:
        """The stretch with which an arm leaves its joint."""
        numbers = self.of_edge[arm.edge]
        first = np.array_equal(arm.path[0], self.paths[numbers[0]][0])
        return numbers[0] if first else numbers[-1]


def _at_joints(graph: nx.MultiGraph, stretches: _Stretches, votes: VoteWeights) -> Iterator[tuple[int, int, float]]:
    for joint in _joints(graph):
        for a, b, strength in _couplings(joint, votes):
            yield stretches.leaving(a), stretches.leaving(b), strength


def _evidence(graph: nx.MultiGraph, edge: Edge, parts: int, odds: Plane) -> list[float]:
    """What the centreline of each stretch of an edge says; what lies under the vessels of a joint is not heard."""
    path, radius = graph.edges[edge]["path"], graph.edges[edge]["radius"]
    rows, columns = np.clip(np.round(path).astype(int), 0, np.array(odds.shape) - 1).T
    way = along(path)
    clear = (way > radius[0] + 1) & (way < way[-1] - radius[-1] - 1)
    heard = np.array_split(np.where(clear, odds[rows, columns], 0.0), parts)
    return [float(each.sum()) / max(_STRETCH, len(each)) for each in heard]


def _joints(graph: nx.MultiGraph) -> list[list[Branch]]:
    """The arms that leave each joint; joints that a short edge links are one, and that edge is none of its arms."""
    linked = nx.Graph()
    linked.add_nodes_from(graph)
    for u, v, data in graph.edges(data=True):
        if u != v and along(data["path"])[-1] <= _LINK * 2 * float(data["radius"].max()):
            linked.add_edge(u, v)
    found = []
    for nodes in nx.connected_components(linked):
        leaving = [arm for node in nodes for arm in branches_at(graph, node) if arm.end not in nodes or len(nodes) == 1]
        if len(leaving) > 1:
            found.append(leaving)
    return found


def _couplings(joint: list[Branch], votes: VoteWeights) -> list[tuple[Branch, Branch, float]]:
    """How strongly the arms of a joint pull each other to one kind, or, below zero, apart."""
    headings = np.array([arm.heading(2.0, _HEADED) for arm in joint])
    straight = ((1 - headings @ headings.T) / 2) ** 2  # 1 straight on, 0 straight back
    through = _through(straight) if len(joint) >= 4 else set()
    found = []
    for i, j in combinations(range(len(joint)), 2):
        if (i, j) in through:
            strength = votes.onward
        elif through:
            partners = {k for pair in through for k in pair}
            strength = -votes.across if i in partners and j in partners else 0.0
        else:
            strength = votes.branch + (votes.onward - votes.branch) * straight[i, j]
        found.append((joint[i], joint[j], float(strength)))
    return found


def _through(straight: NDArray[np.float64], least: float = 0.7) -> set[tuple[int, int]]:
    """The two pairs of arms that run straight through a joint of four or more; none unless there are two."""
    pairs = sorted(combinations(range(len(straight)), 2), key=lambda pair: -straight[pair])
    taken: set[tuple[int, int]] = set()
    for pair in pairs:
        if straight[pair] >= least and not any(set(pair) & set(other) for other in taken):
            taken.add(pair)
    return taken if len(taken) == 2 else set()


def _spread(graph: nx.MultiGraph, vessel: Mask) -> Plane:
    """The kind of the nearest point of an edge at each pixel of the mask; NaN everywhere if there is no edge."""
    kind = np.full(vessel.shape, np.nan)
    for *_, data in graph.edges(data=True):
        rows, columns = np.clip(np.round(data["path"]).astype(int), 0, np.array(vessel.shape) - 1).T
        kind[rows, columns] = data["artery_score"]
    if np.isnan(kind).all():
        return kind
    nearest = ndimage.distance_transform_edt(np.isnan(kind), return_distances=False, return_indices=True)
    return kind[tuple(nearest)]
