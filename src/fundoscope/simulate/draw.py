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

from fundoscope.simulate.polylines import Polylines

Floats = NDArray[np.float64]

_BITS = 4  # binary places of a position on the canvas
_RIM = 0.5  # canvas pixels that OpenCV's filling adds on each side of a polygon
_THINNEST = 0.55  # pixels: a thinner radius is drawn so wide and paler by the same ratio
_STRAIGHT = 0.08  # pixels by which a sample may stand off the straight line between its neighbours to be left out


class Canvas:
    """A fine canvas for a photograph of `shape` (rows, columns)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.finer = 4 if max(shape) <= 1200 else 2
        self._fine = np.zeros((shape[0] * self.finer, shape[1] * self.finer), np.uint8)

    def ribbon(self, points: Floats, radius: Floats, value: Floats) -> None:
        """Paint along `points`, (n, 2) as (column, row) in pixels, `radius` (n,) in pixels, `value` (n,) in 0..1."""
        self.strokes(strokes_of(points, radius, value, np.array([len(points)])))

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
        rows, columns = self.shape
        picture = self._fine
        if self.finer == 4:  # twice by two is six times as fast as once by four
            picture = cv2.resize(picture, (2 * columns, 2 * rows), interpolation=cv2.INTER_AREA)
        return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Many ribbons in one array: `points` and unit `normals` (n, 2), `radius` and `value` (n,); sample i and the next
    belong to one ribbon for each i of `links`.
    """

    points: Floats
    normals: Floats
    radius: Floats
    value: Floats
    links: NDArray[np.int64]


def strokes_of(points: Floats, radius: Floats, value: Floats, counts: NDArray[np.int64]) -> Strokes:
    """Ribbons laid end to end in arrays of (n, 2), (n,) and (n,); `counts` are the samples of each ribbon.

    Samples that add nothing to be seen are left out.
    """
    lines = Polylines.of(counts)
    samples = np.column_stack([points, radius, 4 * value, lines.normals(points)])
    for _ in range(2):
        samples, lines = _sparser(samples, lines)
    return Strokes(samples[:, :2], samples[:, 4:], samples[:, 2], samples[:, 3] / 4, lines.links())


def _sparser(samples: Floats, lines: Polylines) -> tuple[Floats, Polylines]:
    """Every other sample is left out where place, radius and value run straight there."""
    off = np.zeros(len(samples))
    off[1:-1] = np.abs(samples[1:-1, :4] - (samples[:-2, :4] + samples[2:, :4]) / 2).max(axis=1)
    inner = (lines.along % 2 == 1) & (np.arange(len(samples)) < lines.last)
    keep = ~inner | (off > _STRAIGHT)
    return samples[keep], Polylines.of(np.bincount(np.cumsum(lines.along == 0)[keep] - 1))
