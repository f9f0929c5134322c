"""The field of view: where on the sensor the retina was seen.

A fundus camera draws a disc of light on black; most cut it (RetCam above and below, HRF above and below,
others at one side), and some photographs are cropped inside it. The field gives every later step its scale:
a vein, a disc or a ridge has about the same size in units of the field's radius whatever the pixel count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.read import Pixels

_WORK_SIDE = 320  # pixels of the longest side at which the field is sought
_HELD = 0.93  # share of the lit region that a field's circle must hold
_DEEP = 0.02  # radii by which a straight cut must lie inside the circle
_NOTCH = 0.35  # share of the circle's width below which a lit line beyond a cut is a camera's notch
_STRAIGHT = 0.8  # share of the circle's width there that a straight cut must have
_INSIDE = 0.97  # share of lit pixels above which the photograph lies wholly inside the field


@dataclass(frozen=True, slots=True)
class Field:
    """A circle in the photograph, possibly running over its edges, and the straight cuts of a camera that shows less of it.

    `row`, `column` (centre) and `radius` are in its pixels, 0-based; `shape` is (rows, columns). `found` is
    False where no rim was seen: then the circle is the one through the corners (a photograph cropped inside
    the field). `lit_share` is the share of the circle's visible part that is not black. `cut` is (first row, end row, first
    column, end column) of the rectangle that the camera let through, as edges of pixels; without a cut, the photograph's own.
    """

    row: float
    column: float
    radius: float
    shape: tuple[int, int]
    found: bool
    lit_share: float
    cut: tuple[float, float, float, float] | None = None

    def mask(self, shape: tuple[int, int] | None = None, shrink: float = 0.0) -> NDArray[np.bool_]:
        """Return which pixels were lit, (rows, columns): inside the circle and inside the cut.

        `shape` asks for another size; `shrink`, in radii, leaves out the rim along circle and cut.
        """
        rows, columns = shape or self.shape
        r = (np.arange(rows) + 0.5) * (self.shape[0] / rows)  # edges lie at whole numbers here, centres at halves
        c = (np.arange(columns) + 0.5) * (self.shape[1] / columns)
        inside = (r[:, None] - 0.5 - self.row) ** 2 + (c[None, :] - 0.5 - self.column) ** 2
        circle = inside <= (self.radius * (1 - shrink)) ** 2
        return circle if self.cut is None else circle & _within_cut(self.cut, self.shape, r, c, shrink * self.radius)

    def enlarged(self, factor: int, shape: tuple[int, int]) -> Field:
        """Return the field in a file of `shape`, `factor` of whose pixels along each side make one of this field's."""
        if factor == 1:
            return self
        row, column = (self.row + 0.5) * factor - 0.5, (self.column + 0.5) * factor - 0.5
        cut = self.cut
        if cut is not None:
            limits = (shape[0], shape[0], shape[1], shape[1])
            top, bottom, left, right = (min(edge * factor, limit) for edge, limit in zip(cut, limits, strict=True))
            cut = (top, bottom, left, right)
        return replace(self, row=row, column=column, radius=self.radius * factor, shape=shape, cut=cut)

    @property
    def visible_share(self) -> float:
        """Share of the whole circle that lies on the photograph, 0 to 1."""
        rows, columns = self.shape
        at = (np.arange(128) + 0.5) / 64 - 1  # across the circle, in radii
        row, half = self.row + at * self.radius, np.sqrt(1 - at**2) * self.radius
        chord = np.minimum(self.column + half, columns) - np.maximum(self.column - half, 0)
        on_photograph = (row >= 0) & (row <= rows) & (chord > 0)
        return float(min(1.0, np.sum(chord[on_photograph]) / np.sum(2 * half)))


def _within_cut(
    cut: tuple[float, float, float, float], shape: tuple[int, int], r: NDArray[Any], c: NDArray[Any], margin: float
) -> NDArray[np.bool_]:
    """Return which places (rows r, columns c) lie inside a cut by `margin`; the photograph's own edges have no margin."""
    top, bottom, left, right = cut
    inner_rows = (r >= top + margin * (top > 0)) & (r <= bottom - margin * (bottom < shape[0]))
    inner_columns = (c >= left + margin * (left > 0)) & (c <= right - margin * (right < shape[1]))
    return inner_rows[:, None] & inner_columns[None, :]


def find_field(pixels: Pixels) -> Field:
    """The field of view of an RGB photograph (rows, columns, 3), uint8."""
    rows, columns = pixels.shape[:2]
    scale = min(1.0, _WORK_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = shrunk(pixels, size[::-1]) if scale < 1 else pixels
    lit, contour = _lit(small)
    circle = _circle_of(lit, contour) if lit.mean() < _INSIDE else None
    if circle is None:
        centre, radius, found = ((rows - 1) / 2, (columns - 1) / 2), float(np.hypot(rows, columns) / 2), False
    else:
        step = np.array([rows / size[1], columns / size[0]])
        at = (np.array(circle[:2]) + 0.5) * step - 0.5
        centre, radius, found = (float(at[0]), float(at[1])), circle[2] * float(step.mean()), True
    field = Field(*centre, radius, (rows, columns), found, 1.0)
    inside = field.mask(lit.shape)
    share = np.count_nonzero(lit & inside) / max(1, np.count_nonzero(inside))
    cut = None if circle is None else _cut_of(lit, circle)
    if cut is not None:
        high, wide = rows / size[1], columns / size[0]
        cut = (cut[0] * high, cut[1] * high, cut[2] * wide, cut[3] * wide)
    return Field(*centre, radius, (rows, columns), found, share, cut)


def _cut_of(lit: NDArray[np.bool_], circle: tuple[float, float, float]) -> tuple[float, float, float, float] | None:
    """Return the rectangle (edges of pixels: first row, end row, first column, end column) that straight cuts leave, or None.

    A side is cut where the lit region ends well inside the circle, in a straight line about as long as the circle is wide
    there. What little is lit beyond that line is the notch by which some cameras show which way is up.
    """
    row, column, radius = circle
    edges: list[float] = []
    for axis, (centre, other) in enumerate(((row, column), (column, row))):
        length = lit.shape[axis]
        counts = cv2.reduce(lit.view(np.uint8), 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        chords = _visible_chords(radius, np.arange(length) - centre, other, lit.shape[1 - axis])
        full = counts >= _STRAIGHT * chords
        held = np.flatnonzero(counts)
        first, last = int(held[0]), int(held[-1])
        for outermost, step, edge in ((first, 1, 0.0), (last, -1, float(length))):
            place = _full_line(outermost, step, full, counts <= _NOTCH * chords)
            if place is None:
                edges.append(edge)
                continue
            at_frame = place <= 1 if step > 0 else place >= length - 2
            cut = not at_frame and radius - abs(place - centre) > max(2.0, _DEEP * radius)
            edges.append((place + 1.0 if step > 0 else float(place)) if cut else edge)
    top, bottom, left, right = edges
    whole = (top, left) == (0, 0) and (bottom, right) == lit.shape
    return None if whole else (top, bottom, left, right)


def _full_line(outermost: int, step: int, full: NDArray[np.bool_], scant: NDArray[np.bool_]) -> int | None:
    """Return the line where the lit region begins at its full width, going inwards from its `outermost` line; else None.

    Two pixels further in, past the blur of the edge, it must be `full`; lines further out may only be `scant`ly lit.
    """
    place = outermost
    while 0 <= (inner := place + 2 * step) < len(full):
        if not scant[place]:
            return place if full[inner] else None
        if full[inner] and not scant[place + step]:
            return place
        place += step
    return None


def _visible_chords(radius: float, offsets: NDArray[Any], centre: float, length: int) -> NDArray[np.float64]:
    """Return the lengths of a circle's chords at `offsets` from its centre, as far as they lie in 0..`length`."""
    half = np.sqrt(np.maximum(0.0, radius**2 - offsets**2))
    return np.maximum(0.0, np.minimum(centre + half, length) - np.maximum(centre - half, 0))


def shrunk(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    """A photograph at (rows, columns) = `shape`: halved by exact means while it can be, the rest bilinear.

    Bilinear weights between half and full size are nearly area means, and several times faster.
    """
    while pixels.shape[0] >= 2 * shape[0] and pixels.shape[1] >= 2 * shape[1]:
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        even = pixels[: half[1] * 2, : half[0] * 2]
        pixels = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)
    if pixels.shape[:2] == shape:
        return pixels
    return np.asarray(cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _lit(small: Pixels) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """The largest lit region, filled, brighter than the black that the camera leaves; and its contour."""
    red, green, blue = cv2.split(small)
    level = cv2.GaussianBlur(cv2.max(cv2.max(red, green), blue), (0, 0), 1.5)
    border = np.concatenate([level[:3].ravel(), level[-3:].ravel(), level[:, :3].ravel(), level[:, -3:].ravel()])
    dark, top = _percentile(border, 5), _percentile(level, 95)
    if dark > max(20.0, 0.3 * top):  # no black surround: the photograph lies inside its field
        return _whole(level.shape)
    # a tenth of the way from the surround to the brightest parts keeps dim rims, outside the sensor's noise
    mask = (level > max(dark + 0.1 * (top - dark), dark + 8, 14)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.zeros(level.shape, bool), np.zeros((0, 1, 2), np.int32)
    largest = max(contours, key=cv2.contourArea)
    filled = np.zeros(level.shape, np.uint8)
    cv2.drawContours(filled, [largest], -1, 1, thickness=cv2.FILLED)
    return filled.astype(bool), largest


def _whole(shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    rows, columns = shape[0] - 1, shape[1] - 1
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.int32)
    return np.ones(shape, bool), corners[:, None, :]


def _percentile(levels: NDArray[Any], share: float) -> float:
    """The grey level below which `share` percent lie, from a histogram: far faster than sorting."""
    counts = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel()
    return float(np.searchsorted(np.cumsum(counts), share / 100 * levels.size))


def _circle_of(lit: NDArray[np.bool_], contour: NDArray[Any]) -> tuple[float, float, float] | None:
    """(row, column, radius) of the circle through the region's round rim, or None when there is none."""
    if lit.mean() < 0.02:
        return None
    outline = np.zeros(lit.shape, np.uint8)
    cv2.polylines(outline, [cv2.convexHull(contour)], isClosed=True, color=1)
    rim = np.column_stack(np.divmod(np.flatnonzero(outline.view(np.bool_)), lit.shape[1])).astype(float)
    points = rim[_round_part(rim, lit.shape)]
    if len(points) < 24:
        return None
    circle = _robust_circle(points, limit=2.0 * max(lit.shape))
    return circle if circle is not None and _holds(circle, lit) else None


def _holds(circle: tuple[float, float, float], lit: NDArray[np.bool_]) -> bool:
    """Whether the circle is a field's: its centre on the photograph, and nearly all that is lit inside it."""
    row, column, radius = circle
    if not (0 <= row < lit.shape[0] and 0 <= column < lit.shape[1]):
        return False
    every_third = lit[::3, ::3]
    r, c = np.arange(0, lit.shape[0], 3) - row, np.arange(0, lit.shape[1], 3) - column
    inside = r[:, None] ** 2 + c[None, :] ** 2 <= (1.04 * radius + 1) ** 2
    return bool(np.count_nonzero(every_third & inside) >= _HELD * np.count_nonzero(every_third))


def _round_part(rim: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which rim points tell of the circle: none on the photograph's edge or a flat cut of the region."""
    low, high = rim.min(axis=0), rim.max(axis=0)
    free = np.ones(len(rim), bool)
    for axis, size in enumerate(shape):
        flat_low = np.sum(rim[:, axis] <= low[axis] + 1) > 0.25 * size or low[axis] <= 1
        flat_high = np.sum(rim[:, axis] >= high[axis] - 1) > 0.25 * size or high[axis] >= size - 2
        free &= ~((rim[:, axis] <= low[axis] + 2) & flat_low)
        free &= ~((rim[:, axis] >= high[axis] - 2) & flat_high)
    return free


def _robust_circle(points: NDArray[np.float64], limit: float) -> tuple[float, float, float] | None:
    """Algebraic circle fit (Kasa 1976), refitted five times on the points that lie near it."""
    keep = np.ones(len(points), bool)
    fit = None
    for _ in range(6):
        fit = _kasa(points[keep])
        if fit is None or fit[2] > limit:
            return None
        distance = np.abs(np.hypot(points[:, 0] - fit[0], points[:, 1] - fit[1]) - fit[2])
        near = distance <= max(1.5, 2.0 * float(np.median(distance)))
        if near.sum() < 24 or (near == keep).all():
            break
        keep = near
    return fit


def _kasa(points: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """(row, column, radius) of the least-squares circle, from the normal equations about the points' mean."""
    mean = points.mean(axis=0)
    x = points - mean
    squared = (x**2).sum(axis=1)
    (a, b), (_, d) = x.T @ x
    determinant = a * d - b * b
    if determinant <= 1e-9 * max(1.0, a * d):  # all on one line
        return None
    p, q = x.T @ squared / 2
    row, column = (d * p - b * q) / determinant, (a * q - b * p) / determinant
    radius = float(np.sqrt(squared.mean() + row**2 + column**2))
    return float(mean[0] + row), float(mean[1] + column), radius
