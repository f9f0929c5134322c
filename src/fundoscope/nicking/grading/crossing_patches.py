"""A crossing as the grader sees it: the square around it, and the maps of its vessels, at one scale.

A patch spans so many widths of its vein, usually 12, and is brought to `SIDE` / 12 pixels a width. Its maps come from the
photograph's, or, where there is only the patch, from the network's view of it at the scale of a wide vein.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging import Photograph, Pixels
from fundoscope.imaging.field import shrunk
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.imaging.places import sample_square
from fundoscope.vessels.grade_rule import SPAN

SIDE = 128  # pixels of what the network sees
WIDTH = SIDE / SPAN  # pixels of a vein's width in it
CLOSER = 1.5  # times that is its width in the inputs of the networks: a nick ends two widths from the crossing
MAPPED = 6.0  # pixels at which a vein is mapped where only its patch is known; in photographs most are 4 to 7 wide
SEEN = ("vessel", "artery", "vein")  # the maps that a patch keeps

_AROUND = 2.5  # vein widths: deviation of how the vein is weighed around the middle when its slope is taken
_OFF_LINE, _FAR = 2.25, 4.5  # widths across and along from the middle, within which a level vein's width is measured
_LESS, _MORE = 0.5, 2.0  # times a patch is enlarged for its vein to have the usual width, at least and at most
_OTHER = 1.3  # times wider or thinner than expected: a patch is mapped anew
_SMALLEST = 16  # pixels of a side that is mapped
_THERE = 127  # of 255: from which probability on a vessel is there
_VEIN = SEEN.index("vein")
_LEAST = 48  # pixels of a patch that can be graded
_BLACK = 12  # of 255 in every channel: nothing was seen there
_LONGEST = 1.25  # of one side to the other: a patch is square

Plane = NDArray[np.float32]
Maps = Callable[[Plane], Plane]  # local contrast (3, h, w) -> the four probabilities (4, h, w)


@dataclass(frozen=True, eq=False)
class Patch:
    """`pixels` (s, s, 3), uint8, RGB; `maps` (s, s, 3), uint8, 0 to 255: the probabilities of `SEEN`; `inside` (s, s) is
    what lies in the field. `WIDTH` pixels are a width of its vein.
    """

    pixels: Pixels
    maps: NDArray[np.uint8]
    inside: NDArray[np.bool_]

    @property
    def side(self) -> int:
        """Pixels of its side."""
        return self.pixels.shape[0]

    def cut(self, turn: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Patch:
        """The usual patch, `SIDE` pixels: turned about the middle by `turn` degrees, enlarged, shifted by pixels."""
        matrix = _about_middle(self.side, turn, zoom, shift)
        size, mode = (SIDE, SIDE), cv2.INTER_LINEAR
        pixels = np.asarray(
            cv2.warpAffine(self.pixels, matrix, size, flags=mode, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
        maps = np.asarray(cv2.warpAffine(self.maps, matrix, size, flags=mode), np.uint8)
        inside = cv2.warpAffine(self.inside.astype(np.uint8) * 255, matrix, size, flags=mode)
        return Patch(pixels, maps, inside > 127)

    def mirrored(self) -> Patch:
        """Left for right."""
        pixels, maps = (np.ascontiguousarray(np.fliplr(plane)) for plane in (self.pixels, self.maps))
        return Patch(pixels, maps, np.fliplr(self.inside))

    @cached_property
    def pose(self) -> tuple[float, float]:
        """How `cut` brings it to where the streams want it: by how many degrees to turn it for its vein to lie level, and
        how much to enlarge it for the vein to be `CLOSER` times `WIDTH` pixels wide; by the maps, whatever scale the patch
        was given at.
        """
        vein = np.ascontiguousarray(self.maps[..., _VEIN])
        slope = _slope(vein)
        level = cv2.warpAffine(vein, _about_middle(self.side, slope, 1.0), (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        return slope, CLOSER * float(np.clip(WIDTH / _width(np.asarray(level, np.uint8)), _LESS, _MORE))

    @property
    def inputs(self) -> tuple[Plane, Plane]:
        """What the two streams are given of the patch in its `pose`, (3, SIDE, SIDE) each: local contrast, and the maps from
        -1 to 1.
        """
        posed = self.cut(*self.pose)
        maps = posed.maps.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        return local_contrast(posed.pixels, posed.inside), np.ascontiguousarray(maps)

    def back(self, plane: Plane) -> Plane:
        """A plane (h, w) of what was found in the inputs, (SIDE, SIDE), lying as the patch does."""
        matrix = cv2.invertAffineTransform(_about_middle(SIDE, *self.pose))
        posed = cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.warpAffine(posed, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), np.float32)


def patch_of(pixels: Pixels, maps: Maps, span: float = SPAN, width: float | None = None) -> Patch:
    """The patch of a square photograph (s, s, 3) that spans so many widths of its vein; `maps` is the network of maps.

    `width` is that of the vein at the scale of the maps, in pixels; where neither is known it is found.
    """
    if span == SPAN and width is None:
        return mapped(pixels, maps)[1]
    return _with(_maps_at(pixels, maps, span * (width or MAPPED)), pixels, span)


def mapped(pixels: Pixels, maps: Maps) -> tuple[Plane, Patch]:
    """A patch of any scale, and its four maps (4, h, w): made as if it spanned the usual `SPAN`, and where the vein has
    quite another width in them, anew at the scale at which it is `MAPPED` pixels wide.
    """
    found = _maps_at(pixels, maps, SPAN * MAPPED)
    patch = _with(found, pixels)
    zoom = patch.pose[1] / CLOSER
    if 1 / _OTHER < zoom < _OTHER:
        return found, patch
    found = _maps_at(pixels, maps, SPAN * MAPPED * zoom)
    return found, _with(found, pixels)


def _with(found: Plane, pixels: Pixels, span: float = SPAN) -> Patch:
    """The patch of a square photograph (s, s, 3) whose maps (4, h, w) are there."""
    square = resized(pixels, round(span * WIDTH))
    return Patch(square, resized(as_bytes(found), square.shape[0]), lit(square))


def _maps_at(pixels: Pixels, maps: Maps, side: float) -> Plane:
    small = resized(pixels, max(_SMALLEST, round(side)))
    return maps(local_contrast(small, lit(small)))


def lit(pixels: Pixels) -> NDArray[np.bool_]:
    """Where a patch is retina and not the black beyond the field, (rows, columns)."""
    return pixels.max(axis=2) > _BLACK


def patch_at(
    pixels: Pixels, inside: NDArray[np.bool_], maps: Plane, at: NDArray[np.float64], width: float, scale: float
) -> Patch:
    """The usual patch around a place of a photograph: `at` row and column, and `width` of its vein, in the photograph's
    pixels, of which `scale` make one of `maps` (4, rows, columns) and `inside` (rows, columns).
    """
    step = width / WIDTH  # of the photograph's pixels, a pixel of the patch
    square = sample_square(pixels, at, step, SIDE)
    there = (at + 0.5) / scale - 0.5
    low, high = _window(there, SIDE * step / scale, maps.shape[1:])
    small = as_bytes(maps[:, low[0] : high[0], low[1] : high[1]])
    field = inside[low[0] : high[0], low[1] : high[1]].astype(np.uint8) * 255
    known = sample_square(field, there - low, step / scale, SIDE) > 127
    return Patch(square, sample_square(small, there - low, step / scale, SIDE), np.asarray(known, bool))


def as_bytes(maps: Plane) -> NDArray[np.uint8]:
    """The probabilities of `SEEN` of maps (4, h, w) as (h, w, 3), 0 to 255."""
    return np.ascontiguousarray(np.round(maps[: len(SEEN)] * 255).astype(np.uint8).transpose(1, 2, 0))


def resized(pixels: Pixels, side: int) -> Pixels:
    """A square (s, s, 3) of so many pixels a side."""
    if pixels.shape[0] == side:
        return pixels
    if pixels.shape[0] > side:
        return shrunk(pixels, (side, side))
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def square(photograph: Photograph) -> Pixels:
    """The pixels of a patch's file; `PhotographError` where it is no square, or too small to be graded."""
    rows, columns = photograph.pixels.shape[:2]
    if max(rows, columns) > _LONGEST * min(rows, columns):
        raise PhotographError(
            photograph.name, f"is {columns} x {rows} pixels, and no square around a crossing",
            "Give a patch, or the whole photograph to: fundoscope nicking grade",
        )  # fmt: skip
    if min(rows, columns) < _LEAST:
        raise PhotographError(
            photograph.name, f"is {columns} x {rows} pixels", f"Give a patch of {_LEAST} pixels a side or more."
        )
    side = min(rows, columns)
    row, column = (rows - side) // 2, (columns - side) // 2
    return np.ascontiguousarray(photograph.pixels[row : row + side, column : column + side])


def _about_middle(side: int, turn: float, zoom: float, shift: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """The affine map, (2, 3), from a square's pixels to those of its `cut`."""
    middle = side / 2 - 0.5
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += SIDE / 2 - 0.5 - middle + np.array(shift)
    return np.asarray(matrix, float)


def _slope(vein: NDArray[np.uint8]) -> float:
    """Degrees, -90 to 90, from level to the long axis of the vein's probability around the middle, by its second moments."""
    rows, columns = np.indices(vein.shape) - (vein.shape[0] - 1) / 2
    weight = vein * np.exp(-(rows**2 + columns**2) / (2 * (_AROUND * WIDTH) ** 2))
    total = weight.sum() + 1e-6
    down, right = rows - (weight * rows).sum() / total, columns - (weight * columns).sum() / total
    across, along, mixed = ((weight * each).sum() for each in (down * down, right * right, down * right))
    return float(np.degrees(np.arctan2(2 * mixed, along - across)) / 2)


def _width(level: NDArray[np.uint8]) -> float:
    """Pixels of the width of a vein that lies level: the median over columns; `WIDTH` where too little is seen of it."""
    columns = np.pad(level > _THERE, ((1, 1), (0, 0))).T.astype(np.int8)
    steps = np.diff(columns, axis=1)
    (column, first), (_, end) = np.nonzero(steps == 1), np.nonzero(steps == -1)  # each run of vein down a column
    middle = (level.shape[0] - 1) / 2
    off = np.abs((first + end - 1) / 2 - middle)
    near = (off < _OFF_LINE * WIDTH) & (np.abs(column - middle) < _FAR * WIDTH)
    order = np.flatnonzero(near)[np.argsort(off[near], kind="stable")]
    chosen = order[np.unique(column[order], return_index=True)[1]]  # the run nearest the middle in each column
    return float(np.median(end[chosen] - first[chosen])) if len(chosen) >= WIDTH else WIDTH


def _window(at: NDArray[np.float64], side: float, shape: tuple[int, ...]) -> tuple[NDArray, NDArray]:
    """First and last pixel (row, column) of what a patch needs of a plane."""
    low = np.clip(np.floor(at - side / 2 - 2).astype(int), 0, np.array(shape) - 1)
    high = np.clip(np.ceil(at + side / 2 + 3).astype(int), low + 1, np.array(shape))
    return low, high
