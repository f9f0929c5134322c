"""A vessel's own coordinates in a photograph: how far along its course a pixel lies, and how far beside it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import KDTree

from fundoscope.vessels.graph import Centreline, arc_length

Floats = NDArray[np.float64]
Plane = NDArray[np.float32]

POINTS_PER_WIDTH = 10  # points of a course in one vessel width
_GRID_PER_WIDTH = 4  # places in one vessel width where coordinates are computed before they are interpolated
_SAMPLES_ACROSS = 16  # in one vessel width
_MAX_OFFSET = 0.4  # vessel widths: a map's centreline is off by no more


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A vessel's centreline at even steps: `points` (n, 2; row, column), `way` (n,) the distance along it from the
    crossing in pixels, and `width` of the vessel in pixels.
    """

    points: Floats
    way: Floats
    width: float

    @classmethod
    def of(cls, centreline: Centreline, at: Floats, width: float) -> Course:
        """The course along a centreline; `way` is zero at its point nearest to `at` (row, column)."""
        return cls._evenly_spaced(centreline.points, at, width)

    @classmethod
    def _evenly_spaced(cls, line: Floats, at: Floats, width: float) -> Course:
        length = arc_length(line)
        n = max(8, round(length[-1] * POINTS_PER_WIDTH / width))
        steps = np.linspace(0, length[-1], n)
        points = np.column_stack([np.interp(steps, length, line[:, k]) for k in (0, 1)])
        points = _smoothed(points, 0.3 * POINTS_PER_WIDTH)
        nearest = int(np.hypot(*(points - at).T).argmin())
        run = points[min(nearest + 1, n - 1)] - points[max(nearest - 1, 0)]
        way = arc_length(points)
        beyond = float((at - points[nearest]) @ run) / float(np.hypot(*run))
        return cls(points, way - way[nearest] - beyond, width)

    @property
    def tangents(self) -> Floats:
        """Unit tangents (n, 2; row, column)."""
        run = np.gradient(self.points, axis=0)
        return run / np.maximum(np.hypot(run[:, 0], run[:, 1]), 1e-9)[:, None]

    @property
    def normals(self) -> Floats:
        """Unit normals (n, 2): the tangents turned by a right angle."""
        return self.tangents @ np.array([[0.0, 1.0], [-1.0, 0.0]])

    def direction_at_crossing(self) -> Floats:
        """Unit direction (2,) of the vessel over two widths to each side of the crossing."""
        near = np.abs(self.way) <= 2 * self.width
        run = self.points[near][-1] - self.points[near][0]
        return run / max(float(np.hypot(*run)), 1e-9)

    def drawn(self, shape: tuple[int, int], width: float) -> NDArray[np.bool_]:
        """Mask (rows, columns) of the pixels nearer than half of `width` to the course."""
        line = np.round(self.points[:, ::-1] * 16).astype(np.int32)
        canvas = np.zeros(shape, np.uint8)
        cv2.polylines(canvas, [line], False, 1, max(1, round(width)), shift=4)
        return canvas.astype(bool)

    def coordinates(self, shape: tuple[int, int]) -> tuple[Plane, Plane]:
        """Distances along and beside the course of each pixel of a picture, (rows, columns) each, in pixels.

        Beyond its ends the course goes straight on. The distances are computed at every few pixels and interpolated, since
        they change slowly.
        """
        step = max(1, int(self.width / _GRID_PER_WIDTH))
        small = (-(-shape[0] // step), -(-shape[1] // step))
        rows, columns = np.mgrid[: small[0], : small[1]] * step + (step - 1) / 2
        pixels = np.column_stack([rows.ravel(), columns.ravel()])
        _, nearest = KDTree(self.points).query(pixels)
        offset = pixels - self.points[nearest]
        along = self.way[nearest] + (offset * self.tangents[nearest]).sum(axis=1)
        beside = (offset * self.normals[nearest]).sum(axis=1)
        return _enlarged(along, small, step, shape), _enlarged(beside, small, step, shape)

    def straightened(self, picture: Plane, reach: float) -> Plane:
        """The picture (rows, columns[, channels]) sampled along the course: (n, m[, channels]), one row a point of the
        course, the columns at `offsets(reach)` beside it.
        """
        places = self.points[:, None] + self.offsets(reach)[None, :, None] * self.normals[:, None]
        rows, columns = np.moveaxis(places.astype(np.float32), 2, 0)
        straight = cv2.remap(picture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(straight, np.float32)

    def offsets(self, reach: float) -> Floats:
        """Distances (m,) beside the course, up to `reach` vessel widths to each side, in pixels."""
        last = round(reach * _SAMPLES_ACROSS)
        return np.arange(-last, last + 1).astype(np.float64) * (self.width / _SAMPLES_ACROSS)

    def bent_back(self, straight: Plane, along: Plane, beside: Plane, reach: float) -> Plane:
        """The inverse of `straightened`: (rows, columns[, channels]) for pixels with the coordinates `along` and `beside`."""
        columns = (beside / self.width + reach) * _SAMPLES_ACROSS
        rows = np.interp(along, self.way, np.arange(len(self.way))).astype(np.float32)
        bent = cv2.remap(straight, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(bent, np.float32)

    def centred(self, plane: Plane, hidden: NDArray[np.bool_], at: Floats) -> Course:
        """The course moved to the middle of the dark band along it in `plane` (rows, columns), by at most 0.4 widths.

        Where another vessel hides the band (`hidden`, rows, columns), the shift is that of its surroundings. `at` (row,
        column) is the crossing.
        """
        bands = self.straightened(plane, 1.3)
        known = self.straightened(1 - hidden.astype(np.float32), 0.2).mean(axis=1) > 0.9
        offsets = self.offsets(1.3)
        outer = np.abs(offsets) > 0.9 * self.width
        dark = np.clip(bands[:, outer].mean(axis=1, keepdims=True) - bands, 0, None) ** 2
        dark *= np.exp(-0.5 * (offsets / (0.5 * self.width)) ** 2)
        shift = (dark @ offsets) / np.maximum(dark.sum(axis=1), 1e-6) * known
        weight = _smoothed(known.astype(float)[:, None], 0.8 * POINTS_PER_WIDTH)
        shift = _smoothed(shift[:, None], 0.8 * POINTS_PER_WIDTH) / np.maximum(weight, 1e-3)
        limit = _MAX_OFFSET * self.width
        return self._evenly_spaced(self.points + np.clip(shift, -limit, limit) * self.normals, at, self.width)


def _enlarged(values: Floats, small: tuple[int, int], step: int, shape: tuple[int, int]) -> Plane:
    """Values at every `step` pixels, interpolated to a picture of `shape`."""
    plane = values.reshape(small).astype(np.float32)
    if step == 1:
        return plane
    large = cv2.resize(plane, (small[1] * step, small[0] * step), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[: shape[0], : shape[1]], np.float32)


def _smoothed(columns: Floats, deviation: float) -> Floats:
    return gaussian_filter1d(columns, deviation, axis=0, mode="nearest")
