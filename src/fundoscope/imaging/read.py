"""From a file, bytes or an array to a `Photograph`: eight-bit RGB, upright, whole.

The pixel count is checked in the header, before anything is decoded, so that a small file that unfolds into
gigabytes is refused at once. Everything that goes wrong is a `PhotographError` that names file and cause.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError

Pixels = NDArray[np.uint8]  # (rows, columns, 3), RGB

MAX_PIXELS = 60_000_000  # twice the largest fundus camera known to us (about 30 megapixels)
MAX_BYTES = 512 * 1024 * 1024
MIN_SIDE = 32  # pixels: below this nothing of a retina can be told

#: Suffixes that folders and globs are searched for; a file named by itself may have any name.
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
}


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """One upright photograph.

    `pixels` is (rows, columns, 3), uint8, RGB; `name` is the file as the caller gave it; `n_bytes` the length of
    the encoded file (0 for an array) and `format` one of JPEG, PNG, TIFF, BMP or array.
    """

    pixels: Pixels
    name: str
    n_bytes: int
    format: str


def read(source: str | Path | bytes | NDArray[Any], name: str | None = None, max_pixels: int = MAX_PIXELS) -> Photograph:
    """Read a photograph from a path, the bytes of a file, or an array.

    Arrays are (rows, columns), (rows, columns, 3 or 4) in RGB order: uint8, uint16, bool, or floating point in 0..1.
    Raises `PhotographError` for whatever is missing, empty, truncated, too large or no image.
    """
    if isinstance(source, np.ndarray):
        name = name or "array"
        _check_size(name, source.shape[:2] if source.ndim >= 2 else (0, 0), max_pixels)
        return Photograph(_as_rgb8(source, name), name, 0, "array")
    if isinstance(source, bytes):
        return _decode(source, name or "bytes", max_pixels)
    name = name or str(source)
    return _decode(_bytes_of(Path(source), name), name, max_pixels)


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise PhotographError(name, "is a folder, not a photograph", "Name the photographs in it, or give the folder to the command line.")
        if not path.exists():
            raise PhotographError(name, "there is no such file", "Check the path.")
        if not path.is_file():
            raise PhotographError(name, "is not a regular file", "Give a photograph stored on disk.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PhotographError(name, f"has {size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}", "Export it smaller.")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise PhotographError(name, f"cannot be opened ({reason})", "Check the path and its permissions.") from error


def _decode(data: bytes, name: str, max_pixels: int) -> Photograph:
    if not data:
        raise PhotographError(name, "the file is empty", "Copy it again from the camera.")
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None:
        raise PhotographError(name, "is not a JPEG, PNG, TIFF or BMP image", "Export the photograph in one of these formats.")
    try:
        if (plain := _plain_layout(data, kind)) is not None:
            _check_size(name, plain, max_pixels)
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            if pixels is None:
                raise PhotographError(name, f"the {kind} data are broken or cut short", "Copy it again from the camera.")
            return Photograph(pixels, name, len(data), kind)
        return Photograph(_decode_with_pillow(data, name, max_pixels), name, len(data), kind)
    except (cv2.error, MemoryError) as error:
        raise PhotographError(name, f"the {kind} data cannot be decoded", "Copy it again from the camera.") from error


def _plain_layout(data: bytes, kind: str) -> tuple[int, int] | None:
    """(rows, columns) of an ordinary upright 8-bit grey or RGB JPEG or PNG, which OpenCV reads fast and right; else None.

    Orientation marks, CMYK, palettes, alpha and 16 bit go to Pillow, where each is handled by name.
    """
    if kind == "PNG" and len(data) > 33 and data[12:16] == b"IHDR":
        columns, rows, depth, colour = struct.unpack(">IIBB", data[16:26])
        plain = depth == 8 and colour in (0, 2) and b"eXIf" not in data[33:8192] and b"tRNS" not in data[33:8192]
        return (rows, columns) if plain and _png_is_whole(data) else None
    if kind == "JPEG":
        return _plain_jpeg(data)
    return None


def _png_is_whole(data: bytes) -> bool:
    """Whether the end mark stands at the end: OpenCV fills a cut picture with grey without a word."""
    return data[-12:] == b"\x00\x00\x00\x00IEND\xaeB`\x82"


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            return None
        if marker in (0xC0, 0xC1, 0xC2):
            rows, columns, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            whole = data.rfind(b"\xff\xd9", -4096) >= 0
            return (rows, columns) if components in (1, 3) and data[at + 4] == 8 and whole else None
        at += 2 + length
    return None


def _decode_with_pillow(data: bytes, name: str, max_pixels: int) -> Pixels:
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # our own limit, below, is the stricter one and comes before any decoding
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on metadata; what it cannot read it raises
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF", "BMP", "MPO")) as picture:
                _check_size(name, (picture.height, picture.width), max_pixels)
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                return _as_rgb8(_array_of(upright), name)
    except PhotographError:
        raise
    except UnidentifiedImageError as error:
        raise PhotographError(name, "the header is broken", "Copy it again from the camera.") from error
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise PhotographError(name, f"broken or cut short ({_first_line(error)})", "Copy it again from the camera.") from error


def _array_of(picture: Any) -> NDArray[Any]:
    """Palette and CMYK to RGB, one bit to grey, 16 and 32 bit kept as numbers."""
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        picture = picture.convert("RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    array = np.asarray(picture)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        array = np.clip(array, 0, 65535).astype(np.uint16)  # Pillow holds some 16-bit TIFF in 32-bit integers
    return array


def _as_rgb8(array: NDArray[Any], name: str) -> Pixels:
    if array.ndim == 3 and array.shape[2] in (1, 2):
        array = _over_black(array[..., :1], array[..., 1:]) if array.shape[2] == 2 else array
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PhotographError(name, f"an array of shape {array.shape} is no photograph", "Give (rows, columns) or (rows, columns, 3).")
    array = _as_uint8(array, name)
    if array.ndim == 2:
        return cv2.cvtColor(array, cv2.COLOR_GRAY2RGB)
    if array.shape[2] == 4:
        array = _over_black(array[..., :3], array[..., 3:])
    return np.ascontiguousarray(array)


def _as_uint8(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        # 10- and 12-bit cameras store small numbers in 16 bits: scale by the bits in use
        bits = max(8, int(array.max()).bit_length()) if array.size else 8
        return (array >> (bits - 8)).astype(np.uint8)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PhotographError(name, "floating-point values outside 0 to 1", "Scale them, or give uint8.")
        return np.round(array * 255).astype(np.uint8)
    raise PhotographError(name, f"values of type {array.dtype} are not understood", "Give uint8, uint16 or floats in 0..1.")


def _over_black(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Transparent parts become black, as the surround of a fundus photograph is."""
    top = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "iu" else 1.0
    return (colour * (alpha / top)).astype(colour.dtype)


def _check_size(name: str, shape: tuple[int, ...], max_pixels: int) -> None:
    rows, columns = shape[:2]
    if rows * columns > max_pixels:
        raise PhotographError(name, f"{columns}x{rows} pixels are over the limit of {max_pixels}", "Export it smaller.")
    if min(rows, columns) < MIN_SIDE:
        raise PhotographError(name, f"{columns}x{rows} pixels are too few for a photograph", f"Give at least {MIN_SIDE} by {MIN_SIDE}.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
