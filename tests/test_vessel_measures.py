"""Vessels around the disc: where it is, which vessels count in its zones, how wide they are, and what that amounts to."""

from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from fundoscope.simulate import adult
from fundoscope.vessels import CalibreModel, vessel_graph
from fundoscope.vessels.courses import follow_vessels
from fundoscope.vessels.disc import CONFIDENT, Disc, find_disc
from fundoscope.vessels.equivalents import ARTERIOLES, VENULES, equivalent
from fundoscope.vessels.fractal import fractal_dimension
from fundoscope.vessels.measures import NO_DISC, VesselTrees, Zone, measure_vessels, photograph_widths

SIDE, CENTRE, RADIUS = 520, (260.0, 260.0), 40.0
DISC = Disc(*CENTRE, RADIUS, 1.0)


@cache
def simulated(seed, camera="drive"):
    return adult(seed, camera=camera, level="good", size=None if camera == "drive" else 584)


def found_in(eye, keep=np.s_[:, :]):
    mask = np.ascontiguousarray(eye.truth.vessel[keep])
    return find_disc(vessel_graph(mask), eye.truth.field[keep], np.ascontiguousarray(eye.pixels[keep]))


# --- equivalents


def test_six_alike_arterioles_are_combined_as_knudtson_says():
    pair = ARTERIOLES * np.sqrt(2)  # of two alike, over one of them
    two = pair * pair  # the first and the last of three alike
    assert equivalent([10.0] * 6, ARTERIOLES) == pytest.approx(10 * ARTERIOLES * np.hypot(two, pair))


def test_the_widest_goes_with_the_narrowest():
    first = sorted(0.95 * np.hypot(a, b) for a, b in ((16, 9), (14, 10), (13, 12)))
    expected = 0.95 * np.hypot(0.95 * np.hypot(first[0], first[2]), first[1])
    assert equivalent([9, 16, 10, 13, 12, 14], VENULES) == pytest.approx(expected)
    assert equivalent([9, 16, 10, 13, 12, 14, 3, 2], VENULES) == pytest.approx(expected)  # the six widest count


def test_five_vessels_are_not_enough():
    assert np.isnan(equivalent([10.0] * 5, ARTERIOLES))


@given(st.lists(st.floats(1, 50), min_size=6, max_size=12), st.floats(0.1, 10))
def test_an_equivalent_has_the_unit_of_its_widths(widths, unit):
    scaled = equivalent([unit * width for width in widths], ARTERIOLES)
    assert scaled == pytest.approx(unit * equivalent(widths, ARTERIOLES))
    assert scaled >= unit * min(sorted(widths)[-6:])


# --- the disc


@pytest.mark.parametrize(("seed", "camera"), [(40, "drive"), (41, "drive"), (42, "hrf")])
def test_the_disc_is_found_with_its_radius(seed, camera):
    eye = simulated(seed, camera)
    disc, rows_columns = found_in(eye), np.argwhere(eye.truth.disc)
    diameter = (np.ptp(rows_columns, axis=0) + 1).mean()
    assert np.hypot(*(disc.centre - rows_columns.mean(axis=0))) < diameter / 10
    assert disc.diameter == pytest.approx(diameter, rel=0.1) and disc.confidence >= CONFIDENT


def test_a_disc_out_of_view_is_not_believed():
    eye = simulated(40)
    column = int(np.argwhere(eye.truth.disc)[:, 1].mean())
    left = column < eye.pixels.shape[1] / 2
    without = np.s_[:, column + 70 :] if left else np.s_[:, : column - 70]
    found = found_in(eye, without)
    assert found is not None and found.confidence < CONFIDENT
    trees = VesselTrees(*[vessel_graph(eye.truth.vessel[without])] * 3, eye.truth.field[without])
    measures = measure_vessels(trees, found, lambda line, kind: pytest.fail("nothing is measured"))
    assert not measures.zones and "not seen well enough" in measures.reason


def test_without_vessels_there_is_no_disc():
    nothing = np.zeros((100, 100), bool)
    graph = vessel_graph(nothing)
    assert find_disc(graph, ~nothing, np.zeros((100, 100, 3), np.uint8)) is None
    measures = measure_vessels(VesselTrees(graph, graph, graph, ~nothing), None, lambda line, kind: pytest.fail("none"))
    assert measures.reason == NO_DISC and np.isnan(measures.fractal_dimension)


# --- zones and courses


def test_a_zone_cut_in_half_is_half_in_view():
    field = np.ones((SIDE, SIDE), bool)
    for name in "BC":
        zone = Zone.around(DISC, name)
        assert zone.share_in_view(DISC, field) == pytest.approx(1)
        assert zone.share_in_view(DISC, field[:, :260]) == pytest.approx(0.5, abs=0.02)
    assert (zone.inner, zone.outer) == (80, 200)


def spoke(angle, inner=10.0, outer=250.0):
    """Both ends (x, y) of a straight vessel that leaves the disc under an angle in degrees."""
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    return [tuple(np.rint(np.array(CENTRE[::-1]) + away * along).astype(int).tolist()) for away in (inner, outer)]


def drawn(*lines, width=5):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for start, end in lines:
        cv2.line(mask, start, end, 1, width)
    return mask > 0


def followed(mask, zone="C"):
    ring = Zone.around(DISC, zone)
    lines = follow_vessels(vessel_graph(mask), DISC.centre, ring.inner, ring.outer)
    return [line for line in lines if ring.run_of(line, DISC.centre) is not None]


def test_each_spoke_is_one_vessel_from_the_disc_outwards():
    vessels = followed(drawn(*(spoke(angle) for angle in (10, 80, 150, 220, 290))))
    assert len(vessels) == 5
    for line in vessels:
        away = np.hypot(*(line.points - DISC.centre).T)
        assert away[0] == pytest.approx(80, abs=2) and away[-1] == pytest.approx(200, abs=2)


def test_a_vessel_is_followed_across_a_gap_but_not_across_a_wide_one():
    for gap, number in ((12, 1), (45, 2)):
        mask = drawn(spoke(20, outer=140 - gap / 2), spoke(20, inner=140 + gap / 2))
        lines = follow_vessels(vessel_graph(mask), DISC.centre, 80, 200)
        assert len(lines) == number


def fork(at):
    """A trunk that forks `at` pixels from the disc's centre into two branches of 20 degrees to each side."""
    start = spoke(0, outer=at)[1]
    ends = [(start[0] + round(200 * np.cos(t)), start[1] + round(200 * np.sin(t))) for t in np.radians((-20, 20))]
    return drawn(spoke(0, outer=at), *((start, end) for end in ends))


def test_a_fork_near_the_inner_circle_counts_as_two_vessels_and_near_the_outer_one_as_one():
    assert len(followed(fork(110))) == len(followed(fork(90), "B")) == 2
    assert len(followed(fork(175))) == len(followed(fork(108), "B")) == 1


def test_a_vessel_that_turns_back_is_no_vessel_that_goes_on():
    mask = drawn(spoke(0), (spoke(0, outer=76)[1], (500, 330)))  # the joint lies just inside the zone's inner circle
    assert len(followed(mask)) == 2


# --- measures


WIDTHS = {"artery": (6.0, 5.5, 5.0, 5.0, 4.5, 4.0), "vein": (8.0, 7.5, 7.0, 6.5, 6.0, 5.5)}


@cache
def eye_with_spokes(scale=1, blur=0.9):
    """A photograph with six arteries and six veins of known widths that leave the disc, and their masks at scale 1.

    Each is a column of blood with its light reflex, seen through a blur.
    """
    masks = {kind: np.zeros((SIDE, SIDE), bool) for kind in WIDTHS}
    grey = np.full((SIDE * scale,) * 2, 160.0)
    for kind, turn in (("artery", 0), ("vein", 30)):
        for k, width in enumerate(WIDTHS[kind]):
            along, across = toward(60 * k + turn, SIDE)
            masks[kind] |= (along > 10) & (np.abs(across) <= width / 2)
            along, across = toward(60 * k + turn, SIDE * scale)
            near = (along > 10) & (np.abs(across) < 2 * width)
            for depth, part in ((0.68, 1.0), (0.32, 0.62), (-0.2, 0.22)):
                walls = [ndtr((across[near] + sign * part * width / 2) / blur) for sign in (1, -1)]
                grey[near] -= 60 * depth * (walls[0] - walls[1])
    return np.repeat(np.rint(grey)[..., None], 3, axis=2).astype(np.uint8), masks["artery"], masks["vein"]


def toward(angle, side):
    """How far each pixel lies along a ray from the disc's centre under an angle in degrees, and how far beside it."""
    y, x = (np.indices((side, side)) + 0.5) / (side / SIDE) - 0.5 - 260
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def measured(field=None, scale=1):
    pixels, artery, vein = eye_with_spokes(scale)
    graphs = [vessel_graph(mask) for mask in (artery, vein, artery | vein)]
    lines = [line.scaled(scale) for graph in graphs[:2] for line in follow_vessels(graph, DISC.centre, 80, 200)]
    widths = photograph_widths(CalibreModel.fit(pixels, lines), artery, vein, scale)
    return measure_vessels(
        VesselTrees(*graphs, np.ones((SIDE, SIDE), bool) if field is None else field, scale), DISC, widths
    )


def test_equivalents_of_drawn_vessels_are_those_of_their_widths():
    measures = measured()
    for zone in measures.zones:
        assert len(zone.arterioles) == len(zone.venules) == 6 and zone.in_view == pytest.approx(1) and not zone.reason
        for vessels, kind in ((zone.arterioles, "artery"), (zone.venules, "vein")):
            assert [vessel.width for vessel in vessels] == pytest.approx(sorted(WIDTHS[kind], reverse=True), rel=0.06)
        assert zone.crae == pytest.approx(equivalent(WIDTHS["artery"], ARTERIOLES), rel=0.04)
        assert zone.avr == pytest.approx(
            equivalent(WIDTHS["artery"], ARTERIOLES) / equivalent(WIDTHS["vein"], VENULES), rel=0.04
        )
    assert measures.artery_tortuosity < 0.01 and measures.vein_tortuosity < 0.01


def test_a_missing_arteriole_is_said_and_no_equivalent_is_guessed():
    pixels, artery, vein = eye_with_spokes()
    fewer = artery & ~drawn(spoke(0), width=12)
    graphs = [vessel_graph(mask) for mask in (fewer, vein, fewer | vein)]
    widths = photograph_widths(CalibreModel(pixels[..., 1].astype(np.float32), 0.8), fewer, vein, 1)
    measures = measure_vessels(VesselTrees(*graphs, np.ones((SIDE, SIDE), bool)), DISC, widths)
    assert all(np.isnan(zone.crae) and np.isnan(zone.avr) and np.isfinite(zone.crve) for zone in measures.zones)
    assert "zone B: 5 of 6 arterioles" in measures.reason and "zone C: 5 of 6 arterioles" in measures.reason


def test_measures_draw_what_they_took():
    measures = measured()
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    measures.draw(canvas)
    row, column = np.nonzero(canvas.any(axis=2))
    away = np.hypot(row - 260, column - 260)
    for radius in (40, 80, 120, 200):  # the disc, and the circles of both zones
        assert (np.abs(away - radius) < 1).sum() > 5 * radius
    walls = np.flatnonzero(canvas[:, 360].any(axis=1))  # of the artery to the right, 6 px wide
    assert 4 <= np.ptp(walls[np.abs(walls - 260) < 20]) <= 9


# --- fractal dimension


def test_a_line_has_dimension_one_and_a_grid_nearly_two():
    line = np.zeros((400, 400), bool)
    line[200, 5:395] = True
    grid = np.zeros((400, 400), bool)
    grid[5:395:8] = True
    grid[5:395, 5:395:8] = True
    assert fractal_dimension(vessel_graph(line)) == pytest.approx(1.0, abs=0.1)
    assert fractal_dimension(vessel_graph(grid)) == pytest.approx(2.0, abs=0.15)
