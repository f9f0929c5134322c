"""The journal of a run: a line for each finished photograph, from which the same command goes on where it was cut off.

A line is written after the photograph's rows, its part of the page and its pictures. It holds the rows, the pictures'
names, how long each answer file was then, so that what a kill left behind that is cut away, and which file was graded, so
that a photograph that was replaced since is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fundoscope.errors import OutputError
from fundoscope.findings import Row
from fundoscope.runs.sinks import GrowingFile

Entry = dict[str, Any]  # "rows", "pictures", "positions", "file"
FileState = list[int] | None  # size in bytes, and time of the last change in nanoseconds


class Journal:
    """The journal in a folder; empty where there is none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        self._file: GrowingFile | None = None

    def entries(self, limit: int | None = None) -> Iterator[Entry]:
        """The entries from the first on, at most `limit`; ends before a line that was cut off."""
        for number, (entry, _) in enumerate(self._lines()):
            if number == limit:
                return
            yield entry

    def finished(self, folder: Path) -> tuple[int, dict[str, int], int]:
        """How many photographs are finished, how long each answer file in `folder` was then, and the journal itself.

        A photograph counts only if every file still holds it.
        """
        count, positions, end = 0, {}, 0
        sizes: dict[str, int] = {}
        for number, (entry, length) in enumerate(self._lines(), 1):
            for name in entry["positions"].keys() - sizes.keys():
                place = folder / name
                sizes[name] = place.stat().st_size if place.is_file() else -1
            if any(position > sizes[name] for name, position in entry["positions"].items()):
                break
            count, positions, end = number, entry["positions"], length
        return count, positions, end

    def open(self, position: int) -> None:
        """Begin to write, after the entry that ends at `position`."""
        self._file = GrowingFile(self.path, position or None)

    def add(self, rows: Sequence[Row], pictures: Sequence[str], positions: Mapping[str, int], file: FileState) -> None:
        """Note that a photograph is finished; `file` is its `file_state` from before it was graded."""
        assert self._file is not None, "the journal was not opened"
        entry = {"rows": list(rows), "pictures": list(pictures), "positions": dict(positions), "file": file}
        self._file.write(json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _lines(self) -> Iterator[tuple[Entry, int]]:
        """Each entry with the position at which it ends."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(self.path, error) from error
        end = 0
        with file:
            for line in file:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    return
                if not isinstance(entry, dict):
                    return
                end += len(line)
                yield entry, end


def file_state(path: Path) -> FileState:
    """Size in bytes and time of the last change in nanoseconds of a file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]
