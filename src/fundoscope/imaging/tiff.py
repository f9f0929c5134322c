"""TIFF to an upright array: which of its pictures, which of its channels, and how many of its bits.

A TIFF may hold anything. Its directories are read by tifffile. Eight bits and one are decoded by Pillow, which knows
palettes, CMYK and every compression; 16-bit and 32-bit numbers by OpenCV, which keeps them whole; what OpenCV cannot read
(separate planes, half floats, signed numbers) by tifffile.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging.decoded import Decoded, upright
from fundoscope.imaging.headers import COPY_AGAIN, check_size

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it would print about a broken file is in our error

MAX_PAGES = 1000
_EXPORT = "Export it as 8-bit RGB TIFF, PNG or JPEG."
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: TIFF 6.0, section 8
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _RAW = 0, 1, 2, (32803, 34892)  # PhotometricInterpretation
_PREMULTIPLIED, _TRANSPARENCY = 1, 2  # ExtraSamples
_OLD_JPEG, _DEFLATE = 6, {8, 32946}
_PACKED = {1, 32773, *_DEFLATE}  # compressions that tifffile undoes by itself: none, deflate, PackBits
_OPENCV_READS = {np.dtype(kind) for kind in ("uint16", "float32", "float64")}

#: Decodes an eight-bit page, given its number, by Pillow.
ByPillow = Callable[[int], NDArray[Any]]


def decode_tiff(data: bytes, name: str, max_pixels: int, by_pillow: ByPillow) -> Decoded:
    """The largest picture of a TIFF; `remark` names the pictures and channels that were left aside.

    Raises `PhotographError` for strips and tiles beyond the end of the file, which decoders would fill up, and for what
    cannot be read.
    """
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(data)) as file:
        pages = [page.aspage() for page in islice(file.pages, MAX_PAGES)]
        if not pages:
            raise PhotographError(name, "the TIFF file holds no picture", COPY_AGAIN)
        number = max(range(len(pages)), key=lambda n: (not pages[n].subfiletype & _MASK, _area(pages[n]), -n))
        page: Any = pages[number]
        _check(page, name, max_pixels)
        inside = all(offset + count <= len(data) for other in pages for offset, count in _parts(other))
        if not inside or not _is_whole(page) or _leads_out(pages[-1], data, file.tiff):
            raise PhotographError(name, "the TIFF file is cut short", COPY_AGAIN)
        by_planes = (
            page.planarconfig != 1 and page.samplesperpixel == 2
        )  # grey and its transparency, which Pillow lacks
        if page.dtype in (np.uint8, np.bool_) and page.samplesperpixel <= 4 and not by_planes:
            values = by_pillow(number)
            bits = None
        else:
            values, bits = _numbers(page, data, name)
        found = Decoded(values, values.shape[:2], bits=bits)
        others = [n for n, other in enumerate(pages) if n != number and not other.subfiletype & (_REDUCED | _MASK)]
        return _without_extra_samples(found, page, _remark_on_pages(number, len(others) + 1))


def _area(page: Any) -> int:
    return page.imagewidth * page.imagelength


def _check(page: Any, name: str, max_pixels: int) -> None:
    """Raise `PhotographError` for a page that is too large, or no picture of an eye."""
    check_size(name, page.imagelength, page.imagewidth, max_pixels)
    if page.photometric in _RAW or any(_area(inner) > _area(page) for inner in page.pages or ()):
        raise PhotographError(name, "holds the raw data of a camera's sensor", _EXPORT)
    if page.imagedepth != 1 or page.dtype is None or page.tilelength * page.tilewidth > 2 * max_pixels:
        raise PhotographError(name, "the TIFF file is damaged, or of a kind that is not supported", _EXPORT)


def _parts(page: Any) -> Iterable[tuple[int, int]]:
    """Where each strip or tile begins, and its length in bytes."""
    return zip(page.dataoffsets, page.databytecounts, strict=False)


def _is_whole(page: Any) -> bool:
    """Whether no strip or tile is missing, which decoders would leave black; the old kind of JPEG lists none."""
    lengths = [length for _, length in _parts(page)]
    return page.compression == _OLD_JPEG or (all(lengths) and len(lengths) >= np.prod(page.chunked))


def _leads_out(page: Any, data: bytes, layout: Any) -> bool:
    """Whether the directory of the last page that was found points to a further one beyond the end of the file."""
    at = page.offset
    (count,) = struct.unpack_from(layout.tagnoformat, data, at)
    at += layout.tagnosize + count * layout.tagsize
    (further,) = struct.unpack_from(layout.offsetformat, data, at)
    return further > len(data) - 2


def _unfolds_as_said(page: Any, data: bytes) -> bool:
    """Whether no deflated part unfolds to more than its pixels take: tifffile would let it fill the memory."""
    most = int(np.prod(page.chunks)) * page.dtype.itemsize
    return all(len(zlib.decompressobj().decompress(data[at : at + n], most + 1)) <= most for at, n in _parts(page))


def _remark_on_pages(number: int, pictures: int) -> str:
    if pictures < 2:
        return ""
    which = "the first" if number == 0 else f"number {number + 1}, the largest,"
    return f"The file holds {pictures} pictures, of which only {which} was looked at: save the others one by one."


def _numbers(page: Any, data: bytes, name: str) -> tuple[NDArray[Any], int | None]:
    """A page of more than eight bits, upright, (rows, columns[, samples]), and its depth in bits where the file tells it."""
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        cause = f"a TIFF of {page.bitspersample} bits in colours of the kind {page.photometric.name} is not supported"
        raise PhotographError(name, cause, _EXPORT)
    together = page.planarconfig == 1 or page.samplesperpixel == 1
    packed = page.bitspersample < 8 * page.dtype.itemsize
    if together and page.dtype in _OPENCV_READS and page.samplesperpixel in (1, 3, 4):
        values = _by_opencv(data, page.index, name)  # it turns the picture upright
    elif page.compression in _PACKED and not packed:
        if page.compression in _DEFLATE and not _unfolds_as_said(page, data):
            raise PhotographError(name, "the TIFF data unfold to more than the picture's pixels", COPY_AGAIN)
        values = page.asarray()
        values = values if together else np.moveaxis(values, 0, -1)
        values = upright(values, int(page.tags.valueof(274, default=1)))
    else:
        planes = "" if together else " with separate colour planes"
        cause = f"a TIFF of {page.bitspersample} bits{planes}, compressed by {page.compression.name}, is not supported"
        raise PhotographError(name, cause, _EXPORT)
    if page.photometric == _WHITE_IS_ZERO:
        top = 1 if values.dtype.kind == "f" else 2 ** (8 * page.dtype.itemsize) - 1
        values = (top - values).astype(values.dtype)
    return values, 16 if packed else _declared_bits(page)  # OpenCV spreads packed bits over all sixteen


def _by_opencv(data: bytes, number: int, name: str) -> NDArray[Any]:
    read, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(number, number + 1))
    if not read or not pages:
        raise PhotographError(name, "the data are broken or cut short", COPY_AGAIN)
    page = np.asarray(pages[0])
    return page[..., [2, 1, 0, 3][: page.shape[2]]] if page.ndim == 3 else page


def _declared_bits(page: Any) -> int | None:
    """Bits in use where SMaxSampleValue or MaxSampleValue say that there are fewer than stored."""
    stored = 8 * page.dtype.itemsize
    largest = [page.tags.valueof(tag, default=()) for tag in (341, 281)]
    values = [int(v) for found in largest for v in np.ravel(found) if np.isfinite(v) and v > 0]
    full = [
        v.bit_length() for v in values if v & (v + 1) == 0
    ]  # 1023, 4095, ...: a depth; others: merely the brightest
    bits = min(full, default=stored)
    return bits if 8 <= bits < stored else None


def _without_extra_samples(found: Decoded, page: Any, remark: str) -> Decoded:
    """Grey, RGB or RGBA: of the channels beyond the colours only one that is declared as transparency is kept."""
    colours = 3 if page.photometric == _RGB else 1
    extra = page.samplesperpixel - colours
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or extra < 1:
        return replace(found, remark=remark)
    kind = next((int(kind) for kind in page.extrasamples), 0)
    values = found.values
    undone = kind == _PREMULTIPLIED and page.dtype == np.uint8  # Pillow divides by the transparency
    if kind == _TRANSPARENCY or undone:
        values = values[..., [0, 0, 0, 1]] if values.shape[2:] == (2,) else values[..., :4]
        return replace(found, values=values, remark=remark)
    if values.ndim == 3:
        values = values[..., :3] if values.shape[2] >= 3 else values[..., 0]
    if kind != _PREMULTIPLIED:
        aside = f"Of {page.samplesperpixel} channels only the first {colours} were looked at: none is said to be transparency."
        remark = f"{remark} {aside}".strip()
    return replace(found, values=values, remark=remark)
