"""The pixels of a patch's file: read at the scale of the networks, and cut as a user would cut them."""

from __future__ import annotations

import numpy as np

from fundoscope.imaging import Pixels, read
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH, crop_square, resize_square


def read_whole(row: PatchRow) -> Pixels:
    """All that a patch's file holds, (s, s, 3), at the scale at which its vein is `VEIN_WIDTH` pixels wide."""
    return resize_square(crop_square(read(row.path)), round(row.span * VEIN_WIDTH))


def crop_middle(whole: Pixels, side: int, offset: tuple[float, float] = (0.0, 0.0)) -> Pixels:
    """The square of `side` pixels, or of as many as there are, in the middle of a patch (s, s, 3), moved by pixels (down, right) as
    far as it lies within.
    """
    side = min(side, whole.shape[0])
    free = whole.shape[0] - side
    row, column = (int(np.clip(round(free / 2 + away), 0, free)) for away in offset)
    return np.ascontiguousarray(whole[row : row + side, column : column + side])
