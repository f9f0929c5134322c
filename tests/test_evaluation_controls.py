from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from fundoscope.errors import ControlError, UsageError
from fundoscope.evaluation.controls.matched_photographs import (
    KINDS,
    ColourReference,
    Controls,
    FieldMask,
    all_controls,
    reencode,
)
from fundoscope.imaging import Photograph, find_field


def eye(seed=0, shape=(120, 160), radius=70.0, row=60.0, column=80.0, colour=(170, 80, 40)):
    rng = np.random.default_rng(seed)
    r, c = np.ogrid[: shape[0], : shape[1]]
    inside = (r - row) ** 2 + (c - column) ** 2 <= radius**2
    texture = cv2.GaussianBlur(rng.normal(0, 60, shape), (0, 0), 3)[..., None]
    pixels = np.clip(np.array(colour) + texture + rng.normal(0, 5, (*shape, 3)), 20, 255)
    return Photograph(np.where(inside[..., None], pixels, 0).astype(np.uint8), f"eye{seed}.png", 9000, "PNG")


@pytest.fixture(scope="module")
def eyes():
    return [
        eye(0),
        eye(1, colour=(120, 90, 60)),
        eye(2, radius=55.0, colour=(200, 110, 70)),
        eye(3, shape=(200, 200), radius=95.0, row=100.0, column=100.0, colour=(90, 60, 50)),
    ]


def seen(photograph):
    return photograph.pixels.max(axis=2) > 0


def test_the_common_field_is_what_all_have(eyes):
    mask = FieldMask.fit(eyes)
    assert mask.inside.shape == (320, 320)
    # eye 0 is cut above and below at 60 of 70 pixels, eye 2 and 3 are whole discs
    assert not mask.inside[15, 160] and mask.inside[40, 160] and mask.inside[160, 12]
    masked = [mask.apply(each) for each in eyes]
    assert all((seen(each) == mask.inside).all() for each in masked)
    assert FieldMask.fit(eyes[2:]).inside.mean() > mask.inside.mean()


def test_masked_photographs_have_one_field(eyes):
    mask = FieldMask.inscribed(0.7)
    found = [find_field(mask.apply(each).pixels) for each in eyes]
    assert np.ptp([f.radius for f in found]) < 2 and found[0].radius == pytest.approx(0.7 * 160, abs=2)
    assert mask.field.radius == 160 and mask.field.shape == (320, 320)


def test_fields_that_share_too_little_are_refused(eyes):
    sliver = eye(7, shape=(40, 160), row=20.0, radius=75.0)
    with pytest.raises(ControlError, match=r"share only \d+% of the square.* narrowest is that of eye8\.png"):
        FieldMask.fit([*eyes, sliver, eye(8, shape=(160, 36), row=80.0, column=18.0, radius=75.0)])
    with pytest.raises(UsageError, match="at least one"):
        FieldMask.fit([])


def test_colours_of_nothing_are_refused(eyes):
    with pytest.raises(ControlError, match="No photograph shows retina"):
        ColourReference.fit(eyes[:1], [np.zeros(eyes[0].pixels.shape[:2], bool)])


def test_colours_become_exactly_alike(eyes):
    mask = FieldMask.inscribed(0.7)
    squares = [mask.apply(each) for each in eyes]
    reference = ColourReference.fit(squares, [mask.inside] * 4)
    matched = [reference.apply(each, mask.inside) for each in squares]
    histograms = [[np.bincount(m.pixels[mask.inside][:, c], minlength=256) for c in range(3)] for m in matched]
    assert all(np.array_equal(histograms[0], each) for each in histograms)
    assert all((m.pixels[~mask.inside] == 0).all() for m in matched)
    # the pooled mean is kept
    pooled = np.mean([s.pixels[mask.inside].mean(axis=0) for s in squares], axis=0)
    assert matched[0].pixels[mask.inside].mean(axis=0) == pytest.approx(pooled, abs=0.6)


def test_matching_keeps_the_order_of_levels(eyes):
    mask = FieldMask.inscribed(0.7)
    square = mask.apply(eyes[0])
    matched = ColourReference.fit([mask.apply(eyes[3])], [mask.inside]).apply(square, mask.inside)
    before, after = square.pixels[mask.inside][:, 1], matched.pixels[mask.inside][:, 1]
    order = np.argsort(before, kind="stable")
    levels = [after[before == level] for level in np.unique(before)]
    assert all(low.max() <= high.min() for low, high in pairwise(levels))
    assert np.corrcoef(before[order], after[order])[0, 1] > 0.95


def test_matching_a_photograph_to_itself_changes_nothing(eyes):
    mask = FieldMask.inscribed(0.7)
    square = mask.apply(eyes[0])
    assert np.array_equal(ColourReference.fit([square], [mask.inside]).apply(square, mask.inside).pixels, square.pixels)


def test_reencoding_is_a_jpeg(eyes):
    coded = reencode(FieldMask.inscribed().apply(eyes[0]))
    assert coded.format == "JPEG" and 1000 < coded.n_bytes < 320 * 320
    assert reencode(coded, 30).n_bytes < coded.n_bytes
    assert coded.name == eyes[0].name


def test_all_controls_leave_the_texture_and_take_the_rest(eyes):
    made = all_controls(eyes)
    fields = [seen(each) for each in made]
    common = FieldMask.fit(eyes).inside
    inner = cv2.erode(common.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert all(each.pixels.shape == (320, 320, 3) and each.format == "JPEG" for each in made)
    assert all((field <= common).all() for field in fields)
    means = np.array([each.pixels[inner].mean(axis=0) for each in made])
    before = np.array([p.pixels[find_field(p.pixels).mask(shrink=0.1)].mean(axis=0) for p in eyes])
    assert np.ptp(means, axis=0).max() < 3 < np.ptp(before, axis=0).min()
    green = FieldMask(common).apply(eyes[0]).pixels[inner][:, 1].astype(float)
    assert np.corrcoef(green, made[0].pixels[inner][:, 1])[0, 1] > 0.9


@pytest.mark.parametrize("kinds", [(kind,) for kind in KINDS] + [("field", "encoding"), ("colour", "encoding"), ()])
def test_controls_can_be_had_one_by_one(eyes, kinds):
    controls = Controls.fit(eyes, kinds)
    made = [controls.apply(each) for each in eyes]
    assert all(each.pixels.shape == (320, 320, 3) for each in made)
    assert {each.format for each in made} == ({"JPEG"} if "encoding" in kinds else {"array"})
    areas = [seen(each).mean() for each in made]
    assert (np.ptp(areas) < 0.002) == ("field" in kinds)
    means = [each.pixels[seen(each)].mean(axis=0) for each in made]
    assert (np.ptp(means, axis=0).max() < 5) == ("colour" in kinds)


def test_a_mask_of_ones_own(eyes):
    controls = Controls.fit(eyes, ("field",), FieldMask.inscribed(0.5, side=200))
    assert controls.apply(eyes[0]).pixels.shape == (200, 200, 3)
    with pytest.raises(UsageError, match="did you mean 'colour'"):
        Controls.fit(eyes, ("color",))
