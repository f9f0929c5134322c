"""The graph of vessels against networkx, which is its model."""

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundoscope.vessels.multigraph import VesselGraph

NODES = st.integers(0, 6)
STEPS = st.lists(
    st.one_of(st.tuples(st.just("edge"), NODES, NODES), st.tuples(st.just("remove"), NODES, st.just(0))), max_size=40
)


@given(STEPS)
def test_nodes_edges_keys_and_degrees_come_as_from_networkx(steps):
    ours, theirs = VesselGraph(), networkx.MultiGraph()
    for number, (what, u, v) in enumerate(steps):
        if what == "edge":
            ours.add_edge(u, v, number=number)
            theirs.add_edge(u, v, number=number)
        elif u in theirs:
            ours.remove_nodes([u])
            theirs.remove_node(u)
    assert list(ours) == list(theirs)
    assert list(ours.edges()) == list(theirs.edges(keys=True, data=True))
    for node in theirs:
        assert list(ours.edges(node)) == list(theirs.edges(node, keys=True, data=True))
        assert ours.degree(node) == theirs.degree(node)
    for u, v, key, data in ours.edges():
        assert ours.edge(v, u, key) is ours.between(u, v)[key] is data
        assert ours.has_edge(v, u, key) and not ours.has_edge(u, v, key + 100)


def test_data_is_added_to_a_node_that_is_there_and_a_missing_one_is_an_error():
    graph = VesselGraph()
    graph.add_edge(2, 1, path="here")
    graph.add_node(2, at=(3, 4))
    assert graph.nodes == {2: {"at": (3, 4)}, 1: {}} and not graph.has_edge(5, 1, 0)
    with pytest.raises(KeyError):
        graph.remove_nodes([7])
