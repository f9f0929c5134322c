"""What a file is that somebody sent, before it is taken: by its bytes and not by its name, and without decoding a pixel.

Pixels are decoded in the child process that judges, never here.
"""

from __future__ import annotations

import mmap
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fundoscope.errors import PhotographError
from fundoscope.imaging import DicomHeader
from fundoscope.imaging.dicom_header import read_dicom_header
from fundoscope.imaging.headers import check_size, jpeg_header, png_header
from fundoscope.imaging.kinds import foreign_kind, format_of
from fundoscope.server.services.placing import read_exif

MEDIA_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff", "BMP": "image/bmp", "WebP": "image/webp", "GIF": "image/gif",
    "JPEG 2000": "image/jp2", "AVIF": "image/avif", "PNM": "image/x-portable-anymap",
    "DICOM": "application/dicom",
}  # fmt: skip
#: Pillow's names of the kinds whose headers it reads in Python; of others only the child process asks.
_HEADED = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "JPEG 2000": "JPEG2000",
    "PNM": "PPM",
}
_HEAD = 4096  # bytes
_WITHIN = 1024  # bytes from the start in which readers of PDF and browsers look for their own marks
_MARKUP = re.compile(rb"<(?:!doctype|html|script|svg|iframe|\?php)", re.IGNORECASE)
_EXPORT = "Export the photograph as JPEG, PNG or TIFF."


@dataclass(frozen=True, slots=True)
class SniffedPhotograph:
    """What the header of a photograph tells; size None where only decoding would tell it, text blank where nothing does.

    `doubts` says in whole sentences what a DICOM header contradicts; `patient` and `view` are as it writes them; `header` is all of it.
    """

    media_type: str
    width: int | None
    height: int | None
    taken_at: str = ""
    camera: str = ""
    eye: str = ""
    view: str = ""
    patient: str = ""
    doubts: tuple[str, ...] = ()
    header: DicomHeader | None = None


def is_archive(path: Path) -> bool:
    """Whether a file begins as a ZIP archive does."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def sniff_photograph(path: Path, name: str, max_pixels: int, known: DicomHeader | None = None) -> SniffedPhotograph:
    """What a photograph's header tells; `known` is that of a DICOM file, where it was read already.

    Raises `PhotographError` for what is no photograph or more than one thing at once, is cut short, or has too many pixels.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise PhotographError(name, "the file is empty", "Copy it again from the camera.")
    kind = format_of(head)
    if kind is None:
        raise PhotographError(name, f"is {foreign_kind(head)}", _EXPORT)
    if b"%PDF-" in head[:_WITHIN] or _MARKUP.search(head, 0, _WITHIN) or _holds_archive(path):
        raise PhotographError(name, "is a photograph and another kind of document at once", _EXPORT)
    if kind == "DICOM":
        return _sniff_dicom(path, name, known)
    width, height = _read_size(path, kind, name, max_pixels)
    taken_at, camera = read_exif(path, [_HEADED[kind]]) if kind in ("JPEG", "PNG", "TIFF") else ("", "")
    return SniffedPhotograph(MEDIA_TYPES[kind], width, height, taken_at, camera)


def _sniff_dicom(path: Path, name: str, known: DicomHeader | None) -> SniffedPhotograph:
    header = known or read_dicom_header(path, name)
    if header.other_kind:
        raise PhotographError(name, f"is {header.other_kind}, and no photograph", "Send the photograph itself.")
    if header.frames > 1:
        cause = f"the DICOM file holds {header.frames} photographs"
        raise PhotographError(name, cause, "Export each as a file of its own.")
    return SniffedPhotograph(
        MEDIA_TYPES["DICOM"],
        None,
        None,
        header.exam_date,
        header.device,
        header.eye,
        header.view,
        header.patient,
        header.doubts,
        header,
    )


def _holds_archive(path: Path) -> bool:
    """Whether a photograph is a readable ZIP archive, too."""
    if not zipfile.is_zipfile(path):  # of 65,000 photographs one has the four bytes by chance
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(archive.infolist())
    except Exception:  # noqa: BLE001 - a parser of foreign bytes
        return False


def _read_size(path: Path, kind: str, name: str, max_pixels: int) -> tuple[int | None, int | None]:
    """Width and height of the picture upright; raises `PhotographError` where the file is not whole or too large."""
    if kind in ("JPEG", "PNG"):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            mapped: Any = data  # walked as bytes are, and never held
            header = jpeg_header(mapped, name) if kind == "JPEG" else png_header(mapped, name)
        check_size(name, header.rows, header.columns, max_pixels)
        turned = header.orientation > 4
        return (header.rows, header.columns) if turned else (header.columns, header.rows)
    if kind not in _HEADED:
        return None, None
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=[_HEADED[kind]]) as picture:
            width, height = picture.size
    except Image.DecompressionBombError as error:
        raise PhotographError(name, "has far too many pixels", "Export it smaller.") from error
    except Exception as error:
        raise PhotographError(
            name, f"the {kind} data cannot be read", "Copy it again from the camera, or export it anew."
        ) from error
    check_size(name, height, width, max_pixels)
    return width, height
