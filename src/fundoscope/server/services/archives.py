"""ZIP archives of photographs: unpacked one entry after the other onto the disk, under names of our own.

The names inside are only shown and read for eye and view; no path is made from them. What unfolds beyond the limits is cut off while
it unfolds, whatever the archive says of itself.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fundoscope.folders import is_hidden
from fundoscope.languages import gettext as _
from fundoscope.outputs import cannot_write
from fundoscope.server.services.sniffing import is_archive
from fundoscope.server.settings import UploadLimits

_END = b"PK\x05\x06"  # of the central directory (PKWARE APPNOTE 4.3.16)
_END_BYTES, _LONGEST_COMMENT = 22, 0xFFFF
_ENTRY_BYTES = 46 + 512  # of the directory that an entry may take on average: more is no archive of photographs
_STEP = 1 << 18
_UTF8, _ENCRYPTED = 0x800, 0x1  # flags of an entry
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field that holds the name in UTF-8


class ArchiveError(Exception):
    """An archive that is refused whole; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class UnpackedEntry:
    """One entry: where it lies with its size and SHA-256, or `refused` with the reason."""

    name: str  # with its folders, as the archive says
    file: Path | None = None
    size: int = 0
    digest: str = ""
    refused: str = ""
    hidden: bool = False  # a file that systems put there, of which nobody wants to hear


def unpack(path: Path, folder: Path, limits: UploadLimits, files: int, total: int) -> Iterator[UnpackedEntry]:
    """Unpack an archive's files into `folder`, at most `files` of them and `total` bytes together.

    Raises `ArchiveError`, possibly after the first entries, where it is broken or beyond the limits.
    """
    _check_directory(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > files:
                raise ArchiveError(
                    _("The archive holds {found} files, the limit is {most}. Send it in parts.").format(
                        found=len(entries), most=files
                    )
                )
            for number, entry in enumerate(entries):
                unpacked = _unpack_one(archive, entry, folder / f"{path.name}-{number}", limits.file_bytes, total)
                total -= unpacked.size
                yield unpacked
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        if cannot_write(error):
            raise
        raise ArchiveError(_("The archive is damaged. Make it anew, or send the photographs themselves.")) from error


def _check_directory(path: Path, limits: UploadLimits) -> None:
    """Refuse an archive whose directory would fill the memory, before it is read."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES - _LONGEST_COMMENT))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ArchiveError(_("The archive is cut short: its directory is missing. Copy it again."))
    entries, directory = struct.unpack_from("<HL", tail, at + 10)
    most = 2 * limits.files + 100  # folders and hidden files stand there, too
    if entries > most or directory > most * _ENTRY_BYTES:
        raise ArchiveError(_("The archive holds more than {most} files. Send it in parts.").format(most=limits.files))


def _unpack_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, most: int, total: int) -> UnpackedEntry:
    name = decode_name(entry)
    if any(is_hidden(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")):
        return UnpackedEntry(name, hidden=True)
    if entry.flag_bits & _ENCRYPTED:
        return UnpackedEntry(name, refused=_("It is locked with a password. Make the archive without one."))
    if stat.S_ISLNK(entry.external_attr >> 16):
        return UnpackedEntry(name, refused=_("It is a link and not a file. Send the photograph itself."))
    if min(entry.file_size, most + 1) > min(most, total):
        return UnpackedEntry(name, refused=_describe_limit(most, total))
    digest, size = hashlib.sha256(), 0
    try:
        with archive.open(entry) as packed, target.open("xb") as file:
            while part := packed.read(_STEP):
                size += len(part)
                if size > min(most, total):  # whatever its header says
                    raise ArchiveError(_describe_limit(most, total))
                digest.update(part)
                file.write(part)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:  # RuntimeError: encrypted
        target.unlink(missing_ok=True)
        method = isinstance(error, NotImplementedError)
        told = (
            _("It is packed in a way that is not read. Make an ordinary ZIP archive.")
            if method
            else _("It is damaged in the archive. Make the archive anew.")
        )
        return UnpackedEntry(name, refused=told)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if size and is_archive(target):
        target.unlink()
        return UnpackedEntry(name, refused=_("It is an archive within the archive. Unpack it first."))
    return UnpackedEntry(name, target, size, digest.hexdigest())


def _describe_limit(most: int, total: int) -> str:
    if total < most:
        return _("The archive unfolds to more than one upload may hold. Send it in parts.")
    return _("It is larger than {most} MB. Export it smaller.").format(most=most >> 20)


def decode_name(entry: zipfile.ZipInfo) -> str:
    """The name of an entry as who packed it saw it: UTF-8 where the archive says or shows it, else GB 18030, else code page 437."""
    extra = entry.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == _UNICODE_PATH and 5 < length <= len(extra) - 4:
            return extra[9 : 4 + length].decode("utf-8", "replace")
        extra = extra[4 + length :]
    if entry.flag_bits & _UTF8:
        return entry.orig_filename
    try:
        raw = entry.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return entry.orig_filename
    for code in ("utf-8", "gb18030"):
        try:
            return raw.decode(code)
        except UnicodeDecodeError:
            continue
    return entry.orig_filename
