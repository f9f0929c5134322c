"""What a decoder hands on, and how it is turned upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.dicom_facts import DicomHeader


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a file held: `values` are (rows, columns) or (rows, columns, 3 or 4), RGB order, upright, numbers of any kind.

    `shape` is (rows, columns) of the file, upright; `reduction` is how many of its pixels make one of these, along each
    side; `bits` how many bits of a number are in use, where the file tells; `remark` what of the file was left aside, in
    whole sentences; `header` what a DICOM file says of patient and exam.
    """

    values: NDArray[Any]
    shape: tuple[int, ...]
    reduction: int = 1
    bits: int | None = None
    remark: str = ""
    header: DicomHeader | None = None


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels turned and mirrored as Exif's orientation, 1 to 8, asks (CIPA DC-008, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
