import cv2
import numpy as np
import pytest

from fundoscope.vessels import crossing_through, vessel_graph

SIZE = 160
AT = np.array([80.0, 80.0])


def drawn(*lines, width=7):
    """Vessels from (row, column) to (row, column), as a mask."""
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    for a, b in lines:
        cv2.line(canvas, (int(a[1]), int(a[0])), (int(b[1]), int(b[0])), 255, width)
    return canvas > 0


def ray(degrees, near, far):
    way = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    return AT + near * way, AT + far * way


def through(artery, vein):
    return crossing_through(vessel_graph(artery | vein), AT, artery.astype(float), vein.astype(float))


@pytest.mark.parametrize("angle", [45, 60, 90, 130])
@pytest.mark.parametrize("turn", [0, 25])
def test_a_vein_that_is_not_seen_beneath_the_artery_is_joined(angle, turn):
    artery = drawn(ray(turn, -60, 60))
    hidden = 6 / abs(np.sin(np.radians(angle)))
    vein = drawn(ray(turn + angle, -60, -hidden), ray(turn + angle, hidden, 60))
    found = through(artery, vein)
    assert found is not None
    assert np.hypot(*(found.at - AT)) < 3
    assert found.angle == pytest.approx(min(angle, 180 - angle), abs=8)
    for centreline, mask in ((found.first, artery), (found.second, vein)):
        way = centreline.points[np.hypot(*(centreline.points - AT).T) > 15]
        assert len(way) > 60 and mask[tuple(np.round(way).astype(int).T)].all()


def test_branches_are_paired_by_arteriness_where_both_pairings_are_straight():
    artery = drawn(ray(20, 0, 60), ray(180 + 20, 0, 60))
    vein = drawn(ray(110, 0, 60), ray(180 + 110, 0, 60))
    found, other = through(artery, vein), through(vein, artery)
    assert found is not None and other is not None
    np.testing.assert_allclose(found.first.points[0], other.second.points[0], atol=2)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([(0, -60, 60), (90, 0, 60)], "a branch"),
        ([(0, -60, 60)], "one vessel"),
        ([], "no vessel"),
        ([(0, -60, 60), (12, -60, 60)], "a touch"),
    ],
)
def test_what_does_not_run_through_is_no_crossing(lines, why):
    masks = [drawn(ray(degrees, near, far)) for degrees, near, far in lines]
    artery = masks[0] if masks else np.zeros((SIZE, SIZE), bool)
    vein = masks[1] if len(masks) > 1 else np.zeros((SIZE, SIZE), bool)
    assert through(artery, vein) is None, why


def test_two_vessels_of_one_kind_are_no_crossing_of_artery_and_vein():
    one, other = drawn(ray(0, -60, 60)), drawn(ray(90, -60, 60))
    both = one | other
    assert crossing_through(vessel_graph(both), AT, both.astype(float), 0.0 * both) is None


def test_a_crossing_elsewhere_is_not_taken_for_this_one():
    artery, vein = drawn(((60, 20), (60, 140))), drawn(((20, 60), (140, 60)))
    graph = vessel_graph(artery | vein)
    assert crossing_through(graph, np.array([60.0, 60.0]), artery.astype(float), vein.astype(float)) is not None
    assert crossing_through(graph, AT + 20, artery.astype(float), vein.astype(float)) is None
