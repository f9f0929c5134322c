"""The pixels of a patch's file: read at the scale of the networks, and cut as a user would cut them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from fundoscope.imaging import Pixels, read
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, crop_square, resize_square


def read_whole(row: PatchRow) -> Pixels:
    """All that a patch's file holds, (s, s, 3), at the scale at which its vein is `VEIN_WIDTH` pixels wide."""
    return resize_square(crop_square(read(row.path)), round(row.span * VEIN_WIDTH))


def crop_patch(whole: Pixels, turn: float = 0.0, zoom: float = 1.0, shift: ArrayLike = (0.0, 0.0)) -> Pixels:
    """The usual patch, (PATCH_SIDE, PATCH_SIDE, 3), cut from a wider one: turned by degrees, enlarged, shifted by pixels.

    Where the wider one ends its edge is repeated.
    """
    middle = whole.shape[0] / 2 - 0.5
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += PATCH_SIDE / 2 - 0.5 - middle + np.array(shift)
    size = (PATCH_SIDE, PATCH_SIDE)
    return np.asarray(cv2.warpAffine(whole, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
