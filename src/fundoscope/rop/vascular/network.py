"""The network that maps the vessels and the disc of infants' photographs, run without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.local_contrast import DIAMETER, local_contrast

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NETWORK_FILE = "vessels.fp16.onnx"  # weights kept in 16 bits, computed with in 32
STRIDE = 16  # the network's input has sides that are multiples of it


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
    """The maps of a photograph whose field is decoded with about `DIAMETER` pixels or more across."""
    small, inside = photograph.whole(DIAMETER)
    contrast = local_contrast(small, inside)
    rows, columns = contrast.shape[1:]
    padded = np.pad(contrast, ((0, 0), (0, -rows % STRIDE), (0, -columns % STRIDE)), mode="edge")
    (found,) = session.run(["maps"], {"contrast": padded[None]})
    vessel, disc = np.asarray(found, np.float32)[0, :, :rows, :columns] * inside
    return InfantMaps(small, inside, vessel, disc)
