"""Where rows go: results.csv, results.json, and JSON lines on standard output. Each row is flushed at once."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from fundoscope.errors import OutputError
from fundoscope.findings import GradedPhotograph, Mention, Row


class GrowingFile:
    """A file that grows piece by piece and is flushed at once, so that a run that is killed loses nothing finished.

    With a `position` the file is cut there and goes on; without, it begins anew. Raises `OutputError` when it cannot
    be written.
    """

    def __init__(self, path: Path, position: int | None = None) -> None:
        self.path = path
        try:
            if position is None:
                path.unlink(missing_ok=True)  # never write through a link
                self._file: BinaryIO = path.open("xb")
            else:
                self._file = path.open("r+b")
                self._file.truncate(position)
                self._file.seek(position)
        except OSError as error:
            raise OutputError(path, error) from error
        self.position = position or 0

    def write(self, data: bytes, tail: bytes = b"") -> None:
        """Write `data`, and after it `tail`, which the next write overwrites."""
        try:
            self._file.seek(self.position)
            self._file.write(data + tail)
            self._file.flush()
        except OSError as error:
            if self.position == 0:  # nothing of it is finished: better no file than an empty one
                with suppress(OSError):
                    self.path.unlink()
            raise OutputError(self.path, error) from error
        self.position += len(data)

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(self.path, error) from error


class CsvTable:
    """A table with a header; None is an empty cell."""

    def __init__(self, path: Path, columns: Sequence[str], position: int | None = None) -> None:
        self._columns = columns
        self._file = GrowingFile(path, position)
        if position is None:
            self._file.write(self._lines([dict(zip(columns, columns, strict=True))]))

    @property
    def position(self) -> int:
        """Length in bytes of what is written."""
        return self._file.position

    def add(self, number: int, mention: Mention, graded: GradedPhotograph | None, rows: Sequence[Row]) -> Sequence[str]:
        """Write the rows of a photograph."""
        self.add_rows(rows)
        return ()

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        self._file.write(self._lines(rows))

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Nothing is counted here."""

    def close(self, whole: bool) -> None:
        """Close the file."""
        self._file.close()

    def _lines(self, rows: Sequence[Row]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(
            {key: "" if value is None else value for key, value in row.items()} for row in rows
        )
        return text.getvalue().encode("utf-8", "surrogateescape")


_END = b"\n]}\n"


class JsonTable:
    """The same rows as JSON, `{"skipped": ..., "rows": [...]}`, a row a line; None is null.

    `skipped` tells by kind how many files were left out when photographs were looked for, and which. `warnings` is asked at
    the end for sentences on all photographs together: where there are any, the JSON ends with them. The file is whole after
    every photograph.
    """

    def __init__(
        self,
        path: Path,
        position: int | None = None,
        skipped: Mapping[str, Any] | None = None,
        warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._file = GrowingFile(path, position)
        self._warnings = warnings
        self._before = b",\n"
        if position is None:
            self._before = b"\n"
            self._file.write(b'{"skipped": ' + json.dumps(skipped or {}).encode() + b',\n"rows": [', tail=_END)
        else:
            self._file.write(b"", tail=_END)

    @property
    def position(self) -> int:
        """Length in bytes of what is written, without the closing brackets."""
        return self._file.position

    def add(self, number: int, mention: Mention, graded: GradedPhotograph | None, rows: Sequence[Row]) -> Sequence[str]:
        """Write the rows of a photograph."""
        self._file.write(self._before + ",\n".join(json.dumps(row) for row in rows).encode(), tail=_END)
        self._before = b",\n"
        return ()

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Nothing is counted here."""

    def close(self, whole: bool) -> None:
        """Write the warnings, if there are any, and close the file."""
        try:
            if said := list(self._warnings()):
                self._file.write(b"", tail=b'\n],\n"warnings": ' + json.dumps(said).encode() + b"}\n")
        finally:
            self._file.close()


class JsonLines:
    """The same rows on standard output, an object a line, those of an interrupted run's finished photographs first."""

    position = 0

    def add(self, number: int, mention: Mention, graded: GradedPhotograph | None, rows: Sequence[Row]) -> Sequence[str]:
        """Print the rows of a photograph."""
        if sys.stdout is None:
            raise OutputError("standard output", "it is closed")
        try:
            sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
            sys.stdout.flush()
        except OSError as error:
            raise OutputError("standard output", error) from error
        return ()

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Print the rows of a photograph that an interrupted run has finished."""
        self.add(0, mention, None, rows)

    def close(self, whole: bool) -> None:
        """Standard output stays open."""
