"""What Python code may give as a photograph, and as many of them: types, names, and what can be read twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging.dicom_facts import MAX_BYTES, FramePath

if TYPE_CHECKING:
    from PIL import Image

#: What can be read: a path, the bytes of a file, a file opened in binary mode, an array, or a PIL image.
Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[Any] | Image.Image"


_TAKEN = (
    "Taken are a path, the bytes of a file, a file opened in binary mode, an array (rows, columns) or "
    "(rows, columns, 3) in RGB, and a PIL image"
)


def load_source(source: Any, name: str) -> str | FramePath | bytes | NDArray[Any]:
    """A source as something that can be read again: a path, one picture of a DICOM file, the bytes of a file, or an array.

    Raises `TypeError` for what is no source, and `PhotographError` where a file or a PIL image cannot be read.
    """
    kind = _kind_of(source)
    if isinstance(source, FramePath) or (isinstance(source, np.ndarray) and kind != "bytes"):
        return source
    if kind == "path":
        return os.fsdecode(source)
    if kind == "bytes":
        return bytes(source)
    try:
        if kind == "image":
            return _pixels_of(source)
        if kind == "file":
            return _bytes_of(source)
    except TypeError:
        raise
    except Exception as error:  # whatever a file of the caller's own raises concerns this photograph only
        raise PhotographError(
            name, f"cannot be read ({error})", "Open it again, and give it before it is closed."
        ) from error
    raise TypeError(f"{name} is of type {_type_name(source)}. {_TAKEN}.")


def name_of(source: Any, number: int | None = None) -> str:
    """A source's path, where it has one, or else what it is: "array", or "array 3" for the third of several."""
    kind = _kind_of(source)
    label = getattr(source, {"file": "name", "image": "filename"}.get(kind, "no label"), None)
    path = source if kind == "path" else label
    if isinstance(path, str | os.PathLike) and (kind == "path" or str(path)):
        return str(path) if isinstance(path, FramePath) else str(os.fsdecode(path))
    return kind or _type_name(source) if number is None else f"{kind} {number}"


def name_each(photographs: Any) -> Iterator[tuple[Any, str]]:
    """Each of one or many photographs with a name for its row: its path, or "array 3" for the third.

    Taken are a source, an array (n, rows, columns, 3), and any iterable of these, which is gone through once and held
    nowhere. Files and PIL images are read when their turn comes, so that a generator may close them. Raises `TypeError`
    for anything else, before the first photograph where `photographs` is a list.
    """
    if _kind_of(photographs):
        photographs = [photographs]
    elif (
        isinstance(photographs, Mapping)
        or not isinstance(photographs, Iterable)
        or getattr(photographs, "ndim", 1) == 0
    ):
        raise TypeError(f"photographs of type {_type_name(photographs)}. {_TAKEN}; or an iterable of these.")
    if isinstance(photographs, Sequence):
        for number, source in enumerate(photographs, 1):
            _check_type(source, number)
    return _named(photographs)


def _named(photographs: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    may_be_reused = isinstance(photographs, Iterator)  # a generator may fill one array again and again
    number = 0
    for given in photographs:
        _check_type(given, number + 1)
        for source in given if _is_batch(given) else [given]:
            number += 1
            kind, name = _kind_of(source), name_of(source, number)
            if kind == "array" and may_be_reused:
                source = source.copy()
            elif kind == "path" and (pictures := _pictures_in(source)):
                yield from ((picture, str(picture)) for picture in pictures)
                continue
            elif kind in ("file", "image"):
                with suppress(PhotographError):  # whoever reads it meets the same error, and makes a row of it
                    source = load_source(source, name)
            yield source, name


def _pictures_in(source: Any) -> list[FramePath]:
    """Each picture of a DICOM file that holds several; none for every other file."""
    from fundoscope.imaging.dicom_header import frames_of

    return frames_of(Path(os.fsdecode(source))) if not isinstance(source, FramePath) else []


def _check_type(source: Any, number: int) -> None:
    if not (_kind_of(source) or _is_batch(source)):
        raise TypeError(f"photograph {number} is of type {_type_name(source)}. {_TAKEN}.")


def _is_batch(source: Any) -> bool:
    return isinstance(source, np.ndarray) and source.ndim == 4


def _kind_of(source: Any) -> str:
    """path, bytes, array, image or file; blank for what is none of these."""
    if isinstance(source, str | os.PathLike):
        return "path"
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(source, np.ndarray):
        if source.ndim == 1 and source.dtype == np.uint8:
            return "bytes"  # an encoded file, as numpy.fromfile and OpenCV give it
        return "array" if source.ndim in (2, 3) and source.dtype.kind in "biuf" else ""
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(source, pillow.Image):
        return "image"
    return "file" if callable(getattr(source, "read", None)) else ""


def _type_name(source: Any) -> str:
    kind = type(source)
    if isinstance(source, np.ndarray):
        return f"numpy.ndarray of shape {source.shape} and type {source.dtype}"
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _bytes_of(file: IO[bytes]) -> bytes:
    """Everything in a file, from its start where it can be wound back."""
    if callable(getattr(file, "seek", None)) and getattr(file, "seekable", lambda: True)():
        file.seek(0)
    data = file.read(MAX_BYTES + 1)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the file gives {_type_name(data)} and not bytes. Open it in binary mode: open(path, 'rb').")
    return bytes(data)


def _pixels_of(picture: Image.Image) -> NDArray[Any]:
    from PIL import ImageOps

    from fundoscope.imaging.decode import array_of

    picture.load()
    return array_of(ImageOps.exif_transpose(picture))
