"""Lines and marks on a picture, at sub-pixel positions, in colours that the colour-blind can tell apart.

The colours are those of Okabe and Ito (2008, Color Universal Design).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels

ARTERY, VEIN, MARK, WALL = (213, 94, 0), (0, 114, 178), (240, 228, 66), (0, 158, 115)

_BITS = 4  # binary places of a position, as OpenCV counts them


def line(canvas: Pixels, points: NDArray[np.float64], colour: tuple[int, int, int], thickness: int = 1) -> None:
    """Draw a polyline (n, 2; row, column) onto an RGB picture (rows, columns, 3)."""
    at = np.round(np.asarray(points)[:, ::-1] * 2**_BITS).astype(np.int32)
    cv2.polylines(
        canvas, [at[:, None]], isClosed=False, color=colour, thickness=thickness, lineType=cv2.LINE_AA, shift=_BITS
    )


def ring(canvas: Pixels, at: NDArray[np.float64], radius: float, colour: tuple[int, int, int]) -> None:
    """Draw a circle of `radius` pixels around `at` (row, column) onto an RGB picture."""
    x, y = (round(float(v) * 2**_BITS) for v in (at[1], at[0]))
    cv2.circle(canvas, (x, y), round(radius * 2**_BITS), colour, 1, cv2.LINE_AA, _BITS)


def tinted(pixels: Pixels, mask: NDArray[np.bool_], colour: tuple[int, int, int], share: float = 0.5) -> Pixels:
    """A copy of the picture whose pixels inside the mask are mixed with a colour, `share` of it (0 to 1)."""
    picture = pixels.copy()
    picture[mask] = ((1 - share) * picture[mask] + share * np.array(colour)).astype(np.uint8)
    return picture
