"""`Prepared`: one photograph, read once, with its field of view found once; every smaller picture of it comes from here.

Quality, network input, vessel maps, controls and audits ask the same object, so that nothing is sought or resampled twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.field import Field, find_field, shrunk
from fundoscope.imaging.read import Photograph, Pixels, read
from fundoscope.imaging.sources import Source, load_source, name_of
from fundoscope.stopwatch import stage

#: Share of the circle's radius that a square shows: the rim beyond is the camera's, not the eye's.
INSIDE_RIM = 0.985

#: Side in pixels of the square on which quality is judged, whatever the network's.
JUDGED_SIDE = 256

#: Pixels of the decoded field for each of the square's, along a side, below which a JPEG is not reduced.
OVERSAMPLING = 1.75

_HALVED = 4  # times the wanted size from which a photograph is halved before the last step
_SAME_SIZE = 0.03  # relative difference of size below which resampling would only blur
_WHOLE_RIM = 0.02  # share of the radius where the camera's own edge darkens the photograph


@dataclass(frozen=True, slots=True)
class Frame:
    """Position of a standard square in its photograph: upper left corner and side, in the photograph's pixels."""

    row: float
    column: float
    side: float

    @classmethod
    def around(cls, field: Field) -> Frame:
        """Return the square around the field's circle, or around the whole photograph where no rim was found."""
        rows, columns = field.shape
        half = field.radius if field.found else max(rows, columns) / 2
        return cls(field.row + 0.5 - half, field.column + 0.5 - half, 2 * half)

    def to_photograph(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Return positions (n, 2; row, column) in the photograph of positions in a square of `size` pixels."""
        return (np.asarray(points, float) + 0.5) * (self.side / size) - 0.5 + [self.row, self.column]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A photograph and its field of view; squares that were asked for before are not made again."""

    photograph: Photograph
    field: Field
    _squares: dict[int, Pixels] = attribute(default_factory=dict, repr=False)

    @classmethod
    def read(cls, source: Source, name: str | None = None, side: int | None = None) -> Prepared:
        """Read a photograph from whatever `imaging.read` takes, and find its field.

        Whoever needs only squares of at most `side` pixels says so: then a large JPEG is decoded at the largest reduction
        at which the field keeps `OVERSAMPLING` times as many pixels across. Raises `PhotographError` as `imaging.read` does.
        """
        name = name or name_of(source)
        source = load_source(source, name)  # a file may be read twice
        least = None if side is None else math.ceil(OVERSAMPLING * side)
        with stage("decode"):
            photograph = read(source, name, least_side=least)
        prepared = cls.from_photograph(photograph)
        diameter = 2 * prepared.field.radius
        if least is None or prepared.photograph.reduction == 1 or not prepared.field.found:
            return prepared
        if diameter / prepared.photograph.reduction >= least:
            return prepared
        # the field is smaller than the frame: the same rule, asked of the frame's shorter side
        shorter = math.ceil(least * min(prepared.shape) / diameter)
        with stage("decode"):
            return cls(read(source, name, least_side=shorter), prepared.field)

    @classmethod
    def from_photograph(cls, photograph: Photograph) -> Prepared:
        """Find the field of a photograph that was read already."""
        with stage("field"):
            return cls(photograph, find_field(photograph.pixels).enlarged(photograph.reduction, photograph.shape))

    @property
    def name(self) -> str:
        """Return the file as the caller named it."""
        return self.photograph.name

    @property
    def pixels(self) -> Pixels:
        """Return the pixels that were decoded, (rows, columns, 3), uint8, RGB: the file's own, or fewer by its `reduction`."""
        return self.photograph.pixels

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns) of the file."""
        return self.field.shape

    def square(self, side: int) -> Pixels:
        """Return the field as a square of `side` pixels, uint8, RGB, black where nothing of the eye was seen. Do not write to it."""
        if side not in self._squares:
            with stage("square"):
                self._squares[side] = cut_square(self.pixels, self.field, side, self.photograph.reduction)
        return self._squares[side]

    def whole(self, diameter: int) -> tuple[Pixels, NDArray[np.bool_]]:
        """Return the whole photograph with its field `diameter` pixels across, and the mask of the field in it.

        Pixels are (rows, columns, 3), uint8, RGB; the mask leaves out the dark rim. A size within 3 % is kept as it is.
        """
        return scale_whole(self.pixels, self.field, diameter, self.photograph.reduction)

    def inside(self, side: int, rim: float = 0.0) -> NDArray[np.bool_]:
        """Return which pixels of `square(side)` show the eye, (side, side); `rim`, in radii, is left out along every edge."""
        return square_mask(self.field, side, rim)


def cut_square(pixels: Pixels, field: Field, side: int, reduction: int = 1) -> Pixels:
    """Return the square around a field as (side, side, 3), area-averaged; black outside the field.

    One of `pixels` covers `reduction` of the file's along each side; `field` is in the file's.
    """
    frame = Frame.around(field)
    rows, columns = pixels.shape[:2]
    r0, r1, y0, y1 = _overlap(frame.row / reduction, frame.side / reduction, rows, side)
    c0, c1, x0, x1 = _overlap(frame.column / reduction, frame.side / reduction, columns, side)
    square = np.zeros((side, side, 3), np.uint8)
    if r1 > r0 and c1 > c0 and y1 > y0 and x1 > x0:
        square[y0:y1, x0:x1] = resize(pixels[r0:r1, c0:c1], y1 - y0, x1 - x0)
    if not field.found:
        return square
    if field.cut is not None:
        first_row, end_row, first_column, end_column = _cut_in_square(field, side)
        square[:first_row], square[end_row:] = 0, 0
        square[:, :first_column], square[:, end_column:] = 0, 0
    return np.asarray(cv2.bitwise_and(square, _disc(side)), np.uint8)


def square_mask(field: Field, side: int, rim: float = 0.0) -> NDArray[np.bool_]:
    """Return which pixels of a field's square of `side` pixels show the eye, (side, side); see `Prepared.inside`."""
    y0, y1, x0, x1 = square_extent(field, side)
    inside = np.zeros((side, side), np.uint8)
    inside[y0:y1, x0:x1] = 1
    if field.found:
        inside &= _disc(side)[..., 0] & 1
    width = round(rim * side / 2)
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.erode(inside, kernel, borderValue=0).astype(bool) if width else inside.astype(bool)


def square_extent(field: Field, side: int) -> tuple[int, int, int, int]:
    """Return the rows and columns of a field's square that photograph and cut leave: first row, end row, first column, end column."""
    frame = Frame.around(field)
    _, _, y0, y1 = _overlap(frame.row, frame.side, field.shape[0], side)
    _, _, x0, x1 = _overlap(frame.column, frame.side, field.shape[1], side)
    first_row, end_row, first_column, end_column = _cut_in_square(field, side)
    return max(y0, first_row), min(y1, end_row), max(x0, first_column), min(x1, end_column)


def _cut_in_square(field: Field, side: int) -> tuple[int, int, int, int]:
    """Return the field's cut as whole rows and columns of its square: first row, end row, first column, end column."""
    if field.cut is None:
        return 0, side, 0, side
    frame = Frame.around(field)
    scale = side / frame.side
    edges = [
        (edge - start) * scale
        for edge, start in zip(field.cut, (frame.row, frame.row, frame.column, frame.column), strict=True)
    ]
    top, bottom, left, right = (min(side, max(0, edge)) for edge in edges)
    return math.ceil(top - 1e-6), math.floor(bottom + 1e-6), math.ceil(left - 1e-6), math.floor(right + 1e-6)


def scale_whole(pixels: Pixels, field: Field, diameter: int, reduction: int = 1) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return a photograph with its field `diameter` pixels across, and the field's mask; see `Prepared.whole`."""
    scale = diameter / (2 * field.radius) * reduction
    if abs(scale - 1) <= _SAME_SIZE:
        return pixels, field.mask((pixels.shape[0], pixels.shape[1]), _WHOLE_RIM)
    rows, columns = (max(1, round(side * scale)) for side in pixels.shape[:2])
    if scale < 1:
        small = shrunk(pixels, (rows, columns))
    else:
        small = np.asarray(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    return small, field.mask((rows, columns), _WHOLE_RIM)


def resize(part: Pixels, rows: int, columns: int) -> Pixels:
    """Return a part of a photograph at (rows, columns): area average, or linear where it must be enlarged.

    A part at least four times as large is halved first: half the time, and on average within 0.2 grey levels.
    """
    while part.shape[0] >= _HALVED * rows and part.shape[1] >= _HALVED * columns:
        part = part[: part.shape[0] // 2 * 2, : part.shape[1] // 2 * 2]
        part = np.asarray(cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    method = cv2.INTER_AREA if rows <= part.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (columns, rows), interpolation=method), np.uint8)


def _overlap(start: float, side: float, length: int, size: int) -> tuple[int, int, int, int]:
    """Along one axis: the photograph's first and last pixel in the frame, and their places in the square.

    Whole pixels of the square are chosen first and the photograph's nearest to them, so that a point is never
    displaced by more than half a pixel of the photograph, also where the photograph cuts the frame.
    """
    scale = size / side
    low = max(0, math.ceil(-start * scale - 1e-6))
    high = min(size, math.floor((length - start) * scale + 1e-6))
    first, last = round(start + low / scale), round(start + high / scale)
    return max(0, first), min(length, last), low, high


@lru_cache(maxsize=8)
def _disc(size: int) -> Pixels:
    """Return 255 in the circle that fills a square, a little shrunk, (size, size, 3)."""
    at = np.arange(size) + 0.5 - size / 2
    inside = at[:, None] ** 2 + at[None, :] ** 2 <= (INSIDE_RIM * size / 2) ** 2
    return np.repeat(inside[..., None], 3, axis=2).astype(np.uint8) * 255
