"""Vessels around a drawn disc: their widths and tortuosity against closed forms, and what is out of view."""

import cv2
import numpy as np
import pytest

from fundoscope.imaging.places import QUADRANTS
from fundoscope.vessels.disc import Disc
from fundoscope.vessels.graph import vessel_graph
from fundoscope.vessels.posterior import (
    FEW_QUADRANTS,
    NO_DISC,
    OUT_OF_VIEW,
    find_infant_disc,
    map_width,
    measure_posterior_vessels,
    trimmed_mean,
    window_bends,
)

SIDE, CENTRE, RADIUS = 400, (201.3, 196.8), 15.0
ENLARGED = 8


DISC = Disc(*CENTRE, RADIUS, 1.0)
NOWHERE = np.zeros((SIDE, SIDE), np.float32)


def photograph(vessel, radius=RADIUS, bright=60):
    """A brown picture with dark vessels on a disc that is brighter by so much, its rim two pixels broad."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = np.clip((radius + 1 - np.hypot(rows - CENTRE[0], columns - CENTRE[1])) / 2, 0, 1)
    grey = 110 + bright * disc - 50 * vessel + np.random.default_rng(3).normal(0, 2, vessel.shape)
    return np.clip(grey[..., None] * (1.0, 0.6, 0.4), 0, 255).astype(np.uint8)


def measure(vessel, disc=DISC, field=None, threshold=0.5):
    field = everywhere() if field is None else field
    graph = vessel_graph((vessel >= threshold) & field)
    return measure_posterior_vessels(vessel, graph, threshold, disc, field)


def draw_vessels(width, wave=0.0, angles=(35, 125, 215, 305), period=30.0):
    """A soft map of vessels that run outwards from the disc, straight or as sines of amplitude `wave` pixels."""
    fine = np.zeros((SIDE * ENLARGED, SIDE * ENLARGED), np.uint8)
    along = np.arange(0, 170, 0.25)
    across = wave * np.sin(2 * np.pi * along / period)
    for angle in np.radians(angles):
        row = CENTRE[0] + along * np.sin(angle) + across * np.cos(angle)
        column = CENTRE[1] + along * np.cos(angle) - across * np.sin(angle)
        at = np.round((np.column_stack([column, row]) + 0.5) * ENLARGED - 0.5).astype(np.int32)
        cv2.polylines(fine, [at[:, None]], False, 255, round(width * ENLARGED), cv2.LINE_AA)
    return cv2.resize(fine, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def drawn_width(width):
    """What the line drawer made of a width: the area of a level vessel for each pixel of its length."""
    return float(draw_vessels(width, angles=(0,))[:, int(CENTRE[1]) + 60].sum())


def everywhere():
    return np.ones((SIDE, SIDE), bool)


@pytest.mark.parametrize("radius", [14.0, 20.0])
def test_an_infants_disc_is_found_by_its_rim_and_by_the_vessels_that_point_to_it(radius):
    vessel = draw_vessels(4.0)
    disc = find_infant_disc(vessel_graph(vessel >= 0.5), NOWHERE, everywhere(), photograph(vessel, radius))
    assert disc is not None
    assert np.hypot(disc.row - CENTRE[0], disc.column - CENTRE[1]) < 0.1 * radius
    assert disc.radius == pytest.approx(radius, rel=0.1) and disc.confidence > 0.9


def test_a_disc_that_is_not_seen_is_not_guessed_and_half_a_rim_takes_a_second_witness():
    vessel = draw_vessels(4.0)
    graph = vessel_graph(vessel >= 0.5)
    pixels = photograph(vessel)
    assert find_infant_disc(graph, NOWHERE, everywhere(), photograph(vessel, bright=0)) is None
    assert find_infant_disc(vessel_graph(NOWHERE > 0), NOWHERE, everywhere(), pixels) is None
    assert find_infant_disc(graph, NOWHERE, ~everywhere(), pixels) is None
    cut = everywhere()
    cut[:, : round(CENTRE[1] - 0.5 * RADIUS)] = False  # a third of the rim lies beyond the field
    assert find_infant_disc(graph, NOWHERE, cut, pixels) is None
    found = find_infant_disc(graph, NOWHERE + 0.5, cut, pixels)
    assert found is not None and 0.6 <= found.confidence < 0.8


@pytest.mark.parametrize("width", [2.5, 4.0, 6.2])
def test_widths_are_finer_than_a_pixel_and_in_disc_diameters(width):
    found = measure(draw_vessels(width))
    assert found.reason == "" and len(found.vessels) == 4
    expected = drawn_width(width) / (2 * RADIUS)
    assert found.width == pytest.approx(expected, rel=0.04)
    assert found.tortuosity < 0.003
    assert [each.vessels for each in found.quadrants] == [1, 1, 1, 1]
    assert {each.name: each.width for each in found.quadrants} == {
        name: pytest.approx(expected, rel=0.06) for name in QUADRANTS
    }


def test_tortuosity_is_arc_over_chord_of_a_sine_and_turning_does_not_change_it():
    wave, period = 5.0, 50.0
    along = np.linspace(0, period, 10001)
    slope = 2 * np.pi * wave / period * np.cos(2 * np.pi * along / period)
    expected = float(np.mean(np.hypot(1, slope))) - 1
    bent = [
        measure(draw_vessels(4.0, wave, [angle + turn for angle in (35, 125, 215, 305)], period)).tortuosity
        for turn in (0, 17)
    ]
    assert bent[0] == pytest.approx(
        expected, rel=0.2
    )  # the window is less than a period, and the centreline is smoothed
    assert bent[1] == pytest.approx(bent[0], rel=0.1)
    line = np.column_stack([np.zeros(50), np.arange(50.0)])
    assert window_bends(line, 20) == pytest.approx(0, abs=1e-6) and len(window_bends(line, 20)) == 29
    assert len(window_bends(line, 200)) == 1


def test_a_trimmed_mean_leaves_out_a_share_of_the_weight_at_each_end():
    values, even = np.array([9.0, 1.0, 2.0, 3.0, -50.0]), np.ones(5)
    assert trimmed_mean(values, even, 0.2) == 2
    assert trimmed_mean(values, even, 0.0) == -7
    heavy = np.array([1.0, 1.0, 1.0, 8.0, 1.0])
    assert trimmed_mean(values, heavy, 0.2) == pytest.approx(26 / 9)  # the 2 once and the 3 eight times
    assert trimmed_mean(np.array([4.0]), np.array([2.0]), 0.1) == 4


def test_wide_and_certain_vessels_say_most():
    straight, wavy = draw_vessels(6.0, angles=(35, 215)), draw_vessels(2.5, 4.0, angles=(125, 305))
    both = measure(np.maximum(straight, wavy), threshold=0.3)
    faint = measure(np.maximum(straight, 0.6 * wavy), threshold=0.3)
    bends = [[each.bends.mean() for each in reading] for reading in both.readings]
    assert [len(each) for each in bends] == [4, 4, 4, 4]
    assert both.tortuosity < 0.6 * np.mean(bends)
    assert faint.tortuosity < 0.8 * both.tortuosity and len(faint.vessels) == 4


def test_what_is_out_of_view_is_said_and_not_guessed():
    field = everywhere()
    field[:, : int(CENTRE[1]) + 10] = False
    half = measure(draw_vessels(4.0), field=field)
    assert [each.reason for each in half.quadrants] == [OUT_OF_VIEW, "", OUT_OF_VIEW, ""]
    assert half.reason == "" and half.quadrants[0].width is None and half.width is not None
    field[: int(CENTRE[0]) + 10] = False
    quarter = measure(draw_vessels(4.0), field=field)
    assert quarter.reason == FEW_QUADRANTS.format(n=1)
    assert quarter.width is None and quarter.tortuosity is None
    assert measure(draw_vessels(4.0), None).reason == NO_DISC


def test_a_map_width_does_not_depend_on_a_threshold():
    vessel = draw_vessels(5.0, angles=(0,))
    points = np.column_stack([np.full(100, CENTRE[0]), CENTRE[1] + 30 + np.arange(100.0)])
    assert map_width(vessel, points, 5) == pytest.approx(drawn_width(5.0), rel=0.02)
    assert map_width(0.5 * vessel, points, 5) == pytest.approx(
        drawn_width(5.0) / 2, rel=0.02
    )  # half believed, half as wide: an area


def test_drawing_marks_disc_and_vessels():
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    measure(draw_vessels(4.0)).draw(canvas)
    assert canvas[round(CENTRE[0]), :, 0].any() and (canvas[..., 1] > 100).sum() > 400
