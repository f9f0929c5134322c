"""Pictures that are no single, plain photograph: montages, bright borders, exchanged channels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fundoscope import load
from fundoscope.imaging import Prepared, find_field
from fundoscope.imaging.montage import count_fields
from fundoscope.imaging.quality import judge_quality
from fundoscope.simulate import adult, infant

RETCAM = infant(1, camera="retcam", level="good", size=480).pixels
WITH_ROP = infant(4, camera="retcam", level="good", size=480, disease="treatment-requiring").pixels
FULL = infant(1, camera="full-circle", level="good", size=420).pixels
DRIVE = adult(1, camera="drive", level="good", size=480).pixels
CLIPPED = adult(2, camera="clipped", level="good", size=520).pixels
DIM = (DRIVE * 0.4).astype(np.uint8)


def verdict(picture, expects="infant"):
    return judge_quality(Prepared.read(np.ascontiguousarray(picture)), expects)


def bordered(picture, width, level=255):
    return cv2.copyMakeBorder(picture, *(width,) * 4, cv2.BORDER_CONSTANT, value=(level,) * 3)


def beside(a, b, axis=1, gap=0, level=0):
    """Two pictures side by side (axis 1) or above each other (0), each at the start of its place."""
    length = max(a.shape[1 - axis], b.shape[1 - axis])
    parts = []
    for part in (a, b):
        missing = length - part.shape[1 - axis]
        margins = (0, 0, 0, missing) if axis == 0 else (0, missing, 0, 0)
        parts.append(cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=(level,) * 3))
    shape = list(parts[0].shape)
    shape[axis] = gap
    return np.concatenate([parts[0], np.full(shape, level, np.uint8), parts[1]], axis)


def half(picture):
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


PAIRS = {
    "healthy, ROP": (RETCAM, WITH_ROP),
    "ROP, healthy": (WITH_ROP, RETCAM),
    "full circles": (FULL, FULL),
    "an adult's and a dim one": (DRIVE, DIM),
    "clipped": (CLIPPED, CLIPPED),
    "another size": (RETCAM, half(WITH_ROP)),
    "the small one first": (half(RETCAM), WITH_ROP),
    "another camera": (FULL, DRIVE),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("gap", "level"), [(0, 0), (20, 0), (20, 255)])
def test_two_fields_are_counted_in_whatever_arrangement(name, axis, gap, level):
    assert find_field(beside(*PAIRS[name], axis, gap, level)).count == 2


@pytest.mark.parametrize(("copies", "axis", "count"), [((1, 3), 1, 3), ((2, 2), 1, 4), ((3, 1), 0, 3)])
@pytest.mark.parametrize("eye", [RETCAM, FULL, CLIPPED])
def test_every_field_of_a_grid_is_counted(eye, copies, axis, count):
    assert find_field(np.tile(eye, (*copies, 1))).count == count


@pytest.mark.parametrize("eye", [RETCAM, FULL, CLIPPED])
def test_a_sheet_of_many_fields_is_no_single_one(eye):
    assert find_field(np.tile(eye, (2, 3, 1))).count > 2


def test_both_graders_refuse_a_montage_for_its_fields():
    pair = beside(RETCAM, WITH_ROP)
    (screened,) = load("rop").screen([pair])
    (graded,) = load("nicking").grade([beside(DRIVE, DIM, 0)])
    for row in (screened, graded):
        assert row.status == "rejected"
        assert row.reason.startswith("shows two fields of view. Give each photograph as a file of its own.")
    assert verdict(np.tile(FULL, (2, 2, 1))).reasons[0].startswith("shows four fields of view.")


def test_a_montage_on_a_white_page_is_still_a_montage():
    assert find_field(bordered(beside(DRIVE, DRIVE, 1, 30, 255), 25)).count == 2


def with_inset(eye):
    picture, small = eye.copy(), cv2.resize(eye, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    picture[: small.shape[0], : small.shape[1]] = small
    return picture


def with_banner(eye, level):
    banner = np.full((eye.shape[0] // 7, eye.shape[1], 3), level, np.uint8)
    cv2.putText(banner, "OD 2024-01-02 0123", (8, 30), 0, 0.7, (255 - level,) * 3, 2)
    return np.concatenate([eye, banner])


def with_logo(eye):
    picture = eye.copy()
    cv2.circle(picture, (25, 25), 22, (240, 200, 40), -1)
    cv2.ellipse(picture, (eye.shape[1] - 12, eye.shape[0] // 2), (8, 30), 10, 0, 360, (190, 190, 170), -1)
    return picture


@pytest.mark.parametrize("eye", [RETCAM, FULL, DRIVE, CLIPPED, DIM])
@pytest.mark.parametrize(
    "change", [lambda p: p, with_inset, with_logo, lambda p: with_banner(p, 0), lambda p: with_banner(p, 255)]
)
def test_one_field_with_an_inset_a_banner_or_a_logo_is_one_field(eye, change):
    assert find_field(np.ascontiguousarray(change(eye))).count == 1


def test_shade_across_a_field_does_not_part_it():
    dark = FULL.copy()
    dark[:, 190:230] = (dark[:, 190:230] * 0.04).astype(np.uint8)
    assert find_field(dark).count == 1


def test_counting_is_the_closed_form_for_drawn_discs():
    lit = np.zeros((200, 320), np.uint8)
    assert count_fields(lit) == 1
    cv2.circle(lit, (80, 100), 70, 1, -1)
    assert count_fields(lit) == 1
    cv2.circle(lit, (230, 100), 30, 1, -1)  # .43 of the radius; below .40 it is an inset
    assert count_fields(lit) == 2
    lit[:, 160:] = 0
    cv2.rectangle(lit, (170, 20), (310, 180), 1, -1)  # a panel is no field
    assert count_fields(lit) == 1


# ---- bright borders


@pytest.mark.parametrize("eye", [RETCAM, DRIVE, FULL, CLIPPED])
@pytest.mark.parametrize(("width", "level"), [(1, 255), (2, 255), (12, 255), (60, 255), (20, 150)])
def test_a_frame_is_background(eye, width, level):
    plain, framed = find_field(eye), find_field(bordered(eye, width, level))
    assert framed.found and not framed.bright_border
    assert framed.row - width == pytest.approx(plain.row, abs=0.02 * plain.radius)
    assert framed.column - width == pytest.approx(plain.column, abs=0.02 * plain.radius)
    assert framed.radius == pytest.approx(plain.radius, rel=0.02)
    assert framed.visible_share == pytest.approx(plain.visible_share, abs=0.03)
    mask = framed.mask()
    assert not mask[:width].any() and not mask[-width:].any() and not mask[:, :width].any()
    expects = "adult" if eye is DRIVE or eye is CLIPPED else "infant"
    assert verdict(bordered(eye, width, level), expects).gradable == verdict(eye, expects).gradable


def test_a_frame_that_jpeg_has_blurred_and_one_along_one_side_are_background_too():
    blurred = cv2.imdecode(cv2.imencode(".jpg", bordered(DRIVE, 24), [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1)
    assert find_field(blurred).radius == pytest.approx(find_field(DRIVE).radius, rel=0.02)
    strip = cv2.copyMakeBorder(RETCAM, 0, 40, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    assert find_field(strip).radius == pytest.approx(find_field(RETCAM).radius, rel=0.02)
    assert not find_field(strip).mask()[360:].any()


def test_white_paper_around_a_circle_is_found_and_named():
    paper = DRIVE.copy()
    paper[~find_field(DRIVE).mask()] = 255
    field = find_field(paper)
    assert field.found
    assert field.radius == pytest.approx(find_field(DRIVE).radius, rel=0.025)
    assert verdict(paper, "adult").codes == ("bright_border",)


def test_a_border_that_hides_the_rim_is_the_reason():
    inside = bordered(DRIVE[120:360, 120:360], 20)
    told = verdict(inside, "adult")
    assert told.codes == ("bright_border",)
    assert told.reasons[0].startswith("a bright border")


def test_a_field_in_a_frame_is_scaled_with_its_file():
    data = cv2.imencode(".jpg", bordered(cv2.resize(FULL, (1800, 1800)), 60)[..., ::-1])[1].tobytes()
    full, reduced = Prepared.read(data).field, Prepared.read(data, side=256).field
    assert reduced.frame == pytest.approx(full.frame, abs=10)
    assert reduced.radius == pytest.approx(full.radius, rel=0.01)


# ---- exchanged channels


@pytest.mark.parametrize(
    ("eye", "expects"), [(RETCAM, "infant"), (WITH_ROP, "infant"), (FULL, "infant"), (DRIVE, "adult")]
)
def test_exchanged_red_and_blue_are_remarked_on(eye, expects):
    assert verdict(eye, expects).warnings == ()
    told = verdict(eye[..., ::-1], expects)
    assert told.warnings == ("swapped_channels",)
    assert told.remarks[0].startswith("red and blue look exchanged")


@pytest.mark.parametrize("level", [60, 128, 200])
def test_grey_and_foreign_pictures_are_not_said_to_be_exchanged(level):
    grey = cv2.cvtColor(RETCAM[..., 1], cv2.COLOR_GRAY2RGB)
    assert verdict(grey).warnings == ()
    sky = np.zeros((400, 500, 3), np.uint8)
    cv2.circle(sky, (250, 200), 180, (40, 90, level), -1)
    assert verdict(sky).warnings == ()


def test_the_warning_stands_in_the_row():
    swapped = np.ascontiguousarray(FULL[..., ::-1])
    plain, row = load("rop").screen([FULL, swapped])
    assert plain.status == "ok" and plain.reason == ""
    assert row.reason.startswith("red and blue look exchanged") or "red and blue look exchanged" in row.reason
