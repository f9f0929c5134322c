from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from fundoscope.bundles.rounding import _Window, round_filters


def filters(seed: int, groups: int, out: int, inner: int, k: int):
    draw = np.random.default_rng(seed)
    weight = draw.normal(size=(out, inner, k, k)).astype(np.float32)
    step = np.abs(weight).max(axis=(1, 2, 3)) / 7  # coarse, so that rounding matters
    return weight, draw.normal(size=out).astype(np.float32), step.astype(np.float32)


def moment_of(patches: np.ndarray) -> np.ndarray:
    return (np.swapaxes(patches, 1, 2) @ patches).astype(float) / patches.shape[1]


def smooth(seed: int, channels: int, side: int = 24) -> np.ndarray:
    draw = np.random.default_rng(seed).normal(size=(2, channels, side + 8, side + 8))
    for axis in (2, 3):
        draw = np.apply_along_axis(lambda line: np.convolve(line, np.ones(9) / 3, "valid"), axis, draw)
    return (draw + 1).astype(np.float32)


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_where_inputs_are_independent_the_nearest_step_is_best(seed):
    weight, bias, step = filters(seed, 1, 4, 3, 3)
    integers, kept = round_filters(weight, bias, step, np.eye(28)[None])
    np.testing.assert_array_equal(integers, np.round(weight / step[:, None, None, None]))
    np.testing.assert_allclose(kept, bias)


@pytest.mark.parametrize(("groups", "inner"), [(1, 4), (4, 1), (2, 2)])
def test_patches_times_filters_are_the_convolution(groups, inner):
    torch = pytest.importorskip("torch")
    x, (weight, bias, _) = smooth(1, 4, 9), filters(2, groups, 8, inner, 3)
    window = _Window((3, 3), (2, 2), (0, 1, 1, 0), groups)
    padded = torch.nn.functional.pad(torch.from_numpy(x), (1, 0, 0, 1))  # left, right, top, bottom
    expected = torch.nn.functional.conv2d(
        padded, torch.from_numpy(weight), torch.from_numpy(bias), stride=2, groups=groups
    ).numpy()
    augmented = np.concatenate([weight.reshape(groups, 8 // groups, -1), bias.reshape(groups, -1, 1)], axis=2)
    answer = window.patches(x) @ np.swapaxes(augmented, 1, 2)  # (groups, n * positions, out / groups)
    n, _, h, w = expected.shape
    shaped = answer.reshape(groups, n, h, w, -1).transpose(1, 0, 4, 2, 3).reshape(expected.shape)
    np.testing.assert_allclose(shaped, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("groups", "inner"), [(1, 6), (6, 1)])
def test_on_smooth_photographs_the_answer_is_nearer_than_with_nearest_steps(groups, inner):
    weight, bias, step = filters(3, groups, 6, inner, 3)
    window = _Window((3, 3), (1, 1), (1, 1, 1, 1), groups)
    integers, kept = round_filters(weight, bias, step, moment_of(window.patches(smooth(4, 6))))
    fresh = window.patches(smooth(5, 6))  # photographs that the rounding did not see
    grid = step[:, None, None, None]

    def error(rounded, offset):
        change = np.concatenate([(rounded - weight).reshape(groups, 6 // groups, -1),
                                 (offset - bias).reshape(groups, -1, 1)], axis=2)  # fmt: skip
        return np.sqrt(np.mean((fresh @ np.swapaxes(change, 1, 2)) ** 2))

    assert error(integers * grid, kept) < 0.5 * error(np.round(weight / grid) * grid, bias)
    assert np.abs(integers).max() <= 127
