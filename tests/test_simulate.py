import csv
import itertools
import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from fundoscope import simulate
from fundoscope.errors import UsageError
from fundoscope.imaging import find_field, read
from fundoscope.simulate import adults, cameras, infants, lesions, nicking, noise, vessel_skeletons
from fundoscope.simulate.polylines import Polylines
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.ribbons import ribbon_coverage
from fundoscope.simulate.truth import Findings
from fundoscope.simulate.vessel_trees import VesselSegment, find_crossings
from fundoscope.vessels.grade_rule import grade_of

SIZE = 200


@cache
def photographed(seed, disease="normal"):
    return simulate.infant(seed, camera="retcam", disease=disease, level="good", size=SIZE)


@pytest.fixture(scope="module")
def infant_eye():
    return infants.grow_eye(5, Findings(3, 2, "plus"))


@pytest.fixture(scope="module")
def adult_photograph():
    return simulate.adult(3, level="perfect", size=560)


@pytest.fixture(scope="module")
def adult_eye():
    return adults.grow_eye(4, grade=3)


def test_treatment_requiring_is_type_1_for_every_combination():
    # Early Treatment for ROP Cooperative Group 2003, table of type 1, written out
    type_1 = {
        (1, 1, "plus"),
        (2, 1, "plus"),
        (3, 1, "plus"),
        (3, 1, "none"),
        (3, 1, "pre-plus"),
        (2, 2, "plus"),
        (3, 2, "plus"),
    }
    for stage, zone, plus in itertools.product((1, 2, 3), (1, 2, 3), ("none", "pre-plus", "plus")):
        assert Findings(stage, zone, plus).treatment_requiring == ((stage, zone, plus) in type_1)
        assert Findings(stage, zone, plus).label == "rop"
    assert Findings().label == "normal"
    assert Findings(0, None, "pre-plus").label == "normal"
    assert Findings(0, None, "plus").label == "rop"
    assert not Findings(0, None, "plus").treatment_requiring


@pytest.mark.parametrize("disease", infants.DISEASES)
def test_drawn_findings_deserve_their_name(disease):
    rng = np.random.default_rng(1)
    for _ in range(50):
        found = infants.draw_findings(disease, rng)
        assert (found.label == "normal") == (disease == "normal")
        assert found.treatment_requiring == (disease == "treatment-requiring")


@pytest.mark.parametrize("kind", ["arteries", "veins"])
def test_murray_at_every_branching(adult_eye, infant_eye, kind):
    # nicking changes veins near crossings: the infant's veins and the adult's arteries are untouched
    vessels = infant_eye.veins if kind == "veins" else adult_eye.arteries
    daughters = {}
    for vessel in vessels:
        daughters.setdefault(vessel.parent, []).append(vessel)
    branchings = [(vessels[parent], group) for parent, group in daughters.items() if parent >= 0]
    assert len(branchings) > 30
    for parent, group in branchings:
        np.testing.assert_allclose(parent.radius[-1] ** 3, sum(vessel.radius[0] ** 3 for vessel in group), rtol=1e-9)
        for vessel in group:
            np.testing.assert_allclose(vessel.points[0], parent.points[-1], atol=1e-9)


def test_arteries_are_narrower_than_veins():
    eye = infants.grow_eye(3, Findings())
    trunk = [np.mean([v.radius[0] for v in tree if v.parent < 0]) for tree in (eye.arteries, eye.veins)]
    assert trunk[0] / trunk[1] == pytest.approx(0.7, abs=0.01)


def test_vessels_stop_at_the_border(infant_eye):
    assert len(infant_eye.arteries) > 3 and len(infant_eye.veins) > 3
    for vessel in infant_eye.arteries + infant_eye.veins:
        assert infant_eye.border.inside(vessel.points, -0.2).all()


@given(width=st.floats(1.5, 30), angle=st.floats(0, np.pi), shift=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_a_ribbon_is_as_wide_as_stated(width, angle, shift):
    way = np.array([np.cos(angle), np.sin(angle)])
    points = np.array([64, 64]) + shift + np.linspace(-100, 100, 81)[:, None] * way
    coverage = ribbon_coverage((128, 128), points, np.full(81, width / 2), np.ones(81))
    across = np.array([64, 64]) + shift + np.linspace(-24, 24, 961)[:, None] * np.array([-way[1], way[0]])
    profile = cv2.remap(coverage, *across.T.astype(np.float32)[:, None], cv2.INTER_LINEAR)[0]
    assert profile.sum() * 0.05 == pytest.approx(width, abs=0.35)
    if width > 3:
        middle = np.average(np.linspace(-24, 24, 961), weights=profile)
        assert abs(middle) < 0.2
        assert (profile >= 0.5).sum() * 0.05 == pytest.approx(width, abs=0.5)


@pytest.mark.parametrize("kind", ["artery", "vein"])
def test_masks_are_as_wide_as_the_vessels(kind):
    eye = infants.grow_eye(8, Findings())
    camera = cameras.CAMERAS["retcam"]
    exposure = cameras.draw_exposure(camera, 0, (1, 1, 1), np.random.default_rng(0))
    projection = infants.draw_projection(exposure, "posterior", eye.side, np.random.default_rng(1))
    photograph = infants.photograph_eye(eye, exposure, projection, "posterior")
    vessels = eye.arteries if kind == "artery" else eye.veins
    mask = getattr(photograph.truth, kind).astype(np.float32)
    others = np.concatenate([projection.to_pixels(v.points) for v in vessels])
    errors = []
    for vessel in vessels:
        middle = len(vessel.points) // 2
        at = projection.to_pixels(vessel.points[middle : middle + 1])[0]
        width = 2 * vessel.radius[middle] * projection.scale
        way = np.diff(projection.to_pixels(vessel.points[[middle - 1, middle + 1]]), axis=0)[0]
        inside = 30 < at[0] < 600 and 30 < at[1] < 450 and photograph.truth.field[int(at[1]), int(at[0])]
        own = projection.to_pixels(vessel.points)
        near = (np.hypot(*(others - at).T) < 14).sum() - (np.hypot(*(own - at).T) < 14).sum()
        if not inside or near or width < 2 or len(vessel.points) < 13:
            continue
        normal = np.array([-way[1], way[0]]) / np.hypot(*way)
        across = (at + np.linspace(-12, 12, 481)[:, None] * normal).astype(np.float32)
        errors.append(cv2.remap(mask, *across.T[:, None], cv2.INTER_LINEAR)[0].sum() * 0.05 - width)
    assert len(errors) > 4
    assert abs(np.median(errors)) < 0.5


def test_zones_by_distance():
    assert [lesions.zone_of(d) for d in (1.0, 1.99, 2.0, 2.79, 2.81)] == [1, 1, 2, 2, 3]
    for zone in (1, 2, 3):
        for seed in range(8):
            eye_border = infants.draw_border(Findings(2, zone, "none"), np.random.default_rng(seed))
            lesion = lesions.draw_ridge(eye_border, 2, np.random.default_rng(seed + 50))
            assert lesions.zone_of(np.hypot(*lesion.points.T).min()) == zone


def test_a_ridge_is_marked_exactly_where_a_lesion_is_seen():
    seen = []
    for seed in range(6):
        truth = photographed(seed, infants.DISEASES[seed % 3]).truth
        assert truth.ridge.any() == (truth.stage > 0)
        assert truth.stage in (0, truth.of_eye.stage)
        assert not truth.ridge[~truth.field].any()
        if truth.of_eye.stage == 0:
            assert truth.in_view == Findings()
        seen.append(truth.stage > 0)
    assert any(seen)
    assert not all(seen)


@pytest.mark.parametrize("seed", range(2))
def test_camera_and_field_do_not_depend_on_the_disease(seed):
    normal, ill = (photographed(seed, d).truth for d in ("normal", "treatment-requiring"))
    assert (normal.camera, normal.level, normal.aim, normal.eye) == (ill.camera, ill.level, ill.aim, ill.eye)
    for name in ("field", "disc", "fovea"):
        np.testing.assert_array_equal(getattr(normal, name), getattr(ill, name))


def test_the_healthy_and_the_ill_differ_little_in_colour():
    for seed in range(2):
        normal, ill = (photographed(seed, d) for d in ("normal", "treatment-requiring"))
        means = [photograph.pixels[photograph.truth.field].mean(axis=0) for photograph in (normal, ill)]
        assert np.abs(np.subtract(*means)).max() < 12


def test_same_seed_same_bytes():
    once, again = (simulate.infant(7, size=SIZE) for _ in range(2))
    assert once.file == again.file
    np.testing.assert_array_equal(once.truth.bits(), again.truth.bits())
    assert simulate.infant(8, size=SIZE).file != once.file


@pytest.mark.parametrize("name", simulate.CAMERAS)
def test_every_camera_photographs_the_field_that_it_states(name):
    camera = simulate.CAMERAS[name].resized(240)
    make = simulate.infant if camera.infant else simulate.adult
    photograph = make(1, camera=name, level="perfect", size=240)
    assert photograph.pixels.shape == (*camera.shape, 3)
    rows, columns = np.indices(camera.shape)
    circle = np.hypot(rows - camera.centre[0], columns - camera.centre[1]) <= camera.radius
    circle &= (columns >= camera.columns[0]) & (columns <= camera.columns[1])
    if camera.rows is not None:
        circle &= (rows >= camera.rows[0]) & (rows <= camera.rows[1])
    field = photograph.truth.field
    assert (field & circle).sum() / (field | circle).sum() > 0.95
    grey = photograph.pixels.max(axis=2)
    assert np.median(grey[~field]) < 10 < 60 < np.median(grey[field])
    assert photograph.truth.vessel[field].mean() > 0.01
    assert not photograph.truth.vessel[~field].any()


def test_each_level_shows_less_than_the_one_before():
    eye = infants.grow_eye(2, Findings())
    details = []
    for level in range(len(simulate.LEVELS)):
        of_level = [_detail(eye, level, seed) for seed in range(3)]
        details.append(np.median(of_level))
    assert all(np.diff(details) < 0)
    assert details[-1] < 0.5 * details[0]


def _detail(eye, level, seed):
    """Contrast of the fine structure in grey levels, without the sensor's noise."""
    rng = np.random.default_rng(seed)
    exposure = cameras.draw_exposure(cameras.CAMERAS["retcam"].resized(256), level, (1, 1, 1), rng)
    photograph = infants.photograph_eye(
        eye, exposure, infants.draw_projection(exposure, "posterior", "right", rng), "posterior"
    )
    assert photograph.truth.level == simulate.LEVELS[level]
    assert find_field(photograph.pixels).radius == pytest.approx(126, rel=0.1)
    green = photograph.pixels[..., 1].astype(np.float32)
    fine = cv2.GaussianBlur(green, (0, 0), 1.5) - cv2.GaussianBlur(green, (0, 0), 5)
    return fine[cv2.erode(photograph.truth.field.astype(np.uint8), np.ones((25, 25))) > 0].std()


def test_arteries_and_veins_are_darker_than_the_ground(adult_photograph):
    photograph = adult_photograph
    green = photograph.pixels[..., 1].astype(float)
    truth = photograph.truth
    ground = cv2.blur(green, (31, 31)) - green
    away = truth.field & ~cv2.dilate(truth.disc.astype(np.uint8), np.ones((9, 9))).astype(bool)
    vein, artery = ground[truth.vein & ~truth.artery & away].mean(), ground[truth.artery & ~truth.vein & away].mean()
    assert vein > artery > 3


def test_crossings_lie_on_both_vessels(adult_photograph):
    truth = adult_photograph.truth
    both = cv2.dilate((truth.artery & truth.vein).astype(np.uint8), np.ones((3, 3)))
    wide = [c for c in truth.crossings if c.artery_width_px > 2 and c.vein_width_px > 2 and c.grade == 0]
    assert len(wide) > 5
    assert np.mean([both[round(c.row), round(c.col)] > 0 for c in wide if both.shape[0] - 1 > c.row > 1]) > 0.9


def test_crossings_are_where_polylines_intersect(infant_eye):
    eye = infant_eye
    found = find_crossings(eye.arteries, eye.veins)[:40]
    assert len(found) > 5
    for met in found:
        for vessel, k in ((eye.arteries[met.artery], met.artery_sample), (eye.veins[met.vein], met.vein_sample)):
            a, b = vessel.points[k], vessel.points[k + 1]
            way, to = b - a, np.array(met.at) - a
            assert abs(way[0] * to[1] - way[1] * to[0]) < 1e-9
            assert -1e-9 <= way @ to <= way @ way + 1e-9


def test_no_crossing_is_missed(infant_eye):
    eye = infant_eye
    p, q = (np.concatenate([v.points[part] for v in eye.veins]) for part in (np.s_[:-1], np.s_[1:]))
    count = 0

    def turns_left(a, b, c):  # whether c lies to the left of the line from a to b
        return (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0] > 0

    for vessel in eye.arteries[::4]:
        a, b = vessel.points[:-1, None], vessel.points[1:, None]
        parted = turns_left(a, b, p) != turns_left(a, b, q)
        count += int((parted & (turns_left(p, q, a) != turns_left(p, q, b))).sum())
    assert count > 5
    assert len(find_crossings(eye.arteries[::4], eye.veins)) == count


def test_two_straight_vessels_cross_where_their_equations_say():
    def straight(a, b):
        points = np.linspace(a, b, 12)
        return VesselSegment(points, np.full(12, 0.01), np.ones(12), -1)

    (found,) = find_crossings([straight((0, 0), (1, 1))], [straight((0, 0.5), (1, 0.25))])
    np.testing.assert_allclose(found.at, (0.4, 0.4))
    assert found.sine == pytest.approx(np.sin(np.pi / 4 + np.arctan(0.25)))
    assert find_crossings([straight((0, 0), (1, 1))], [straight((0, 0.1), (1, 1.1))]) == []


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(-4, 4))
@settings(max_examples=40, deadline=None)
def test_polylines_laid_end_to_end_are_shifted_each_by_itself(counts, steps):
    lines, start = Polylines.of(np.array(counts)), 0
    points = np.arange(2.0 * sum(counts)).reshape(-1, 2)  # evenly spaced, so that reflection goes on in line
    shifted = lines.shifted(points, steps)
    assert len(lines.links()) == sum(counts) - len(counts)
    for count in counts:
        own = slice(start, start + count)
        steps_kept = max(min(steps, count - 1), 1 - count)
        if steps_kept == steps:
            np.testing.assert_allclose(shifted[own], points[own] + 2 * steps)
        start += count


@given(st.integers(0, 2**31), st.floats(0.01, 0.5))
@settings(max_examples=40, deadline=None)
def test_points_near_are_found_as_by_trying_all(seed, reach):
    rng = np.random.default_rng(seed)
    points, queries = rng.normal(0, 1, (60, 2)), rng.normal(0, 1, (40, 2))
    near = vessel_skeletons._NearbyPoints(reach, points)
    apart = np.hypot(*(queries[:, None] - points).transpose(2, 0, 1))
    np.testing.assert_array_equal([near.any_near(one[None]) for one in queries], (apart < reach).any(axis=1))


@pytest.mark.parametrize("n", [4, 5, 9])
def test_a_bent_line_is_the_cubic_spline_without_a_knot_near_its_ends(n):
    points = np.cumsum(np.random.default_rng(n).uniform(0.2, 1, (n, 2)), axis=0)
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    spline = CubicSpline(way, points)(np.linspace(0, way[-1], 50))
    np.testing.assert_allclose(noise.spline_through(points, 50), spline, atol=1e-8)


def test_sensor_noise_is_normal():
    grain = noise.grain((400, 400), np.random.default_rng(0))
    for reach, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert (np.abs(grain) < reach).mean() == pytest.approx(share, abs=0.004)
    assert grain.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("sides", "grade"),
    [
        ((0, 0), 0),
        ((0.149, 0.1), 0),
        ((0.15, 0), 1),
        ((0, 0.359), 1),
        ((0.36, 0), 2),
        ((0.39, 0.9), 2),
        ((0.4, 0.4), 3),
    ],
)
def test_grade_read_from_narrowing(sides, grade):
    assert grade_of(*sides) == grade


def test_generated_narrowing_reads_as_its_grade():
    rng = np.random.default_rng(0)
    for grade in range(4):
        for _ in range(100):
            nick = nicking.draw_nick(tuple(np.eye(4)[grade]), 1.0, rng)
            assert nick.grade == grade
            assert nick.artery_above or grade == 0


def test_nicked_veins_are_as_narrow_as_stated(adult_eye):
    nicked = [
        (m, n) for m, n in zip(adult_eye.crossings, adult_eye.nicks, strict=True) if n.grade == 3 and not n.swelling
    ]
    assert nicked
    for met, nick in nicked:
        vein, wall = adult_eye.veins[met.vein], adult_eye.arteries[met.artery].radius[met.artery_sample] / nick.sine
        along = nicking.distance_along(vein.points, met.at)
        width = nick.vein_radius * 2
        visible = vein.radius * vein.visible / nick.vein_radius
        for side, sign in ((0, -1), (1, 1)):
            beside = visible[np.abs(along - sign * (wall + 0.2 * width)) < 0.15 * width]
            assert 1 - beside.min() == pytest.approx(nick.narrowing[side], abs=0.03)


def test_a_patch_spans_twelve_vein_widths():
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[:, 146:155] = 255
    crossing = simulate.CrossingTruth(150, 150, 6, 10, 90)
    patch = simulate.crossing_patch(pixels, crossing)
    assert patch.shape == (256, 256, 3)
    row = patch[128, :, 0] > 127
    assert row.sum() == pytest.approx(9 * 256 / 120, abs=1.5)
    assert np.flatnonzero(row).mean() == pytest.approx(127.5, abs=1.2)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-3, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_projection_is_undone_by_its_inverse(x, y, turn, mirrored):
    projection = Projection((0.3, -0.2), (320, 250), 215, turn, mirrored)
    np.testing.assert_allclose(projection.to_eye(projection.to_pixels(np.array([[x, y]]))), [[x, y]], atol=1e-9)


def test_the_temporal_side_of_a_right_eye_is_on_the_left():
    fovea = np.array([[1.0, 0.0]])
    for mirrored, sign in ((True, -1), (False, 1)):
        pixels = Projection((0, 0), (320, 250), 215, 0.0, mirrored).to_pixels(fovea)
        np.testing.assert_allclose(pixels, [[320 + sign * 215, 250]])
    truth = photographed(0).truth
    disc, pit = (np.argwhere(mask)[:, 1].mean() for mask in (truth.disc, truth.fovea))
    assert (pit < disc) == (truth.eye == "right")


def _files(folder: Path):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_any_number_of_workers_writes_the_same_bytes(tmp_path):
    for workers in (1, 2):
        simulate.write_infants(5, tmp_path / f"i{workers}", seed=11, workers=workers, size=64)
    assert len({row["infant"] for row in csv.DictReader((tmp_path / "i1/cohort.csv").open())}) > 1
    assert _files(tmp_path / "i1") == _files(tmp_path / "i2")


def test_an_infant_cohort_is_whole(tmp_path):
    path = simulate.write_infants(9, tmp_path / "c", seed=1, size=96, sheet=True, camera="retcam")
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 9 == len({row["image"] for row in rows})
    eyes = {(row["infant"], row["eye"]) for row in rows}
    assert len(eyes) < 9
    assert len(list(csv.DictReader((tmp_path / "c" / "eyes.csv").open()))) == len(eyes)
    for row in rows:
        photograph = read(path.parent / row["image"])
        masks = simulate.read_masks(path.parent / "truth" / (Path(row["image"]).stem + ".png"))
        assert masks["artery"].shape == photograph.pixels.shape[:2]
        assert masks["ridge"].any() == (row["stage"] != "0")
        zone = int(row["zone"]) if row["zone"] else None
        found = Findings(int(row["stage"]), zone, row["plus"])
        assert row["label"] == found.label
        assert row["treatment_requiring"] == ("yes" if found.treatment_requiring else "no")
        assert 22 < float(row["gestational_age"]) < 38
    assert read(tmp_path / "c" / "sheet.png").pixels.shape[0] > 200


def test_an_adult_cohort_is_whole(tmp_path):
    out = tmp_path / "a"
    path = simulate.write_adults(2, out, seed=1, size=300)
    rows = list(csv.DictReader(path.open()))
    crossings = list(csv.DictReader((out / "crossings.csv").open()))
    assert [int(row["crossings"]) for row in rows] == [sum(c["image"] == r["image"] for c in crossings) for r in rows]
    coco = json.loads((out / "crossings.json").read_text())
    assert len(coco["annotations"]) == len(crossings)
    for box, crossing in zip(coco["annotations"], crossings, strict=True):
        left, top, side, _ = box["bbox"]
        assert left + side / 2 == pytest.approx(float(crossing["col"]))
        assert top + side / 2 == pytest.approx(float(crossing["row"]))
        assert box["category_id"] == int(crossing["grade"]) + 1


def test_a_folder_that_holds_a_cohort_is_not_overwritten(tmp_path):
    simulate.write_infants(1, tmp_path, size=64)
    with pytest.raises(UsageError, match="already holds"):
        simulate.write_infants(1, tmp_path, size=64)


@pytest.mark.parametrize(
    "call",
    [
        lambda: simulate.infant(0, camera="retcamm"),
        lambda: simulate.infant(0, disease="rob"),
        lambda: simulate.infant(0, level="god"),
        lambda: simulate.adult(0, camera="retcam"),
        lambda: simulate.adult(0, grade=4),
        lambda: simulate.infant(0, size=8),
    ],
)
def test_wrong_calls_name_a_remedy(call):
    with pytest.raises(UsageError, match=r"did you mean|there are|Ask for"):
        call()


def test_the_command_writes_a_cohort_and_says_where(tmp_path):
    from typer.testing import CliRunner

    from fundoscope.cli.simulate import app

    call = ["infants", "2", "--out", str(tmp_path / "c"), "--size", "64", "--sheet", "--quiet"]
    answer = CliRunner().invoke(app, call)
    assert answer.exit_code == 0, answer.output
    assert answer.output.strip() == str(tmp_path / "c" / "cohort.csv")
    assert (tmp_path / "c" / "sheet.png").exists()
