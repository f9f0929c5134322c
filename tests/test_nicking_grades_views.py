import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

from fundoscope.imaging.local_contrast import LIMIT, local_contrast
from fundoscope.nicking.grade_study.batches import (
    FixedBatches,
    TrainingBatches,
    TrainingPatches,
    mask_middle,
    network_inputs,
    unpack_inputs,
)
from fundoscope.nicking.grade_study.folds import GradeFold, GradeFoldData, PatchTables
from fundoscope.nicking.grade_study.nicked_patches import save_wide_patch
from fundoscope.nicking.grade_study.patch_pixels import crop_middle, read_whole
from fundoscope.nicking.grade_study.patch_table import WIDE_SPAN, PatchRow
from fundoscope.nicking.grade_study.perturbed import perturb
from fundoscope.nicking.grade_study.prediction_table import OWN, PATCH_FILE, UNPERTURBED, VARIANTS
from fundoscope.nicking.grade_study.views import (
    draw_views,
    fade_middle,
    measured_widths,
    pack_input,
    show_patch,
    table_patches,
    training_views,
)
from fundoscope.nicking.grading.crossing_patches import INPUT_ZOOM, PATCH_SIDE, VEIN_WIDTH, map_patch
from fundoscope.nicking.recipes.grades import read_grade_recipe

TINY = read_grade_recipe("tiny")


INPUT_WIDTH = INPUT_ZOOM * VEIN_WIDTH
EXACT = {
    "slope_jitter": 0.0, "width_jitter": 0.0, "shift": 0.0, "zoom_deviation": 0.0, "faded_maps": 0.0,
    "camera": TINY.views.camera.model_copy(update=dict.fromkeys(("colour", "light", "sharpness", "noise", "encoding"), 0)),
}  # fmt: skip


class DrawnUpstream:
    """Maps of a drawn crossing, told by the colours that it was drawn in: arteries have no green, veins no red."""

    def __init__(self, bundle):
        self.bundle, self.map_settings, self.asked = self, bundle.card.crossings, []

    def map_vessels(self, contrast):
        self.asked.append(contrast.shape[1:])
        artery, vein = contrast[1] < -0.9, contrast[0] < -0.9
        return np.stack([artery | vein, artery, vein & ~artery, 0 * artery]).astype(np.float32)


@pytest.fixture
def wide_row(tmp_path):
    """A wide patch of a vein that lies at 35 degrees, and of an artery that crosses it."""
    side, slope = 540, 35.0
    rows, columns = np.indices((side, side)) - (side - 1) / 2

    def beside(degrees):
        angle = np.radians(degrees)
        return np.abs(rows * np.cos(angle) - columns * np.sin(angle))

    pixels = np.full((side, side, 3), 200, np.uint8)
    pixels[beside(slope) < 10] = 60, 200, 200
    pixels[beside(slope + 80) < 7] = 200, 60, 200
    save_wide_patch(tmp_path / "0000_00_00.png", pixels, ((side - 1) / 2,) * 2, 20.0)
    return PatchRow(tmp_path / "0000_00_00.png", 1, "eye", WIDE_SPAN, 5.0, slope=slope)


def level(x):
    """How level the vein of an input lies: the share of the middle row's surroundings that is vein, and of what is beside it."""
    vein = x[5] > 0
    return vein[62:66, 20:108].mean(), vein[:50, 30:98].mean()


@pytest.fixture
def fold(patch_rows, fresh_upstream, tmp_path):
    """Two patches, of which nothing is kept yet."""
    nobody = GradeFold(0, 0, frozenset(), frozenset())
    return GradeFoldData(PatchTables(patch_rows[:2], [], {}), nobody, fresh_upstream, tmp_path, TINY)


# --- views


def test_views_are_named_by_seed_patch_and_number_and_nothing_else(patch_rows, fresh_upstream):
    def draw(row=patch_rows[0], **changes):
        return draw_views(row, fresh_upstream, TINY.views.model_copy(update=changes))

    two = draw(number=2)
    assert two.shape == (2, 6, PATCH_SIDE, PATCH_SIDE) and two.dtype == np.uint8
    np.testing.assert_array_equal(two, draw(number=3)[:2])
    assert (two[0] != two[1]).mean() > 0.2
    assert (two[0] != draw(seed=1)[0]).mean() > 0.2
    assert (two[0] != draw(replace(patch_rows[0], photograph="another"))[0]).mean() > 0.2


@pytest.mark.parametrize("alone", [0.0, 1.0])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_a_view_lies_level_by_the_true_pose_whatever_its_maps_show(wide_row, fresh_upstream, alone, scale):
    upstream = DrawnUpstream(fresh_upstream.bundle)
    options = {**EXACT, "maps_from_patch_alone": alone, "smallest_zoom": scale, "largest_zoom": scale}
    (view,) = draw_views(wide_row, upstream, TINY.views.model_copy(update=options))
    x = unpack_inputs(torch.from_numpy(view)).numpy()
    on, beside = level(x)
    assert on > 0.8 and beside < 0.05
    dark = (x[0, :, 30:50] < -0.9).sum(axis=0)
    assert dark == pytest.approx(INPUT_WIDTH, abs=2.5)
    blind = DrawnUpstream(fresh_upstream.bundle)
    blind.map_vessels = lambda contrast: np.zeros((4, *contrast.shape[1:]), np.float32)
    if not alone:
        (unseen,) = draw_views(wide_row, blind, TINY.views.model_copy(update=options))
        np.testing.assert_array_equal(unseen[:3], view[:3])


def test_the_poses_of_views_are_a_little_wrong_and_their_crossing_a_little_off(wide_row, fresh_upstream):
    upstream = DrawnUpstream(fresh_upstream.bundle)

    def slopes(**changes):
        options = {**EXACT, "maps_from_patch_alone": 0.0, "number": 12, **changes}
        found = []
        for view in draw_views(wide_row, upstream, TINY.views.model_copy(update=options)):
            rows, columns = np.nonzero(view[5] > 127)
            near = np.abs(columns - 63.5) < 40
            found.append(np.polyfit(columns[near] - 63.5, rows[near] - 63.5, 1))
        slope, offset = np.array(found).T
        return np.degrees(np.arctan(slope)), offset

    exact, turned, moved = slopes(), slopes(slope_jitter=6.0), slopes(shift=0.7)
    assert np.abs(exact[0]).max() < 1.5 and np.abs(exact[1]).max() < 1.5
    assert 3 < turned[0].std() < 9 and 3 < moved[1].std() < 12 and np.abs(moved[1]).max() < 0.8 * INPUT_WIDTH


def test_a_vein_is_faded_from_the_maps_in_the_middle_and_nowhere_else():
    maps = np.random.default_rng(0).integers(0, 255, (PATCH_SIDE, PATCH_SIDE, 3), dtype=np.uint8)
    maps[..., 0] = maps.max(axis=2)
    faded = fade_middle(maps, 16.0, 0.0)
    away = np.hypot(*(np.indices((PATCH_SIDE, PATCH_SIDE)) - (PATCH_SIDE - 1) / 2))
    np.testing.assert_array_equal(faded[away > 16.1], maps[away > 16.1])
    inner = faded[away < 11]
    assert inner[:, 2].max() == 0
    np.testing.assert_array_equal(inner[:, 0], maps[away < 11][:, 1])
    np.testing.assert_array_equal(faded[..., 1], maps[..., 1])
    np.testing.assert_array_equal(fade_middle(maps, 16.0, 1.0), maps)


def test_views_are_drawn_once_and_would_be_the_same_in_another_process(fold, tmp_path):
    kept = training_views(fold)
    np.testing.assert_array_equal(kept[1], draw_views(fold.tables.rows[1], fold.upstream, TINY.views))
    (path,) = (path for path in fold.folder.rglob("*") if path.is_file())
    assert path == fold.folder / "training_views.npy"
    before = path.stat().st_mtime_ns
    np.testing.assert_array_equal(training_views(fold), kept)
    assert path.stat().st_mtime_ns == before
    sent = pickle.loads(pickle.dumps(replace(fold, folder=tmp_path / "other")))
    np.testing.assert_array_equal(training_views(sent), kept)


def test_a_patch_is_shown_by_maps_that_have_not_seen_its_photograph(fold):
    one, two = (replace(fold.upstream, name=name, seen_photographs=frozenset({name})) for name in ("one", "two"))
    seen = {
        row: replace(fold, upstreams=(one, two)).maps_of(PatchRow("x", 0, row)).name for row in ("one", "two", "new")
    }
    assert seen == {"one": "two", "two": "one", "new": "two"}
    both = tuple(replace(each, seen_photographs=frozenset({"one", "two"})) for each in (one, two))
    assert replace(fold, upstreams=both).maps_of(PatchRow("x", 0, "one")).name == "two"


def test_bytes_hold_no_contrast_exactly_and_all_else_nearly():
    rng = np.random.default_rng(0)
    contrast = rng.uniform(-LIMIT, LIMIT, (3, 20, 20)).astype(np.float32)
    contrast[:, :5] = 0
    maps = rng.integers(0, 256, (3, 20, 20)).astype(np.float32) / 127.5 - 1
    x = unpack_inputs(torch.from_numpy(pack_input(contrast, maps))).numpy()
    assert np.abs(x[:3, :5]).max() == 0 and np.abs(x[:3] - contrast).max() < 0.02
    np.testing.assert_allclose(x[3:], maps, atol=1e-6)


# --- batches


def test_masked_the_crossing_is_not_seen_and_all_else_is():
    x = torch.randn(2, 6, PATCH_SIDE, PATCH_SIDE, generator=torch.Generator().manual_seed(0))
    hidden = mask_middle(x, 2.0).numpy()
    away = np.hypot(*(np.indices((PATCH_SIDE, PATCH_SIDE)) - (PATCH_SIDE - 1) / 2)) / INPUT_WIDTH
    assert np.abs(hidden[..., away < 1.95]).max() == 0
    np.testing.assert_array_equal(hidden[..., away > 2.05], x.numpy()[..., away > 2.05])


def training_patches(grades, seed=0, masked_radius=None, views=2):
    packed = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, views, 6, 32, 32), dtype=np.uint8))
    return TrainingPatches(packed, np.arange(len(grades)) % 3, np.array(grades), seed, masked_radius)


def test_a_training_patch_is_named_by_seed_epoch_and_number():
    some, other = training_patches([0, 1, 2]), training_patches([0, 1, 2], seed=1)

    def one(patches, epoch, k):
        x, (grade,) = patches.draw(epoch, np.array([k]))
        return x[0], int(grade)

    x, grade = one(some, 4, 2)
    assert grade == 2 and x.shape == (6, 32, 32)
    torch.testing.assert_close(x, some.draw(4, np.array([0, 2, 1]))[0][1])
    assert any(not torch.equal(one(some, epoch, 2)[0], one(other, epoch, 2)[0]) for epoch in range(6))
    view = unpack_inputs(some.views[2, 0])
    ways = {"as it is": view, "mirrored": view.flip(-1), "turned": view.flip((-2, -1)), "both": view.flip(-2)}
    seen = {
        next(name for name, way in ways.items() if torch.equal(way, one(some, epoch, 2)[0]))
        for epoch in range(0, 60, 2)
    }
    assert seen == set(ways)
    assert float(one(training_patches([0, 1, 2], masked_radius=0.9), 0, 1)[0][:, 15:17, 15:17].abs().max()) == 0


def test_an_epoch_has_each_grade_as_often_and_each_patch_of_a_grade_as_often():
    grades = [0] * 30 + [1] * 6 + [3] * 4
    batches = TrainingBatches(training_patches(grades), 8)
    epochs = []
    for epoch in (0, 1, 0):
        batches.sampler.set_epoch(epoch)
        epochs.append(list(batches.sampler))
    assert epochs[0] == epochs[2] != epochs[1] and len(epochs[0]) == len(grades)
    times = Counter(epochs[0])
    shares = [sum(times[k] for k in range(40) if grades[k] == g) for g in (0, 1, 3)]
    assert max(shares) - min(shares) <= 2 and sum(shares) == 40
    assert max(times[k] for k in range(30)) == 1
    assert {times[k] for k in range(30, 36)} <= {1, 2, 3} and min(times[k] for k in range(36, 40)) >= 2
    assert len(batches) == 5 == len(list(batches))
    assert torch.cat([y for _, y in batches]).tolist() == [grades[k] for k in epochs[0]]
    few = TrainingBatches(training_patches([0, 1, 2]), 8)
    assert len(few) == 1 and len(next(iter(few))[1]) == 3
    x = np.zeros((5, 6, 4, 4), np.float32)
    assert [len(y) for _, y in FixedBatches(x, np.arange(5), 2, torch.device("cpu"))] == [2, 2, 1]


# --- tested patches


def test_a_patch_is_perturbed_without_a_change_of_the_vessels(patch_rows):
    whole = read_whole(patch_rows[0])
    plain = whole.astype(float)
    found = {
        variant: perturb(whole, variant, np.random.default_rng(0), TINY.perturbed).astype(float) for variant in VARIANTS
    }
    for name in (UNPERTURBED, PATCH_FILE):
        np.testing.assert_array_equal(found[name], plain)
    field = np.ones(plain.shape[:2], bool)
    for name in ("blurred", "recompressed", "recoloured"):
        assert np.abs(found[name] - plain).mean() > 0.1
        contrasts = [local_contrast(picture.astype(np.uint8), field)[1].ravel() for picture in (plain, found[name])]
        assert np.corrcoef(contrasts)[0, 1] > 0.8
    assert np.abs(found["double the scale"][1::2, 1::2] - plain).mean() < 6
    assert np.abs(found["half the scale"] - plain[::2, ::2]).mean() < 12
    quarter = TINY.perturbed.model_copy(update={"turn": 90.0})
    turned = perturb(whole, "turned", np.random.default_rng(0), quarter)
    np.testing.assert_array_equal(turned, np.rot90(whole))


@pytest.mark.parametrize(
    "variant", [name for name in VARIANTS if name not in ("recoloured", "less saturated", "another hue")]
)
def test_a_tested_patch_is_laid_level_by_what_its_maps_show(wide_row, fresh_upstream, variant):
    upstream = DrawnUpstream(fresh_upstream.bundle)
    pixels = perturb(read_whole(wide_row), variant, np.random.default_rng(0), TINY.perturbed)
    _, patch = show_patch(pixels, replace(wide_row, slope=np.nan), upstream, variant == PATCH_FILE)
    assert patch.knows_pose
    on, beside = level(np.concatenate(patch.inputs))
    assert on > 0.75 and beside < 0.06
    (shape, *_) = upstream.asked
    assert shape == ((72, 72) if variant == PATCH_FILE else (135, 135)), (
        "a wide patch's scale is known, a file's is not"
    )


def test_a_square_is_cut_out_as_it_is_and_never_beyond_the_edge():
    whole = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_middle(whole, 20), whole[20:40, 20:40])
    np.testing.assert_array_equal(crop_middle(whole, 20, (5, -3)), whole[25:45, 17:37])
    np.testing.assert_array_equal(crop_middle(whole, 50, (0, 9)), whole[5:55, 10:60])
    np.testing.assert_array_equal(crop_middle(whole, 80), whole)


def test_tested_patches_are_given_to_networks_as_they_are_kept(fold):
    kept = table_patches(fold, OWN, UNPERTURBED)
    inputs = network_inputs(kept, np.array([1, 0]))
    assert inputs.shape == (2, 6, PATCH_SIDE, PATCH_SIDE)
    _, patch = map_patch(read_whole(fold.tables.rows[1]), fold.upstream.bundle.map_vessels)
    np.testing.assert_allclose(inputs[0], np.concatenate(patch.inputs), atol=0.02)
    assert network_inputs(kept, np.array([], int)).shape == (0, 6, PATCH_SIDE, PATCH_SIDE)
    again = replace(
        fold, upstream=replace(fold.upstream, bundle_folder="nowhere")
    )  # without maps nothing could be made
    np.testing.assert_array_equal(table_patches(again, OWN, UNPERTURBED), kept)


def test_widths_are_measured_once_and_nan_where_they_could_not_be(fold):
    first = measured_widths(fold, OWN)
    again = measured_widths(replace(fold, upstream=replace(fold.upstream, bundle_folder="nowhere")), OWN)
    assert first.narrowing.shape == (2, 2) and len(first.features) == 2
    assert np.isnan(first.features[np.isnan(first.narrowing).all(axis=1)][:, 0]).all()
    np.testing.assert_array_equal(first.narrowing, again.narrowing)
