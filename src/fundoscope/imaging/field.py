"""The field of view: where on the sensor the retina was seen.

A fundus camera draws a disc of light on black; most cut it (RetCam above and below, HRF above and below, others at
one side), and some photographs are cropped inside it. The field gives every later step its scale: a vein, a disc or
a ridge has about the same size in units of the field's radius whatever the camera's pixel count.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.read import Pixels

_WORK_SIDE = 320  # pixels of the longest side at which the field is sought
_INSIDE = 0.97  # share of lit pixels above which the photograph lies wholly inside the field


@dataclass(frozen=True, slots=True)
class Field:
    """A circle in the photograph, possibly running over its edges.

    `row`, `column` (centre) and `radius` are in pixels of the photograph, 0-based; `shape` is (rows, columns).
    `found` is False where no rim was seen: then the circle is the one through the corners (a photograph
    cropped inside the field). `lit` is the share of the circle's visible part that is not black.
    """

    row: float
    column: float
    radius: float
    shape: tuple[int, int]
    found: bool
    lit: float

    def mask(self, shape: tuple[int, int] | None = None, shrink: float = 0.0) -> NDArray[np.bool_]:
        """Pixels inside the circle, (rows, columns); `shape` asks for another resolution, `shrink` is in radii."""
        rows, columns = shape or self.shape
        scale = np.array([rows / self.shape[0], columns / self.shape[1]])
        r = (np.arange(rows) + 0.5) / scale[0] - 0.5 - self.row
        c = (np.arange(columns) + 0.5) / scale[1] - 0.5 - self.column
        return r[:, None] ** 2 + c[None, :] ** 2 <= (self.radius * (1 - shrink)) ** 2

    @property
    def seen(self) -> float:
        """Share of the whole circle that lies on the photograph, 0 to 1."""
        small = self.mask((160, max(1, round(160 * self.shape[1] / self.shape[0]))))
        area = small.mean() * self.shape[0] * self.shape[1]
        return float(min(1.0, area / (np.pi * self.radius**2)))


def find_field(pixels: Pixels) -> Field:
    """The field of view of an RGB photograph (rows, columns, 3), uint8."""
    rows, columns = pixels.shape[:2]
    scale = min(1.0, _WORK_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    lit = _lit(small)
    circle = _circle_of(lit) if lit.mean() < _INSIDE else None
    if circle is None:
        centre, radius, found = ((rows - 1) / 2, (columns - 1) / 2), float(np.hypot(rows, columns) / 2), False
    else:
        step = np.array([rows / size[1], columns / size[0]])
        at = (np.array(circle[:2]) + 0.5) * step - 0.5
        centre, radius, found = (float(at[0]), float(at[1])), circle[2] * float(step.mean()), True
    field = Field(*centre, radius, (rows, columns), found, 1.0)
    inside = field.mask(lit.shape)
    share = float(lit[inside].mean()) if inside.any() else 0.0
    return Field(*centre, radius, (rows, columns), found, share)


def _lit(small: Pixels) -> NDArray[np.bool_]:
    """The largest lit region, filled: brighter than the surround that the camera leaves black."""
    level = cv2.GaussianBlur(small.max(axis=2), (0, 0), 1.5)
    border = np.concatenate([level[:3].ravel(), level[-3:].ravel(), level[:, :3].ravel(), level[:, -3:].ravel()])
    dark = float(np.percentile(border, 5))
    top = float(np.percentile(level, 95))
    # a tenth of the way from the surround to the brightest parts keeps dim rims; never inside the sensor's noise
    mask = (level > max(dark + 0.1 * (top - dark), dark + 8, 14)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return np.zeros(level.shape, bool)
    largest = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    contours, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(largest, contours, -1, 1, thickness=cv2.FILLED)
    return largest.astype(bool)


def _circle_of(lit: NDArray[np.bool_]) -> tuple[float, float, float] | None:
    """(row, column, radius) of the circle through the region's round rim, or None when there is none."""
    rows, columns = lit.shape
    if lit.mean() < 0.02:
        return None
    hull = cv2.convexHull(np.argwhere(lit).astype(np.int32)[:, None, ::-1], returnPoints=True)[:, 0, ::-1]
    outline = np.zeros(lit.shape, np.uint8)
    cv2.polylines(outline, [hull[:, None, ::-1]], isClosed=True, color=1)
    rim = np.argwhere(outline).astype(float)
    # flat cuts tell nothing about the circle: leave out what lies on the photograph's edge, or on the outermost
    # rows and columns of the region
    low, high = rim.min(axis=0), rim.max(axis=0)
    free = np.ones(len(rim), bool)
    for axis, size in ((0, rows), (1, columns)):
        flat_low = np.sum(rim[:, axis] <= low[axis] + 1) > 0.25 * size or low[axis] <= 1
        flat_high = np.sum(rim[:, axis] >= high[axis] - 1) > 0.25 * size or high[axis] >= size - 2
        free &= ~((rim[:, axis] <= low[axis] + 2) & flat_low)
        free &= ~((rim[:, axis] >= high[axis] - 2) & flat_high)
    points = rim[free]
    if len(points) < 24:
        return None
    return _robust_circle(points, limit=2.0 * max(rows, columns))


def _robust_circle(points: NDArray[np.float64], limit: float) -> tuple[float, float, float] | None:
    """Algebraic circle fit (Kasa 1976), refitted five times on the points that lie near it."""
    keep = np.ones(len(points), bool)
    fit = None
    for _ in range(6):
        inside = points[keep]
        matrix = np.column_stack([inside, np.ones(len(inside))])
        solution, *_ = np.linalg.lstsq(matrix, (inside**2).sum(axis=1), rcond=None)
        row, column = solution[0] / 2, solution[1] / 2
        squared = solution[2] + row**2 + column**2
        if not np.isfinite(squared) or squared <= 0 or squared > limit**2:
            return None
        fit = (float(row), float(column), float(np.sqrt(squared)))
        distance = np.abs(np.hypot(points[:, 0] - row, points[:, 1] - column) - fit[2])
        near = distance <= max(1.5, 2.0 * float(np.median(distance)))
        if near.sum() < 24 or (near == keep).all():
            break
        keep = near
    return fit
