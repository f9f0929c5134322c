"""Places in pictures of different scale: row and column, pixel centres at whole numbers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]

#: The quadrants of a picture around a place in it, by whether a point lies above and left of it.
QUADRANTS = ("upper_left", "upper_right", "lower_left", "lower_right")


def rescale_points(points: Points, scale: float) -> Points:
    """Points (n, 2) in a picture that has `scale` pixels for each of theirs; pixel centres lie at whole numbers."""
    return (np.asarray(points, float) + 0.5) * scale - 0.5


def enlarged_window(mask: NDArray[np.bool_], window: tuple[slice, slice], scale: float) -> NDArray[np.bool_]:
    """A window of a mask, given in rows and columns of a picture that has `scale` pixels for each of the mask's."""
    rows, columns = (
        np.clip(((np.arange(part.start, part.stop) + 0.5) / scale).astype(int), 0, side - 1)
        for part, side in zip(window, mask.shape, strict=True)
    )
    return mask[rows].take(columns, axis=1)  # a third of the time of np.ix_


def sample_square(plane: NDArray[np.uint8], at: ArrayLike, step: float, side: int) -> NDArray[np.uint8]:
    """(side, side, ...) of a plane (rows, columns, ...) around a place `at` (row, column), a pixel in `step` of its own.

    Averaged where that is coarser than the plane; what lies outside is 0.
    """
    finer = max(1, int(np.ceil(step)))
    part = step / finer
    row, column = np.asarray(at, float) - (side * finer - 1) / 2 * part
    matrix = np.array([[part, 0, column], [0, part, row]])
    fine = cv2.warpAffine(plane, matrix, (side * finer,) * 2, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    if finer > 1:
        fine = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(fine, np.uint8)
