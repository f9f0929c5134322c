"""Encoded bytes to an upright array of grey, RGB or RGBA, of whatever depth the file holds.

OpenCV decodes JPEG and the ordinary kinds of PNG, because it is the fastest, and 16 bits of RGB, of which Pillow keeps only
the upper eight (a 12-bit camera uses the lower twelve). Pillow decodes palettes, CMYK, alpha, one bit, and every other
format; TIFF, which may be anything, has a file of its own.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging.decoded import Decoded, upright
from fundoscope.imaging.headers import COPY_AGAIN, Header, check_gif, check_size, jp2_header, jpeg_header, png_header
from fundoscope.imaging.kinds import format_of
from fundoscope.imaging.tiff import decode_tiff

_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,  # colour by the first flag, the scale by the second
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
#: Pillow's names of the kinds of file, where they are others.
_PILLOW_NAMES = {"WebP": "WEBP", "JPEG 2000": "JPEG2000", "PNM": "PPM"}
_EXPORT = "Export it as 8-bit RGB JPEG, PNG or TIFF."

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what OpenCV would print about a broken file is in the PhotographError instead
warnings.filterwarnings("ignore", module=r"PIL\.")  # and so is what Pillow would


def decode(data: bytes, kind: str, name: str, max_pixels: int, least_side: int | None = None) -> Decoded:
    """Decode a file whose `kind` is what `format_of` gave.

    A JPEG is decoded at the largest reduction (8, 4 or 2) that leaves its shorter side `least_side` pixels; None: in full.
    Raises `PhotographError` for broken, cut and too large files, and nothing else: whatever a decoder raises is one.
    """
    try:
        if kind == "JPEG":
            return decode_jpeg(data, name, max_pixels, least_side)
        if kind == "TIFF":
            return decode_tiff(data, name, max_pixels, lambda page: _by_pillow(data, name, max_pixels, page).values)
        others = {"PNG": _decode_png, "JPEG 2000": _decode_jp2, "WebP": _decode_webp, "GIF": _decode_gif}
        return others.get(kind, _by_pillow)(data, name, max_pixels)
    except PhotographError:
        raise
    except (
        Exception
    ) as error:  # decoders raise OSError, SyntaxError, KeyError, struct.error, cv2.error, MemoryError, ...
        said = "" if isinstance(error, cv2.error) else f" ({_first_line(error)})"
        remedy = f"{COPY_AGAIN[:-1]}, or export it anew."
        raise PhotographError(name, f"the {kind} data cannot be decoded{said}", remedy) from error


def decode_jpeg(data: bytes, name: str, max_pixels: int, least_side: int | None, turn: bool = True) -> Decoded:
    """A JPEG, reduced as `decode` says, and turned as its Exif block asks unless `turn` is False."""
    header = jpeg_header(data, name)
    if not turn:
        header = replace(header, orientation=1)
    check_size(name, header.rows, header.columns, max_pixels)
    if header.bits != 8 or header.channels not in (1, 3) or header.lossless:
        return _by_pillow(data, name, max_pixels)
    reduction = reduction_for((header.rows, header.columns), least_side)
    pixels = _decode_with_opencv(data, name, _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION, header, reduction)
    # what a decoder fills in is grey at every scale, for it fills whole blocks
    if header.sequential and (pixels[-1, -1] == 128).all() and _wants_more(data, header.end):
        raise PhotographError(name, "the JPEG file is cut short: its end is filled with grey", COPY_AGAIN)
    stored = (header.rows, header.columns)
    shape = stored[::-1] if header.orientation > 4 else stored
    return Decoded(upright(pixels, header.orientation), shape, reduction, remark=_remark_on(header.pictures))


def reduction_for(shape: tuple[int, int], least_side: int | None) -> int:
    """Return the largest of 8, 4, 2 and 1 by which (rows, columns) can be divided with `least_side` pixels left on the shorter."""
    return next((r for r in (8, 4, 2) if least_side and min(shape) >= r * least_side), 1)


def _wants_more(data: bytes, end: int) -> bool:
    """Whether a sequential JPEG stops before its last pixel, although an end mark was set.

    A decoder that has all its pixels skips bytes put in before the end mark; one that ran out draws them.
    """
    start = 2
    while (
        data[start : start + 1] == b"\xff" and 0xE0 <= data[start + 1] <= 0xEF
    ):  # what programs add, which may be damaged
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    whole = data[:2] + data[start:]
    end -= start - 2
    longer = whole[:end] + bytes(range(1, 97)) + whole[end:]
    return not np.array_equal(_drawn(whole), _drawn(longer))


def _drawn(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a JPEG by Pillow, which says nothing of damage on standard error, as OpenCV does."""
    try:
        with import_pillow().open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError):
        return np.empty(0, np.uint8)


def import_pillow() -> Any:
    """Pillow's `Image`, told to refuse cut files: some libraries, such as WeasyPrint, tell it for the whole process to fill them up."""
    from PIL import Image, ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return Image


def _decode_png(data: bytes, name: str, max_pixels: int) -> Decoded:
    header = png_header(data, name)
    check_size(name, header.rows, header.columns, max_pixels)
    if header.bits != 16 and (header.bits != 8 or header.palette or header.channels not in (1, 3)):
        return _by_pillow(data, name, max_pixels)
    if header.bits == 16:
        pixels = _rgb_of(_decode_with_opencv(data, name, cv2.IMREAD_UNCHANGED, header))
    else:
        pixels = _decode_with_opencv(data, name, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, header)
    pixels = upright(pixels, header.orientation)
    return Decoded(pixels, pixels.shape[:2], remark=_remark_on(header.pictures))


def _decode_jp2(data: bytes, name: str, max_pixels: int) -> Decoded:
    header = jp2_header(data, name)
    check_size(name, header.rows, header.columns, max_pixels)
    if header.bits <= 8:
        return _by_pillow(data, name, max_pixels)
    pixels = _rgb_of(_decode_with_opencv(data, name, cv2.IMREAD_UNCHANGED, header))  # Pillow keeps eight bits
    return Decoded(pixels, pixels.shape[:2], bits=header.bits if header.bits < 16 else None)


def _decode_webp(data: bytes, name: str, max_pixels: int) -> Decoded:
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise PhotographError(name, "the WebP file is cut short", COPY_AGAIN)
    return _by_pillow(data, name, max_pixels)


def _decode_gif(data: bytes, name: str, max_pixels: int) -> Decoded:
    check_gif(data, name)
    return _by_pillow(data, name, max_pixels)


def _remark_on(pictures: int) -> str:
    if pictures < 2:
        return ""
    return f"The file holds {pictures} pictures, of which only the first was looked at: save the others one by one."


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


def _by_pillow(data: bytes, name: str, max_pixels: int, page: int = 0) -> Decoded:
    from PIL import ImageOps, UnidentifiedImageError

    Image = import_pillow()
    kind = format_of(data) or ""
    format_name = _PILLOW_NAMES.get(kind, kind)
    Image.init()  # all formats are known from here on
    if format_name not in Image.OPEN:
        raise PhotographError(
            name, f"the Pillow that is installed does not read {kind}", f"Update it, or e{_EXPORT[1:]}"
        )
    try:
        with Image.open(io.BytesIO(data), formats=(format_name,)) as picture:
            picture.seek(page)
            check_size(name, picture.height, picture.width, max_pixels)
            pictures = 1 if picture.format == "TIFF" else getattr(picture, "n_frames", 1)
            picture.load()
            values = array_of(ImageOps.exif_transpose(picture))
        return Decoded(values, values.shape[:2], remark=_remark_on(pictures))
    except UnidentifiedImageError as error:
        cause = "the header is broken, or of a kind that is not supported"
        raise PhotographError(name, cause, _EXPORT) from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, three times ours
        raise PhotographError(name, "the picture is far over the limit of pixels", "Export it smaller.") from error


def array_of(picture: Any) -> NDArray[Any]:
    """Palette and CMYK to RGB, one bit to grey, transparency to alpha, 16 and 32 bit kept as numbers."""
    if "transparency" in picture.info or picture.mode in ("PA", "LA", "RGBa"):
        picture = picture.convert("RGBA")
    elif picture.mode == "La":
        picture = picture.convert("LA").convert("RGBA")
    elif picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        picture = picture.convert("RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    return np.asarray(picture)


def _first_line(error: Exception) -> str:
    kind = "" if isinstance(error, (OSError, ValueError, SyntaxError)) else f"{type(error).__name__}: "
    return (kind + (str(error).splitlines() or [""])[0])[:120].rstrip(": ")
