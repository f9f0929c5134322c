import base64
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fundoscope.errors import UsageError
from fundoscope.reports.overlay import jpeg_uri, legend, overlay, overlay_layer, strongest, surround, upsampled

SIDE = 96
MAPS = arrays(np.float32, (6, 6), elements=st.floats(-8, 8, width=32))


def disc() -> np.ndarray:
    at = np.arange(SIDE) - (SIDE - 1) / 2
    return at[:, None] ** 2 + at[None, :] ** 2 <= (0.45 * SIDE) ** 2


def retina(level: int = 140) -> np.ndarray:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[disc()] = (level, level // 2, level // 3)
    return picture


def plain(level: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def share_of(activation: np.ndarray, scale: float) -> np.ndarray:
    # out = picture (1 - share) + colour share: two greys under one map tell the share, whatever the colour
    dark, bright = (overlay(plain(level), activation, scale)[..., 0].astype(float) for level in (50, 250))
    return 1 - (bright - dark) / 200


def uniform(value: float) -> np.ndarray:
    return np.full((4, 4), value, np.float32)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_map_without_positive_evidence_shows_the_photograph_alone(value):
    picture = retina()
    answer = overlay(picture, np.full((8, 8), value, np.float32))
    np.testing.assert_array_equal(answer, picture)
    answer[:] = 0
    assert picture.any(), "the photograph itself was handed back"


@settings(max_examples=40, deadline=None)
@given(MAPS)
def test_negative_evidence_draws_nothing(activation):
    np.testing.assert_array_equal(overlay(retina(), activation), overlay(retina(), activation.clip(0)))


@settings(max_examples=40, deadline=None)
@given(MAPS)
def test_the_black_surround_is_untouched(activation):
    picture = retina()
    answer = overlay(picture, activation)
    np.testing.assert_array_equal(answer[~disc()], picture[~disc()])


def test_dark_parts_inside_the_field_are_no_surround():
    picture = retina()
    picture[45:50, 45:50] = 0
    np.testing.assert_array_equal(surround(picture), ~disc())


def test_the_colour_grows_with_evidence():
    shares = [float(np.median(share_of(uniform(value), 10.0))) for value in (0, 0.2, 1, 2.4, 5, 9, 10, 14)]
    assert shares[0] == 0
    assert all(low < high for low, high in pairwise(shares[:7]))
    assert shares[6] == shares[7], "full scale is the end of the colours"
    assert 0.5 < shares[-1] < 0.95, "the vessels must show through"


def test_one_colour_means_one_evidence_in_every_photograph():
    weak, strong = np.zeros((2, 8, 8), np.float32)
    weak[1, 1] = strong[1, 1] = 0.9
    strong[6, 6] = 3.5
    near = (slice(0, 40), slice(0, 40))
    np.testing.assert_array_equal(overlay(plain(120), weak)[near], overlay(plain(120), strong)[near])


def test_the_colour_lies_where_the_evidence_is():
    activation = np.zeros((6, 6), np.float32)
    activation[1, 4] = 3
    row, column = np.unravel_index(np.argmax(upsampled(activation, (SIDE, SIDE))), (SIDE, SIDE))
    assert abs(row - (1.5 * SIDE / 6 - 0.5)) <= 1 and abs(column - (4.5 * SIDE / 6 - 0.5)) <= 1
    changed = np.abs(overlay(retina(), activation).astype(int) - retina()).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert rows.max() < SIDE / 2 < columns.min()


@settings(max_examples=40, deadline=None)
@given(MAPS)
def test_upsampled_evidence_stays_within_the_map(activation):
    smooth = upsampled(activation, (50, 70))
    assert smooth.shape == (50, 70)
    assert smooth.min() >= 0 and smooth.max() <= max(0.0, activation.max())


def test_a_contour_frames_strong_evidence_at_half_of_its_maximum():
    activation = np.zeros((6, 6), np.float32)
    activation[2:4, 2:4] = 4
    answer = overlay(plain(60), activation)
    white = (answer.min(axis=2) > 150).astype(np.uint8)
    assert white.any()
    inside = upsampled(activation, (SIDE, SIDE)) >= 2
    rim = inside & ~cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert cv2.dilate(white, np.ones((3, 3), np.uint8))[rim].all()
    assert not (overlay(plain(60), activation / 8).min(axis=2) > 150).any(), "weak evidence has no contour"


@pytest.mark.parametrize(
    ("picture", "activation", "scale"),
    [
        (np.zeros((9, 9), np.uint8), np.ones((2, 2)), None),
        (np.zeros((9, 9, 3), np.float32), np.ones((2, 2)), None),
        (np.zeros((9, 9, 3), np.uint8), np.ones((1, 2, 2)), None),
        (np.zeros((9, 9, 3), np.uint8), np.ones((0, 2)), None),
        (np.zeros((9, 9, 3), np.uint8), np.array([[np.nan, 1.0]]), None),
        (np.zeros((9, 9, 3), np.uint8), np.ones((2, 2)), 0.0),
    ],
)
def test_what_is_no_photograph_or_no_map_is_refused(picture, activation, scale):
    with pytest.raises(UsageError):
        overlay(picture, activation, scale)


@pytest.mark.parametrize(
    ("at", "words"),
    [((0, 0), "upper left"), ((0, 4), "top"), ((4, 4), "centre"), ((4, 8), "right"), ((8, 0), "lower left")],
)
def test_the_strongest_place_is_named(at, words):
    activation = np.zeros((9, 9))
    activation[at] = 1
    assert strongest(activation) == words
    assert strongest(-activation) == ""


def test_legend_runs_from_the_retina_to_full_colour():
    strip = legend(100, 8)
    assert strip.shape == (8, 100, 3)
    steps = np.abs(np.diff(strip[0].astype(int), axis=0)).sum(axis=1)
    assert steps[1:].max() < 20, "a jump in the legend"
    full = overlay(np.full((64, 64, 3), strip[0, 0], np.uint8), np.full((2, 2), 4.0))
    assert np.abs(strip[0, -1].astype(int) - full[32, 32]).max() <= 2


def test_jpeg_uri_holds_the_picture_shrunk_and_never_enlarged():
    picture = cv2.resize(retina(), (400, 300))
    for side, shape in ((200, (150, 200, 3)), (900, (300, 400, 3))):
        head, data = jpeg_uri(picture, side).split(",")
        assert head == "data:image/jpeg;base64"
        back = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert back.shape == shape
        expected = cv2.resize(picture, shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(back.astype(int) - expected).mean() < 3


def test_the_layer_alone_laid_over_the_photograph_is_the_overlay():
    picture = np.full((128, 128, 3), (170, 90, 50), np.uint8)
    activation = np.zeros((8, 8), np.float32)
    activation[2:5, 3:6] = 3.0
    layer = overlay_layer(picture, activation).astype(float)
    opacity = layer[..., 3:] / 255
    laid = (1 - opacity) * picture + opacity * layer[..., :3]
    difference = np.abs(laid - overlay(picture, activation))
    assert np.percentile(difference, 97) <= 1  # beyond that lies the soft edge of the contour, which is opaque here
    assert overlay_layer(picture, -activation)[..., 3].max() == 0
