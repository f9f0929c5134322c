from dataclasses import replace

import numpy as np
import pytest

from fundoscope.bundles import DecisionThreshold
from fundoscope.bundles.card import CrossingSettings
from fundoscope.nicking.grading.crossing_candidates import FEATURES, find_candidates
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph, classify_map_vessels
from fundoscope.nicking.grading.widths import NOT_FOLLOWED, WIDE_VEIN, measure_crossings
from fundoscope.simulate import adult

POINT = DecisionThreshold(threshold=0.5, rule="r", data="d", n_positive=1, sensitivity_bound="s")
#: Peaks of the crossing map and strands that run through each other both speak for a crossing.
HOW = CrossingSettings(
    diameter=540, vessel_threshold=0.5, confidence_weights=(-1.0, 0.5, 0.2, 2.0, 0.5, 0.0, 0.0), operating_point=POINT
)


def maps_of(truth):
    """What a perfect network would answer."""
    rows, columns = np.indices(truth.field.shape)
    heat = np.zeros(truth.field.shape)
    for crossing in truth.crossings:
        heat = np.maximum(heat, np.exp(-((rows - crossing.row) ** 2 + (columns - crossing.col) ** 2) / (2 * 3.5**2)))
    return np.stack([truth.artery | truth.vein, truth.artery, truth.vein, heat]).astype(np.float32)


def mapped(pixels, maps, inside):
    return MappedPhotograph(pixels, maps, inside, classify_map_vessels(maps, HOW))


def measured(photograph, minimum_confidence=0.5):
    point = POINT.model_copy(update={"threshold": minimum_confidence})
    candidates = find_candidates(photograph.maps, photograph.artery_vein)
    return measure_crossings(photograph, candidates, HOW.model_copy(update={"operating_point": point}))


@pytest.fixture(scope="module")
def photograph():
    return adult(3, camera="drive", level="perfect", grade=0)


@pytest.fixture(scope="module")
def eye(photograph):
    return mapped(photograph.pixels, maps_of(photograph.truth), photograph.truth.field)


def nearest(places, at):
    return np.hypot(*(np.array(places) - at).T).min()


def test_on_true_maps_the_true_crossings_are_found_where_they_are(photograph, eye):
    true = np.array([[c.row, c.col] for c in photograph.truth.crossings])
    candidates = find_candidates(eye.maps, eye.artery_vein)
    found = candidates.places[candidates.confidence(HOW.confidence_weights) >= 0.5]
    assert len(true) > 5
    assert np.mean([nearest(found, at) < 5 for at in true]) > 0.9
    assert np.mean([nearest(true, at) < 5 for at in found]) > 0.85
    assert candidates.features.shape == (len(candidates), len(FEATURES))


def test_widths_are_those_that_were_drawn(photograph, eye):
    true = {(c.row, c.col): c for c in photograph.truth.crossings}
    errors = []
    for one in measured(eye):
        place = min(true, key=lambda p: np.hypot(*(np.array(p) - one.place)))
        near = np.hypot(*(np.array(place) - one.place)) < 4
        if (
            near
            and one.narrowing is not None
            and np.isfinite(one.narrowing.vein_width)
            and true[place].vein_width_px > 5
        ):
            errors.append(one.narrowing.vein_width - true[place].vein_width_px)
    assert len(errors) >= 3 and np.median(np.abs(errors)) < 1.2


def test_rows_come_from_top_to_bottom_in_the_files_pixels(eye):
    larger = np.repeat(np.repeat(eye.pixels, 2, axis=0), 2, axis=1)
    small, large = measured(eye), measured(replace(eye, pixels=larger, scale=2.0))
    assert len(small) > 3 and [m.place[0] for m in small] == sorted(m.place[0] for m in small)
    for one, two in zip(small, large, strict=True):
        np.testing.assert_allclose(two.place, 2 * one.place + 0.5)
        assert two.map_vein_width == pytest.approx(2 * one.map_vein_width)
    ratios = [
        b.narrowing.vein_width / a.narrowing.vein_width
        for a, b in zip(small, large, strict=True)
        if a.narrowing and b.narrowing
    ]
    assert np.isfinite(ratios).sum() >= 3
    assert np.nanmedian(ratios) == pytest.approx(2, rel=0.15)


def test_side_1_is_nearer_the_disc(eye):
    followed = [one.vessels for one in measured(eye) if one.vessels is not None]
    assert eye.disc is not None and followed
    for crossing in followed:
        ends = crossing.second.points[[0, -1]]
        assert np.hypot(*(ends[0] - eye.disc.centre)) <= np.hypot(*(ends[1] - eye.disc.centre))


def test_a_peak_without_two_vessels_is_a_crossing_that_is_not_measured(photograph):
    maps = maps_of(photograph.truth)
    row, column = np.argwhere(photograph.truth.field & (maps[0] == 0))[9000]
    maps[3, row - 1 : row + 2, column - 1 : column + 2] = 1.0
    every = measured(mapped(photograph.pixels, maps, photograph.truth.field), 0.0)
    found = [m for m in every if np.hypot(*(m.place - [row, column])) < 3]
    assert found and all(m.reason == NOT_FOLLOWED and m.narrowing is None for m in found)
    assert all(m.map_vein_width == WIDE_VEIN for m in found)


def test_nothing_on_the_maps_is_no_crossing(photograph):
    nothing = mapped(photograph.pixels, np.zeros_like(maps_of(photograph.truth)), photograph.truth.field)
    assert measured(nothing, 0.0) == [] and nothing.disc is None


def test_a_crossing_is_measured_although_its_vein_is_torn_there():
    rows, columns = np.indices((160, 160)) - 80
    artery, vein = np.abs(rows) <= 3, (np.abs(columns) <= 3) & (np.abs(rows) > 5)
    heat = np.exp(-(rows**2 + columns**2) / (2 * 3.5**2))
    maps = np.stack([artery | vein, artery, vein, heat]).astype(np.float32)
    pixels = np.where((artery | vein)[..., None], (90, 40, 20), (180, 110, 60)).astype(np.uint8)
    photograph = mapped(pixels, maps, np.ones((160, 160), bool))
    candidates = find_candidates(photograph.maps, photograph.artery_vein)
    (k,) = np.flatnonzero(np.hypot(*(candidates.places - 80).T) < 4)
    assert candidates.vessels[k] is None  # the vein's own graph has a gap there
    (one,) = [one for one in measured(photograph, 0.0) if np.hypot(*(one.place - 80)) < 4]
    assert one.vessels is not None and one.narrowing is not None and one.reason != NOT_FOLLOWED
