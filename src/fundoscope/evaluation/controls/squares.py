"""Standard squares without their enhancement: the scale on which photographs are compared and evened."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Field, Photograph, Pixels, Standard

#: Pixels a side of the squares on which nuisances are judged and controls work.
SIDE = 320

_STANDARD = Standard(clahe_when="never")


def square_of(photograph: Photograph, field: Field | None = None, side: int = SIDE) -> Pixels:
    """The field of view as (side, side, 3), uint8 RGB, black outside, contrast as it was."""
    return _STANDARD.square(photograph, field, size=side)


def seen_in_square(photograph: Photograph, field: Field, rim: float, side: int = SIDE) -> NDArray[np.bool_]:
    """Where that square shows retina, (side, side), less a `rim` (in radii) along the edges."""
    white = Photograph(np.full_like(photograph.pixels, 255), photograph.name, 0, "array")
    seen = (square_of(white, field, side)[..., 0] > 127).astype(np.uint8)
    width = max(1, round(rim * side / 2))
    return cv2.erode(seen, np.ones((2 * width + 1, 2 * width + 1), np.uint8), borderValue=0).astype(bool)
