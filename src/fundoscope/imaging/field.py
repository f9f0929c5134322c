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

from fundoscope.imaging.borders import darken_paper, find_frame, is_pale
from fundoscope.imaging.circles import holds, robust_circle, round_part
from fundoscope.imaging.montage import count_fields
from fundoscope.imaging.read import Pixels

_WORK_SIDE = 320  # pixels of the longest side at which the field is sought
_HELD = 0.93  # share of the lit region that a field's circle must hold
_DEEP = 0.02  # radii by which a straight cut must lie inside the circle
_NOTCH = 0.35  # share of the circle's width below which a lit line beyond a cut is a camera's notch
_STRAIGHT = 0.8  # share of the circle's width there that a straight cut must have
_SPECK = 0.05  # share of the largest lit region below which another is a logo or a reflex
_INSIDE = 0.97  # share of lit pixels above which the photograph lies wholly inside the field


Rectangle = tuple[float, float, float, float]  # first row, end row, first column, end column, as edges of pixels


@dataclass(frozen=True, slots=True)
class Field:
    """A circle in the photograph, possibly running over its edges, and the straight cuts of a camera that shows less of it.

    `row`, `column` (centre) and `radius` are in its pixels, 0-based; `shape` is (rows, columns). `found` is
    False where no rim was seen: then the circle is the one through the corners (a photograph cropped inside
    the field). `lit_share` is the share of the circle's visible part that is not black. `cut` is (first row, end row, first
    column, end column) of the rectangle that the camera let through, as edges of pixels; without a cut, the photograph's own.
    `frame` is the rectangle, alike, inside a bright frame around the photograph; None without a frame. `count` is how many
    fields of view the picture shows. `bright_border` is True where something bright around the photograph hides its rim, or paper reaches up to it.
    """

    row: float
    column: float
    radius: float
    shape: tuple[int, int]
    found: bool
    lit_share: float
    cut: Rectangle | None = None
    frame: Rectangle | None = None
    count: int = 1
    bright_border: bool = False

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
        cut, frame = (None if r is None else _scale_rectangle(r, factor, shape) for r in (self.cut, self.frame))
        return replace(self, row=row, column=column, radius=self.radius * factor, shape=shape, cut=cut, frame=frame)

    @property
    def visible_share(self) -> float:
        """Share of the whole circle that lies on the photograph, 0 to 1."""
        top, bottom, left, right = self.frame or (0, self.shape[0], 0, self.shape[1])
        at = (np.arange(128) + 0.5) / 64 - 1  # across the circle, in radii
        row, half = self.row + at * self.radius, np.sqrt(1 - at**2) * self.radius
        chord = np.minimum(self.column + half, right) - np.maximum(self.column - half, left)
        on_photograph = (row >= top) & (row <= bottom) & (chord > 0)
        return float(min(1.0, np.sum(chord[on_photograph]) / np.sum(2 * half)))


def _within_cut(
    cut: Rectangle, shape: tuple[int, int], r: NDArray[Any], c: NDArray[Any], margin: float
) -> NDArray[np.bool_]:
    """Return which places (rows r, columns c) lie inside a cut by `margin`; the photograph's own edges have no margin."""
    top, bottom, left, right = cut
    inner_rows = (r >= top + margin * (top > 0)) & (r <= bottom - margin * (bottom < shape[0]))
    inner_columns = (c >= left + margin * (left > 0)) & (c <= right - margin * (right < shape[1]))
    return inner_rows[:, None] & inner_columns[None, :]


def _scale_rectangle(rectangle: Rectangle, factor: float, shape: tuple[int, int]) -> Rectangle:
    limits = (shape[0], shape[0], shape[1], shape[1])
    top, bottom, left, right = (min(edge * factor, limit) for edge, limit in zip(rectangle, limits, strict=True))
    return top, bottom, left, right


def find_field(pixels: Pixels) -> Field:
    """The field of view of an RGB photograph (rows, columns, 3), uint8; a bright frame around it is no part of it."""
    frame = find_frame(pixels)
    if frame is None:
        return _seek_field(pixels)
    top, bottom, left, right = frame
    field = _seek_field(pixels[top:bottom, left:right])
    first, end, start, stop = field.cut or (0, bottom - top, 0, right - left)
    return replace(
        field, row=field.row + top, column=field.column + left, shape=(pixels.shape[0], pixels.shape[1]),
        cut=(first + top, end + top, start + left, stop + left) if field.found else None,
        frame=(float(top), float(bottom), float(left), float(right)), bright_border=field.bright_border or not field.found,
    )  # fmt: skip


def _seek_field(pixels: Pixels) -> Field:
    rows, columns = pixels.shape[:2]
    scale = min(1.0, _WORK_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = shrunk(pixels, size[::-1]) if scale < 1 else pixels
    level, paper = darken_paper(small)
    lit, contour, regions = _lit(level)
    share = np.count_nonzero(lit) / lit.size
    circle = _circle_of(lit, contour, share) if share < _INSIDE else None
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
    hidden = paper or (not found and is_pale(small))  # on paper a ball of any kind is as round as a field
    return replace(field, lit_share=share, cut=cut, count=count_fields(regions), bright_border=hidden)


def _cut_of(lit: NDArray[np.bool_], circle: tuple[float, float, float]) -> Rectangle | None:
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


def _lit(level: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.uint8]]:
    """The largest lit region, filled, brighter than the black that the camera leaves; its contour; all lit regions, filled."""
    level = np.asarray(cv2.GaussianBlur(level, (0, 0), 1.5), np.uint8)
    border = np.concatenate([level[:3].ravel(), level[-3:].ravel(), level[:, :3].ravel(), level[:, -3:].ravel()])
    dark, top = _percentile(border, 5), _percentile(level, 95)
    if dark > max(20.0, 0.3 * top):  # no black surround: the photograph lies inside its field
        return _whole(level.shape)
    # a tenth of the way from the surround to the brightest parts keeps dim rims, outside the sensor's noise
    mask = (level > max(dark + 0.1 * (top - dark), dark + 8, 14)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(level.shape, np.uint8)
    if not contours:
        return filled.astype(bool), np.zeros((0, 1, 2), np.int32), filled
    areas = [cv2.contourArea(contour) for contour in contours]
    largest = contours[int(np.argmax(areas))]
    cv2.drawContours(filled, [largest], -1, 1, thickness=cv2.FILLED)
    others = [c for c, area in zip(contours, areas, strict=True) if c is not largest and area > _SPECK * max(areas)]
    regions = cv2.drawContours(filled.copy(), others, -1, 1, thickness=cv2.FILLED) if others else filled
    return filled.astype(bool), largest, np.asarray(regions, np.uint8)


def _whole(shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.uint8]]:
    rows, columns = shape[0] - 1, shape[1] - 1
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.int32)
    return np.ones(shape, bool), corners[:, None, :], np.ones(shape, np.uint8)


def _percentile(levels: NDArray[Any], share: float) -> float:
    """The grey level below which `share` percent lie, from a histogram: far faster than sorting."""
    counts = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel()
    return float(np.searchsorted(np.cumsum(counts), share / 100 * levels.size))


def _circle_of(lit: NDArray[np.bool_], contour: NDArray[Any], share: float) -> tuple[float, float, float] | None:
    """(row, column, radius) of the circle through the region's round rim, or None when there is none; `share` of all is lit."""
    if share < 0.02:
        return None
    outline = np.zeros(lit.shape, np.uint8)
    cv2.polylines(outline, [cv2.convexHull(contour)], isClosed=True, color=1)
    rim = np.column_stack(np.divmod(np.flatnonzero(outline.view(np.bool_)), lit.shape[1])).astype(float)
    points = rim[round_part(rim, lit.shape)]
    if len(points) < 24:
        return None
    circle = robust_circle(points, limit=2.0 * max(lit.shape))
    return circle if circle is not None and holds(circle, lit, _HELD) else None
