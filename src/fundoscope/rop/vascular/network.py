"""The network that maps the vessels and the disc of infants' photographs, run without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.local_contrast import DIAMETER, local_contrast

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NETWORK_FILE = "vessels.fp16.onnx"  # weights kept in 16 bits, computed with in 32
STRIDE = 16  # the network's input has sides that are multiples of it


@dataclass(frozen=True, slots=True)
class Look:
    """One way in which a photograph is shown to the network: made `scale` times as large, and mirrored in `columns` or `rows`."""

    scale: float
    columns: bool
    rows: bool

    def map(self, pixels: Pixels, inside: NDArray[np.bool_], session: InferenceSession) -> NDArray[np.float32]:
        """The maps (2, rows, columns) of a photograph at this scale, mirrored back; `inside` (rows, columns) is its field."""
        if self.scale != 1:
            way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
            size = (round(pixels.shape[1] * self.scale), round(pixels.shape[0] * self.scale))
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)
            inside = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        mirror = np.s_[:, :: -1 if self.rows else 1, :: -1 if self.columns else 1]
        contrast = local_contrast(pixels, inside)[mirror]
        rows, columns = contrast.shape[1:]
        padded = np.pad(contrast, ((0, 0), (0, -rows % STRIDE), (0, -columns % STRIDE)), mode="edge")
        (found,) = session.run(["maps"], {"contrast": np.ascontiguousarray(padded[None])})
        return np.ascontiguousarray(np.asarray(found, np.float32)[0, :, :rows, :columns][mirror])


#: The looks whose maps are averaged: what the network says of one alone changes with the place and the size of a vessel on its grid.
LOOKS = (Look(1, False, False), Look(1, True, False), Look(0.9, False, True), Look(1.1, True, True))


@dataclass(frozen=True, slots=True, eq=False)
class InfantMaps:
    """A photograph with its field `DIAMETER` pixels across: `pixels` (rows, columns, 3), the field `inside` (rows, columns), and the
    probabilities of `vessel` and `disc` (rows, columns), 0 to 1.
    """

    pixels: Pixels
    inside: NDArray[np.bool_]
    vessel: NDArray[np.float32]
    disc: NDArray[np.float32]


def map_infant(photograph: Prepared, session: InferenceSession) -> InfantMaps:
    """The maps of a photograph whose field is decoded with about `DIAMETER` pixels or more across: the mean over `LOOKS`."""
    small, inside = photograph.whole(DIAMETER)
    size = small.shape[1::-1]
    total = np.zeros((2, *inside.shape), np.float32)
    for look in LOOKS:
        found = look.map(small, inside, session)
        total += (
            found if look.scale == 1 else [cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in found]
        )
    vessel, disc = total / len(LOOKS) * inside
    return InfantMaps(small, inside, vessel, disc)
