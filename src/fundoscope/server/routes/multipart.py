"""Files of a form, written to disk as they come: no file is ever held in memory, and what is too much is refused while it comes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from fundoscope.languages import gettext as _
from fundoscope.server.errors import InvalidError, TooLargeError
from fundoscope.server.services.uploads import SentFile
from fundoscope.server.settings import UploadLimits

_FIELD_BYTES = 4096  # of a field that is no file; its content is not used
_HEADER_BYTES = 8192  # of one part


@dataclass
class _Part:
    """One part of the form while it comes."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str | None = None  # of the file; None for other fields
    file: IO[bytes] | None = None
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class _Receiver:
    """Writes the parts of a form to `folder`; `sent` are the files that are whole."""

    def __init__(self, folder: Path, limits: UploadLimits) -> None:
        self.sent: list[SentFile] = []
        self.ended = False
        self._folder = folder
        self._limits = limits
        self._part = _Part()
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin, "on_header_field": lambda *span: self._add_header(0, *span),
            "on_header_value": lambda *span: self._add_header(1, *span), "on_header_end": self._end_header,
            "on_headers_finished": self._open, "on_part_data": self._write, "on_part_end": self._close, "on_end": self._end,
        }  # fmt: skip

    def abandon(self) -> None:
        """Close what is still open."""
        if self._part.file is not None:
            self._part.file.close()

    def _begin(self) -> None:
        self._part = _Part()

    def _add_header(self, side: int, data: bytes, start: int, end: int) -> None:
        self._header[side].extend(data[start:end])
        if len(self._header[side]) > _HEADER_BYTES:
            raise InvalidError(_("The form cannot be read: a header is too long. Send the files again."))

    def _end_header(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._part.headers[name.lower()] = value
        self._header = (bytearray(), bytearray())
        if len(self._part.headers) > 20:
            raise InvalidError(_("The form cannot be read: it has too many headers. Send the files again."))

    def _open(self) -> None:
        options = parse_options_header(self._part.headers.get(b"content-disposition", b""))[1]
        name = options.get(b"filename")
        if name is None:
            return
        if len(self.sent) >= self._limits.files:
            raise TooLargeError(_too_many(self._limits.files))
        self._part.name = _decode(name)
        self._part.file = (self._folder / str(len(self.sent))).open("xb")

    def _write(self, data: bytes, start: int, end: int) -> None:
        part, piece = self._part, memoryview(data)[start:end]
        part.size += len(piece)
        if part.file is None:
            if part.size > _FIELD_BYTES:
                raise InvalidError(_("The form cannot be read: a field is too long. Send the files as files."))
            return
        part.digest.update(piece)
        part.file.write(piece)

    def _close(self) -> None:
        part = self._part
        if part.file is None:
            return
        part.file.close()
        place = Path(part.file.name)
        part.file = None
        if part.name or part.size:  # a form without a chosen file sends a nameless, empty one
            self.sent.append(SentFile(part.name or "", place, part.size, part.digest.hexdigest()))

    def _end(self) -> None:
        self.ended = True


async def receive_files(request: Request, folder: Path, limits: UploadLimits) -> list[SentFile]:
    """The files of a form (multipart/form-data), in `folder`, in their order.

    Raises `InvalidError` for another kind of request, or one that breaks off, and `TooLargeError` for more files than are allowed;
    how many bytes a request may have the gate watches.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidError(_("This is no form with files. Send multipart/form-data."), "content-type")
    receiver = _Receiver(folder, limits)
    try:
        parser = MultipartParser(boundary, receiver.callbacks())
        async for piece in request.stream():
            parser.write(piece)
        parser.finalize()
    except MultipartParseError as error:
        raise InvalidError(_("The form cannot be read. Send the files again.")) from error
    finally:
        receiver.abandon()
    if not receiver.ended:
        raise InvalidError(_("The upload broke off. Send the files again."))
    if not receiver.sent:
        raise InvalidError(_("No file was sent. Choose photographs, a folder or a ZIP archive."), "photographs")
    return receiver.sent


def _too_many(most: int) -> str:
    return _("These are more than {most} files. Send them in parts.").format(most=most)


def _decode(name: bytes) -> str:
    """A file's name as its sender saw it: browsers write UTF-8 and hide quotes and line breaks; old programs wrote their own code page."""
    for code in ("utf-8", "gb18030"):
        try:
            text = name.decode(code)
            break
        except UnicodeDecodeError:
            continue
    else:
        text = name.decode("latin-1")
    return text.replace("%22", '"').replace("%0D", " ").replace("%0A", " ")
