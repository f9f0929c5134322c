"""A page that is written piece by piece, so that a thousand rows take no more memory than one.

A run that is stopped or killed leaves a page that reads. Only the summary at the top is written last, into room that
was kept for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from markupsafe import Markup

from fundoscope.errors import OutputError
from fundoscope.languages import gettext as _

State = Literal["running", "whole", "stopped"]

_SUMMARY_ROOM = 4096  # bytes kept for the summary, which holds a few numbers and no text of the user's


class StreamedReport(ABC):
    """A page at `path`: head, summary, guide, rows, foot. Use it in a `with` block.

    `head` and `guide` are written at once, between them what was `skipped` when photographs were looked for. With a `position`, the page lies there already: it is cut at that byte, the
    end of its last finished row, and goes on; `head` must then be what it was. Raises `OutputError` where `path` cannot
    be written.
    """

    def __init__(self, path: Path, head: bytes, guide: bytes, position: int | None = None, skipped: str = "") -> None:
        self._path = path
        self._file = _open(path, position)
        self._summary_at = len(head)
        self.position = position or 0
        if position is None:
            notice = (
                Markup('<p class="skipped">{}</p>\n').format(_("Not among them: {skipped}.").format(skipped=skipped))
                if skipped
                else ""
            )
            self._write(head + self._padded_summary("running") + notice.encode("utf-8", "backslashreplace") + guide)
        else:
            self._write_summary("running")

    @abstractmethod
    def _summary(self, state: State) -> bytes:
        """The summary at the top of the page, by what is known now."""

    @abstractmethod
    def _foot(self) -> bytes:
        """The end of the page."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(whole=kind is None)

    def close(self, whole: bool = True) -> None:
        """Write foot and summary and finish the file; a second call does nothing.

        Outside a `with` block, say `whole=False` when the run broke off: the page then says so.
        """
        if self._file.closed:
            return
        with self._file:
            self._write(self._foot())
            self._write_summary("whole" if whole else "stopped")

    def _write(self, data: bytes) -> None:
        """Append to the page and flush, so that a run that is killed keeps every finished row."""
        self._write_at(self.position, data)
        self.position += len(data)

    def _write_summary(self, state: State) -> None:
        self._write_at(self._summary_at, self._padded_summary(state))

    def _padded_summary(self, state: State) -> bytes:
        return self._summary(state).ljust(_SUMMARY_ROOM)

    def _write_at(self, position: int, data: bytes) -> None:
        try:
            self._file.seek(position)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise OutputError(self._path, error) from error


def _open(path: Path, position: int | None) -> BinaryIO:
    try:
        if position is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # never write through a link
            return path.open("xb")
        file = path.open("r+b")
        file.truncate(position)
    except OSError as error:
        raise OutputError(path, error) from error
    return file
