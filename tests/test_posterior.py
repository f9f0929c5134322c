"""Vessels around a drawn disc: their widths and tortuosity against closed forms, and what is out of view."""

import cv2
import numpy as np
import pytest

from fundoscope.imaging.places import QUADRANTS
from fundoscope.vessels.posterior import (
    FEW_QUADRANTS,
    NO_DISC,
    OUT_OF_VIEW,
    find_disc_on_map,
    map_width,
    measure_posterior_vessels,
    windowed_tortuosity,
)

SIDE, CENTRE, RADIUS = 400, (201.3, 196.8), 15.0
ENLARGED = 8


def soft_disc(centre=CENTRE, radius=RADIUS):
    """The probability of a disc with a rim two pixels broad."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    away = np.hypot(rows - centre[0], columns - centre[1])
    return np.clip((radius + 1 - away) / 2, 0, 1).astype(np.float32)


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


def test_a_disc_is_found_where_it_was_drawn_and_none_where_nothing_is():
    disc = find_disc_on_map(soft_disc(), everywhere())
    assert disc is not None
    assert np.hypot(disc.row - CENTRE[0], disc.column - CENTRE[1]) < 0.1
    assert disc.radius == pytest.approx(RADIUS, rel=0.01) and disc.confidence > 0.9
    assert find_disc_on_map(np.zeros((SIDE, SIDE), np.float32), everywhere()) is None
    assert find_disc_on_map(soft_disc(radius=60), everywhere()) is None  # no infant's disc
    assert find_disc_on_map(soft_disc(), ~everywhere()) is None


@pytest.mark.parametrize("width", [2.5, 4.0, 6.2])
def test_widths_are_finer_than_a_pixel_and_in_disc_diameters(width):
    found = measure_posterior_vessels(
        draw_vessels(width), find_disc_on_map(soft_disc(), everywhere()), everywhere(), 0.5
    )
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
    disc = find_disc_on_map(soft_disc(), everywhere())
    bent = [
        measure_posterior_vessels(
            draw_vessels(4.0, wave, [angle + turn for angle in (35, 125, 215, 305)], period), disc, everywhere(), 0.5
        ).tortuosity
        for turn in (0, 17)
    ]
    assert bent[0] == pytest.approx(
        expected, rel=0.2
    )  # the window is less than a period, and the centreline is smoothed
    assert bent[1] == pytest.approx(bent[0], rel=0.1)
    line = np.column_stack([np.zeros(50), np.arange(50.0)])
    assert windowed_tortuosity(line, 20) == pytest.approx(0, abs=1e-6)


def test_what_is_out_of_view_is_said_and_not_guessed():
    field = everywhere()
    field[:, : int(CENTRE[1]) + 10] = False
    disc = find_disc_on_map(soft_disc(), everywhere())
    half = measure_posterior_vessels(draw_vessels(4.0), disc, field, 0.5)
    assert [each.reason for each in half.quadrants] == [OUT_OF_VIEW, "", OUT_OF_VIEW, ""]
    assert half.reason == "" and half.quadrants[0].width is None and half.width is not None
    field[: int(CENTRE[0]) + 10] = False
    quarter = measure_posterior_vessels(draw_vessels(4.0), disc, field, 0.5)
    assert quarter.reason == FEW_QUADRANTS.format(n=1)
    assert quarter.width is None and quarter.tortuosity is None
    assert measure_posterior_vessels(draw_vessels(4.0), None, field, 0.5).reason == NO_DISC


def test_a_map_width_does_not_depend_on_a_threshold():
    vessel = draw_vessels(5.0, angles=(0,))
    points = np.column_stack([np.full(100, CENTRE[0]), CENTRE[1] + 30 + np.arange(100.0)])
    assert map_width(vessel, points, 5) == pytest.approx(drawn_width(5.0), rel=0.02)
    assert map_width(0.5 * vessel, points, 5) == pytest.approx(
        drawn_width(5.0) / 2, rel=0.02
    )  # half believed, half as wide: an area


def test_drawing_marks_disc_and_vessels():
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    measure_posterior_vessels(draw_vessels(4.0), find_disc_on_map(soft_disc(), everywhere()), everywhere(), 0.5).draw(
        canvas
    )
    assert canvas[round(CENTRE[0]), :, 0].any() and (canvas[..., 1] > 100).sum() > 400
