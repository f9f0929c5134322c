from dataclasses import replace
from itertools import combinations_with_replacement, product

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.metrics import cohen_kappa_score

from fundoscope.bundles import DecisionThreshold
from fundoscope.bundles.card import CrossingSettings
from fundoscope.errors import UsageError
from fundoscope.nicking.grade_study.rivals import nguyen, roy, trivial
from fundoscope.nicking.grading.widths import measure_patch
from fundoscope.simulate import adult
from fundoscope.simulate.pinch import WarpPlan, is_usable, pinched_patch, pinched_truth
from fundoscope.vessels import crossings_between
from fundoscope.vessels.grade_rule import grade_of

POINT = DecisionThreshold(threshold=0.5, rule="r", data="d", n_positive=1, sensitivity_bound="s")
HOW = CrossingSettings(diameter=540, vessel_threshold=0.5, confidence_weights=(0.0,) * 7, operating_point=POINT)
SIDE, SMALL = 256, 84  # pixels of a patch, and of its maps: 7 a vein's width
SCALE = SIDE / SMALL
EVEN = 0.13
PLANS = {"none": (0.0, 0.0), "first": (0.6, 0.0), "second": (0.0, 0.6), "both": (0.6, 0.6)}


def maps_around(truth, at, width):
    """What a perfect network would say of a patch."""
    rows, columns = (np.round(x + (np.arange(SMALL) - (SMALL - 1) / 2) * width / 7).astype(int) for x in at)
    there = np.ix_(*(np.clip(x, 0, s - 1) for x, s in zip((rows, columns), truth.vein.shape, strict=True)))
    artery, vein = truth.artery[there], truth.vein[there]
    return np.stack([artery | vein, artery, vein, artery & vein]).astype(np.float32)


def smaller(mask):
    return cv2.resize(mask.astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) > 0.5


@pytest.fixture(scope="module")
def crossings():
    """Crossings of an eye without nicking that measure even: for each plan the patch, its maps, whether side 1 is up."""
    eye = adult(702, camera="drive", level="perfect", grade=0, size=1130)
    artery, vein, field = (smaller(mask) for mask in (eye.truth.artery, eye.truth.vein, eye.truth.field))
    found = crossings_between(artery, vein)
    kept = []
    for one in [c.scaled(2) for c in found if is_usable(c, found, artery | vein, field, 2.0)]:
        true = min(eye.truth.crossings, key=lambda t: np.hypot(t.row - one.at[0], t.col - one.at[1]))
        widths = true.artery_width_px, true.vein_width_px
        maps = maps_around(eye.truth, one.at, widths[1])
        patches = {
            name: pinched_patch(eye.pixels, one, WarpPlan.of_narrowing(n, 0.7), widths) for name, n in PLANS.items()
        }
        even = measure_patch(patches["none"], maps, HOW, SCALE)
        if even and abs(even.side_1) < EVEN and abs(even.side_2) < EVEN:  # and both are known
            kept.append((patches, maps, pinched_truth(one, WarpPlan(), widths).side_1_up))
    assert len(kept) >= 3
    return kept


def test_the_pinched_side_is_the_narrowed_one_and_side_1_is_the_upper(crossings):
    for patches, maps, first_is_up in crossings:
        for name, asked in PLANS.items():
            found = measure_patch(patches[name], maps, HOW, SCALE)
            upper, lower = asked if first_is_up else asked[::-1]
            assert (found.side_1, found.side_2) == pytest.approx((upper, lower), abs=0.16)


def test_a_patch_upside_down_has_its_sides_exchanged(crossings):
    patches, maps, first_is_up = crossings[0]
    patch = patches["first" if first_is_up else "second"]
    found = measure_patch(patch, maps, HOW, SCALE)
    turned = measure_patch(np.ascontiguousarray(patch[::-1]), np.ascontiguousarray(maps[:, ::-1]), HOW, SCALE)
    assert found.side_1 > found.side_2 + 0.3
    assert (turned.side_2, turned.side_1) == pytest.approx((found.side_1, found.side_2), abs=0.08)


def test_widths_are_in_the_patchs_pixels(crossings):
    patches, maps, _ = crossings[0]
    assert measure_patch(patches["none"], maps, HOW, SCALE).vein_width == pytest.approx(SIDE / 12, rel=0.1)
    larger = cv2.resize(patches["none"], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert measure_patch(larger, maps, HOW, 2 * SCALE).vein_width == pytest.approx(SIDE / 6, rel=0.1)


def cross(row, column):
    maps = np.zeros((4, SMALL, SMALL), np.float32)
    maps[1, :, column - 2 : column + 3] = 1
    maps[2, row - 3 : row + 4] = 1
    maps[0] = maps[1:3].max(axis=0)
    return maps


def test_a_crossing_far_from_the_middle_is_not_the_patchs():
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    pixels[np.repeat(np.repeat(cross(42, 42)[0] > 0, 4, axis=0), 4, axis=1)[:SIDE, :SIDE]] = 60
    assert measure_patch(pixels, cross(50, 50), HOW, SCALE) is not None
    assert measure_patch(pixels, cross(20, 20), HOW, SCALE) is None
    assert measure_patch(pixels, np.zeros((4, SMALL, SMALL), np.float32), HOW, SCALE) is None


def test_of_two_crossings_that_nearest_the_middle_is_measured():
    maps = np.maximum(cross(40, 20), cross(40, 45))
    pixels = np.full((SIDE, SIDE, 3), 150, np.uint8)
    pixels[round(37 * SCALE) : round(44 * SCALE)] = 70
    found = measure_patch(pixels, maps, HOW, SCALE)
    assert found is not None
    side = {k: found.profile.centres[found.profile.side == k, 1].mean() for k in (1, 2)}
    assert min(side.values()) < 45 * SCALE < max(side.values())
    assert min(side.values()) > 20 * SCALE


@pytest.mark.parametrize(
    ("pixels", "maps", "scale"),
    [((256, 256, 3), (4, 84, 84), 2.0), ((256, 200, 3), (4, 84, 84), 3.05), ((256, 256, 3), (3, 84, 84), 3.05)],
)
def test_what_does_not_go_together_is_refused(pixels, maps, scale):
    with pytest.raises(UsageError, match=r"256, .*Give a square"):
        measure_patch(np.zeros(pixels, np.uint8), np.zeros(maps, np.float32), HOW, scale)


def planted(n, seed=0):
    sides = np.random.default_rng(seed).uniform(-0.1, 0.8, (n, 2)) * [1, 0.8]
    return sides, np.array([grade_of(*pair) for pair in sides])


def test_planted_cut_points_are_recovered():
    sides, grades = planted(400)
    rule = nguyen.fit(sides, grades)
    assert (*rule.worse_cuts, rule.lesser_cut) == pytest.approx((0.15, 0.36, 0.40), abs=0.03)
    fresh, true = planted(400, seed=1)
    assert (rule.grades(fresh) == true).mean() > 0.93
    few = nguyen.fit(sides[:40], grades[:40])
    assert (few.grades(sides[:40]) == grades[:40]).all() and few.training_accuracy == 1.0


@pytest.mark.parametrize("seed", range(2))
def test_no_other_cut_points_have_a_greater_kappa(seed):
    rng = np.random.default_rng(seed)
    sides, grades = rng.uniform(0, 1, (9, 2)), rng.integers(0, 4, 9)
    sides[0], sides[1, 1] = np.nan, np.nan
    rule = nguyen.fit(sides, grades)
    measured, given_grades = sides[2:], grades[2:]
    worse = measured.max(axis=1)
    best = -1.0
    tried = [*(np.sort(worse) - 1e-9), 2.0]
    for (low, high), last in product(combinations_with_replacement(tried, 2), [*(measured.min(axis=1) - 1e-9), 2.0]):
        given = np.where(measured.min(axis=1) >= last, 3, 1 * (worse >= low) + (worse >= high))
        best = max(best, cohen_kappa_score(given, given_grades, weights="quadratic", labels=range(4)))
    assert cohen_kappa_score(rule.grades(measured), given_grades, weights="quadratic") == pytest.approx(best)


def test_patches_that_cannot_be_measured_get_the_most_frequent_grade_and_are_counted():
    sides, grades = planted(60)
    sides = np.vstack([sides, np.full((50, 2), np.nan)])
    rule = nguyen.fit(sides, np.append(grades, np.full(50, 2)))
    assert rule.unmeasured == 50
    blind = [[np.nan, np.nan]]
    assert rule.grades(blind).tolist() == [2]
    np.testing.assert_allclose(rule.probabilities(blind)[0], rule.shares)
    # a side that was not measured may be narrowed by anything: 2 is here the most frequent grade
    assert rule.grades([[0.75, np.nan], [np.nan, 0.2], [0.0, np.nan], [0.75, 0.6]]).tolist() == [2, 2, 2, 3]
    half = rule.probabilities([[0.75, np.nan], [0.0, np.nan]])
    assert half[0, :2].max() < 0.01 < 0.1 < half[0, 3], "0.75 on one side is 2, or 3"
    assert half[1, 3] < 0.01 < 0.02 < half[1, 0], "0 on one side is anything but 3"


def test_a_grade_that_was_not_trained_on_is_not_given():
    sides, grades = planted(90)  # few enough for every cut point to be tried
    for missing in range(4):
        rule = nguyen.fit(sides[grades != missing], grades[grades != missing])
        assert missing not in rule.grades(sides[grades != missing])
        assert np.isfinite([*rule.worse_cuts, rule.lesser_cut]).all()


def test_the_rules_probabilities_are_of_one_piece_with_its_grades():
    rng = np.random.default_rng(5)
    sides, grades = rng.uniform(0, 1, (80, 2)), rng.integers(0, 4, 80)
    sides[::7] = np.nan
    rule = nguyen.fit(sides, grades)
    for right in (rule.training_accuracy, 0.0, 1.0):  # whatever it is worth
        p = replace(rule, training_accuracy=right).probabilities(sides)
        assert (p.argmax(axis=1) == rule.grades(sides)).all() and p.max() < 1
        np.testing.assert_allclose(p.sum(axis=1), 1)
    sure = nguyen.fit(*planted(80)).probabilities([[0.7, 0.7]])[0, 3]
    assert sure > rule.probabilities([[0.9, 0.9]]).max()


@pytest.mark.parametrize(
    ("sides", "grades", "told"),
    [
        (np.zeros((3, 3)), [0, 1, 2], r"\(3, 3\).*both sides"),
        (np.zeros((3, 2)), [0, 1], "2 grades .* 3 patches"),
        (np.zeros((2, 2)), [0, 4], "no grade 4"),
        (np.zeros((2, 2)), [0, 0.5], r"no grade 0\.5"),
        (np.zeros((0, 2)), [], "one patch or more"),
    ],
)
def test_what_is_no_training_part_is_refused(sides, grades, told):
    with pytest.raises(UsageError, match=told):
        nguyen.fit(sides, grades)


def test_the_features_of_a_crossing_tell_of_the_pinch_and_not_of_the_order(crossings):
    named = [
        {
            name: dict(zip(roy.FEATURES, roy.features(measure_patch(patch, maps, HOW, SCALE)), strict=True))
            for name, patch in patches.items()
        }
        for patches, maps, _ in crossings
    ]
    for of in named:
        assert of["first"]["worse narrowing"] > of["none"]["worse narrowing"] + 0.3
        assert of["both"]["lesser narrowing"] > of["first"]["lesser narrowing"] + 0.3
        assert of["first"]["least share"] < 0.65 < of["none"]["least share"]
        assert of["first"]["spread of shares"] > of["none"]["spread of shares"]
        assert of["first"]["mean share on the worse side"] < of["first"]["mean share on the lesser side"]
        assert of["none"]["vein over artery width"] == pytest.approx(of["both"]["vein over artery width"], rel=0.6)
    patches, maps, _ = crossings[0]
    found = measure_patch(patches["first"], maps, HOW, SCALE)
    bins = replace(found.profile, side=3 - found.profile.side)
    turned = replace(found, side_1=found.side_2, side_2=found.side_1, profile=bins)
    np.testing.assert_allclose(roy.features(turned), roy.features(found))


def test_without_a_crossing_nothing_is_known(crossings):
    assert np.isnan(roy.features(None)).all() and roy.features(None).shape == (len(roy.FEATURES),)
    patches, maps, _ = crossings[0]
    found = measure_patch(patches["both"], maps, HOW, SCALE)
    half = dict(zip(roy.FEATURES, roy.features(replace(found, side_1=float("nan"))), strict=True))
    unknown = ("worse narrowing", "lesser narrowing", "mean share on the worse side", "mean share on the lesser side")
    assert all(np.isnan(half[name]) for name in unknown), "nobody knows which side is the worse"
    assert np.isfinite(half["least share"])


def measures(n, seed=0):
    """Features of which the first two are narrowing, the worse and the lesser; and the grades."""
    sides, grades = planted(n, seed)
    noise = np.random.default_rng(seed + 10).uniform(0, 1, (n, len(roy.FEATURES) - 2))
    return np.column_stack([sides.max(axis=1), sides.min(axis=1), noise]), grades


def test_the_forest_learns_grades_and_gives_the_same_again():
    model = roy.fit(*measures(200))
    fresh, true = measures(150, seed=1)
    assert cohen_kappa_score(model.grades(fresh), true, weights="quadratic") > 0.85
    p = model.probabilities(fresh)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(roy.fit(*measures(200)).probabilities(fresh), p)


def test_a_grade_that_the_forest_never_saw_has_a_column_all_the_same():
    known, grades = measures(120)
    model = roy.fit(known[grades != 1], grades[grades != 1])
    p = model.probabilities(known)
    assert p.shape == (120, 4) and (p[:, 1] == 0).all()
    assert (p.argmax(axis=1) == grades)[grades != 1].mean() > 0.9


def test_that_something_is_missing_is_itself_known():
    known = np.full((60, len(roy.FEATURES)), 0.5)
    known[::3] = np.nan  # filled by the median they are as all others
    model = roy.fit(known, np.where(np.arange(60) % 3 == 0, 3, 0))
    assert model.unmeasured == 20
    assert model.grades([roy.features(None), known[1]]).tolist() == [3, 0]
    blind = roy.fit(np.full((8, len(roy.FEATURES)), np.nan), [0, 0, 0, 0, 0, 0, 1, 1])
    assert blind.grades([known[1]]).tolist() == [0]


def test_other_features_are_refused():
    with pytest.raises(UsageError, match=rf"\(5, 3\).*\(n, {len(roy.FEATURES)}\)"):
        roy.fit(np.zeros((5, 3)), np.zeros(5))


def test_the_majority_is_the_training_parts():
    model = trivial.fit([2, 2, 0, 3, 2])
    np.testing.assert_allclose(model.probabilities(3), [[0.2, 0, 0.6, 0.2]] * 3)
    assert model.grades(3).tolist() == [2, 2, 2]
    with pytest.raises(UsageError, match="no grade -1"):
        trivial.fit([0, -1])
