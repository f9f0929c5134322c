"""A page that is written piece by piece, so that a thousand rows take no more memory than one.

A run that is stopped leaves a page that reads. Only the summary at the top is written last, into room that was kept
for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from fundoscope.errors import UsageError

State = Literal["running", "whole", "stopped"]

_SUMMARY_ROOM = 4096  # bytes kept for the summary, which holds a few numbers and no text of the user's


class StreamedReport(ABC):
    """A page at `path`: head, summary, whatever is written, foot. Use it in a `with` block.

    Raises `UsageError` where `path` cannot be written.
    """

    def __init__(self, path: Path, head: bytes) -> None:
        self._path = path
        self._file: BinaryIO = _open(path)
        self._write(head)
        self._summary_at = self._file.tell()
        self._write(self._summary("running").ljust(_SUMMARY_ROOM))

    @abstractmethod
    def _summary(self, state: State) -> bytes:
        """What stands at the top, by what is known now."""

    @abstractmethod
    def _foot(self) -> bytes:
        """What ends the page."""

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
            self._file.seek(self._summary_at)
            self._write(self._summary("whole" if whole else "stopped").ljust(_SUMMARY_ROOM))

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()  # a run that is killed keeps every finished row
        except OSError as error:
            raise UsageError(
                f"{self._path}: cannot be written ({error.strerror}). Free space, or give another folder."
            ) from error


def _open(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}). Give a folder that can.") from error
