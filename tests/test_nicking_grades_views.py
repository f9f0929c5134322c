from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

from fundoscope.imaging import read
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.nicking.grade_study.batches import (
    TrainingPatches,
    mask_middle,
    network_input,
    network_inputs,
    rotate_quarters,
    training_batches,
)
from fundoscope.nicking.grade_study.folds import GradeFold, GradeFoldData, PatchTables
from fundoscope.nicking.grade_study.patch_pixels import crop_patch, read_whole
from fundoscope.nicking.grade_study.perturbed import perturb
from fundoscope.nicking.grade_study.prediction_table import OWN, UNPERTURBED, VARIANTS
from fundoscope.nicking.grade_study.views import (
    draw_views,
    measured_widths,
    pack_patch,
    table_patches,
    training_views,
    unpack_patch,
)
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, CrossingPatch
from fundoscope.nicking.recipes.grades import read_grade_recipe

TINY = read_grade_recipe("tiny")


def patch(seed=0, side=PATCH_SIDE):
    rng = np.random.default_rng(seed)
    pixels, maps = rng.integers(20, 255, (2, side, side, 3), dtype=np.uint8)
    return CrossingPatch(pixels, maps, rng.random((side, side)) > 0.2)


@pytest.fixture
def fold(patch_rows, fresh_upstream, tmp_path):
    """Two patches, of which nothing is kept yet."""
    nobody = GradeFold(0, 0, frozenset(), frozenset())
    return GradeFoldData(PatchTables(patch_rows[:2], [], {}), nobody, fresh_upstream, tmp_path, TINY)


# --- views


def test_views_are_named_by_seed_patch_and_number_and_nothing_else(patch_rows, fresh_upstream):
    def draw(row=patch_rows[0], **changes):
        options = TINY.views.model_copy(update=changes)
        return [pack_patch(view) for view in draw_views(row, fresh_upstream.bundle.map_vessels, options)]

    two = draw(number=2)
    np.testing.assert_array_equal(two, draw(number=3)[:2])
    assert (two[0] != two[1]).mean() > 0.2
    assert (two[0] != draw(seed=1)[0]).mean() > 0.2
    assert (two[0] != draw(replace(patch_rows[0], photograph="another"))[0]).mean() > 0.2


def test_views_are_drawn_once_and_kept_by_upstream(fold):
    kept = training_views(fold)
    (view,) = draw_views(fold.tables.rows[1], fold.upstream.bundle.map_vessels, TINY.views)
    assert kept.shape == (2, 1, PATCH_SIDE, PATCH_SIDE, 7)
    np.testing.assert_array_equal(kept[1, 0], pack_patch(view))
    (path,) = (path for path in fold.folder.rglob("*") if path.is_file())
    assert path == fold.folder / "shipped" / "training_views.npy"
    before = path.stat().st_mtime_ns
    np.testing.assert_array_equal(training_views(fold), kept)
    assert path.stat().st_mtime_ns == before


def test_the_usual_patch_and_views_from_more_around_are_the_same_cut(patch_rows):
    whole = np.pad(read(patch_rows[0].path).pixels, ((16, 16), (16, 16), (0, 0)), mode="reflect")  # 288 pixels
    wide = CrossingPatch(whole, whole, np.ones(whole.shape[:2], bool))
    for turn, zoom, shift in ((0.0, 1.0, (0.0, 0.0)), (33.0, 1.3, (4.0, -9.0))):
        np.testing.assert_array_equal(crop_patch(whole, turn, zoom, shift), wide.cut(turn, zoom, shift).pixels)
    corner = crop_patch(np.full((288, 288, 3), 90, np.uint8), zoom=0.3)
    assert corner.shape == (PATCH_SIDE, PATCH_SIDE, 3) and corner.min() == 90  # edges are repeated


def test_packed_and_unpacked_it_is_the_same_patch():
    one = patch()
    two = unpack_patch(pack_patch(one))
    for name in ("pixels", "maps", "inside"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(rotate_quarters(one, 1), name), np.rot90(getattr(one, name)))
        np.testing.assert_array_equal(getattr(rotate_quarters(one, 4), name), getattr(one, name))


# --- batches


def test_masked_the_crossing_is_not_seen_and_all_else_is():
    x = np.random.default_rng(0).normal(size=(6, PATCH_SIDE, PATCH_SIDE)).astype(np.float32)
    kept, hidden = x.copy(), mask_middle(x, 4.0)
    away = np.hypot(*(np.indices((PATCH_SIDE, PATCH_SIDE)) - (PATCH_SIDE - 1) / 2)) / VEIN_WIDTH
    assert np.abs(hidden[:, away < 3.9]).max() == 0
    np.testing.assert_array_equal(hidden[:, away > 4.1], x[:, away > 4.1])
    np.testing.assert_array_equal(x, kept)


def training_patches(grades, seed=0, masked_radius=None):
    views = np.stack([pack_patch(patch(k))[None] for k in range(3)])
    return TrainingPatches(views, np.arange(len(grades)) % 3, np.array(grades), seed, masked_radius)


def test_a_training_patch_is_named_by_seed_epoch_and_number():
    some, other = training_patches([0, 1, 2]), training_patches([0, 1, 2], seed=1)
    x, grade = some[4, 2]
    assert grade == 2 and x.shape == (6, PATCH_SIDE, PATCH_SIDE)
    torch.testing.assert_close(x, some[4, 2][0])
    assert any(not torch.equal(some[epoch, 2][0], other[epoch, 2][0]) for epoch in range(4))
    ways = {float(some[epoch, 2][0][3, 0, 0]) for epoch in range(40)}
    assert len(ways) == 4  # each corner has come to the upper left
    hidden = training_patches([0, 1, 2], masked_radius=4.0)
    assert float(hidden[0, 1][0][:, PATCH_SIDE // 2, PATCH_SIDE // 2].abs().max()) == 0


def test_an_epoch_has_each_grade_as_often_and_each_patch_of_a_grade_as_often():
    grades = [0] * 30 + [1] * 6 + [3] * 4
    batches = training_batches(training_patches(grades), 8)
    epochs = []
    for epoch in (0, 1, 0):
        batches.sampler.set_epoch(epoch)
        epochs.append(list(batches.sampler))
    assert epochs[0] == epochs[2] != epochs[1] and len(epochs[0]) == len(grades) and {e for e, _ in epochs[1]} == {1}
    times = Counter(k for _, k in epochs[0])
    shares = [sum(times[k] for k in range(40) if grades[k] == g) for g in (0, 1, 3)]
    assert max(shares) - min(shares) <= 2 and sum(shares) == 40
    assert max(times[k] for k in range(30)) == 1
    assert {times[k] for k in range(30, 36)} <= {1, 2, 3} and min(times[k] for k in range(36, 40)) >= 2


# --- tested patches


def test_a_patch_is_perturbed_without_a_change_of_the_vessels(patch_rows):
    whole = read_whole(patch_rows[0])
    plain = crop_patch(whole).astype(float)
    found = {
        variant: perturb(whole, variant, np.random.default_rng(0), TINY.perturbed).astype(float) for variant in VARIANTS
    }
    np.testing.assert_array_equal(found[UNPERTURBED], plain)
    field = np.ones(plain.shape[:2], bool)
    for name in ("blurred", "recompressed", "recoloured"):
        assert np.abs(found[name] - plain).mean() > 0.1
        contrasts = [local_contrast(picture.astype(np.uint8), field)[1].ravel() for picture in (plain, found[name])]
        assert np.corrcoef(contrasts)[0, 1] > 0.8
    assert np.abs(found["double the scale"][1::2, 1::2] - plain[32:96, 32:96]).mean() < 6
    assert np.abs(found["half the scale"][32:96, 32:96] - plain[::2, ::2]).mean() < 12


def test_tested_patches_are_given_to_networks_as_they_are_kept(fold):
    kept = table_patches(fold, OWN, UNPERTURBED)
    inputs = network_inputs(kept, np.array([1, 0]))
    assert inputs.shape == (2, 6, PATCH_SIDE, PATCH_SIDE)
    np.testing.assert_array_equal(inputs[0], network_input(unpack_patch(kept[1])))
    assert network_inputs(kept, np.array([], int)).shape == (0, 6, PATCH_SIDE, PATCH_SIDE)
    again = replace(fold, upstream=replace(fold.upstream, bundle=None))  # without maps nothing could be made
    np.testing.assert_array_equal(table_patches(again, OWN, UNPERTURBED), kept)


def test_widths_are_measured_once_and_nan_where_they_could_not_be(fold):
    first = measured_widths(fold, OWN)
    again = measured_widths(replace(fold, upstream=replace(fold.upstream, bundle=None)), OWN)
    assert first.narrowing.shape == (2, 2) and len(first.features) == 2
    assert np.isnan(first.features[np.isnan(first.narrowing).all(axis=1)][:, 0]).all()
    np.testing.assert_array_equal(first.narrowing, again.narrowing)
