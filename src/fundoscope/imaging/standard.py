"""`Standard`: the one definition of how a photograph becomes network input.

Training, export, command line and server all call it, and a bundle carries it as JSON. Three steps, each
usable by itself because training puts its augmentation between the first and the second:

    square     crop to the field of view, pad to a square, resize (area average), blacken the surround
    enhance    CLAHE on lightness, after the resize (docs/explanation/standard.md has the measurement)
    tensor     scale to [0, 1], subtract the network's mean, divide by its deviation, channels first
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat
from pydantic import Field as Option

from fundoscope.imaging.enhance import clahe
from fundoscope.imaging.field import Field, find_field
from fundoscope.imaging.read import Photograph, Pixels

_HALVED = 4  # times the wanted size from which a photograph is halved before the last step
_WITHIN = 0.985  # share of the radius that is kept


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a standard square lies in its photograph: upper left corner and side, in pixels of it."""

    row: float
    column: float
    side: float

    @classmethod
    def around(cls, field: Field) -> Frame:
        """The square around the field's circle, or around the whole photograph where no rim was found."""
        rows, columns = field.shape
        half = field.radius if field.found else max(rows, columns) / 2
        return cls(field.row + 0.5 - half, field.column + 0.5 - half, 2 * half)

    def to_photograph(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Positions (n, 2; row, column) in a square of `size` pixels, as positions in the photograph."""
        return (np.asarray(points, float) + 0.5) * (self.side / size) - 0.5 + [self.row, self.column]


class Standard(BaseModel):
    """The settings of standard pixels; equal settings give equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Option(256, ge=32, le=1024)
    clahe_clip: float = Option(2.0, gt=0)
    clahe_tiles: int = Option(8, ge=1)
    clahe_when: Literal["after resize", "before resize", "never"] = "after resize"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.5, 0.5, 0.5)

    def square(self, photograph: Photograph, field: Field | None = None, size: int | None = None) -> Pixels:
        """The field as a square of `size` (default: this standard's) pixels, uint8 RGB, black outside."""
        field = field or find_field(photograph.pixels)
        side = size or self.size
        pixels = photograph.pixels
        if self.clahe_when == "before resize":
            pixels = clahe(pixels, self.clahe_clip, self.clahe_tiles)
        square = _crop(pixels, Frame.around(field), side)
        return _pixels(cv2.bitwise_and(square, _disc(side))) if field.found else square

    def enhance(self, square: Pixels) -> Pixels:
        """A square, resized if need be, with its contrast evened; uint8 RGB of this standard's size."""
        if square.shape[0] != self.size:
            square = _resize(square, self.size, self.size)
        return clahe(square, self.clahe_clip, self.clahe_tiles) if self.clahe_when == "after resize" else square

    def tensor(self, enhanced: Pixels) -> NDArray[np.float32]:
        """Network input (3, rows, columns), float32: (value / 255 - mean) / deviation, channel by channel."""
        planes = np.empty((3, *enhanced.shape[:2]), np.float32)
        for channel, levels, plane in zip(cv2.split(enhanced), _levels(self.mean, self.deviation), planes, strict=True):
            cv2.LUT(channel, levels, plane)
        return planes

    def apply(self, photograph: Photograph, field: Field | None = None) -> NDArray[np.float32]:
        """Photograph to network input (3, size, size), float32: all three steps."""
        return self.tensor(self.enhance(self.square(photograph, field)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Standard:
        """The standard that `model_dump(mode='json')` wrote; unknown keys are refused."""
        return cls.model_validate(values)


def _crop(pixels: Pixels, frame: Frame, size: int) -> Pixels:
    """The frame of a photograph as a square of `size` pixels; what lies beyond the photograph is black."""
    rows, columns = pixels.shape[:2]
    r0, r1, y0, y1 = _seen(frame.row, frame.side, rows, size)
    c0, c1, x0, x1 = _seen(frame.column, frame.side, columns, size)
    square = np.zeros((size, size, 3), np.uint8)
    if r1 > r0 and c1 > c0 and y1 > y0 and x1 > x0:
        square[y0:y1, x0:x1] = _resize(pixels[r0:r1, c0:c1], y1 - y0, x1 - x0)
    return square


def _seen(start: float, side: float, length: int, size: int) -> tuple[int, int, int, int]:
    """Along one axis: the photograph's first and last pixel in the frame, and their places in the square.

    Whole pixels of the square are chosen first and the photograph's nearest to them, so that a point is never
    displaced by more than half a pixel of the photograph, also where the photograph cuts the frame.
    """
    scale = size / side
    low = max(0, math.ceil(-start * scale - 1e-6))
    high = min(size, math.floor((length - start) * scale + 1e-6))
    first, last = round(start + low / scale), round(start + high / scale)
    return max(0, first), min(length, last), low, high


def _resize(part: Pixels, rows: int, columns: int) -> Pixels:
    """Area average; linear where it must be enlarged.

    A part at least four times as large is halved first: half the time, and on average within 0.2 grey levels.
    """
    while part.shape[0] >= _HALVED * rows and part.shape[1] >= _HALVED * columns:
        part = part[: part.shape[0] // 2 * 2, : part.shape[1] // 2 * 2]
        part = _pixels(cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    method = cv2.INTER_AREA if rows <= part.shape[0] else cv2.INTER_LINEAR
    return _pixels(cv2.resize(part, (columns, rows), interpolation=method))


def _pixels(array: NDArray[Any]) -> Pixels:
    return np.asarray(array, np.uint8)  # OpenCV's own types leave the depth open


@lru_cache(maxsize=8)
def _disc(size: int) -> Pixels:
    """255 in the circle that fills a square, a little shrunk: the rim is the camera's, not the eye's."""
    at = np.arange(size) + 0.5 - size / 2
    inside = at[:, None] ** 2 + at[None, :] ** 2 <= (_WITHIN * size / 2) ** 2
    return np.repeat(inside[..., None], 3, axis=2).astype(np.uint8) * 255


@lru_cache(maxsize=8)
def _levels(mean: tuple[float, ...], deviation: tuple[float, ...]) -> NDArray[np.float32]:
    """What each of the 256 grey levels becomes, (3, 256)."""
    level = np.arange(256) / 255
    return ((level - np.array(mean)[:, None]) / np.array(deviation)[:, None]).astype(np.float32)
