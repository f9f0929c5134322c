"""Encoded bytes to an upright array of grey, RGB or RGBA, of whatever depth the file holds.

OpenCV decodes the ordinary kinds, because it is the fastest, and 16 bits of RGB, of which Pillow keeps only
the upper eight (a 12-bit camera uses the lower twelve). Pillow decodes palettes, CMYK, alpha, one bit, BMP
and 8-bit TIFF, each by name.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging.headers import COPY_AGAIN, Header, check_size, jpeg_header, png_header

_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,  # colour by the first flag, the scale by the second
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
#: What Pillow may read; it opens the several pictures of an MPO file as JPEG.
_PILLOW_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "AVIF", "PPM")
_EXPORT = "Export it as 8-bit RGB JPEG, PNG or TIFF."

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what OpenCV would print about a broken file is in the PhotographError instead


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a file held: `values` are (rows, columns) or (rows, columns, 3 or 4), RGB order, upright; uint8, uint16 or float32.

    `shape` is (rows, columns) of the file, upright; `reduction` is how many of its pixels make one of these, along each side.
    """

    values: NDArray[Any]
    shape: tuple[int, int]
    reduction: int = 1


def decode(data: bytes, kind: str, name: str, max_pixels: int, least_side: int | None = None) -> Decoded:
    """Decode a file whose `kind` is what `format_of` gave.

    A JPEG is decoded at the largest reduction (8, 4 or 2) that leaves its shorter side `least_side` pixels; None: in full.
    Raises `PhotographError` for broken, cut and too large files.
    """
    try:
        if kind == "JPEG":
            return _decode_jpeg(data, name, max_pixels, least_side)
        values = (_decode_png if kind == "PNG" else _decode_with_pillow)(data, name, max_pixels)
        return Decoded(values, (values.shape[0], values.shape[1]))
    except (cv2.error, MemoryError) as error:
        raise PhotographError(name, f"the {kind} data cannot be decoded", COPY_AGAIN) from error


def _decode_jpeg(data: bytes, name: str, max_pixels: int, least_side: int | None) -> Decoded:
    header = jpeg_header(data, name)
    check_size(name, header.rows, header.columns, max_pixels)
    if header.bits != 8 or header.channels not in (1, 3):
        values = _decode_with_pillow(data, name, max_pixels)
        return Decoded(values, (values.shape[0], values.shape[1]))
    reduction = reduction_for((header.rows, header.columns), least_side)
    pixels = _decode_with_opencv(data, name, _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION, header, reduction)
    # what a decoder fills in is grey at every scale, for it fills whole blocks
    if header.sequential and (pixels[-1, -1] == 128).all() and _wants_more(data, header.end):
        raise PhotographError(name, "the JPEG file is cut short: its end is filled with grey", COPY_AGAIN)
    stored = (header.rows, header.columns)
    return Decoded(upright(pixels, header.orientation), stored[::-1] if header.orientation > 4 else stored, reduction)


def reduction_for(shape: tuple[int, int], least_side: int | None) -> int:
    """Return the largest of 8, 4, 2 and 1 by which (rows, columns) can be divided with `least_side` pixels left on the shorter."""
    return next((r for r in (8, 4, 2) if least_side and min(shape) >= r * least_side), 1)


def _wants_more(data: bytes, end: int) -> bool:
    """Whether a sequential JPEG stops before its last pixel, although an end mark was set.

    A decoder that has all its pixels skips bytes put in before the end mark; one that ran out draws them.
    """
    longer = data[:end] + bytes(range(1, 97)) + data[end:]
    return not np.array_equal(_drawn(data), _drawn(longer))


def _drawn(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a JPEG by Pillow, which is silent about damage, or by OpenCV, which knows more kinds of header."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return np.asarray(picture)
    except Exception:  # noqa: BLE001 - Pillow raises OSError, SyntaxError, KeyError, ...; the other decoder has the last word
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return np.empty(0, np.uint8) if pixels is None else np.asarray(pixels, np.uint8)


def _decode_png(data: bytes, name: str, max_pixels: int) -> NDArray[Any]:
    header = png_header(data, name)
    check_size(name, header.rows, header.columns, max_pixels)
    if header.bits == 16:
        stored = _decode_with_opencv(data, name, cv2.IMREAD_UNCHANGED, header)
        return upright(_rgb_of(stored), header.orientation)
    if header.bits != 8 or header.palette or header.channels not in (1, 3):
        return _decode_with_pillow(data, name, max_pixels)
    pixels = _decode_with_opencv(data, name, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, header)
    return upright(pixels, header.orientation)


def _decode_with_opencv(
    data: bytes, name: str, flags: int, header: Header | None = None, reduction: int = 1
) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or (
        header and pixels.shape[:2] != (-(-header.rows // reduction), -(-header.columns // reduction))
    ):
        raise PhotographError(name, "the data are broken or cut short", COPY_AGAIN)
    return pixels


def _rgb_of(stored: NDArray[Any]) -> NDArray[Any]:
    """OpenCV's BGR or BGRA as RGB or RGBA; grey as it is."""
    codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return cv2.cvtColor(stored, codes[stored.shape[2]]) if stored.ndim == 3 else stored


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels turned and mirrored as Exif's orientation, 1 to 8, asks (CIPA DC-008, tag 274)."""
    turns = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    if orientation in turns:
        return cv2.rotate(pixels, turns[orientation])
    if orientation in (2, 4):
        return cv2.flip(pixels, 1 if orientation == 2 else 0)
    if orientation in (5, 7):
        mirrored = cv2.transpose(pixels)
        return mirrored if orientation == 5 else cv2.rotate(mirrored, cv2.ROTATE_180)
    return pixels


def _decode_with_pillow(data: bytes, name: str, max_pixels: int) -> NDArray[Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata; what it cannot read it raises
            with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as picture:
                check_size(name, picture.height, picture.width, max_pixels)
                is_tiff = picture.format == "TIFF"
                return _decode_tiff(picture, data, name) if is_tiff else _turned_by_pillow(picture)
    except (PhotographError, cv2.error, MemoryError):
        raise
    except UnidentifiedImageError as error:
        cause = "the header is broken, or of a kind that is not supported"
        raise PhotographError(name, cause, _EXPORT) from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, three times ours
        raise PhotographError(name, _first_line(error), "Export it smaller.") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise PhotographError(name, f"broken or cut short ({_first_line(error)})", COPY_AGAIN) from error


_BITS, _PHOTOMETRIC, _PLANES = 258, 262, 284  # tags of TIFF 6.0, section 8
_WHITE_IS_ZERO, _RGB = 0, 2
_PLACES = ((273, 279), (324, 325))  # offsets and byte counts of strips and of tiles


def _decode_tiff(picture: Any, data: bytes, name: str) -> NDArray[Any]:
    """The first page; refuses strips and tiles beyond the end of the file, which decoders would fill up."""
    tags = picture.tag_v2
    for offsets, counts in _PLACES:
        ends = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        if any(offset + count > len(data) for offset, count in ends):
            raise PhotographError(name, "the TIFF file is cut short", COPY_AGAIN)
    bits, light = tags.get(_BITS, (1,)), tags.get(_PHOTOMETRIC)
    if set(bits) == {16} and len(bits) in (3, 4) and light == _RGB:
        if tags.get(_PLANES, 1) != 1:
            raise PhotographError(name, "a 16-bit TIFF with separate colour planes is not supported", _EXPORT)
        return _rgb_of(_decode_with_opencv(data, name, cv2.IMREAD_UNCHANGED))  # OpenCV turns it upright
    array = _turned_by_pillow(picture)
    return 65535 - array if bits == (16,) and light == _WHITE_IS_ZERO else array


def _turned_by_pillow(picture: Any) -> NDArray[Any]:
    from PIL import ImageOps

    picture.load()
    return _array_of(ImageOps.exif_transpose(picture))


def _array_of(picture: Any) -> NDArray[Any]:
    """Palette and CMYK to RGB, one bit to grey, transparency to alpha, 16 and 32 bit kept as numbers."""
    if "transparency" in picture.info or picture.mode in ("PA", "LA", "RGBa"):
        picture = picture.convert("RGBA")
    elif picture.mode == "La":
        picture = picture.convert("LA").convert("RGBA")
    elif picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        picture = picture.convert("RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    array = np.asarray(picture)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        array = np.clip(array, 0, 65535).astype(np.uint16)  # Pillow holds some 16-bit TIFF in 32-bit integers
    return array


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
