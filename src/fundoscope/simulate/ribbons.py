"""Ribbons of exact width, drawn on a finer canvas and averaged down.

A ribbon is painted as convex quadrilaterals on a canvas two or four times as fine as the photograph, with four more bits
of position; the area average then gives each pixel the share of it that is covered. A share of one half is the ribbon's
edge, so masks and stated widths agree with the picture to a fraction of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate.polylines import Polylines

Floats = NDArray[np.float64]

_BITS = 4  # binary places of a position on the canvas, as OpenCV counts them
_RIM = 0.5  # canvas pixels that OpenCV's filling adds on each side of a polygon
_THINNEST = 0.55  # pixels: a thinner radius is drawn so wide, and paler by the same ratio
_STRAIGHT = 0.08  # pixels by which a sample may lie off the straight line between its neighbours to be left out


@dataclass(frozen=True, slots=True, eq=False)
class Ribbons:
    """Many ribbons laid end to end: `points` (column, row) and unit `normals` (n, 2), `radius` in pixels and `value` in
    0..1 (n,). For each i of `links`, sample i and the next belong to one ribbon.
    """

    points: Floats
    normals: Floats
    radius: Floats
    value: Floats
    links: NDArray[np.int64]

    @classmethod
    def of(cls, points: Floats, radius: Floats, value: Floats, counts: NDArray[np.int64]) -> Ribbons:
        """Ribbons of `counts` (k,) samples each, laid end to end in `points` (n, 2), `radius` and `value` (n,).

        Samples that make no visible difference are left out.
        """
        lines = Polylines.of(counts)
        samples = np.column_stack([points, radius, 4 * value, lines.normals(points)])
        for _ in range(2):
            samples, lines = _without_straight(samples, lines)
        return cls(samples[:, :2], samples[:, 4:], samples[:, 2], samples[:, 3] / 4, lines.links())


def _without_straight(samples: Floats, lines: Polylines) -> tuple[Floats, Polylines]:
    """Without every other sample, wherever position, radius and value change evenly between its neighbours."""
    off = np.zeros(len(samples))
    off[1:-1] = np.abs(samples[1:-1, :4] - (samples[:-2, :4] + samples[2:, :4]) / 2).max(axis=1)
    inner = (lines.position % 2 == 1) & (np.arange(len(samples)) < lines.last)
    kept = ~inner | (off > _STRAIGHT)
    return samples[kept], Polylines.of(np.bincount(np.cumsum(lines.position == 0)[kept] - 1))


class Canvas:
    """A canvas two or four times as fine as a photograph of `shape` (rows, columns)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.finer = 4 if max(shape) <= 1200 else 2
        self._fine = np.zeros((shape[0] * self.finer, shape[1] * self.finer), np.uint8)

    def paint(self, ribbons: Ribbons, share: float = 1.0, min_radius: float = 0.0) -> None:
        """Paint ribbons at `share` of their radius, without those whose full radius is below `min_radius` pixels."""
        thick = np.maximum(ribbons.radius * share, _THINNEST)
        shade = np.round(255 * ribbons.value * np.minimum(1, ribbons.radius * share / thick)).astype(int)
        half = ribbons.normals * (thick * self.finer - _RIM)[:, None]
        centre = (ribbons.points + 0.5) * self.finer - 0.5
        low, high = -thick.max() - 1, np.array(self.shape[::-1]) + thick.max()
        near = ((ribbons.points > low) & (ribbons.points < high)).all(axis=1) & (ribbons.radius > min_radius)
        i = ribbons.links[near[ribbons.links]]
        left, right = centre + half, centre - half
        quads = np.stack([left[i], left[i + 1], right[i + 1], right[i]], axis=1)
        fill, fine = cv2.fillConvexPoly, self._fine
        for quad, grey in zip(np.round(quads * 2**_BITS).astype(np.int32), shade[i].tolist(), strict=True):
            fill(fine, quad, grey, cv2.LINE_8, _BITS)

    def coverage(self) -> NDArray[np.float32]:
        """The painted share of each pixel of the photograph, (rows, columns) in 0..1."""
        rows, columns = self.shape
        picture = self._fine
        if self.finer == 4:  # twice by two is six times as fast as once by four
            picture = cv2.resize(picture, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA)
        return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def ribbon_coverage(shape: tuple[int, ...], points: Floats, radius: Floats, value: Floats) -> NDArray[np.float32]:
    """The share of each pixel (rows, columns) that one ribbon covers, times its `value`."""
    canvas = Canvas((shape[0], shape[1]))
    canvas.paint(Ribbons.of(points, radius, value, np.array([len(points)])))
    return canvas.coverage()
