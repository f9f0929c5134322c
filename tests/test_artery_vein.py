import cv2
import numpy as np
import pytest

from fundoscope.vessels import vessel_graph
from fundoscope.vessels.artery_vein import VoteWeights, classify_vessels, vote_along_edges

SIDE = 200


def lines(*ends, width=5):
    """A mask of straight vessels, each from one (row, column) to another."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for (a, b), (c, d) in ends:
        cv2.line(mask, (b, a), (d, c), 1, width)
    return mask.astype(bool)


ACROSS = ((100, 10), (100, 190))
DOWN = ((10, 90), (190, 110))


def probabilities(artery, vein, confidence=0.9):
    """Probabilities of artery and of vein from a network that is that confident."""
    return np.where(artery, confidence, 0.02), np.where(vein, confidence, 0.02)


def share(mask, within):
    return (mask & within).sum() / within.sum()


def test_what_the_pixels_agree_on_stays():
    artery, vein = lines(ACROSS), lines(DOWN)
    found = classify_vessels(artery | vein, *probabilities(artery, vein))
    both = artery & vein
    assert share(found.artery, artery) > 0.97 and share(found.vein, vein) > 0.97
    assert (found.artery & found.vein & ~both).sum() < 0.5 * both.sum()


def test_a_stretch_taken_for_the_other_kind_is_outvoted():
    artery, vein = lines(ACROSS), lines(DOWN)
    p, q = probabilities(artery, vein)
    wrong = artery.copy()
    wrong[:, :150] = wrong[:, 185:] = False
    p[wrong], q[wrong] = 0.3, 0.7
    found = classify_vessels(artery | vein, p, q)
    assert share(found.artery, wrong) > 0.95 and share(found.vein, wrong) < 0.05


def test_a_vessel_in_doubt_follows_what_it_runs_on_from_across_a_crossing():
    """The right half of the artery is unclear to the network; the left half and the vein are not."""
    artery, vein = lines(ACROSS), lines(DOWN)
    p, q = probabilities(artery, vein)
    unclear = artery.copy()
    unclear[:, :110] = False
    p[unclear], q[unclear] = 0.49, 0.51
    found = classify_vessels(artery | vein, p, q)
    assert share(found.artery, unclear) > 0.95


def test_a_vessel_that_crosses_an_artery_is_a_vein():
    artery, other = lines(ACROSS), lines(DOWN)
    p, q = probabilities(artery, np.zeros_like(artery))
    p[other & ~artery], q[other & ~artery] = 0.4, 0.4
    alone = other & ~lines(ACROSS, width=12)
    assert share(classify_vessels(artery | other, p, q).vein, alone) > 0.95
    without = classify_vessels(artery | other, p, q, VoteWeights(across=0.0))
    assert abs(share(without.vein, alone) - share(without.artery, alone)) > 0.9  # one way or the other, all of it


def test_branches_follow_their_vessel():
    trunk, branch = lines(((100, 10), (100, 190))), lines(((100, 100), (10, 160)))
    vein = trunk | branch
    p, q = probabilities(np.zeros_like(vein), vein)
    tip = branch & ~lines(((100, 10), (100, 190)), width=15)
    p[tip], q[tip] = 0.52, 0.48
    assert share(classify_vessels(vein, p, q).vein, tip) > 0.95


def test_each_point_of_an_edge_has_a_score_between_minus_one_and_one():
    artery, vein = lines(ACROSS), lines(DOWN)
    graph = vessel_graph(artery | vein)
    vote_along_edges(graph, *probabilities(artery, vein), VoteWeights())
    scores = [(data["artery_score"], data["path"]) for *_, data in graph.edges()]
    assert all(len(score) == len(path) and np.abs(score).max() <= 1 for score, path in scores)
    assert min(score.mean() for score, _ in scores) < -0.8 and max(score.mean() for score, _ in scores) > 0.8


def test_arteries_and_veins_are_treated_alike():
    artery, vein = lines(ACROSS), lines(DOWN)
    p, q = probabilities(artery, vein, 0.6)
    one, two = classify_vessels(artery | vein, p, q), classify_vessels(artery | vein, q, p)
    assert (one.artery == two.vein).mean() > 0.999 and (one.vein == two.artery).mean() > 0.999


@pytest.mark.parametrize("shape", [(40, 60), (1, 1)])
def test_nothing_there_is_no_error(shape):
    empty = np.zeros(shape)
    found = classify_vessels(empty > 0, empty, empty)
    assert not found.artery.any() and not found.vein.any() and not list(found.graph.edges())


def test_a_speck_without_a_centreline_is_decided_by_its_pixels():
    speck = np.zeros((30, 30), bool)
    speck[10, 10] = True
    assert classify_vessels(speck, speck * 0.9, speck * 0.1).artery[10, 10]
