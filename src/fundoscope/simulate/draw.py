"""Ribbons of exact width, drawn below the pixel and averaged down.

A ribbon is painted as convex quadrilaterals on a canvas some times finer than the photograph, with four more bits of
position; the area average then gives each pixel the share of it that is covered. Coverage of one half is the edge,
so masks and stated widths agree with the picture to a fraction of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        whole = np.zeros(len(points) - 1, np.int64)
        self.strokes(Strokes(points, _normals(points), radius, value, np.arange(len(points) - 1), whole))

    def strokes(self, strokes: Strokes, share: float = 1.0, least: float = 0.0) -> None:
        """Paint many ribbons at `share` of their radius; those whose whole radius is below `least` are left out."""
        thick = np.maximum(strokes.radius * share, _THINNEST)
        shade = np.round(255 * strokes.value * np.minimum(1, strokes.radius * share / thick)).astype(int)
        half = strokes.normals * (thick * self.finer - _RIM)[:, None]
        centre = (strokes.points + 0.5) * self.finer - 0.5
        low, high = -thick.max() - 1, np.array(self.shape[::-1]) + thick.max()
        near = ((strokes.points > low) & (strokes.points < high)).all(axis=1) & (strokes.radius > least)
        i = strokes.links[near[strokes.links]]
        left, right = centre + half, centre - half
        quads = np.stack([left[i], left[i + 1], right[i + 1], right[i]], axis=1)
        fill, fine = cv2.fillConvexPoly, self._fine
        for quad, grey in zip(np.round(quads * 2**_BITS).astype(np.int32), shade[i].tolist(), strict=True):
            fill(fine, quad, grey, cv2.LINE_8, _BITS)

    def cap(self, point: Floats, radius: float, value: float) -> None:
        """Paint a round end."""
        thick = max(radius, _THINNEST)
        at = np.round(((point + 0.5) * self.finer - 0.5) * 2**_BITS).astype(int)
        size = round((thick * self.finer - _RIM) * 2**_BITS)
        cv2.circle(
            self._fine,
            (int(at[0]), int(at[1])),
            size,
            round(255 * value * min(1, radius / thick)),
            -1,
            cv2.LINE_8,
            _BITS,
        )

    def coverage(self) -> NDArray[np.float32]:
        """(rows, columns) in 0..1: the painted share of each pixel."""
        return cv2.resize(self._fine, self.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Many ribbons in one array: `points` and unit `normals` (n, 2), `radius` and `value` (n,); sample i and the next
    belong to one ribbon for each i of `links`; `ribbon` says which, for each link.
    """

    points: Floats
    normals: Floats
    radius: Floats
    value: Floats
    links: NDArray[np.int64]
    ribbon: NDArray[np.int64]


def strokes_of(lines: list[tuple[Floats, Floats, Floats]]) -> Strokes:
    """Ribbons given as (points, radius, value)."""
    if not lines:
        return Strokes(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0), *np.zeros((2, 0), np.int64))
    counts = np.array([len(points) for points, _, _ in lines])
    of = np.repeat(np.arange(len(lines)), counts)
    links = np.flatnonzero(of[:-1] == of[1:])
    return Strokes(
        np.concatenate([points for points, _, _ in lines]),
        np.concatenate([_normals(points) for points, _, _ in lines]),
        np.concatenate([radius for _, radius, _ in lines]),
        np.concatenate([value for _, _, value in lines]),
        links,
        of[links],
    )


def _normals(points: Floats) -> Floats:
    way = np.empty_like(points)
    way[1:-1] = points[2:] - points[:-2]
    way[0], way[-1] = points[1] - points[0], points[-1] - points[-2]
    return np.column_stack([-way[:, 1], way[:, 0]]) / np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-9)[:, None]
