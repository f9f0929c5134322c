from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fundoscope.imaging import Field, Frame, Photograph, Prepared, Standard, clahe, find_field

PLAIN = Standard(clahe_when="never")


def fundus(rows: int, columns: int, row: float, column: float, radius: float, seed: int = 0) -> Photograph:
    """A textured disc on black, drawn from its formula, so that it is the same eye at every resolution."""
    y, x = (np.mgrid[:rows, :columns] - np.array([row, column])[:, None, None]) / radius
    phase = np.random.default_rng(seed).uniform(0, 6, 2)
    wave = np.sin(7 * x + phase[0]) * np.cos(5 * y + phase[1])
    colour = np.stack([170 + 40 * wave, 95 + 30 * wave, 50 + 15 * wave], -1)
    colour[x**2 + y**2 > 1] = 0
    return Photograph(np.round(colour).astype(np.uint8), "drawn", 0, "array")


def field_of(photograph: Photograph, row: float, column: float, radius: float) -> Field:
    return Field(row, column, radius, photograph.pixels.shape[:2], True, 1.0)


CIRCLES = {
    "whole": (600, 620, 300.0, 310.0, 260.0),
    "fills": (565, 584, 282.0, 291.5, 281.0),
    "cut above and below": (480, 640, 239.5, 319.5, 300.0),
    "cut at the left": (500, 400, 250.0, 170.0, 230.0),
    "off centre": (700, 900, 300.0, 420.0, 280.0),
    "large": (1500, 1500, 749.5, 749.5, 740.0),
    "small": (220, 240, 110.0, 118.0, 100.0),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_a_circle_lands_centred(name):
    photograph = fundus(*CIRCLES[name])
    field = find_field(photograph.pixels)
    row, column, radius = CIRCLES[name][2:]
    assert field.found
    assert abs(field.row - row) < 0.02 * radius
    assert abs(field.column - column) < 0.02 * radius
    assert abs(field.radius - radius) < 0.02 * radius
    lit = PLAIN.square(photograph, field_of(photograph, row, column, radius)).max(axis=2) > 20
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    for seen, centre, length in (
        (rows, row, photograph.pixels.shape[0]),
        (columns, column, photograph.pixels.shape[1]),
    ):
        low = max(0.0, (-0.5 - (centre - radius)) * 256 / (2 * radius), 0.0075 * 256)
        high = min(256.0, (length - 0.5 - (centre - radius)) * 256 / (2 * radius), 256 - 0.0075 * 256)
        assert abs(seen[0] - low) <= 1.5
        assert abs(seen[-1] + 1 - high) <= 1.5


@pytest.mark.parametrize("when", ["never", "after resize", "before resize"])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_an_eye_gives_nearly_the_same_square_at_every_resolution(when, scale):
    standard = Standard(clahe_when=when)
    squares = []
    for by in (1.0, scale):
        row, column, radius = (300 + 0.5) * by - 0.5, (380 + 0.5) * by - 0.5, 330 * by
        photograph = fundus(round(600 * by), round(800 * by), row, column, radius)
        squares.append(standard.enhance(standard.square(photograph, field_of(photograph, row, column, radius))))
    inside = cv2.erode((squares[0].max(axis=2) > 20).astype(np.uint8), np.ones((9, 9))) > 0
    difference = np.abs(squares[0].astype(int) - squares[1])[inside]
    assert difference.mean() < (5 if when == "before resize" else 2.5)  # that is why it stands after
    if when == "never":
        assert difference.mean() < 0.7


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-0.6, 0.6),
    st.floats(-0.6, 0.6),
    st.floats(90, 330),
    st.sampled_from([(400, 520), (480, 480), (300, 640)]),
    st.floats(-0.25, 0.25),
    st.sampled_from([64, 200, 256]),
)
def test_a_dot_comes_back_within_half_a_pixel(up, along, radius, shape, shift, size):
    rows, columns = shape
    row, column = rows / 2 + shift * radius, columns / 2 - shift * radius
    at = np.array([row + up * radius, column + along * radius])
    if not (radius / 8 + 6 < at[0] < rows - radius / 8 - 6 and radius / 8 + 6 < at[1] < columns - radius / 8 - 6):
        return
    y, x = np.mgrid[:rows, :columns]
    spread = max(2.0, 2 * radius / size)
    dot = 250 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * spread**2))
    photograph = Photograph(np.repeat(dot[..., None], 3, 2).astype(np.uint8), "dot", 0, "array")
    field = field_of(photograph, row, column, radius)
    weight = PLAIN.square(photograph, field, size)[..., 0].astype(float)
    weight[weight < 25] = 0
    centre = [(weight * axis).sum() / weight.sum() for axis in np.mgrid[:size, :size]]
    back = Frame.around(field).to_photograph(np.array([centre]), size)[0]
    pixel = max(1.0, 2 * radius / size)  # the coarser of the two
    np.testing.assert_allclose(back, at, atol=0.5 * pixel + 0.05)


def test_corners_of_a_frame():
    frame = Frame(10.0, -20.0, 512.0)
    corners = frame.to_photograph(np.array([[0, 0], [255, 255]]), 256)
    np.testing.assert_allclose(corners, [[10.5, -19.5], [520.5, 490.5]])


def test_a_photograph_without_a_rim_is_padded_to_a_square():
    photograph = Photograph(np.full((200, 300, 3), 150, np.uint8), "inside", 0, "array")
    square = PLAIN.square(photograph, Field(99.5, 149.5, 180.0, (200, 300), False, 1.0))
    lit = np.flatnonzero(square[:, 128, 0] > 0)
    assert (lit[0], lit[-1]) == (43, 212)  # 256 * 200 / 300 = 170.7 rows, those wholly seen
    assert (square[128] == 150).all()


def test_outside_the_field_is_black_and_inside_is_untouched():
    photograph = Photograph(np.full((400, 400, 3), 200, np.uint8), "white", 0, "array")
    square = PLAIN.square(photograph, field_of(photograph, 199.5, 199.5, 190))
    y, x = np.mgrid[:256, :256] - 127.5
    distance = np.hypot(y, x)
    assert not square[distance > 127].any()
    assert (square[distance < 125] == 200).all()


def test_a_large_photograph_is_averaged_over_its_area():
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (2040, 2040, 3)).astype(np.uint8), (0, 0), 3)
    field = Field(1019.5, 1019.5, 1020.0, (2040, 2040), True, 1.0)
    square = PLAIN.square(Photograph(pixels, "noise", 0, "array"), field)
    direct = cv2.resize(pixels, (256, 256), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:256, :256] - 127.5
    difference = np.abs(square.astype(int) - direct)[np.hypot(y, x) < 120]
    assert difference.max() <= 1


def test_the_tensor_is_scaled_shifted_and_channels_first():
    rng = np.random.default_rng(1)
    square = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = Standard(size=64, mean=mean, deviation=deviation).tensor(square)
    assert tensor.dtype == np.float32
    assert tensor.shape == (3, 64, 64)
    assert tensor.flags.c_contiguous
    expected = ((square / 255 - mean) / deviation).transpose(2, 0, 1)
    np.testing.assert_allclose(tensor, expected, atol=1e-6)


def test_apply_is_its_three_steps_and_the_same_bytes_each_time():
    photograph = fundus(*CIRCLES["cut above and below"])
    standard = Standard()
    once = standard.apply(photograph)
    assert once.tobytes() == standard.apply(photograph).tobytes()
    assert once.tobytes() == standard.tensor(standard.enhance(standard.square(photograph))).tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert {x.tobytes() for x in pool.map(standard.apply, [photograph] * 8)} == {once.tobytes()}


def test_the_photograph_is_left_as_it_was():
    photograph = fundus(*CIRCLES["whole"])
    before = photograph.pixels.copy()
    for when in ("after resize", "before resize", "never"):
        Standard(clahe_when=when).apply(photograph)
    np.testing.assert_array_equal(photograph.pixels, before)


@pytest.mark.parametrize("when", ["before resize", "never"])
def test_a_whole_photograph_is_resized_neither_cut_nor_masked(when):
    photograph = fundus(*CIRCLES["whole"])
    standard = Standard(size=64, view="whole", clahe_when=when)
    enhanced = clahe(photograph.pixels, 2.0, 8) if when == "before resize" else photograph.pixels
    wanted = cv2.resize(enhanced, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(standard.enhance(standard.square(photograph)).astype(int) - wanted).mean() < 0.5
    prepared = Prepared.from_photograph(photograph)
    np.testing.assert_array_equal(standard.square(prepared), standard.square(photograph))
    # where the eye is seen: the same shares of rows and of columns as in the photograph
    inside, field = standard.inside(prepared, 64), prepared.field.mask()
    assert inside.mean() == pytest.approx(field.mean(), abs=0.02)
    assert inside.any(1).mean() == pytest.approx(field.any(1).mean(), abs=0.05)


def test_json_round_trip_and_refusal_of_the_unknown():
    standard = Standard(size=224, clahe_clip=3.0, clahe_when="before resize", mean=(0.1, 0.2, 0.3))
    values = json.loads(json.dumps(standard.model_dump(mode="json")))
    assert Standard.from_json(values) == standard
    for wrong in (
        {"colour": 1},
        {"size": 16},
        {"clahe_clip": 0},
        {"clahe_when": "sometimes"},
        {"mean": [0.5]},
    ):
        with pytest.raises(ValidationError):
            Standard.from_json(values | wrong)


@pytest.mark.parametrize("deviation", [(0.5, 0.0, 0.5), (-0.1, 0.5, 0.5)])
def test_a_deviation_that_is_not_positive_is_refused(deviation):
    with pytest.raises(ValidationError):
        Standard(deviation=deviation)


# Contrast


def test_clahe_leaves_the_input_and_the_hue_alone():
    square = PLAIN.square(fundus(*CIRCLES["whole"]))
    before = square.copy()
    evened = clahe(square, 2.0, 8)
    np.testing.assert_array_equal(square, before)
    inside = square.max(axis=2) > 20
    lab = [cv2.cvtColor(p, cv2.COLOR_RGB2LAB).astype(int) for p in (square, evened)]
    assert np.abs(lab[0] - lab[1])[inside][:, 1:].mean() < 2
    assert evened.dtype == np.uint8


def test_clahe_of_one_tile_and_no_limit_is_histogram_equalisation():
    rng = np.random.default_rng(2)
    grey = np.repeat(np.clip(rng.normal(90, 12, (128, 128, 1)), 0, 255).astype(np.uint8), 3, 2)
    light = cv2.cvtColor(clahe(grey, 1e4, 1), cv2.COLOR_RGB2LAB)[..., 0].astype(float)
    before = cv2.cvtColor(grey, cv2.COLOR_RGB2LAB)[..., 0]
    rank = np.cumsum(np.bincount(before.ravel(), minlength=256))[before] / before.size
    np.testing.assert_allclose(light, 255 * rank, atol=3)


def test_a_higher_clip_gives_more_contrast():
    square = (PLAIN.square(fundus(*CIRCLES["whole"])).astype(float) * 0.4 + 60).astype(np.uint8)
    spread = [cv2.Laplacian(clahe(square, clip, 8)[..., 1], cv2.CV_64F).std() for clip in (1.0, 2.0, 4.0)]
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_even_picture_stays_even(level):
    evened = clahe(np.full((96, 96, 3), level, np.uint8), 2.0, 8)
    assert evened.std() < 1


# Field


@pytest.mark.parametrize("level", [0, 255, 130])
def test_a_picture_without_a_rim_has_no_field(level):
    field = find_field(np.full((240, 320, 3), level, np.uint8))
    assert not field.found
    assert field.shape == (240, 320)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 0.6), st.floats(-0.1, 0.1), st.sampled_from([(480, 640), (300, 300), (900, 700)]))
def test_the_circle_is_found_wherever_it_is(share, shift, shape):
    rows, columns = shape
    radius = share * min(rows, columns)
    row, column = rows / 2 + shift * rows, columns / 2 - shift * columns
    field = find_field(fundus(rows, columns, row, column, radius).pixels)
    assert field.found
    assert np.hypot(field.row - row, field.column - column) < 0.04 * radius
    assert abs(field.radius - radius) < 0.04 * radius


def test_masks_and_the_share_seen_follow_the_circle():
    field = Field(49.5, 49.5, 50.0, (100, 100), True, 1.0)
    assert field.mask().sum() == pytest.approx(np.pi * 50**2, rel=0.01)
    assert field.mask((200, 200)).sum() == pytest.approx(np.pi * 100**2, rel=0.01)
    assert field.mask(shrink=0.5).sum() == pytest.approx(np.pi * 25**2, rel=0.02)
    assert field.visible_share == pytest.approx(1.0, abs=0.01)
    assert Field(-0.5, 49.5, 50.0, (100, 100), True, 1.0).visible_share == pytest.approx(0.5, abs=0.02)
