from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

from fundoscope.imaging import read
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.nicking.grade_study.perturbed import VARIANTS, Asked, Widths
from fundoscope.nicking.grade_study.training_views import (
    Examples,
    Views,
    around,
    drawn,
    inputs_of,
    masked,
    packed,
    rotate_quarters,
    training_batches,
    unpacked,
    usual,
)
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, CrossingPatch


def patch(seed=0, side=PATCH_SIDE):
    rng = np.random.default_rng(seed)
    pixels, maps = rng.integers(20, 255, (2, side, side, 3), dtype=np.uint8)
    return CrossingPatch(pixels, maps, rng.random((side, side)) > 0.2)


# --- views


def test_views_are_named_by_patch_and_number_and_nothing_else(patch_rows, fresh_upstream):
    maps = fresh_upstream.bundle.map_vessels
    first, again = (list(Views(2).draw(patch_rows[0], maps)) for _ in range(2))
    longer, other = list(Views(3).draw(patch_rows[0], maps)), list(Views(2, seed=1).draw(patch_rows[0], maps))
    for k in range(2):
        np.testing.assert_array_equal(packed(first[k]), packed(again[k]))
        np.testing.assert_array_equal(packed(first[k]), packed(longer[k]))
        assert (packed(first[k]) != packed(other[k])).mean() > 0.2
    assert (first[0].pixels != first[1].pixels).mean() > 0.2
    elsewhere = next(Views(1).draw(replace(patch_rows[0], photograph="another"), maps))
    assert (first[0].pixels != elsewhere.pixels).mean() > 0.2


def test_views_are_drawn_once_and_kept(patch_rows, fresh_upstream, tmp_path):
    asked = []

    def maps(contrast):
        asked.append(contrast.shape)
        return fresh_upstream.bundle.map_vessels(contrast)

    kept = drawn(patch_rows[:2], maps, Views(1), tmp_path / "v" / "views.npy")
    assert kept.shape == (2, 1, PATCH_SIDE, PATCH_SIDE, 7) and len(asked) == 2
    np.testing.assert_array_equal(
        kept[1, 0], packed(next(Views(1).draw(patch_rows[1], fresh_upstream.bundle.map_vessels)))
    )
    again = drawn(patch_rows[:2], maps, Views(1), tmp_path / "v" / "views.npy")
    np.testing.assert_array_equal(kept, again)
    assert len(asked) == 2 and [path.name for path in (tmp_path / "v").iterdir()] == ["views.npy"]


def test_the_usual_patch_and_views_from_more_around_are_the_same_cut(patch_rows):
    whole = np.pad(read(patch_rows[0].path).pixels, ((16, 16), (16, 16), (0, 0)), mode="reflect")  # 288 pixels
    wide = CrossingPatch(whole, whole, np.ones(whole.shape[:2], bool))
    for turn, zoom, shift in ((0.0, 1.0, (0.0, 0.0)), (33.0, 1.3, (4.0, -9.0))):
        np.testing.assert_array_equal(around(whole, turn, zoom, shift), wide.cut(turn, zoom, shift).pixels)
    assert usual(patch_rows[0]).shape == (PATCH_SIDE, PATCH_SIDE, 3)
    corner = around(np.full((288, 288, 3), 90, np.uint8), zoom=0.3)
    assert corner.min() == 90  # edges are repeated


def test_packed_and_unpacked_it_is_the_same_patch():
    one = patch()
    two = unpacked(packed(one))
    for name in ("pixels", "maps", "inside"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(rotate_quarters(one, 1), name), np.rot90(getattr(one, name)))
        np.testing.assert_array_equal(getattr(rotate_quarters(one, 4), name), getattr(one, name))


def test_masked_the_crossing_is_not_seen_and_all_else_is():
    x = np.random.default_rng(0).normal(size=(6, PATCH_SIDE, PATCH_SIDE)).astype(np.float32)
    kept, hidden = x.copy(), masked(x)
    away = np.hypot(*(np.indices((PATCH_SIDE, PATCH_SIDE)) - (PATCH_SIDE - 1) / 2)) / VEIN_WIDTH
    assert np.abs(hidden[:, away < 3.9]).max() == 0
    np.testing.assert_array_equal(hidden[:, away > 4.1], x[:, away > 4.1])
    np.testing.assert_array_equal(x, kept)


def examples(grades, seed=0, mask=False):
    kept = np.stack([packed(patch(k))[None] for k in range(len(grades))])
    return Examples(kept, np.arange(len(grades)), np.array(grades), seed, mask)


def test_examples_are_named_by_seed_epoch_and_rank():
    some, other = examples([0, 1, 2]), examples([0, 1, 2], seed=1)
    x, grade = some[4, 2]
    assert grade == 2 and x.shape == (6, PATCH_SIDE, PATCH_SIDE)
    torch.testing.assert_close(x, some[4, 2][0])
    assert any(not torch.equal(some[epoch, 2][0], other[epoch, 2][0]) for epoch in range(4))
    ways = {float(some[epoch, 2][0][3, 0, 0]) for epoch in range(40)}
    assert len(ways) == 4  # each corner has come to the upper left
    hidden = examples([0, 1, 2], mask=True)
    assert float(hidden[0, 1][0][:, PATCH_SIDE // 2, PATCH_SIDE // 2].abs().max()) == 0


def test_an_epoch_has_each_grade_as_often_and_each_patch_of_a_grade_as_often():
    grades = [0] * 30 + [1] * 6 + [3] * 4
    batches = training_batches(examples(grades), 8)
    seen = []
    for epoch in (0, 1, 0):
        batches.sampler.set_epoch(epoch)
        seen.append(list(batches.sampler))
    assert seen[0] == seen[2] != seen[1] and len(seen[0]) == len(grades) and {e for e, _ in seen[1]} == {1}
    ranks = Counter(k for _, k in seen[0])
    shares = [sum(ranks[k] for k in range(40) if grades[k] == g) for g in (0, 1, 3)]
    assert max(shares) - min(shares) <= 2 and sum(shares) == 40
    assert max(ranks[k] for k in range(30)) == 1
    assert {ranks[k] for k in range(30, 36)} <= {1, 2, 3} and min(ranks[k] for k in range(36, 40)) >= 2


# --- asked


def test_a_patch_is_spoilt_without_a_change_of_the_vessels(patch_rows):
    plain = usual(patch_rows[0]).astype(float)
    found = {name: spoil(patch_rows[0], np.random.default_rng(0)).astype(float) for name, spoil in VARIANTS.items()}
    assert next(iter(found)) == "usual" and all(picture.shape == plain.shape for picture in found.values())
    np.testing.assert_array_equal(found["usual"], plain)
    field = np.ones(plain.shape[:2], bool)
    for name in ("blurred", "recompressed", "recoloured"):
        assert np.abs(found[name] - plain).mean() > 0.1
        contrasts = [local_contrast(picture.astype(np.uint8), field)[1].ravel() for picture in (plain, found[name])]
        assert np.corrcoef(contrasts)[0, 1] > 0.8
    assert np.abs(found["double the scale"][1::2, 1::2] - plain[32:96, 32:96]).mean() < 6
    assert np.abs(found["half the scale"][32:96, 32:96] - plain[::2, ::2]).mean() < 12


def test_patches_are_asked_about_as_they_are_kept(patch_rows, fresh_upstream, tmp_path):
    asked = Asked.of(patch_rows[:3], "usual", fresh_upstream, tmp_path / "a" / "own.npy")
    found = asked.inputs(np.array([2, 0]))
    assert found.shape == (2, 6, PATCH_SIDE, PATCH_SIDE)
    np.testing.assert_array_equal(found[0], inputs_of(unpacked(asked.kept[2])))
    np.testing.assert_array_equal(unpacked(asked.kept[0]).pixels, usual(patch_rows[0]))
    assert asked.inputs(np.array([], int)).shape == (0, 6, PATCH_SIDE, PATCH_SIDE)
    again = Asked.of(patch_rows[:3], "usual", replace(fresh_upstream, bundle=None), tmp_path / "a" / "own.npy")
    np.testing.assert_array_equal(again.kept, asked.kept)


def test_widths_are_measured_once_and_nan_where_they_could_not_be(patch_rows, fresh_upstream, tmp_path):
    first = Widths.of(patch_rows[:2], fresh_upstream, tmp_path / "w.npz")
    again = Widths.of(patch_rows[:2], replace(fresh_upstream, bundle=None), tmp_path / "w.npz")
    assert first.narrowing.shape == (2, 2) and len(first.features) == 2
    np.testing.assert_array_equal(first.narrowing, again.narrowing)
