"""What PHOTOS on a command line means: files, folders, globs, cohort tables, and `-` for a list on standard input."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fundoscope.errors import UsageError
from fundoscope.imaging.read import SUFFIXES, natural_order


@dataclass(frozen=True, slots=True)
class Mention:
    """One photograph to work on: `path` as given, and whose it is where a cohort table says so."""

    path: str
    infant: str | None = None
    eye: str | None = None
    exam: str | None = None
    from_table: bool = False
    source: Path | None = None  # where it lies, when that is not `path` itself

    @property
    def file(self) -> Path:
        """Where the photograph lies."""
        return self.source or Path(self.path)


def mentions(photos: Iterable[str]) -> list[Mention]:
    """Every photograph named, in the order given, repeats included.

    A named file is taken as it is, even when it is missing (its row will say so). Raises `UsageError` for a folder or a
    glob that holds no photograph, and for an empty list.
    """
    found = [mention for photo in photos for mention in _of(photo)]
    if not found:
        raise UsageError("No photograph was named. Give files, folders, globs, a cohort table, or - for a list.")
    return found


def _of(photo: str) -> Iterator[Mention]:
    if photo == "-":
        lines = [line.rstrip("\r\n") for line in sys.stdin]
        for line in filter(str.strip, lines):
            yield from _named(line)
    else:
        yield from _named(photo)


def _named(photo: str) -> Iterator[Mention]:
    path = Path(photo)
    if _is(path.is_dir):
        yield from _in_folder(photo, path)
    elif path.suffix.lower() == ".csv" and _is(path.is_file):
        yield from _in_table(path)
    elif re.search(r"[*?\[]", photo) and not _is(path.exists):
        yield from _by_glob(photo)
    else:
        yield Mention(photo)


def _is(question: Callable[[], bool]) -> bool:
    """A question to the file system; a name that it cannot hold is the name of nothing."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _in_folder(photo: str, path: Path) -> Iterator[Mention]:
    files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not _hidden(file, path)]
    if not files:
        raise UsageError(f"{photo}: the folder holds no photograph ({', '.join(SUFFIXES)}). Give another folder.")
    yield from (Mention(str(file)) for file in sorted(files, key=lambda file: natural_order(str(file))))


def _by_glob(photo: str) -> Iterator[Mention]:
    files = [file for file in glob.glob(photo, recursive=True) if Path(file).is_file()]  # noqa: PTH207 - as it was given
    if not files:
        raise UsageError(
            f"{photo}: no file matches. Check the pattern, and quote it if the shell should not expand it."
        )
    yield from (Mention(file) for file in sorted(files, key=natural_order))


def _in_table(path: Path) -> Iterator[Mention]:
    from fundoscope.cohort import Cohort

    for record in Cohort.read(path, labelled=False):
        yield Mention(record.image, record.infant, record.eye, record.exam, True, record.path)


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(folder).parts)
