import cv2
import numpy as np
import pytest

from fundoscope.imaging.places import sample_square
from fundoscope.nicking.grade_study.nicked_patches import DrawnPhotograph
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, CrossingPatch, map_patch
from fundoscope.nicking.grading.grades import NO_POSE, decide_grade
from fundoscope.nicking.grading.vein_pose import VeinPose, find_vein_pose
from fundoscope.simulate import adult
from fundoscope.simulate.pinch.lesion import map_widths
from fundoscope.vessels.graph import arc_length


def bars(width, slope, between=70.0, off=(0.0, 0.0), erased=0.0, second_is_vein=False, side=PATCH_SIDE):
    """Maps of a straight vein, painted over `erased` widths to both sides of the crossing, and of an artery that crosses."""
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    down, right = rows - off[0], columns - off[1]

    def line(degrees):
        angle = np.radians(degrees)
        return right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)

    along, beside = line(slope)
    vein = (np.abs(beside) < width / 2) & (np.abs(along) >= erased * width)
    artery = np.abs(line(slope + between)[1]) < 0.4 * width
    kinds = [vein & False, vein | artery] if second_is_vein else [artery, vein]
    maps = np.stack([vein | artery, *kinds], axis=-1).astype(np.uint8) * 255
    return cv2.GaussianBlur(maps, (0, 0), 1.0)


def turned(a, b):
    return abs((a - b + 90) % 180 - 90)


@pytest.mark.parametrize("erased", [0.0, 1.5])
@pytest.mark.parametrize("width", [6, 10.7, 19])
@pytest.mark.parametrize("slope", [-75, 3, 40, 88])
def test_the_vein_is_found_by_its_arms_however_it_lies_and_whatever_is_in_its_middle(width, slope, erased):
    found = find_vein_pose(bars(width, slope, off=(0.3 * width, -0.35 * width), erased=erased))
    assert found is not None and found.known
    assert turned(found.slope, slope) < 4
    assert found.width * PATCH_SIDE == pytest.approx(width, rel=0.15)


def test_where_the_vein_is_erased_beside_it_the_artery_is_not_laid_level():
    patch = CrossingPatch(
        np.full((PATCH_SIDE, PATCH_SIDE, 3), 120, np.uint8),
        bars(16, 20, between=90, erased=1.6), np.ones((PATCH_SIDE, PATCH_SIDE), bool),
    )  # fmt: skip
    slope, _ = patch.pose
    assert turned(slope, 20) < 4 and patch.knows_pose


def test_of_two_veins_that_cross_alike_none_is_known_to_be_the_right_one():
    found = find_vein_pose(bars(10, 10, between=90, second_is_vein=True))
    one = find_vein_pose(bars(10, 10, between=90))
    assert found is not None and one is not None and not found.known and one.known
    assert found.margin < one.margin


def test_without_two_arms_of_a_vein_there_is_no_pose():
    maps = bars(10, 0)
    assert find_vein_pose(np.zeros_like(maps)) is None
    maps[:, : PATCH_SIDE // 2 + 12] = 0  # one arm alone
    patch = CrossingPatch(maps, maps, np.ones(maps.shape[:2], bool))
    assert not patch.knows_pose


def test_a_patch_whose_pose_is_not_known_gets_no_grade():
    inside, sure = np.ones((PATCH_SIDE, PATCH_SIDE), bool), np.array([0.9, 0.05, 0.03, 0.02])
    one, two = bars(10, 10, between=90), bars(10, 10, between=90, second_is_vein=True)
    two[74:80, 74:80] = 255, 255, 0  # an artery, but not one that crosses
    assert decide_grade(CrossingPatch(one, one, inside), sure, None, 0.5) == (0, "")
    assert decide_grade(CrossingPatch(two, two, inside), sure, None, 0.5) == (None, NO_POSE)
    thin = bars(5, 10, between=90, second_is_vein=True)
    for maps, confirmed in ((two, True), (thin, False)):  # by the photograph, where the vein is 10.7 pixels wide
        assert CrossingPatch(maps, maps, inside, known_scale=True).knows_pose is confirmed


def test_a_faint_vein_supports_its_pose_less():
    maps = bars(10, 30)
    clear, faint = find_vein_pose(maps), find_vein_pose(maps // 6)
    assert clear is not None and faint is not None
    assert clear.known and not faint.known and faint.support < 0.4 * clear.support


def test_poses_differ_by_more_than_a_little_turn_or_scale():
    pose = VeinPose(88.0, 0.0, 0.08, 1.0)
    assert not pose.differs(VeinPose(-85.0, 0.1, 0.09, 0.2))
    assert pose.differs(VeinPose(60.0, 0.0, 0.08, 1.0)) and pose.differs(VeinPose(88.0, 0.0, 0.11, 1.0))


def test_maps_that_show_the_vein_at_the_scale_of_a_wider_one_alone_are_kept():
    pixels, asked = np.full((200, 200, 3), 120, np.uint8), []

    def predict(contrast):
        side = contrast.shape[1]
        asked.append(side)
        clear = cv2.resize(bars(20, 35), (side, side), interpolation=cv2.INTER_AREA) / 255
        return np.concatenate([clear.transpose(2, 0, 1), 0 * contrast[:1]]).astype(np.float32) * (side < 60)

    maps, patch = map_patch(pixels, predict)
    assert asked[:2] == [72, 36] and maps.shape[1] < 60
    assert turned(patch.pose[0], 35) < 4 and patch.knows_pose


def test_veins_of_a_simulated_eye_are_laid_level_by_their_drawn_maps():
    eye = adult(31, camera="drive", size=900, grade=0)
    masks = (eye.truth.artery, eye.truth.vein, eye.truth.field)
    photograph = DrawnPhotograph.from_masks("eye", eye.pixels, masks, 1.2)
    drawn = np.stack([masks[0] | masks[1], masks[0], masks[1]], axis=-1).astype(np.uint8) * 255
    off = []
    for crossing in photograph.usable_crossings():
        width, vein = map_widths(crossing)[1], crossing.second
        found = find_vein_pose(sample_square(drawn, crossing.at, 12 * width / PATCH_SIDE, PATCH_SIDE))
        way = arc_length(vein.points)
        near = np.abs(way - way[vein.crossing_index]) <= 3 * width
        down, right = np.linalg.svd(vein.points[near] - vein.points[near].mean(axis=0))[2][0]
        if found is not None and found.known:
            off.append(turned(found.slope, np.degrees(np.arctan2(down, right))))
    assert len(off) >= 3 and np.mean(np.array(off) < 10) >= 0.75
