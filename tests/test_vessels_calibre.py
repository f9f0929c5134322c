import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from fundoscope.errors import UsageError
from fundoscope.simulate import adult
from fundoscope.vessels import (
    CalibreModel,
    Centreline,
    MeasuredCrossing,
    Narrowing,
    crossings_between,
    edge_paths,
    find_vessels,
    measure_narrowing,
    vessel_graph,
)
from fundoscope.vessels.calibre import COLUMN, apparent_widths, sample_cross_sections
from fundoscope.vessels.grade_rule import grade_of, possible_grades
from fundoscope.vessels.narrowing import VeinProfile

GROUND, DEPTH = 150.0, 55.0


def tube(distance, width, blur, reflex=0.0):
    """The blood seen at a distance from a vessel's axis, 0 to 1: nested boxes and the light on the crest, blurred."""

    def box(share):
        half = share * width / 2
        return ndtr((distance + half) / blur) - ndtr((distance - half) / blur)

    return sum(share * box(part) for share, part in COLUMN) - reflex * box(0.22)


def photograph(dark, noise=0.0, seed=0):
    """Three equal channels, on ground that slopes."""
    slope = 0.06 * np.add.outer(np.arange(dark.shape[0]), np.arange(dark.shape[1]))
    grey = GROUND + slope - dark + np.random.default_rng(seed).normal(0, noise or 1e-9, dark.shape)
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def straight(width, degrees, offset, blur=1.2, side=140, **options):
    """A straight vessel's darkness, and a centreline along it from its mask's rough width."""
    turn, centre = np.radians(degrees), (side - 1) / 2 + np.array(offset)
    rows, columns = np.indices((side, side))
    across = (rows - centre[0]) * np.cos(turn) - (columns - centre[1]) * np.sin(turn)
    run = np.arange(-side / 2 + 8, side / 2 - 8, 1.0)[:, None] * [np.sin(turn), np.cos(turn)]
    return DEPTH * tube(across, width, blur, **options), centre + run


@pytest.mark.parametrize("width", [4, 7, 12, 20, 30])
def test_width_of_a_straight_vessel(width):
    errors, rng = [], np.random.default_rng(width)
    for degrees, reflex in ((0, 0.2), (33, 0.15), (58, 0.3), (90, 0.2), (121, 0.25), (167, 0.15)):
        dark, points = straight(width, degrees, rng.uniform(-0.5, 0.5, 2), reflex=reflex)
        centreline = Centreline(
            points + rng.normal(0, 0.2, 2), np.full(len(points), width / 2 * rng.uniform(0.8, 1.2)), 0
        )
        pixels = photograph(dark, noise=2.0, seed=degrees)
        # the blur cannot be fitted on a thin vessel alone, only on wider ones
        model = (
            CalibreModel.fit(pixels, [centreline])
            if width > 10
            else CalibreModel(pixels[..., 1].astype(np.float32), 1.2)
        )
        widths = model.measure_widths(centreline)
        errors.append(np.median(widths.width) - width)
        assert np.median(widths.fit) > 0.9
        np.testing.assert_allclose(np.hypot(*np.diff(widths.edges, axis=1)[:, 0].T), widths.width)
        axis = points[0] - points[-1]
        off = np.cross(np.column_stack([widths.centres - points[0], np.zeros(len(widths.centres))]), [*axis, 0])[:, 2]
        assert np.median(np.abs(off)) / np.hypot(*axis) < 0.15
    assert np.abs(errors).max() < 0.3
    assert abs(np.mean(errors)) < 0.12


@pytest.mark.parametrize("blur", [0.7, 1.5, 3.0])
def test_blur_is_fitted_on_the_vessels_and_does_not_widen_them(blur):
    dark, points = straight(14, 25, (0.2, 0.3), blur=blur, reflex=0.2)
    centreline = Centreline(points, np.full(len(points), 7.0), 0)
    model = CalibreModel.fit(photograph(dark, noise=1.5), [centreline])
    assert model.blur == pytest.approx(blur, rel=0.15)
    assert np.median(model.measure_widths(centreline).width) == pytest.approx(14, abs=0.35)
    bridge = Centreline(points, np.zeros(len(points)), 0)  # a line over a gap of the mask has no width
    assert CalibreModel.fit(photograph(dark, noise=1.5), [bridge, centreline]).blur == model.blur
    assert CalibreModel.fit(photograph(dark), [bridge]).blur == 1


def test_a_faded_vessel_is_as_wide_and_less_deep():
    found = []
    for share in (1.0, 0.5):
        dark, points = straight(10, 70, (0.1, 0.4))
        centreline = Centreline(points, np.full(len(points), 5.0), 0)
        found.append(CalibreModel(photograph(share * dark)[..., 1].astype(np.float32), 1.2).measure_widths(centreline))
    assert np.median(found[1].width) == pytest.approx(np.median(found[0].width), abs=0.1)
    assert np.median(found[1].depth) == pytest.approx(0.5 * np.median(found[0].depth), rel=0.05)


def test_hidden_pixels_are_left_out():
    dark, points = straight(10, 0, (0, 0))
    rows = np.indices(dark.shape)[0]
    beside = (rows > 80) & (rows < 92)
    centreline = Centreline(points, np.full(len(points), 5.0), 0)
    model = CalibreModel(photograph(dark + 60 * beside)[..., 1].astype(np.float32), 1.2)
    free = np.median(model.measure_widths(centreline, beside).width)
    assert free == pytest.approx(10, abs=0.3)
    assert abs(np.median(model.measure_widths(centreline).width) - 10) > 2 * abs(free - 10)


def test_apparent_width_is_width_times_depth():
    dark, points = straight(10, 0, (0, 0))
    centreline = Centreline(points, np.full(len(points), 5.0), 0)

    def apparent(dark):
        sections = sample_cross_sections(photograph(dark)[..., 1].astype(np.float32), centreline, 10, 1)
        return np.median(apparent_widths(sections.grey, sections.weight, 0.12))

    whole = apparent(dark)
    assert whole == pytest.approx(DEPTH, rel=0.05)
    assert apparent(0.6 * dark) == pytest.approx(0.6 * whole, rel=0.05)
    assert apparent(straight(6, 0, (0, 0))[0]) == pytest.approx(0.6 * whole, rel=0.06)


# narrowing


def crossed(narrowing, taper, vein=12.0, artery=8.0, blur=1.2, noise=1.5, degrees=90.0):
    """A vein along the columns, narrowed on its left and right beside an artery that runs across it; both masks."""
    shape = (160, 220)
    rows, columns = np.indices(shape).astype(float)
    turn, at = np.radians(degrees), np.array([79.7, 110.3])
    off = (columns - at[1]) * np.sin(turn) - (rows - at[0]) * np.cos(turn)
    beyond = (np.abs(columns - at[1]) - artery / 2 / np.sin(turn)) / vein
    t = np.clip((beyond - 0.4) / 1.4, 0, 1)
    seen = 1 - np.where(columns < at[1], *narrowing) * (1 - t * t * (3 - 2 * t))
    below = seen ** (1 - taper) * tube(rows - at[0], vein * seen**taper, blur, reflex=0.14)
    above = tube(off, artery, blur, reflex=0.3)
    dark = GROUND * (1 - (1 - 0.28 * above) * (1 - 0.38 * below * (1 - np.clip(1.2 * above, 0, 1))))
    masks = np.abs(off) <= artery / 2, np.abs(rows - at[0]) <= vein * seen**taper / 2
    return photograph(dark, noise), *masks


def sides(pixels, artery, vein):
    (crossing,) = crossings_between(artery, vein)
    model = CalibreModel.fit(pixels, [crossing.first, crossing.second])
    found = measure_narrowing(model, crossing, artery, vein)
    leftwards = crossing.second.points[0, 1] > crossing.second.points[-1, 1]
    both = (found.side_1, found.side_2)
    return np.array(both[::-1] if leftwards else both), found


@pytest.mark.parametrize("taper", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("wanted", [(0.25, 0.0), (0.0, 0.45), (0.6, 0.5)])
def test_narrowing_is_measured_as_it_is_drawn(wanted, taper):
    measured, found = sides(*crossed(wanted, taper))
    np.testing.assert_allclose(measured, wanted, atol=0.08)
    assert found.worse == measured.max()
    assert found.vein_width == pytest.approx(12, abs=0.7)
    assert found.artery_width == pytest.approx(8, abs=0.7)


@given(factor=st.floats(0.5, 3), turn=st.integers(0, 179))
@settings(max_examples=8, deadline=None)
def test_measuring_does_not_depend_on_brightness_or_direction(factor, turn):
    dark, points = straight(9, turn, (0.2, -0.3), blur=1.0)
    grey = (GROUND - dark).astype(np.float32)
    widths = CalibreModel(factor * grey, 1.0).measure_widths(Centreline(points, np.full(len(points), 4.5), 0))
    assert np.median(widths.width) == pytest.approx(9, abs=0.25)
    assert np.median(widths.depth) == pytest.approx(factor * DEPTH, rel=0.05)


@pytest.mark.parametrize(
    ("pair", "worse", "undisturbed"),
    [((0.1, 0.14), 0.14, True), ((0.2, 0.4), 0.4, False), ((np.nan, -0.1), np.nan, False), ((0.3, np.nan), np.nan, False),
     ((0.0, np.nan), np.nan, False), ((np.nan, np.nan), np.nan, False)],
)  # fmt: skip
def test_a_side_that_was_not_measured_never_counts_as_not_narrowed(pair, worse, undisturbed):
    profile = VeinProfile(*(np.zeros(0),) * 3, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool))
    found = Narrowing(*pair, 6.0, 9.0, profile, 9.0)
    np.testing.assert_equal(found.worse, worse)
    assert found.is_undisturbed(0.15) == undisturbed


@given(sides=st.tuples(*2 * [st.floats(-1, 1)]), unknown=st.tuples(st.booleans(), st.booleans()))
@settings(max_examples=60, deadline=None)
def test_the_possible_grades_hold_the_true_one_whatever_the_unknown_side_is(sides, unknown):
    seen = [float("nan") if missing else side for side, missing in zip(sides, unknown, strict=True)]
    lowest, highest = possible_grades(*seen)
    assert lowest <= grade_of(*sides) <= highest
    assert (lowest == highest == grade_of(*sides)) or any(unknown)
    assert not all(unknown) or (lowest, highest) == (0, 3)
    if any(unknown):
        with pytest.raises(UsageError, match="was not measured"):
            grade_of(*seen)


@pytest.mark.parametrize("degrees", [50.0, 90.0, 120.0])
@pytest.mark.parametrize("vein", [8.0, 14.0])
def test_an_untouched_vein_is_not_narrowed(vein, degrees):
    measured, found = sides(*crossed((0.0, 0.0), 1.0, vein=vein, artery=0.7 * vein, degrees=degrees))
    assert np.abs(measured).max() < 0.1
    assert found.profile.variation() < 0.1


def test_a_side_that_cannot_be_seen_is_not_measured():
    pixels, artery, vein = crossed((0.0, 0.0), 1.0)
    hidden = artery.copy()
    hidden[:, :100] = True
    (crossing,) = crossings_between(artery, vein)
    found = measure_narrowing(CalibreModel.fit(pixels, [crossing.second]), crossing, hidden)
    known = np.isfinite(found.sides)
    assert known.sum() == 1
    assert np.isnan(found.worse) and not found.is_undisturbed(0.15)
    assert found.vein_width == pytest.approx(12, abs=3)


def test_where_no_side_can_be_seen_there_is_no_width_of_the_vein():
    pixels, artery, vein = crossed((0.0, 0.0), 1.0)
    (crossing,) = crossings_between(artery, vein)
    found = measure_narrowing(CalibreModel.fit(pixels, [crossing.second]), crossing, np.ones_like(artery), vein)
    assert np.isnan([*found.sides, found.vein_width]).all() and found.unit >= 1


def test_a_width_that_is_not_the_mapped_vessels_is_none():
    """The vein in the photograph is two pixels wide, where the map has one of twelve."""
    pixels, artery, vein = crossed((0.0, 0.0), 1.0)
    (crossing,) = crossings_between(artery, vein)
    hair = crossed((0.0, 0.0), 1.0, vein=2.0, artery=0.1)[0]
    found = measure_narrowing(CalibreModel.fit(hair, [crossing.second]), crossing, artery, vein)
    assert np.isnan([*found.sides, found.vein_width]).all()
    assert measure_narrowing(CalibreModel.fit(pixels, [crossing.second]), crossing, artery, vein).vein_width > 11


# drawing


@pytest.fixture(scope="module")
def scene():
    pixels, artery, vein = crossed((0.3, 0.0), 1.0)
    (crossing,) = crossings_between(artery, vein)
    model = CalibreModel.fit(pixels, [crossing.second])
    return pixels, crossing, model.measure_widths(crossing.second), measure_narrowing(model, crossing, artery, vein)


@pytest.mark.parametrize("which", ["crossing", "widths", "narrowing"])
def test_a_measurement_draws_itself_where_it_is(scene, which):
    pixels, crossing, widths, narrowing = scene
    canvas = pixels.copy()
    {"crossing": crossing, "widths": widths, "narrowing": narrowing}[which].draw(canvas)
    changed = np.argwhere((canvas != pixels).any(axis=2))
    place = {
        "crossing": np.vstack([crossing.first.points, crossing.second.points]),
        "widths": widths.edges.reshape(-1, 2),
        "narrowing": narrowing.profile.centres,
    }[which]
    reach = {"crossing": 3 * 7 + 3, "widths": 10, "narrowing": 10}[which]
    assert len(changed) > 50
    assert (np.hypot(*(changed[:, None] - place[None]).transpose(2, 0, 1)).min(axis=1) < reach).all()


def test_the_map_draws_its_vessels_on_the_photograph():
    eye = adult(3, camera="drive", level="good", size=300)
    found = find_vessels(eye.pixels)
    drawn = found.draw(eye.pixels)
    changed = (drawn != eye.pixels).any(axis=2)
    mask = cv2.resize(found.mask.astype(np.uint8), changed.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.95


# empty photographs


@pytest.mark.parametrize("points", [[[5, 5], [5, 6]], [[5, 5], [5, 5]], [[5, 5]], [[0, 0], [39, 39]], [[-9, 2]] * 12])
def test_a_short_strand_on_nothing_is_measured_without_a_crash(points):
    centreline = Centreline(np.array(points, float), np.full(len(points), 2.0), 0)
    for pixels in (np.zeros((40, 40, 3), np.uint8), np.full((1, 1, 3), 90, np.uint8)):
        model = CalibreModel.fit(pixels, [centreline])
        widths = model.measure_widths(centreline, np.ones(pixels.shape[:2], bool))
        assert np.isfinite(widths.width).all()
        assert widths.depth.max() < 1e-3
        found = measure_narrowing(model, MeasuredCrossing(np.array([5.0, 5.0]), 90.0, centreline, centreline))
        assert not np.isfinite([found.side_1, found.side_2]).all()
        found.draw(pixels.copy())


def test_a_photograph_without_vessels_has_a_calibre_model():
    black = np.zeros((50, 60, 3), np.uint8)
    assert edge_paths(vessel_graph(find_vessels(black).mask)) == []
    assert CalibreModel.fit(black, []).blur == 1.0
