import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from fundoscope.errors import UsageError
from fundoscope.simulate.nicking import NARROWING
from fundoscope.simulate.pinch import (
    SHAMS,
    WarpPlan,
    draw_plan,
    is_usable,
    pinch,
    pinched_patch,
    pinched_truth,
    second_renderer,
)
from fundoscope.simulate.pinch.oblique_profile import draw_oblique_profile, pinch_obliquely
from fundoscope.simulate.pinch.plan import LARGEST_NARROWING, LesionProfile
from fundoscope.simulate.pinch.warps import compose, invert, squeeze
from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Centreline

SIDE, VEIN, ARTERY = 200, 9.0, 6.0
AT = np.array([99.3, 101.6])


def centreline(direction, width, length=95.0):
    steps = np.arange(-length, length + 0.5)
    return Centreline(AT + steps[:, None] * direction, np.full(len(steps), width / 2), len(steps) // 2)


def unit(degrees):
    return np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])


def crossing_at(angle, tilt=8.0):
    return MeasuredCrossing(AT, angle, centreline(unit(tilt + angle), ARTERY), centreline(unit(tilt), VEIN))


def offsets(line):
    way = line.points[-1] - line.points[0]
    way = way / np.hypot(*way)
    away = np.moveaxis(np.mgrid[:SIDE, :SIDE], 0, 2) - AT
    return away @ way, away @ np.array([-way[1], way[0]])


def tube(beside, width, blur=1.2):
    return (erf((width / 2 - beside) / blur / 2**0.5) + erf((width / 2 + beside) / blur / 2**0.5)) / 2


def eye(crossing, grain=0.0):
    """A vein under an artery, both straight, of one colour each; the artery hides the vein."""
    _, vein = offsets(crossing.second)
    _, artery = offsets(crossing.first)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ground = np.array([190.0, 120.0, 70.0]) + (0.06 * (rows - columns) + grain_of(grain))[..., None]
    cover = tube(artery, ARTERY)[..., None]
    with_vein = ground - tube(vein, VEIN)[..., None] * [50.0, 62.0, 25.0]
    return np.clip(with_vein * (1 - cover) + (ground - [22.0, 34.0, 14.0]) * cover, 0, 255).astype(np.uint8)


def grain_of(deviation):
    return deviation * np.random.default_rng(5).standard_normal((SIDE, SIDE))


def darkness(pixels, crossing, low, high, side):
    """Mean darkness of the vein and its walls over a stretch `low` to `high` vein widths beyond the artery's wall."""
    along, beside = offsets(crossing.second)
    wall = ARTERY / 2 / np.sin(np.radians(crossing.angle))
    beyond = (side * along - wall) / VEIN
    there = (beyond > low) & (beyond < high)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    green = pixels[..., 1] - 0.06 * (rows - columns)
    body, bank = there & (np.abs(beside) < 1.1 * VEIN), there & (np.abs(np.abs(beside) - 1.35 * VEIN) < 0.25 * VEIN)
    _, artery = offsets(crossing.first)
    assert np.abs(artery[body | bank]).min() > ARTERY / 2 + 1  # nothing of the artery is summed
    return float(green[bank].mean() - green[body].mean())


def narrowing_of(pixels, before, crossing):
    """Of both sides, beside the artery's wall, against the same stretch in the photograph `before`."""
    return [1 - np.divide(*(darkness(p, crossing, 0.12, 0.42, side) for p in (pixels, before))) for side in (-1, 1)]


@pytest.mark.parametrize(
    ("wanted", "taper"), [((0.0, 0.25), 0.35), ((0.5, 0.0), 0.7), ((0.6, 0.68), 1.0), ((0.6, 0.68), 0.35)]
)
def test_the_vein_is_seen_as_much_narrower_as_asked(wanted, taper):
    crossing = crossing_at(90)
    before, pixels = (
        pinch(eye(crossing, 1.0), crossing, plan) for plan in (WarpPlan(), WarpPlan.of_narrowing(wanted, taper))
    )
    assert narrowing_of(pixels, before, crossing) == pytest.approx(wanted, abs=0.08)


def test_narrowing_is_gone_where_it_should_be_and_the_plan_says_its_grade():
    crossing, plan = crossing_at(90), WarpPlan.of_narrowing((0.6, 0.6), 0.8)
    before, pixels = (pinch(eye(crossing), crossing, p) for p in (replace(plan, calibre=(0, 0), fade=(0, 0)), plan))
    for side in (-1, 1):
        assert darkness(pixels, crossing, 2.0, 3.0, side) == pytest.approx(
            darkness(before, crossing, 2.0, 3.0, side), rel=0.01
        )
    assert plan.grade == 3 and pinched_truth(crossing, plan).grade == 3


@pytest.mark.parametrize("angle", [90, 55, 35])
def test_all_but_the_vein_beside_the_artery_stays(angle):
    crossing = crossing_at(angle)
    plan = WarpPlan.of_narrowing((0.65, 0.65), 0.7)
    photograph = eye(crossing, 3.0)
    before, pixels = (pinch(photograph, crossing, p) for p in (replace(plan, calibre=(0, 0), fade=(0, 0)), plan))
    along, beside = offsets(crossing.second)
    _, artery = offsets(crossing.first)
    wall = ARTERY / 2 / np.sin(np.radians(angle))
    far = (np.abs(along) > wall + 2.2 * VEIN) | (np.abs(beside) > 2.2 * VEIN)
    changed = np.abs(pixels.astype(int) - before).max(axis=2)
    assert changed[far].max() <= 1  # Lanczos looks four pixels far
    core = np.abs(artery) < ARTERY / 2 - 1
    assert changed[core & (np.abs(beside) > 1.5 * VEIN)].max() <= 2
    assert changed[core].max() <= 25  # where it lies on the vein it moves along itself: only its grain
    assert changed.max() > 30


def test_the_artery_keeps_its_walls_on_the_vein():
    crossing = crossing_at(60)
    photograph = eye(crossing)
    _, vein = offsets(crossing.second)
    _, artery = offsets(crossing.first)
    before, pixels = (
        pinch(photograph, crossing, p)[..., 0].astype(float)
        for p in (WarpPlan(), WarpPlan.of_narrowing((0.6, 0.6), 0.7))
    )
    on = (np.abs(vein) < 0.3 * VEIN) & (np.abs(artery) < ARTERY / 2 - 0.5)
    assert pixels[on].mean() == pytest.approx(before[on].mean(), abs=2)


@pytest.mark.parametrize(("seed", "sham"), list(enumerate(SHAMS)))
def test_shams_are_no_narrowing(seed, sham):
    crossing = crossing_at(90)
    plan = draw_plan(0, np.random.default_rng(seed), sham)
    assert plan.grade == 0 and plan.sham == sham
    photograph = eye(crossing, 2.0)
    before, pixels = (pinch(photograph, crossing, p) for p in (WarpPlan(jitter=plan.jitter), plan))
    found = narrowing_of(pixels, before, crossing)
    assert max(found) < 0.12
    if sham == "widened":
        assert found == pytest.approx(plan.narrowing, abs=0.08)
    if sham != "none":
        assert np.abs(pixels.astype(int) - before).max() >= 2


def test_every_plan_resamples_alike_whatever_it_changes():
    crossing = crossing_at(75)
    photograph = eye(crossing, 4.0)
    along, beside = offsets(crossing.second)
    still = (
        (np.abs(beside) > 5.5 * VEIN) & (np.abs(along) < 7 * VEIN) & (np.abs(offsets(crossing.first)[1]) > 3 * ARTERY)
    )
    plain = pinch(photograph, crossing, WarpPlan())
    for sham in SHAMS:
        plan = replace(draw_plan(3, np.random.default_rng(1), sham), jitter=WarpPlan().jitter)
        assert (pinch(photograph, crossing, plan)[still] == plain[still]).all()
    grain = [np.diff(p[100:140, 40:60, 1].astype(float)).std() for p in (photograph, plain)]
    assert grain[1] < 0.95 * grain[0]  # it is resampled, not left


def test_pinched_and_restored_only_costs_sharpness():
    crossing = crossing_at(90)
    photograph = eye(crossing)
    plain = pinch(photograph, crossing, WarpPlan())
    restored = pinch(photograph, crossing, WarpPlan(sham="restored", amount=0.5))
    assert 1 < np.abs(restored.astype(int) - plain).max() < 25
    assert np.abs(restored.astype(int) - plain).mean() < 0.2


def test_the_picture_given_is_left_alone_and_beyond_the_window_nothing_moves():
    crossing = crossing_at(90)
    photograph = np.pad(eye(crossing, 2.0), ((60, 0), (60, 0), (0, 0)), mode="edge")
    kept = photograph.copy()
    by = np.array([60.0, 60.0])
    moved = MeasuredCrossing(
        AT + by, 90.0, *(replace(s, points=s.points + by) for s in (crossing.first, crossing.second))
    )  # fmt: skip
    pixels = pinch(photograph, moved, WarpPlan((0.6, 0.6)))
    assert (photograph == kept).all()
    assert (pixels[:70] == photograph[:70]).all() and (pixels[80:] != photograph[80:]).any()


@settings(max_examples=60, deadline=None)
@given(st.floats(0.25, 1.6), st.floats(2, 40))
def test_squeezing_keeps_order_and_ends(share, width):
    beside = np.linspace(-3 * width, 3 * width, 601).astype(np.float32)
    source = beside + squeeze(beside, np.float32(share), width)
    assert (np.diff(source) > 0).all()
    assert source[np.abs(beside) >= 2 * width] == pytest.approx(beside[np.abs(beside) >= 2 * width])
    inner = np.abs(beside) < 0.5 * width * share
    assert source[inner] == pytest.approx(beside[inner] / share, rel=1e-4, abs=1e-4)


def test_a_displacement_undone_leads_back():
    rows, columns = np.mgrid[:80, :90].astype(np.float32)
    bump = np.exp(-((rows - 40) ** 2 + (columns - 45) ** 2) / 200)
    field = np.stack([4 * bump, -3 * bump], axis=2)
    assert np.abs(compose(invert(field), field)).max() < 0.05


def test_draws_hold_to_the_grades_and_shams_come_in_all_of_them():
    rng = np.random.default_rng(0)
    for grade in range(4):
        plans = [draw_plan(grade, rng) for _ in range(150)]
        assert {plan.grade for plan in plans} == {grade}
        assert {plan.sham for plan in plans} == set(SHAMS) - ({"none"} if grade == 0 else set())
        if grade:
            low, high = NARROWING[grade]
            assert all(low <= max(plan.narrowing) <= high for plan in plans)
        assert {plan.narrowing[0] > plan.narrowing[1] for plan in plans} == {True, False}
        if grade:
            tapers = [np.log1p(-max(p.calibre)) / np.log1p(-max(p.narrowing)) for p in plans]
            assert 0.35 <= min(tapers) < 0.45 and 0.9 < max(tapers) <= 1
    assert draw_plan(2, np.random.default_rng(3)) == draw_plan(2, np.random.default_rng(3))


def test_continuous_sides_leave_no_gap_and_calibre_and_fade_are_drawn_apart():
    rng = np.random.default_rng(1)
    plans = {grade: [draw_plan(grade, rng, "none", "continuous") for _ in range(400)] for grade in range(4)}
    assert all({plan.grade for plan in drawn} == {grade} for grade, drawn in plans.items())
    narrowing, calibre, fade = (
        np.array([getattr(plan, name) for drawn in plans.values() for plan in drawn])
        for name in ("narrowing", "calibre", "fade")
    )
    np.testing.assert_allclose(narrowing, 1 - (1 - calibre) * (1 - fade))
    assert calibre.min() >= 0 and fade.min() >= 0 and narrowing.max() <= LARGEST_NARROWING
    steps = np.histogram(narrowing[narrowing > 0], np.arange(0, 0.701, 0.05))[0]
    assert steps.min() > 40  # as many as five in a hundred, everywhere from 0 to .7
    healthy = narrowing == 0
    assert 0.1 < healthy.any(axis=1).mean() < 0.5 and not healthy.all(axis=1).any()
    both = ~healthy.any(axis=1)
    assert np.abs(np.diff(narrowing[both])).mean() > 0.1  # unequal
    severe = np.array([plan.calibre for plan in plans[3]]), np.array([plan.fade for plan in plans[3]])
    assert min(part.min() for part in severe) < 0.05 and min(part.max() for part in severe) > 0.6
    shares = np.log1p(-calibre[both]) / np.log1p(-narrowing[both])
    assert np.abs(np.corrcoef(shares.T)[0, 1]) < 0.1  # one side does not tell the other's


def test_only_grade_0_is_healthy_and_a_healthy_vein_always_has_a_sham():
    rng = np.random.default_rng(2)
    plans = [draw_plan(0, rng, sides="healthy") for _ in range(60)]
    assert all(plan.sham != "none" and max(plan.narrowing) <= 0 for plan in plans)
    with pytest.raises(UsageError, match="healthy on both sides has grade 0, not 2"):
        draw_plan(2, rng, sides="healthy")
    with pytest.raises(UsageError, match="no grade 4"):
        draw_plan(4, rng)


def test_fade_takes_contrast_and_leaves_the_width():
    crossing = crossing_at(90)
    before, faded, narrow = (
        pinch(eye(crossing), crossing, plan)
        for plan in (WarpPlan(), WarpPlan(fade=(0.5, 0.5)), WarpPlan(calibre=(0.5, 0.5)))
    )
    along, beside = offsets(crossing.second)
    there = (along > ARTERY / 2 + 0.1 * VEIN) & (along < ARTERY / 2 + 0.4 * VEIN)
    middle, edge = there & (np.abs(beside) < 0.1 * VEIN), there & (np.abs(np.abs(beside) - 0.42 * VEIN) < 0.06 * VEIN)
    lighter = {
        name: [float(pixels[..., 1][where].mean()) - float(before[..., 1][where].mean()) for where in (middle, edge)]
        for name, pixels in (("faded", faded), ("narrow", narrow))
    }
    assert lighter["faded"][0] == pytest.approx(31, abs=6)  # half of what the vein takes
    assert lighter["narrow"][0] < 8 and lighter["narrow"][1] > 1.3 * lighter["faded"][1]


def test_a_faded_vein_fades_as_much_where_it_shines_through_its_artery():
    """Else a dark piece of vein stays on the artery, with an edge that no lesion has."""
    crossing = crossing_at(90)
    _, vein = offsets(crossing.second)
    _, artery = offsets(crossing.first)
    glassy = eye(crossing).astype(float)
    glassy -= 0.6 * np.array([50.0, 62.0, 25.0]) * (tube(vein, VEIN) * tube(artery, ARTERY))[..., None]
    pictures = [
        pinch(glassy.clip(0, 255).astype(np.uint8), crossing, plan)[..., 1].astype(float)
        for plan in (WarpPlan(), WarpPlan(fade=(0.6, 0.6)))
    ]
    core = np.abs(artery) < 1.5
    darker = [
        picture[core & (np.abs(vein) > VEIN) & (np.abs(vein) < 2 * VEIN)].mean()
        - picture[core & (np.abs(vein) < 2)].mean()
        for picture in pictures
    ]
    assert darker[0] > 30 and darker[1] == pytest.approx(0.4 * darker[0], rel=0.2)


def test_the_third_lesion_is_as_narrow_as_asked_and_of_another_shape():
    crossing, wanted = crossing_at(90), (0.5, 0.6)
    photograph, plan = eye(crossing), WarpPlan.of_narrowing((0.5, 0.6), 0.7)
    before, usual = (pinch(photograph, crossing, p) for p in (WarpPlan(), plan))
    pixels = pinch_obliquely(photograph, crossing, plan, np.random.default_rng(0))
    assert narrowing_of(pixels, before, crossing) == pytest.approx(wanted, abs=0.1)
    lengths = []
    for side in (-1, 1):  # where it should still be felt, or be gone
        far = [
            1 - darkness(p, crossing, 0.95, 1.35, side) / darkness(before, crossing, 0.95, 1.35, side)
            for p in (usual, pixels)
        ]
        lengths.append(far[1] - far[0])
    assert min(lengths) < -0.1 and max(lengths) > 0.1  # shorter on one side, longer on the other
    walls = np.abs(pixels.astype(int) - usual).max(axis=2)
    _, beside = offsets(crossing.second)
    assert walls[np.abs(beside) > 2.3 * VEIN].max() <= 2


def test_an_oblique_profile_is_never_the_usual_one():
    profiles = [draw_oblique_profile(np.random.default_rng(seed)) for seed in range(40)]
    usual = LesionProfile()
    assert all(0.3 < abs(p.tilt) < 0.6 and 0.1 < abs(p.off_middle) <= 0.2 for p in profiles)
    assert all(min(p.gone) < usual.gone[0] - 0.5 and max(p.gone) > usual.gone[0] + 0.3 for p in profiles)
    for turned in (lambda p: p.tilt, lambda p: p.off_middle, lambda p: p.gone[0] - p.gone[1]):
        assert {bool(turned(p) > 0) for p in profiles} == {True, False}


def test_wrong_plans_are_refused():
    with pytest.raises(UsageError, match="did you mean 'shifted'"):
        WarpPlan(sham="shift")
    with pytest.raises(UsageError, match=r"-1 to 0\.8"):
        WarpPlan((0.95, 0.0))
    with pytest.raises(UsageError, match=r"Fade is 0 to 0\.8"):
        WarpPlan(fade=(-0.1, 0.0))


def test_patches_show_side_1_where_the_truth_says():
    crossing = crossing_at(90, tilt=80)  # the vein runs down the picture
    plan = WarpPlan((0.6, 0.0))
    assert pinched_truth(crossing, plan).side_1_up
    patch = pinched_patch(eye(crossing), crossing, plan)
    assert patch.shape == (256, 256, 3)
    dark = (patch[:, 100:156, 1] < 90).sum(axis=1)  # pixels of vein in each row: 256 / 12 where it is undisturbed
    assert dark[90:118].min() < 0.7 * dark[138:166].min()
    turned = replace(crossing, second=replace(crossing.second, points=crossing.second.points[::-1]))
    assert not pinched_truth(turned, plan).side_1_up


def test_usable_crossings_have_an_even_vein_and_room():
    crossing = crossing_at(80)
    vessels = np.zeros((SIDE, SIDE), bool)
    for line, width in ((crossing.first, ARTERY), (crossing.second, VEIN)):
        vessels |= np.abs(offsets(line)[1]) < width / 2
    assert is_usable(crossing, [crossing], vessels)
    near = replace(crossing, at=AT + 2 * VEIN * unit(8))
    assert not is_usable(crossing, [crossing, near], vessels)
    assert not is_usable(crossing_at(15), [], vessels)
    assert not is_usable(replace(crossing, second=centreline(unit(8), VEIN, length=20)), [crossing], vessels)
    thin = replace(crossing, first=centreline(unit(88), 3.0))
    assert not is_usable(thin, [crossing], vessels)
    uneven = crossing.second.radius * np.where(np.arange(len(crossing.second.radius)) > 97, 0.4, 1)
    assert not is_usable(replace(crossing, second=replace(crossing.second, radius=uneven)), [crossing], vessels)
    along, beside = offsets(crossing.second)
    branch = (np.abs(along - 2.0 * VEIN) < 3) & (beside > 0) & (beside < 40)
    assert not is_usable(crossing, [crossing], vessels | branch)
    field = np.ones((SIDE, SIDE), bool)
    assert is_usable(crossing, [crossing], vessels, field)
    field[:, :70] = False
    assert not is_usable(crossing, [crossing], vessels, field)
    assert not is_usable(crossing, [crossing], vessels, scale=0.3)  # too thin in a photograph that is coarser


def test_the_second_renderer_shares_no_code_with_the_first():
    tree = ast.parse(Path(second_renderer.__file__).read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if "fundoscope" in name} == {
        "fundoscope.vessels.crossings",
        "fundoscope.vessels.graph",
    }


@pytest.mark.parametrize(("wanted", "taper"), [((0.0, 0.25), 0.5), ((0.5, 0.0), 1.0), ((0.6, 0.68), 0.6)])
def test_both_renderers_mean_the_same_by_narrowing(wanted, taper):
    crossing = crossing_at(90)
    photograph = eye(crossing, 2.0)
    plan = WarpPlan.of_narrowing(wanted, taper)
    pixels = second_renderer.redraw(photograph, crossing, plan.calibre, plan.fade, np.random.default_rng(0))
    assert narrowing_of(pixels, photograph, crossing) == pytest.approx(wanted, abs=0.08)
    _, beside = offsets(crossing.second)
    _, artery = offsets(crossing.first)
    beyond = np.abs(beside) > 1.5 * VEIN
    assert (pixels[beyond] == photograph[beyond]).all()
    changed = np.abs(pixels.astype(int) - photograph).max(axis=2)
    assert changed[np.abs(artery) < ARTERY / 2 - 1].max() <= 25  # only what shines through the artery narrows
