"""Patches: the square around a crossing that spans 12 widths of its vein."""

from __future__ import annotations

import cv2
import numpy as np

from fundoscope.imaging import Pixels
from fundoscope.simulate.truth import Crossing

SPAN = 12  # vein widths along a patch's side
SIDE = 256  # pixels


def patch(pixels: Pixels, crossing: Crossing, side: int = SIDE) -> Pixels:
    """(side, side, 3) of `pixels`, (rows, columns, 3), centred on the crossing; what lies outside is black."""
    step = SPAN * crossing.vein_width_px / side
    finer = max(1, int(np.ceil(step)))  # averaged down when the photograph is finer than the patch
    scale = step / finer
    shift = (side * finer - 1) / 2 * scale
    to_photograph = np.array([[scale, 0, crossing.col - shift], [0, scale, crossing.row - shift]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(pixels, to_photograph, (side * finer, side * finer), flags=flags)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA) if finer > 1 else fine
