"""From a file, bytes or an array to a `Photograph`: eight-bit RGB, upright, whole.

The pixel count is checked in the header, before anything is decoded, so that a small file that unfolds into
gigabytes is refused at once. Everything that goes wrong is a `PhotographError` that names file and cause. A
file that was cut is refused, never filled up; damage that leaves all marks of a JPEG cannot always be told.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging.alike import name_alike
from fundoscope.imaging.decode import decode
from fundoscope.imaging.dicom_facts import MAX_BYTES, DicomHeader, FramePath
from fundoscope.imaging.headers import COPY_AGAIN, check_size
from fundoscope.imaging.kinds import foreign_kind, format_of
from fundoscope.imaging.sources import Source, load_source, name_of

Pixels = NDArray[np.uint8]  # (rows, columns, 3), RGB

MAX_PIXELS = 60_000_000  # twice the largest fundus camera known to us (about 30 megapixels)
_HOT = 1e-4  # share of all numbers that may lie beyond a photograph's scale: sensors have hot pixels
_BLOCK = 256  # rows converted at a time, so that a large photograph is never held as floats


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """One upright photograph.

    `pixels` is (rows, columns, 3), uint8, RGB; `name` is the file as the caller gave it; `n_bytes` the length
    of the encoded file (0 for an array) and `format` one of `kinds.READ`, or array. A large JPEG may have been decoded at a
    reduced scale: then one of `pixels` covers `reduction` x `reduction` of the file's, which has `shape` (rows, columns).
    `remark` says in whole sentences what of the file was left aside: further pictures, channels that are no colour;
    of a DICOM file also what its header doubts. `header` is that header, None for other files.
    """

    pixels: Pixels
    name: str
    n_bytes: int
    format: str
    reduction: int = 1
    file_shape: tuple[int, int] | None = None
    remark: str = ""
    header: DicomHeader | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, columns) of the file, upright."""
        return self.file_shape or (self.pixels.shape[0], self.pixels.shape[1])


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorting key in which 9.png stands before 10.png: the order in which folders are gone through."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def read(
    source: Source, name: str | None = None, max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> Photograph:
    """Read a photograph from a path, the bytes of a file, an open file, an array or a PIL image; of a TIFF the largest page.

    Arrays are (rows, columns), (rows, columns, 3 or 4) in RGB order: whole numbers from 0, bool, or floats in 0..1.
    Transparent parts become black. More than eight bits are scaled by the bits in use: what the file's tags say, or else 8,
    10, 12, 14 or 16, whatever single hot pixels show.
    `least_side` allows a JPEG to be decoded at 1/2, 1/4 or 1/8 while its shorter side keeps that many pixels.
    Raises `PhotographError` for whatever is missing, empty, truncated, too large or no image, and `TypeError` for what is
    none of these.
    """
    name = name or name_of(source)
    loaded = load_source(source, name)
    if isinstance(loaded, np.ndarray):
        return Photograph(_of_array(loaded, name, max_pixels), name, 0, "array")
    frame = loaded.frame if isinstance(loaded, FramePath) else 0
    data = loaded if isinstance(loaded, bytes) else _bytes_of(os.fsdecode(loaded), name)
    return _decode(data, name, max_pixels, least_side, frame)


def _of_array(array: NDArray[Any], name: str, max_pixels: int) -> Pixels:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        cause = f"an array of shape {array.shape} is no photograph"
        raise PhotographError(name, cause, "Give (rows, columns) or (rows, columns, 3).")
    check_size(name, *array.shape[:2], max_pixels)
    return _as_rgb8(array, name)


def _bytes_of(path: str, name: str) -> bytes:
    if not path.strip():
        raise PhotographError(repr(name), "the path is blank", "Name a photograph.")
    try:
        facts = Path(path).stat()
        if stat.S_ISDIR(facts.st_mode):
            raise PhotographError(name, "is a folder, not a photograph", "Name the photographs in it.")
        if not stat.S_ISREG(facts.st_mode):  # a pipe or a device could block for ever
            raise PhotographError(name, "is not a regular file", "Give a photograph stored on disk.")
        if facts.st_size > MAX_BYTES:
            cause = f"has {facts.st_size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}"
            raise PhotographError(name, cause, "Export it smaller.")
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PhotographError(name, f"there is no such file{name_alike(Path(path))}", "Check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        cause = f"cannot be opened ({getattr(error, 'strerror', None) or error})"
        raise PhotographError(name, cause, "Check the path and its permissions.") from error


def _decode(data: bytes, name: str, max_pixels: int, least_side: int | None, frame: int = 0) -> Photograph:
    if not data:
        raise PhotographError(name, "the file is empty", COPY_AGAIN)
    kind = format_of(data)
    if kind is None:
        raise PhotographError(name, f"is {foreign_kind(data)}", "Export the photograph as JPEG, PNG or TIFF.")
    if kind == "DICOM":
        from fundoscope.imaging.dicom_pixels import decode_dicom

        found = decode_dicom(data, name, max_pixels, least_side, frame)
    else:
        found = decode(data, kind, name, max_pixels, least_side)
    pixels = _as_rgb8(found.values, name, found.bits)
    rows, columns = found.shape
    return Photograph(pixels, name, len(data), kind, found.reduction, (rows, columns), found.remark, found.header)


def _as_rgb8(array: NDArray[Any], name: str, bits: int | None = None) -> Pixels:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        return np.asarray(cv2.cvtColor(_as_uint8(array, name, bits), cv2.COLOR_GRAY2RGB), np.uint8)
    colour = np.ascontiguousarray(_as_uint8(array[..., :3], name, bits))
    if (
        array.shape[2] == 3 or not array[..., 3].any()
    ):  # nothing can be seen through: the fourth channel was never filled
        return colour
    return _over_black(colour, _as_uint8(array[..., 3], name))  # of a depth of its own


def _as_uint8(array: NDArray[Any], name: str, bits: int | None = None) -> NDArray[np.uint8]:
    """Numbers of any kind as 0 to 255; `bits` is the depth that the file tells, None where it tells none."""
    if array.dtype == np.uint8:
        return array
    eight = np.empty(array.shape, np.uint8)
    if array.dtype == np.bool_:
        return np.multiply(array, 255, out=eight, casting="unsafe")
    if array.dtype.kind in "iu":
        if array.dtype.kind == "i" and array.min() < 0:
            raise PhotographError(name, "holds negative numbers", "Scale them to 0..255, and give uint8.")
        if array.dtype.itemsize == 1:
            return array.astype(np.uint8)
        shift = _bits_in_use(array, bits) - 8
        for row in range(0, len(array), _BLOCK):
            eight[row : row + _BLOCK] = np.minimum(array[row : row + _BLOCK] >> shift, 255)
        return eight
    if array.dtype.kind == "f":
        outside = array.size - np.count_nonzero((array >= 0) & (array <= 1))  # not-a-number is outside too
        if outside > _HOT * array.size:
            raise PhotographError(name, "floating-point values outside 0 to 1", "Scale them, or give uint8.")
        for row in range(0, len(array), _BLOCK):
            block = np.asarray(array[row : row + _BLOCK], np.float64)
            eight[row : row + _BLOCK] = np.rint(np.clip(np.nan_to_num(block), 0, 1) * 255)
        return eight
    cause = f"values of type {array.dtype} are not understood"
    raise PhotographError(name, cause, "Give whole numbers from 0, or floats in 0..1.")


def _bits_in_use(array: NDArray[Any], declared: int | None) -> int:
    """How many bits the numbers of a photograph fill: what its file declares, or else the fewest of 8, 10, 12, ... that do.

    A few hot pixels and dead sensor rows may exceed them, and count as white: one in `1 / _HOT` of all numbers. No camera
    has an odd count of bits, but a dark photograph may fill an odd number of them.
    """
    stored = 8 * array.dtype.itemsize
    for bits in (declared or 8, *range(8, stored, 2)):
        if np.count_nonzero(array >= 1 << bits) <= _HOT * array.size:
            return bits
    return stored


def _over_black(colour: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """Transparent parts become black, as the surround of a fundus photograph is."""
    return np.asarray(cv2.multiply(colour, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255), np.uint8)
