import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fundoscope.errors import PhotographError
from fundoscope.findings import PATCH_COLUMNS, PatchFinding, Status
from fundoscope.imaging import Photograph, read
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.imaging.places import sample_square
from fundoscope.nicking.grading.crossing_patches import (
    INPUT_ZOOM,
    PATCH_SIDE,
    PHOTOGRAPH_SIDE,
    VEIN_WIDTH,
    CrossingPatch,
    crop_square,
    cut_crossing,
    cut_patch,
    lit_pixels,
    map_patch,
    map_patch_of_span,
    maps_as_bytes,
    resize_square,
)
from fundoscope.nicking.grading.grades import (
    ALONE,
    CONTRADICTED,
    NO_ARTERY_AND_VEIN,
    NOT_SURE,
    UNCONFIRMED,
    PatchGrade,
    decide_grade,
    explain_row,
    measured_grades,
    measures_as_nicked,
    median_grade,
    shows_artery_and_vein,
)
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph
from fundoscope.nicking.grading.widths import (
    NO_ARTERY_WIDTH,
    NOT_CLEAR,
    NOT_FOLLOWED,
    ONE_SIDE,
    WIDE_VEIN,
    CrossingWidths,
)
from fundoscope.vessels import Centreline, MeasuredCrossing, Narrowing
from fundoscope.vessels.grade_rule import SPAN


def picture(rows, columns=None, seed=0):
    """Smooth colours, no two places alike."""
    coarse = np.random.default_rng(seed).integers(40, 220, (6, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (columns or rows, rows), interpolation=cv2.INTER_CUBIC), np.uint8)


def darkness(contrast):
    """Maps that repeat the three channels they are given, from 0 to 1, and a fourth of nothing."""
    return np.concatenate([np.clip(contrast / 8 + 0.5, 0, 1), 0 * contrast[:1]]).astype(np.float32)


def crossing(side=PATCH_SIDE):
    """An artery across and a vein down, on grey."""
    maps = np.zeros((side, side, 3), np.uint8)
    middle = slice(side // 2 - 5, side // 2 + 5)
    maps[middle, :, :2] = 255
    maps[:, middle] = 255, 0, 255
    return CrossingPatch(np.full((side, side, 3), 120, np.uint8), maps, np.ones((side, side), bool))


def level_crossing():
    """The same with the vein across."""
    patch = crossing()
    turned = (np.ascontiguousarray(np.rot90(each)) for each in (patch.pixels, patch.maps, patch.inside))
    return CrossingPatch(*turned)


# --- sampling


def test_a_sample_of_whole_pixels_is_the_picture_itself():
    plane = picture(40, 50)
    np.testing.assert_array_equal(sample_square(plane, (20, 25), 1.0, 11), plane[15:26, 20:31])
    np.testing.assert_array_equal(sample_square(plane, (19.5, 24.5), 1.0, 10), plane[15:25, 20:30])


@pytest.mark.parametrize("step", [0.4, 1.7, 3.0])
def test_a_sample_lies_where_it_was_asked_for_at_any_step(step):
    rows, columns = np.mgrid[:120, :130]
    ramp = (rows + 0.8 * columns).astype(np.uint8)  # at most 222
    found = sample_square(ramp, (60.2, 55.7), step, 15).astype(float)
    away = step * (np.arange(15) - 7)
    assert found == pytest.approx((60.2 + away)[:, None] + 0.8 * (55.7 + away), abs=1.6)
    assert found.mean() == pytest.approx(60.2 + 0.8 * 55.7, abs=0.6)


def test_beyond_the_picture_a_sample_is_nothing_and_coarse_ones_are_means():
    plane = np.full((30, 30), 200, np.uint8)
    corner = sample_square(plane, (0, 0), 1.0, 21)
    assert corner[:9].max() == 0 == corner[:, :9].max() and corner[11:, 11:].min() == 200
    board = (np.indices((64, 64)).sum(0) % 2 * 200).astype(np.uint8)
    assert np.ptp(sample_square(board, (31.5, 31.5), 4.0, 10)) <= 2
    assert sample_square(board, (31.5, 31.5), 4.0, 10).mean() == pytest.approx(100, abs=2)


# --- patches


def test_the_usual_patch_is_the_middle_of_a_wide_one():
    wide = CrossingPatch(picture(288), picture(288, seed=1), picture(288, seed=2)[..., 0] > 130)
    cut, middle = wide.cut(), np.s_[80:208, 80:208]
    for one, whole in ((cut.pixels, wide.pixels), (cut.maps, wide.maps), (cut.inside, wide.inside)):
        np.testing.assert_array_equal(one, whole[middle])
    assert cut.side == PATCH_SIDE


def test_a_patch_is_turned_and_moved_about_its_middle():
    wide = CrossingPatch(picture(288), picture(288, seed=1), picture(288, seed=2)[..., 0] > 130)
    turned = wide.cut(turn=90)
    np.testing.assert_array_equal(turned.pixels, np.rot90(wide.cut().pixels))
    np.testing.assert_array_equal(turned.maps, np.rot90(wide.cut().maps))
    np.testing.assert_array_equal(wide.cut(shift=(5, -3)).pixels[:120, 10:], wide.pixels[83:203, 85:203])
    closer = wide.cut(zoom=2.0)
    assert closer.pixels[::2, ::2].astype(int) == pytest.approx(wide.pixels[112:176, 112:176].astype(int), abs=4)


def test_the_streams_are_given_contrast_and_maps_from_minus_one_to_one_with_the_vein_level():
    patch = level_crossing()  # the vein lies level already
    contrast, maps = patch.inputs
    assert contrast.shape == maps.shape == (3, PATCH_SIDE, PATCH_SIDE)
    assert (maps.min(), maps.max()) == (-1.0, 1.0)
    assert ((maps[2] > 0) == (patch.cut(*patch.pose).maps[..., 2] > 127)).all()
    dark = CrossingPatch(
        picture(PATCH_SIDE), patch.maps, np.arange(PATCH_SIDE)[:, None] + 0 * np.arange(PATCH_SIDE) > 50
    )
    edge = round((50 - PATCH_SIDE / 2) * patch.pose[1] + PATCH_SIDE / 2)
    assert np.abs(dark.inputs[0][:, : edge - 2]).max() == 0 < np.abs(dark.inputs[0][:, edge + 2]).min()


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 130, 170])
def test_however_the_vein_lies_the_streams_see_it_level(degrees):
    patch = level_crossing().cut(degrees)
    slope, zoom = patch.pose
    assert (slope + degrees + 90) % 180 - 90 == pytest.approx(0, abs=1.5) and -90 <= slope <= 90
    assert zoom == pytest.approx(INPUT_ZOOM * VEIN_WIDTH / 10, rel=0.1)
    contrast, maps = patch.inputs
    assert (maps[2, 59:69, 20:108] > 0).mean() > 0.97 and (maps[2, :50, 40:88] > 0).mean() < 0.03
    assert np.ptp(contrast) < 1e-3  # the corners that no pixel fills are beyond the field


@pytest.mark.parametrize("degrees", [0, 33, 90, 118])
def test_what_is_found_in_the_inputs_lies_where_it_is_in_the_patch(degrees):
    patch = level_crossing().cut(degrees)
    found = patch.unposed(
        cv2.resize(patch.inputs[1][2], (PATCH_SIDE // 8, PATCH_SIDE // 8), interpolation=cv2.INTER_AREA)
    )
    rows, columns = np.indices((PATCH_SIDE, PATCH_SIDE)) - (PATCH_SIDE - 1) / 2
    inner, vein = np.hypot(rows, columns) < 35, patch.maps[..., 2] > 127
    assert found[inner & vein].mean() > 0.2 and found[inner & ~vein].mean() < -0.7


@pytest.mark.parametrize("width", [6, 8, 14, 20])
def test_at_whatever_scale_a_patch_is_given_the_vein_gets_its_usual_width(width):
    maps = np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8)
    maps[64 - width // 2 : 64 + (width + 1) // 2] = 255, 0, 255
    patch = CrossingPatch(
        np.full((PATCH_SIDE, PATCH_SIDE, 3), 120, np.uint8), maps, np.ones((PATCH_SIDE, PATCH_SIDE), bool)
    )
    _, zoom = patch.pose
    assert patch.knows_pose and zoom == pytest.approx(INPUT_ZOOM * min(2, VEIN_WIDTH / width), rel=0.1)
    seen = (patch.inputs[1][2] > 0).sum(axis=0)[50:78]
    assert np.abs(seen - zoom * width).max() <= 2


def test_a_vein_of_a_third_of_the_side_is_no_vein_whose_pose_is_known():
    maps = np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8)
    maps[44:84] = 255, 0, 255
    assert not CrossingPatch(maps, maps, np.ones((PATCH_SIDE, PATCH_SIDE), bool)).knows_pose


def test_without_a_vein_a_patch_stays_as_it_lies():
    patch = CrossingPatch(
        picture(PATCH_SIDE), np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8), np.ones((PATCH_SIDE, PATCH_SIDE), bool)
    )
    assert patch.pose == (0, INPUT_ZOOM)
    closer = patch.cut(zoom=INPUT_ZOOM)
    np.testing.assert_array_equal(patch.inputs[0], local_contrast(closer.pixels, closer.inside))


@pytest.mark.parametrize("side", [96, 128, 400])
def test_a_patch_of_any_size_is_mapped_and_seen_at_one_scale(side):
    asked = []

    def maps(contrast):
        asked.append(contrast.shape)
        return 0 * darkness(contrast)

    patch = map_patch(picture(side), maps)[1]
    sides = [round(SPAN * WIDE_VEIN * zoom) for zoom in (1, 0.5)]  # no vein is seen in either
    assert asked == [(3, side, side) for side in sides]
    assert (
        patch.side == PATCH_SIDE == SPAN * VEIN_WIDTH
        and patch.maps.shape == (PATCH_SIDE, PATCH_SIDE, 3)
        and patch.inside.all()
    )
    assert patch.pixels.astype(float) == pytest.approx(resize_square(picture(side), PATCH_SIDE).astype(float), abs=1)


@pytest.mark.parametrize(("width", "again"), [(10, 1), (5, 2), (21, 2)])
def test_a_patch_of_another_scale_is_mapped_anew_at_that_of_its_vein(width, again):
    pixels = np.full((PATCH_SIDE, PATCH_SIDE, 3), 180, np.uint8)
    pixels[64 - width // 2 : 64 + (width + 1) // 2] = 90
    seen = []

    def maps(contrast):
        vein = (contrast[1] < -0.5).astype(np.float32)
        seen.append(int(vein.sum(axis=0)[vein.shape[1] // 2]))
        return np.stack([vein, 0 * vein, vein, 0 * vein])

    patch = map_patch(pixels, maps)[1]
    assert len(seen) == again and seen[-1] == pytest.approx(WIDE_VEIN, abs=1)
    assert patch.side == pytest.approx(PATCH_SIDE * VEIN_WIDTH / width, rel=0.15), "it is brought to the vein's scale"
    assert patch.pose == pytest.approx((0, INPUT_ZOOM), abs=0.02) and patch.knows_pose
    assert patch.middle.side == PATCH_SIDE and patch.middle.inside.all() == (patch.side >= PATCH_SIDE)
    assert patch.middle.pixels[0].max() == (180 if patch.side >= PATCH_SIDE else 0), "black beyond the file"


def test_a_wide_patch_keeps_the_scale_and_a_known_width_sets_that_of_its_maps():
    asked = []
    maps, patch = map_patch_of_span(
        picture(300), lambda c: asked.append(c.shape[1]) or darkness(c), span=27, vein_width=4.0
    )
    assert asked == [108] and maps.shape == (4, 108, 108) and patch.side == 288


def test_the_black_around_a_field_is_not_inside():
    pixels = picture(PATCH_SIDE)
    pixels[:, :40] = 3
    patch = map_patch(pixels, darkness)[1]
    np.testing.assert_array_equal(
        lit_pixels(pixels), np.arange(PATCH_SIDE)[None] + 0 * np.arange(PATCH_SIDE)[:, None] >= 40
    )
    assert not patch.inside[:, :40].any() and patch.inside[:, 40:].all()


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_patch_of_a_photograph_has_crossing_and_maps_in_its_middle(scale):
    rows, columns = 300, 350
    at = np.array([140.0, 171.0])
    y, x = np.mgrid[:rows, :columns]
    pixels = np.repeat((255 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 200)).astype(np.uint8)[..., None], 3, 2)
    small = (round(rows / scale), round(columns / scale))
    y, x = np.mgrid[: small[0], : small[1]]
    there = (at + 0.5) / scale - 0.5
    maps = np.stack([np.exp(-((y - there[0]) ** 2 + (x - there[1]) ** 2) * scale**2 / 200)] * 4).astype(np.float32)
    inside = (x + 0.5) * scale > 100
    patch = cut_patch(MappedPhotograph(pixels, maps, inside, None, scale), at, 12.0)
    step = 12.0 / VEIN_WIDTH
    assert patch.side == PHOTOGRAPH_SIDE
    assert patch.pixels.astype(int) == pytest.approx(patch.maps.astype(int), abs=12)
    for plane in (patch.pixels, patch.maps):
        weight = plane[..., 1].astype(float)
        middle = [(weight * np.indices(weight.shape)[axis]).sum() / weight.sum() for axis in (0, 1)]
        assert middle == pytest.approx([(PHOTOGRAPH_SIDE - 1) / 2] * 2, abs=0.5)
    rim = (100 - at[1]) / step + PHOTOGRAPH_SIDE / 2
    known = np.flatnonzero(patch.inside.all(axis=0))
    assert known[0] == pytest.approx(rim, abs=2 * scale / step + 1) and known[-1] == PHOTOGRAPH_SIDE - 1
    np.testing.assert_array_equal(patch.middle.pixels, patch.pixels[32:-32, 32:-32])


def test_a_patch_at_the_edge_is_black_and_unknown_beyond_it():
    pixels, maps = picture(100), np.ones((4, 100, 100), np.float32)
    patch = cut_patch(
        MappedPhotograph(pixels, maps, np.ones((100, 100), bool), None), np.array([1.0, 50.0]), VEIN_WIDTH
    )
    beyond = np.arange(PHOTOGRAPH_SIDE) < PHOTOGRAPH_SIDE / 2 - 3
    assert patch.pixels[beyond].max() == 0 == patch.maps[beyond].max() and not patch.inside[beyond].any()
    assert patch.maps[102:160, 62:132].min() == 255 and patch.inside[102:160, 62:132].all()


def line(from_place, to_place, width):
    """The centreline of a straight vessel, of which the middle lies at a crossing."""
    points = np.linspace(from_place, to_place, 81)
    return Centreline(points, np.full(81, width / 2), 40)


@pytest.mark.parametrize("slope", [-70, 0, 35, 90])
def test_in_a_photograph_the_pose_is_that_of_the_measured_vein(slope):
    """Whatever the maps show: they are empty here, so that rings would see no vein at all."""
    angle = np.radians(slope)
    way = 60 * np.array([np.sin(angle), np.cos(angle)])
    at, width = np.array([150.0, 140.0]), 9.0
    vein = line(at - way, at + way, width)
    measured = CrossingWidths(at, 1.0, width, MeasuredCrossing(at, 90.0, line(at - 40, at + 40, 6.0), vein))
    rows, columns = np.mgrid[:300, :300]
    beside = (rows - at[0]) * np.cos(angle) - (columns - at[1]) * np.sin(angle)
    pixels = np.repeat(np.where(np.abs(beside) < width / 2, 60, 180).astype(np.uint8)[..., None], 3, 2)
    photograph = MappedPhotograph(pixels, np.zeros((4, 300, 300), np.float32), np.ones((300, 300), bool), None)
    patch = cut_crossing(photograph, measured)
    assert patch.knows_pose and (patch.pose[0] - slope + 90) % 180 - 90 == pytest.approx(0, abs=1)
    assert patch.pose[1] == pytest.approx(INPUT_ZOOM)
    dark = patch.inputs[0][1] < -0.5
    assert dark.sum(axis=0) == pytest.approx(INPUT_ZOOM * VEIN_WIDTH, abs=2.1), "level, and of its usual width"
    stump = replace(measured.vessels, second=Centreline(vein.points[:50], vein.radius[:50], 40))  # 15 pixels beyond
    for vessels in (stump, None):
        assert not cut_crossing(photograph, replace(measured, vessels=vessels)).knows_pose


def test_probabilities_are_kept_as_bytes():
    maps = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    kept = maps_as_bytes(maps)
    assert kept.dtype == np.uint8 and kept.shape == (5, 6, 3)
    assert kept / 255 == pytest.approx(maps[:3].transpose(1, 2, 0), abs=0.5 / 255 + 1e-6)


# --- files


def test_a_file_that_is_nearly_square_is_cut_to_its_middle():
    pixels = picture(100, 120)
    np.testing.assert_array_equal(crop_square(read(pixels, "p")), pixels[:, 10:110])
    np.testing.assert_array_equal(
        crop_square(read(pixels.transpose(1, 0, 2).copy(), "p")), pixels.transpose(1, 0, 2)[10:110]
    )


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((100, 130), "130 x 100 pixels, and no square.*fundoscope nicking grade"),
        ((47, 47), "47 x 47.*48 pixels a side"),
    ],
)
def test_a_file_that_is_no_patch_says_what_to_do(shape, words):
    photograph = read(picture(*shape), "thing.png")
    assert isinstance(photograph, Photograph)
    with pytest.raises(PhotographError, match=f"thing.png: is {words}"):
        crop_square(photograph)


# --- judging


def widths(*sides):
    values = {"artery_width": 6.0, "vein_width": 9.0, "unit": 9.0, "side_1": sides[0], "side_2": sides[1]}
    fields = {name: values.get(name) for name in Narrowing.__dataclass_fields__}
    return Narrowing(**fields)


@pytest.mark.parametrize(
    ("p", "grade"),
    [((0.6, 0.2, 0.1, 0.1), 0), ((0.5, 0.3, 0.1, 0.1), 0), ((0.4, 0.2, 0.2, 0.2), 1), ((0.3, 0.1, 0.2, 0.4), 2),
     ((0.1, 0.1, 0.2, 0.6), 3), ((0.0, 0.0, 0.0, 1.0), 3)],
)  # fmt: skip
def test_the_grade_is_the_median_of_its_probabilities(p, grade):
    assert median_grade(p) == grade


@pytest.mark.parametrize(
    ("sides", "allowed"),
    [((0.1, 0.05), (0, 0)), ((0.2, 0.0), (1, 1)), ((0.5, 0.1), (2, 2)), ((0.5, 0.5), (3, 3)), ((0.5, np.nan), (2, 3)),
     ((np.nan, 0.38), (2, 2)), ((np.nan, 0.2), (1, 2)), ((0.0, np.nan), (0, 2)), ((np.nan, np.nan), (0, 3))],
)  # fmt: skip
def test_measured_widths_allow_one_grade_where_both_sides_are_known_and_else_several(sides, allowed):
    assert measured_grades(widths(*sides)) == allowed
    assert measures_as_nicked(widths(*sides)) == (allowed[0] > 0)
    assert measured_grades(None) == (0, 3) and not measures_as_nicked(None)


def test_artery_and_vein_are_told_apart_near_the_middle_only():
    patch = crossing()
    assert shows_artery_and_vein(patch)
    for kind in (1, 2):
        one_kind = patch.maps.copy()
        one_kind[..., kind] = 0
        assert not shows_artery_and_vein(CrossingPatch(patch.pixels, one_kind, patch.inside))
    alike = patch.maps.copy()
    alike[..., 1] = alike[..., 2] = 130
    assert not shows_artery_and_vein(CrossingPatch(patch.pixels, alike, patch.inside))
    faint = np.minimum(patch.maps, 120)
    assert not shows_artery_and_vein(CrossingPatch(patch.pixels, faint, patch.inside))
    outside = patch.maps.copy()
    outside[PATCH_SIDE // 3 : -(PATCH_SIDE // 3), PATCH_SIDE // 3 : -(PATCH_SIDE // 3)] = 0
    assert not shows_artery_and_vein(CrossingPatch(patch.pixels, outside, patch.inside))


def test_no_grade_is_given_where_witnesses_are_unsure_or_contradict_each_other():
    patch, sure, unsure = crossing(), np.array([0.9, 0.05, 0.03, 0.02]), np.array([0.3, 0.25, 0.25, 0.2])
    assert decide_grade(patch, sure, None, 0.5) == (0, "")
    assert decide_grade(patch, unsure, None, 0.5) == (None, NOT_SURE)
    assert decide_grade(patch, unsure, None, 0.3) == (1, "")
    assert decide_grade(patch, sure, widths(0.3, 0.0), 0.5) == (0, "")  # one grade apart
    assert decide_grade(patch, sure, widths(0.5, 0.0), 0.5) == (None, CONTRADICTED.format(0, 2))
    moderate = np.array([0.1, 0.15, 0.65, 0.1])
    assert decide_grade(patch, moderate, None, 0.5) == (None, UNCONFIRMED.format(2))
    assert decide_grade(patch, moderate, widths(np.nan, 0.05), 0.5) == (None, UNCONFIRMED.format(2))
    assert decide_grade(patch, moderate, widths(np.nan, 0.2), 0.5) == (2, "")
    assert decide_grade(patch, np.array([0.1, 0.05, 0.7, 0.15]), None, 0.5) == (2, "")  # sure enough alone
    assert decide_grade(patch, sure[::-1].copy(), widths(0.0, 0.0), 0.5) == (None, CONTRADICTED.format(3, 0))
    assert decide_grade(patch, sure, widths(0.9, np.nan), 0.5) == (None, CONTRADICTED.format(0, "2 or 3"))
    assert decide_grade(patch, sure, widths(0.2, np.nan), 0.5) == (0, "")
    blind = CrossingPatch(patch.pixels, 0 * patch.maps, patch.inside)
    assert decide_grade(blind, sure, widths(0.0, 0.0), 0.5) == (None, NO_ARTERY_AND_VEIN)


@pytest.mark.parametrize(
    ("grade", "sides", "told"),
    [
        ((0, ""), (0.0, 0.0), ""),
        ((0, ""), None, ALONE.format(NOT_FOLLOWED)),
        ((2, ""), (np.nan, np.nan), ALONE.format(NOT_CLEAR)),
        ((0, ""), (0.0, np.nan), ONE_SIDE.format(2)),
        ((None, NOT_SURE), (0.0, 0.0), NOT_SURE),
        ((None, NOT_SURE), (np.nan, 0.1), f"{NOT_SURE}; {ONE_SIDE.format(1)}"),
    ],
)
def test_a_row_says_what_is_missing_and_what_its_grade_stands_on(grade, sides, told):
    given = PatchGrade(crossing(), (0.25,) * 4, *grade, np.zeros((2, 4, 4), np.float32))
    assert explain_row(given, None if sides is None else widths(*sides)) == told


def test_a_row_without_the_arterys_width_says_so():
    given = PatchGrade(crossing(), (0.25,) * 4, 0, "", np.zeros((2, 4, 4), np.float32))
    assert explain_row(given, replace(widths(0.0, 0.0), artery_width=float("nan"))) == NO_ARTERY_WIDTH


# --- rows


def test_a_patchs_row_has_the_columns_in_order_and_blanks_where_nothing_is_known():
    assert PATCH_COLUMNS == ("file", "status", "reason", "narrowing_1", "narrowing_2", "p0", "p1", "p2", "p3", "grade")
    whole = PatchFinding("a.png", Status.OK, "", 0.123456, float("nan"), (0.1, 0.2, 0.3, 0.4), 2).as_row()
    assert tuple(whole) == PATCH_COLUMNS
    assert list(whole.values()) == ["a.png", "ok", "", 0.1235, None, 0.1, 0.2, 0.3, 0.4, 2]
    failed = PatchFinding("b.png", Status.FAILED, "no such file").as_row()
    assert json.loads(json.dumps(failed)) == failed
    assert [failed[name] for name in PATCH_COLUMNS[3:]] == [None] * 7 and failed["status"] == "failed"
