"""An undirected graph in which several edges may link two nodes, and an edge may lead back to its own node.

It speaks the words of networkx's `MultiGraph`, in the same order of nodes and edges, as far as vessels need them. Importing networkx took longer
than making the graphs of a photograph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Data = dict[str, Any]


class VesselGraph:
    """Nodes are whole numbers; `nodes` maps each to its data. Edges between two nodes are told apart by a key, from 0 on."""

    def __init__(self) -> None:
        self.nodes: dict[int, Data] = {}
        self._linked: dict[
            int, dict[int, dict[int, Data]]
        ] = {}  # node -> neighbour -> key -> data, the same from both ends

    def __iter__(self) -> Iterator[int]:
        return iter(self.nodes)

    def add_node(self, node: int, **data: Any) -> None:
        """Add a node, or data to one that is there."""
        self.nodes.setdefault(node, {}).update(data)
        self._linked.setdefault(node, {})

    def add_edge(self, u: int, v: int, **data: Any) -> None:
        """Add an edge, and its nodes where they are missing; its key is the first that is free from the number of edges on."""
        self.add_node(u)
        self.add_node(v)
        between = self._linked[u].setdefault(v, {})
        self._linked[v][u] = between
        key = len(between)
        while key in between:
            key += 1
        between[key] = data

    def edges(self, node: int | None = None) -> Iterator[tuple[int, int, int, Data]]:
        """Every edge once, or those of a node: (node, neighbour, key, data); the node that came first stands first."""
        done: set[int] = set()
        for u in self.nodes if node is None else (node,):
            for v, between in self._linked[u].items():
                if v not in done:
                    yield from ((u, v, key, data) for key, data in between.items())
            done.add(u)

    def edge(self, u: int, v: int, key: int) -> Data:
        """The data of an edge."""
        return self._linked[u][v][key]

    def between(self, u: int, v: int) -> dict[int, Data]:
        """The data of all edges between two nodes, by their keys."""
        return self._linked[u][v]

    def has_edge(self, u: int, v: int, key: int) -> bool:
        """Whether there is such an edge."""
        return key in self._linked.get(u, {}).get(v, {})

    def degree(self, node: int) -> int:
        """How many ends of edges meet at a node: an edge that leads back to it has two."""
        return sum(len(between) * (2 if neighbour == node else 1) for neighbour, between in self._linked[node].items())

    def remove_nodes(self, nodes: Iterable[int]) -> None:
        """Remove nodes with all their edges."""
        for node in nodes:
            for neighbour in self._linked.pop(node):
                if neighbour != node:
                    del self._linked[neighbour][node]
            del self.nodes[node]
