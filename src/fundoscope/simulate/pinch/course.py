"""A vessel's own coordinates in a photograph: how far along its course a pixel lies, and how far beside it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.vessels.graph import Centreline, arc_length

Floats = NDArray[np.float64]
Plane = NDArray[np.float32]

_FINENESS = 10  # samples of a course in one vessel width
_COARSENESS = 4  # pixels at which coordinates are worked out in one vessel width
_BESIDE = 16  # samples across in one vessel width
_ASIDE = 0.4  # vessel widths: a map's centreline is off by no more


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A centreline by even steps: `points` (n, 2; row, column), `way` (n,) pixels along it from the crossing, `width`
    of the vessel in pixels.
    """

    points: Floats
    way: Floats
    width: float

    @classmethod
    def of(cls, strand: Centreline, at: Floats, width: float) -> Course:
        """The course of a strand; `way` is zero at its point nearest to `at`."""
        return cls._even(strand.points, at, width)

    @classmethod
    def _even(cls, line: Floats, at: Floats, width: float) -> Course:
        length = arc_length(line)
        n = max(8, round(length[-1] * _FINENESS / width))
        steps = np.linspace(0, length[-1], n)
        points = np.column_stack([np.interp(steps, length, line[:, k]) for k in (0, 1)])
        points = _softened(points, 0.3 * _FINENESS)
        here = int(np.hypot(*(points - at).T).argmin())
        run = points[min(here + 1, n - 1)] - points[max(here - 1, 0)]
        way = arc_length(points)
        return cls(points, way - way[here] - float((at - points[here]) @ run) / float(np.hypot(*run)), width)

    @property
    def headings(self) -> Floats:
        """Unit tangents (n, 2; row, column)."""
        run = np.gradient(self.points, axis=0)
        return run / np.maximum(np.hypot(run[:, 0], run[:, 1]), 1e-9)[:, None]

    @property
    def normals(self) -> Floats:
        """Unit normals (n, 2): the tangents turned by a right angle."""
        return self.headings @ np.array([[0.0, 1.0], [-1.0, 0.0]])

    def heading(self) -> Floats:
        """Unit tangent at the crossing, over two widths each way."""
        near = np.abs(self.way) <= 2 * self.width
        run = self.points[near][-1] - self.points[near][0]
        return run / max(float(np.hypot(*run)), 1e-9)

    def drawn(self, shape: tuple[int, int], width: float) -> NDArray[np.bool_]:
        """Pixels (rows, columns) nearer than half of `width` to the course."""
        line = np.round(self.points[:, ::-1] * 16).astype(np.int32)
        canvas = np.zeros(shape, np.uint8)
        cv2.polylines(canvas, [line], False, 1, max(1, round(width)), shift=4)
        return canvas.astype(bool)

    def coordinates(self, shape: tuple[int, int]) -> tuple[Plane, Plane]:
        """Pixels along and beside the course, (rows, columns) each, straight on beyond its ends.

        Worked out on every few pixels and interpolated, since they change slowly.
        """
        from scipy.spatial import KDTree

        step = max(1, int(self.width / _COARSENESS))
        small = (-(-shape[0] // step), -(-shape[1] // step))
        rows, columns = np.mgrid[: small[0], : small[1]] * step + (step - 1) / 2
        pixels = np.column_stack([rows.ravel(), columns.ravel()])
        _, nearest = KDTree(self.points).query(pixels)
        away = pixels - self.points[nearest]
        ahead = self.way[nearest] + (away * self.headings[nearest]).sum(axis=1)
        beside = (away * self.normals[nearest]).sum(axis=1)
        return _enlarged(ahead, small, step, shape), _enlarged(beside, small, step, shape)

    def straightened(self, picture: Plane, reach: float) -> Plane:
        """`picture` (rows, columns[, channels]) laid out by the course: (n, m[, channels]), `offsets(reach)` beside it."""
        places = self.points[:, None] + self.offsets(reach)[None, :, None] * self.normals[:, None]
        rows, columns = np.moveaxis(places.astype(np.float32), 2, 0)
        straight = cv2.remap(picture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(straight, np.float32)

    def offsets(self, reach: float) -> Floats:
        """Pixels beside the course of the columns of what is `straightened`, up to `reach` widths each way."""
        last = round(reach * _BESIDE)
        return np.arange(-last, last + 1).astype(np.float64) * (self.width / _BESIDE)

    def bent_back(self, straight: Plane, ahead: Plane, beside: Plane, reach: float) -> Plane:
        """The inverse of `straightened`: (rows, columns[, channels]) for pixels at those `coordinates`."""
        columns = (beside / self.width + reach) * _BESIDE
        rows = np.interp(ahead, self.way, np.arange(len(self.way))).astype(np.float32)
        bent = cv2.remap(straight, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(bent, np.float32)

    def centred(self, plane: Plane, hidden: NDArray[np.bool_], at: Floats) -> Course:
        """The course moved to the middle of the dark band that it follows in `plane`, (rows, columns).

        `hidden` (rows, columns) are pixels that say nothing of it: those of a vessel that runs across.
        """
        bands = self.straightened(plane, 1.3)
        known = self.straightened(1 - hidden.astype(np.float32), 0.2).mean(axis=1) > 0.9
        aside = self.offsets(1.3)
        outer = np.abs(aside) > 0.9 * self.width
        dark = np.clip(bands[:, outer].mean(axis=1, keepdims=True) - bands, 0, None) ** 2
        dark *= np.exp(-0.5 * (aside / (0.5 * self.width)) ** 2)
        shift = (dark @ aside) / np.maximum(dark.sum(axis=1), 1e-6) * known
        weight = _softened(known.astype(float)[:, None], 0.8 * _FINENESS)
        shift = _softened(shift[:, None], 0.8 * _FINENESS) / np.maximum(weight, 1e-3)
        limit = _ASIDE * self.width
        return self._even(self.points + np.clip(shift, -limit, limit) * self.normals, at, self.width)


def _enlarged(values: Floats, small: tuple[int, int], step: int, shape: tuple[int, int]) -> Plane:
    plane = values.reshape(small).astype(np.float32)
    if step == 1:
        return plane
    large = cv2.resize(plane, (small[1] * step, small[0] * step), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[: shape[0], : shape[1]], np.float32)


def _softened(columns: Floats, deviation: float) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(columns, deviation, axis=0, mode="nearest")
