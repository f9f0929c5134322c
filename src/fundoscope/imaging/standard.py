"""`Standard`: the one definition of how a photograph becomes network input.

Training, export, command line and server all call it, and a bundle carries it as JSON. Three steps, each usable by
itself because training puts its augmentation between the first and the second:

    square     crop to the field of view, pad to a square, resize (area average), blacken what lies outside the field
    enhance    CLAHE on lightness, after the resize (docs/explanation/standard.md has the measurement)
    tensor     scale to [0, 1], subtract the network's mean, divide by its deviation, channels first
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from fundoscope.imaging.enhance import clahe
from fundoscope.imaging.field import Field, find_field
from fundoscope.imaging.read import Photograph, Pixels


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a standard square lies in its photograph: top-left corner (row, column) and side, in its pixels."""

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
        """Pixel positions (n, 2; row, column) in a square of `size` pixels, as positions in the photograph."""
        return (np.asarray(points, float) + 0.5) * (self.side / size) - 0.5 + [self.row, self.column]


class Standard(BaseModel):
    """The settings of standard pixels; equal settings give equal bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Option(256, ge=32, le=1024)
    clahe_clip: float = Option(2.0, gt=0)
    clahe_tiles: int = Option(8, ge=1)
    clahe_when: Literal["after resize", "before resize", "never"] = "after resize"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def square(self, photograph: Photograph, field: Field | None = None, size: int | None = None) -> Pixels:
        """The field of view as a square of `size` (default: this standard's) pixels, uint8 RGB, black outside."""
        field = field or find_field(photograph.pixels)
        side = size or self.size
        pixels = photograph.pixels
        if self.clahe_when == "before resize":
            pixels = clahe(pixels, self.clahe_clip, self.clahe_tiles)
        square = _crop(pixels, Frame.around(field), side)
        if field.found:
            square[~_disc(side)] = 0
        return square

    def enhance(self, square: Pixels) -> Pixels:
        """A square, resized if need be, with its contrast evened; uint8 RGB of this standard's size."""
        if square.shape[0] != self.size:
            square = cv2.resize(square, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return clahe(square, self.clahe_clip, self.clahe_tiles) if self.clahe_when == "after resize" else square

    def tensor(self, enhanced: Pixels) -> NDArray[np.float32]:
        """Network input (3, size, size), float32."""
        scale = 1 / (255 * np.array(self.deviation, np.float32))
        shift = np.array(self.mean, np.float32) / np.array(self.deviation, np.float32)
        return np.ascontiguousarray((enhanced * scale - shift).transpose(2, 0, 1), dtype=np.float32)

    def apply(self, photograph: Photograph, field: Field | None = None) -> NDArray[np.float32]:
        """Photograph to network input (3, size, size), float32: all three steps."""
        return self.tensor(self.enhance(self.square(photograph, field)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Standard:
        """The standard that `model_dump(mode='json')` wrote; unknown keys are refused."""
        return cls.model_validate(values)


def _crop(pixels: Pixels, frame: Frame, side: int) -> Pixels:
    """The frame of a photograph as a square of `side` pixels; what lies beyond the photograph is black."""
    rows, columns = pixels.shape[:2]
    top, left, span = round(frame.row), round(frame.column), max(2, round(frame.side))
    r0, r1, c0, c1 = max(0, top), min(rows, top + span), max(0, left), min(columns, left + span)
    scale = side / span
    inner = (max(1, round((c1 - c0) * scale)), max(1, round((r1 - r0) * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = cv2.resize(pixels[r0:r1, c0:c1], inner, interpolation=method)
    square = np.zeros((side, side, 3), np.uint8)
    r, c = min(round((r0 - top) * scale), side - 1), min(round((c0 - left) * scale), side - 1)
    part = part[: side - r, : side - c]
    square[r : r + part.shape[0], c : c + part.shape[1]] = part
    return square


_DISCS: dict[int, NDArray[np.bool_]] = {}


def _disc(side: int) -> NDArray[np.bool_]:
    """The circle that fills a square, a little shrunk: the rim itself is the camera's, not the eye's."""
    if side not in _DISCS:
        at = np.arange(side) + 0.5 - side / 2
        _DISCS[side] = at[:, None] ** 2 + at[None, :] ** 2 <= (0.985 * side / 2) ** 2
    return _DISCS[side]
