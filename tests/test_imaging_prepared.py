"""One photograph, prepared: its field with straight cuts, its square at any scale, and JPEGs decoded at a reduced scale."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fundoscope.errors import PhotographError
from fundoscope.imaging import Prepared, Standard, find_field, read
from fundoscope.imaging.decode import reduction_for
from fundoscope.imaging.local_contrast import scale_to_diameter
from fundoscope.imaging.prepared import OVERSAMPLING
from fundoscope.simulate import adult, cameras, infant
from fundoscope.vessels.lines import find_vessels

EYE = infant(3, camera="full-circle", level="good", size=960).pixels


def cut_eye(top: int = 120, bottom: int = 830, surround: int = 7) -> np.ndarray:
    """The eye as a camera shows it that cuts its circle flat above and below, with a dark but not black surround."""
    picture = EYE.copy()
    picture[:top], picture[bottom:] = surround, surround
    return picture


def jpeg(pixels: np.ndarray, quality: int = 92) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def test_a_full_circle_has_no_cut():
    assert find_field(EYE).cut is None


def test_a_flat_cut_is_found_where_it_is():
    top, bottom, left, right = find_field(cut_eye()).cut
    assert top == pytest.approx(120, abs=4)
    assert bottom == pytest.approx(830, abs=4)
    assert (left, right) == (0, 960)


def test_the_cut_turns_with_the_photograph():
    picture = np.ascontiguousarray(cut_eye().transpose(1, 0, 2))
    top, bottom, left, right = find_field(picture).cut
    assert (top, bottom) == (0, 960)
    assert left == pytest.approx(120, abs=4)
    assert right == pytest.approx(830, abs=4)


def test_shade_with_a_crooked_border_is_no_cut():
    picture, at = EYE.copy(), np.arange(960)
    border = 250 + 90 * np.sin(at / 60)
    picture[np.arange(960)[:, None] < border[None, :]] = 0
    assert find_field(picture).cut is None


def test_nothing_is_shown_or_mapped_beyond_the_cut():
    prepared = Prepared.read(cut_eye())
    small, inside = prepared.whole(540)
    scale = small.shape[0] / 960
    assert not inside[: int(120 * scale)].any()
    assert not inside[int(830 * scale) + 1 :].any()
    assert inside[int(150 * scale), small.shape[1] // 2]
    square = prepared.square(256)
    shown = prepared.inside(256)
    assert not square[~shown].any()
    assert square[shown].max(axis=1).min() > 7  # the surround is nowhere within
    rows = np.flatnonzero(shown.any(axis=1))
    radius = prepared.field.radius
    expected = (120 - (prepared.field.row + 0.5 - radius)) * 256 / (2 * radius)
    assert rows[0] == pytest.approx(expected, abs=1.5)


def test_a_rim_is_left_out_along_circle_and_cut():
    prepared = Prepared.read(cut_eye())
    wide, narrow = prepared.inside(256), prepared.inside(256, rim=0.05)
    assert (wide & narrow).sum() == narrow.sum()
    first = [np.flatnonzero(mask[:, 128])[0] for mask in (wide, narrow)]
    assert first[1] - first[0] == pytest.approx(0.05 * 128, abs=1)


def test_a_square_is_made_once():
    prepared = Prepared.read(EYE)
    assert prepared.square(256) is prepared.square(256)
    assert prepared.square(128).shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("shape", "least", "reduction"),
    [
        ((480, 640), 448, 1),
        ((896, 1200), 448, 2),
        ((895, 1200), 448, 1),
        ((2040, 2040), 448, 4),
        ((9000, 9000), 448, 8),
    ],
)
def test_the_largest_reduction_that_leaves_enough_pixels(shape, least, reduction):
    assert reduction_for(shape, least) == reduction
    assert reduction_for(shape, None) == 1


@pytest.mark.parametrize("factor", [2, 4])
def test_a_reduced_photograph_gives_nearly_the_same_square_and_the_files_coordinates(factor):
    data = jpeg(cv2.resize(cut_eye(), (1920, 1920), interpolation=cv2.INTER_CUBIC))
    full = Prepared.read(data)
    reduced = Prepared.read(data, side=int(1920 / factor / OVERSAMPLING) - 8)
    assert full.photograph.reduction == 1
    assert reduced.photograph.reduction == factor
    assert reduced.pixels.shape[0] == 1920 // factor
    assert reduced.shape == full.shape == (1920, 1920)
    assert reduced.field.row == pytest.approx(full.field.row, abs=3)
    assert reduced.field.radius == pytest.approx(full.field.radius, rel=0.004)
    assert reduced.field.cut == pytest.approx(full.field.cut, abs=9)
    both = full.inside(256, 0.05) & reduced.inside(256, 0.05)
    difference = np.abs(full.square(256).astype(int) - reduced.square(256))[both]
    assert difference.mean() < 1.5


def test_a_field_smaller_than_its_frame_is_read_at_a_finer_scale():
    picture = np.zeros((1600, 1600, 3), np.uint8)
    picture[400:1200, 400:1200] = cv2.resize(EYE, (800, 800), interpolation=cv2.INTER_AREA)
    prepared = Prepared.read(jpeg(picture), side=200)
    assert reduction_for((1600, 1600), int(200 * OVERSAMPLING)) == 4
    assert prepared.photograph.reduction == 2  # 4 would leave about 200 pixels for a square of 200
    assert prepared.shape == (1600, 1600)


def test_orientation_is_kept_at_every_scale():
    upright = cv2.resize(EYE[:, 100:], (1720, 1920), interpolation=cv2.INTER_AREA)
    exif = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    data = jpeg(np.ascontiguousarray(np.rot90(upright)))  # as stored; orientation 6 turns it back
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    reduced = read(data, least_side=400)
    assert reduced.reduction == 4
    assert reduced.shape == (1920, 1720)
    assert reduced.pixels.shape == (480, 430, 3)
    small = cv2.resize(upright, (430, 480), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.pixels.astype(int) - small).mean() < 2


def test_png_and_arrays_are_read_in_full():
    png = cv2.imencode(".png", EYE[..., ::-1])[1].tobytes()
    assert Prepared.read(png, side=64).photograph.reduction == 1
    assert Prepared.read(EYE, side=64).photograph.reduction == 1


@pytest.mark.parametrize("quality", [60, 92])
def test_a_cut_file_is_refused_at_every_scale(quality):
    data = jpeg(cv2.resize(EYE, (1200, 900), interpolation=cv2.INTER_AREA), quality)
    for missing in (len(data) // 2, len(data) // 8, 900):
        short = data[:-missing] + b"\xff\xd9"
        for least in (None, 400, 200, 110):
            with pytest.raises(PhotographError, match="cut short"):
                read(short, least_side=least)


def test_a_standard_says_how_large_its_photographs_must_be():
    data = jpeg(cv2.resize(EYE, (1920, 1920), interpolation=cv2.INTER_CUBIC))
    assert Standard().prepare(data).photograph.reduction == 4
    assert Standard(size=512).prepare(data).photograph.reduction == 2
    assert Standard(clahe_when="before resize").prepare(data).photograph.reduction == 1


# ---- a camera that cuts its circle flat above and below, and shows a notch


def clipped_eye(monkeypatch, rows: tuple[int, int], notch: tuple[float, float, float] | None):
    """A photograph by the clipped camera with other cuts, (first row, last row) of 1000, and another notch."""
    camera = replace(cameras.CAMERAS["clipped"], rows=rows, notch=notch)
    monkeypatch.setitem(cameras.CAMERAS, "clipped", camera)
    return adult(3, camera="clipped", level="good", size=600)


NOTCHES = {
    "at the corner": (60, 1110, 34),
    "above the cut": (58, 900, 30),
    "below the cut": (945, 700, 40),
    "at the rim": (500, 1320, 40),
    "none": None,
}


@pytest.mark.parametrize("rows", [(70, 929), (140, 860)])
@pytest.mark.parametrize("name", NOTCHES)
def test_nothing_beyond_a_flat_cut_belongs_to_the_field_wherever_the_notch_is(monkeypatch, rows, name):
    notch = NOTCHES[name]
    if notch is not None and rows[0] > 70:  # the notch stays where it touches what is lit
        notch = (
            notch[0] + {"above the cut": 70, "at the corner": 70, "below the cut": -69}.get(name, 0),
            notch[1] + 70 * (name == "at the corner"),
            notch[2],
        )
    photograph = clipped_eye(monkeypatch, rows, notch)
    field, truth = find_field(photograph.pixels), photograph.truth.field
    assert field.cut is not None
    assert not (field.mask(shrink=0.02) & ~truth).any()
    assert (field.mask() & truth).sum() > 0.99 * truth.sum()


def test_no_vessel_is_found_beyond_a_flat_cut(monkeypatch):
    photograph = clipped_eye(monkeypatch, (70, 929), NOTCHES["above the cut"])
    truth = photograph.truth
    small, inside = scale_to_diameter(photograph.pixels)  # where the network's maps are kept
    seen = cv2.resize(truth.field.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert not (inside & ~seen).any()
    found = find_vessels(photograph.pixels)
    rows, columns = np.round(found.to_photograph(np.argwhere(found.mask))).astype(int).T
    rim = (
        cv2.dilate(truth.field.astype(np.uint8), np.ones((15, 15))) > 0
    )  # lines are traced to the lit edge, and no further
    assert rim[rows, columns].all()


def test_the_clipped_cameras_truth_ends_at_its_cut():
    photograph = adult(5, camera="clipped", level="good", size=600)
    truth = photograph.truth
    rows = np.flatnonzero(truth.field.any(axis=1))
    assert (rows[0], rows[-1]) == (28, 371)  # rows 70 and 929 of 1000, at 600 pixels for 1504
    notch = cameras.CAMERAS["clipped"].resized(600).notch
    assert photograph.pixels[round(notch[0]), round(notch[1])].max() > 60  # it is lit, and no part of the field
    assert not truth.field[round(notch[0]), round(notch[1])]
    assert not (truth.vessel & ~truth.field).any()
    assert all(truth.field[int(crossing.row), int(crossing.col)] for crossing in truth.crossings)
