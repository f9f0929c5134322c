"""The joint fit of a vein beside its artery: derivatives, known narrowing, honest errors, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from fundoscope.vessels import CalibreModel, MeasuredCrossing, measure_narrowing
from fundoscope.vessels import joint_fit as fitting
from fundoscope.vessels.graph import Centreline

SHAPE = (90, 120)
GROUND = (165.0, 95.0)  # red and green


def tube(off, width, blur):
    column = 0.0
    for share, part in ((0.68, 1.0), (0.32, 0.62)):
        column = column + share * (ndtr((off + part * width / 2) / blur) - ndtr((off - part * width / 2) / blur))
    return column


def crossing_at(degrees, vein, artery):
    turn, at = np.radians(degrees), np.array([44.6, 60.2])
    way = np.arange(-40, 40.5)
    along = at + way[:, None] * [np.sin(turn), np.cos(turn)]
    level = np.column_stack([np.full(101, at[0]), np.arange(101) + 10.0])
    lines = Centreline(along, np.full(len(along), artery / 2), 40), Centreline(level, np.full(101, vein / 2), 50)
    return MeasuredCrossing(at, degrees, *lines)


def picture(narrowing, rng, noise=3.0, vein=6.0, artery=5.0, degrees=70.0, blur=0.9):
    """A level vein beneath an oblique artery, RGB, and the crossing."""
    rows, columns = np.indices(SHAPE).astype(float)
    crossing = crossing_at(degrees, vein, artery)
    turn, (row, column) = np.radians(degrees), crossing.at
    band = tube((columns - column) * np.sin(turn) - (rows - row) * np.cos(turn), artery, blur)
    beyond = (np.abs(columns - column) - artery / 2 / np.sin(turn)) / vein
    t = np.clip((beyond - 0.4) / 1.4, 0, 1)
    left = 1 - np.where(columns < column, *narrowing) * (1 - t * t * (3 - 2 * t))
    blood = left ** (1 / 3) * tube(rows - row, vein * left ** (2 / 3), blur) * (1 - np.clip(1.2 * band, 0, 1))
    planes = [
        ground * (1 - vein_depth * blood) * (1 - artery_depth * band) + rng.normal(0, noise, SHAPE)
        for ground, vein_depth, artery_depth in zip(GROUND, (0.22, 0.38), (0.1, 0.28), strict=True)
    ]
    stacked = np.stack([*planes, np.full(SHAPE, 40.0)], axis=2)
    return np.clip(np.rint(stacked), 0, 255).astype(np.uint8), crossing


def fitted(pixels, crossing, hidden=None):
    planes = CalibreModel(np.zeros(SHAPE, np.float32), 0.9).on(pixels).planes
    found = fitting.fit_crossing(planes, 0.9, crossing, np.zeros(SHAPE, bool) if hidden is None else hidden)
    assert found is not None
    return found


def test_derivatives_are_those_of_the_residuals():
    pixels, crossing = picture((0.3, 0.1), np.random.default_rng(1))
    planes = CalibreModel(np.zeros(SHAPE, np.float32), 0.9).on(pixels).planes
    vein = fitting.StraightenedVein.straighten(planes, 0.9, crossing, np.zeros(SHAPE, bool))
    assert vein is not None
    model = fitting._Model(vein)
    values = model.start()
    assert values is not None
    model.residuals(values)
    values[:7] += [0.05, 0.01, 0.02, 0.2, 0.1, 0.03, 0.1]
    jacobian = model.residuals(values)[1]
    for k in range(model.size):
        step = np.zeros(model.size)
        step[k] = 2e-2 if k < 7 else 0.1
        numeric = (model.residuals(values + step)[0] - model.residuals(values - step)[0]) / (2 * step[k])
        np.testing.assert_allclose(jacobian[:, k], numeric, atol=0.03 * np.abs(numeric).max())


@pytest.mark.parametrize("degrees", [45.0, 90.0, 120.0])
@pytest.mark.parametrize("drawn", [(0.0, 0.0), (0.5, 0.0), (0.2, 0.6)])
def test_narrowing_of_each_side_is_read_as_it_is_drawn(drawn, degrees):
    found = fitted(*picture(drawn, np.random.default_rng(2), noise=1.0, degrees=degrees))
    np.testing.assert_allclose(found.narrowing, drawn, atol=0.08)
    assert found.vein_width == pytest.approx(6, abs=0.5)


def test_standard_errors_are_as_large_as_errors_are():
    """Untouched veins in noise: the fit is neither far too sure nor far too shy, and noise makes it less sure."""
    rng, errors, stated = np.random.default_rng(3), [], []
    for _ in range(24):
        found = fitted(*picture((0.0, 0.0), rng, noise=5.0))
        errors += found.narrowing
        stated += found.errors
    within = (np.abs(errors) <= stated).mean()
    assert 0.55 < within < 0.97
    noisier = fitted(*picture((0.0, 0.0), rng, noise=15.0)).errors
    assert min(noisier) > np.median(stated)


def test_red_and_green_together_are_surer_than_green():
    pixels, crossing = picture((0.3, 0.0), np.random.default_rng(4), noise=6.0)
    both = fitted(pixels, crossing).errors
    green = fitting.fit_crossing([pixels[..., 1].astype(np.float32)], 0.9, crossing, np.zeros(SHAPE, bool))
    assert green is not None and sum(both) < sum(green.errors)


def test_a_vessel_beside_the_vein_leaves_that_side_unknown():
    pixels, crossing = picture((0.0, 0.0), np.random.default_rng(5))
    veins = np.zeros(SHAPE, bool)
    veins[42:48, 10:111] = True
    clear = measure_narrowing(CalibreModel(pixels[..., 1].astype(np.float32), 0.9).on(pixels), crossing, None, veins)
    assert np.isfinite([*clear.sides, *clear.standard_errors]).all()
    veins[50:60, 10:60] = True
    found = measure_narrowing(CalibreModel(pixels[..., 1].astype(np.float32), 0.9).on(pixels), crossing, None, veins)
    assert np.isnan([found.side_1, found.standard_errors[0]]).all() and np.isfinite(found.side_2)


def test_without_a_vein_there_is_no_fit():
    blank = np.full((*SHAPE, 3), 90, np.uint8)
    crossing = crossing_at(70.0, 6.0, 5.0)
    found = measure_narrowing(CalibreModel.fit(blank, [crossing.second]), crossing)
    assert np.isnan([*found.sides, *found.standard_errors, found.vein_width]).all()
