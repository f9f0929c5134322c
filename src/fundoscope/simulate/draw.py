"""Ribbons of exact width, drawn below the pixel and averaged down.

A ribbon is painted as convex quadrilaterals on a canvas some times finer than the photograph, with four more bits of
position; the area average then gives each pixel the share of it that is covered. Coverage of one half is the edge,
so masks and stated widths agree with the picture to a fraction of a pixel.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BITS = 4  # binary places of a position on the canvas
_RIM = 0.5  # canvas pixels that OpenCV's filling adds on each side of a polygon
_THINNEST = 0.55  # pixels: a thinner radius is drawn so wide and paler by the same ratio


class Canvas:
    """A fine canvas for a photograph of `shape` (rows, columns)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.finer = 4 if max(shape) <= 1200 else 2
        self._fine = np.zeros((shape[0] * self.finer, shape[1] * self.finer), np.uint8)

    def ribbon(self, points: Floats, radius: Floats, value: Floats) -> None:
        """Paint along `points`, (n, 2) as (column, row) in pixels, `radius` (n,) in pixels, `value` (n,) in 0..1."""
        if not self._near(points, float(radius.max())):
            return
        thick = np.maximum(radius, _THINNEST)
        shade = np.round(255 * value * np.minimum(1, radius / thick)).astype(int).tolist()
        half = (thick * self.finer - _RIM)[:, None]
        centre = (points + 0.5) * self.finer - 0.5
        way = np.gradient(centre, axis=0)
        normal = np.column_stack([-way[:, 1], way[:, 0]]) / np.maximum(np.hypot(*way.T), 1e-9)[:, None]
        left, right = centre + normal * half, centre - normal * half
        quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
        for quad, grey in zip(np.round(quads * 2**_BITS).astype(np.int32), shade[:-1], strict=True):
            cv2.fillConvexPoly(self._fine, quad, grey, cv2.LINE_8, _BITS)

    def cap(self, point: Floats, radius: float, value: float) -> None:
        """Paint a round end."""
        thick = max(radius, _THINNEST)
        at = np.round(((point + 0.5) * self.finer - 0.5) * 2**_BITS).astype(int)
        size = round((thick * self.finer - _RIM) * 2**_BITS)
        cv2.circle(self._fine, (int(at[0]), int(at[1])), size, round(255 * value * min(1, radius / thick)), -1, cv2.LINE_8, _BITS)

    def coverage(self) -> NDArray[np.float32]:
        """(rows, columns) in 0..1: the painted share of each pixel."""
        return cv2.resize(self._fine, self.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    def _near(self, points: Floats, margin: float) -> bool:
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        return bool((high > 0).all() and low[0] < self.shape[1] and low[1] < self.shape[0])
