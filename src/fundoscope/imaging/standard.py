"""`Standard`: the one definition of how a photograph becomes network input.

Training, export, command line and server call it, and a bundle carries it as JSON. Each step can be
called by itself, because training puts its augmentation between the first and the second:

0. `prepare` reads the photograph; a large JPEG at half, a quarter or an eighth of its size where the square allows.
1. `square` finds the field of view, cuts out the square around its circle and resizes it to `size` pixels by area
   averages. Outside the field all is black. (A standard whose `view` is the whole photograph resizes that instead.)
2. `enhance` evens the contrast of lightness by CLAHE, after the resize (docs/explanation/standard.md has the measurement).
3. `tensor` scales to 0..1, subtracts the network's mean, divides by its deviation, and puts channels first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat
from pydantic import Field as Option

from fundoscope.imaging.enhance import clahe
from fundoscope.imaging.field import Field, find_field
from fundoscope.imaging.prepared import JUDGED_SIDE, Prepared, cut_square, resize
from fundoscope.imaging.read import Photograph, Pixels, Source


class Standard(BaseModel):
    """The settings of standard pixels; equal settings give equal bytes.

    `view` is what a square shows: the `field` of view, cut out and masked, or the `whole` photograph, neither cut nor
    masked and stretched to a square, as paper 000 resizes its photographs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Option(256, ge=32, le=1024)
    view: Literal["field", "whole"] = "field"
    clahe_clip: float = Option(2.0, gt=0)
    clahe_tiles: int = Option(8, ge=1)
    clahe_when: Literal["after resize", "before resize", "never"] = "after resize"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.5, 0.5, 0.5)

    def prepare(self, source: Source, name: str | None = None) -> Prepared:
        """Read a photograph of which only this standard's square, and the judgement of its quality, will be asked.

        A large JPEG is decoded at a reduced scale (see `Prepared.read`), unless CLAHE comes before the resize. Raises
        `PhotographError` as `imaging.read` does.
        """
        return Prepared.read(source, name, None if self.clahe_when == "before resize" else max(self.size, JUDGED_SIDE))

    def square(self, photograph: Prepared | Photograph, field: Field | None = None, size: int | None = None) -> Pixels:
        """Return the field as a square of `size` (default: this standard's) pixels, uint8 RGB, black outside.

        A `Photograph` needs its `field`, or it is sought; a `Prepared` one has it. A standard of whole photographs seeks none.
        """
        if self.clahe_when == "before resize":
            pixels = clahe(photograph.pixels, self.clahe_clip, self.clahe_tiles)
            if self.view == "whole":
                return resize(pixels, size or self.size, size or self.size)
            return cut_square(pixels, _prepared(photograph, field).field, size or self.size)
        return self.unenhanced_square(photograph, field, size)

    def unenhanced_square(
        self, photograph: Prepared | Photograph, field: Field | None = None, size: int | None = None
    ) -> Pixels:
        """Return the square that `square` gives, with the contrast as it was."""
        side = size or self.size
        return (
            resize(photograph.pixels, side, side) if self.view == "whole" else _prepared(photograph, field).square(side)
        )

    def inside(self, photograph: Prepared, side: int, rim: float = 0.0) -> NDArray[np.bool_]:
        """Return which pixels of a square show the eye, (side, side); `rim`, in radii, is left out along every edge."""
        return photograph.field.mask((side, side), rim) if self.view == "whole" else photograph.inside(side, rim)

    def enhance(self, square: Pixels) -> Pixels:
        """Return a square with its contrast evened, resized to this standard's size if need be; uint8 RGB."""
        if square.shape[0] != self.size:
            square = resize(square, self.size, self.size)
        return clahe(square, self.clahe_clip, self.clahe_tiles) if self.clahe_when == "after resize" else square

    def tensor(self, enhanced: Pixels) -> NDArray[np.float32]:
        """Return network input (3, rows, columns), float32: (value / 255 - mean) / deviation, channel by channel."""
        planes = np.empty((3, *enhanced.shape[:2]), np.float32)
        for channel, levels, plane in zip(cv2.split(enhanced), _levels(self.mean, self.deviation), planes, strict=True):
            cv2.LUT(channel, levels, plane)
        return planes

    def apply(self, photograph: Prepared | Photograph, field: Field | None = None) -> NDArray[np.float32]:
        """Return network input (3, size, size), float32, of a photograph: all three steps."""
        return self.tensor(self.enhance(self.square(photograph, field)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Standard:
        """Return the standard that `model_dump(mode='json')` wrote; unknown keys are refused."""
        return cls.model_validate(values)


def _prepared(photograph: Prepared | Photograph, field: Field | None) -> Prepared:
    """Return the photograph with its field."""
    if isinstance(photograph, Prepared):
        return photograph
    return Prepared(photograph, field or find_field(photograph.pixels))


@lru_cache(maxsize=8)
def _levels(mean: tuple[float, ...], deviation: tuple[float, ...]) -> NDArray[np.float32]:
    """Return what each of the 256 grey levels becomes, (3, 256)."""
    level = np.arange(256) / 255
    return ((level - np.array(mean)[:, None]) / np.array(deviation)[:, None]).astype(np.float32)
