"""Which photographs a command line names: files, folders, patterns, cohort tables, and `-` for a list on standard input."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fundoscope.errors import CohortError, UsageError, list_names, printable
from fundoscope.findings import Mention
from fundoscope.folders import (
    TABLE_SUFFIXES,
    WORKBOOK_SUFFIXES,
    Skipped,
    ask,
    files_below,
    is_hidden,
    is_own,
    kind_of_answer,
    photographs_below,
)
from fundoscope.imaging.kinds import SUFFIXES
from fundoscope.imaging.read import natural_order
from fundoscope.outputs import read_marker
from fundoscope.runs.dicom_mentions import expand_mention

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Walk:
    """The photographs named, in order, repeats included; what was skipped on the way; `others` are read beside them."""

    mentions: list[Mention] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    others: list[str | Path] = field(default_factory=list)

    @property
    def inputs(self) -> list[str | Path]:
        """Every file that is to be read: photographs, the tables that named them, and the others."""
        tables = dict.fromkeys(mention.table for mention in self.mentions if mention.table is not None)
        return [*self.others, *tables, *(mention.file for mention in self.mentions)]


def walk(photos: Iterable[str]) -> Walk:
    """Every photograph that `photos` name, in the order given, repeats included.

    A named file is taken as it is, even when it is missing: its row will say so. Folders are searched to their depth,
    in natural order; links are followed, and no folder is entered twice. Answers of earlier commands, also such as a shell
    names for `*`, are skipped. Raises `UsageError` for a folder or a pattern that holds no photograph, and when nothing of
    what is named exists or has a photograph's suffix: then a folder was mistyped.
    """
    found, photos = Walk(), list(photos)
    if len(photos) == 1 and Path(photos[0]).suffix.lower() in WORKBOOK_SUFFIXES and ask(Path(photos[0]).is_file):
        from fundoscope.cohort.sheet import read_sheet

        read_sheet(
            photos[0], ("image",), CohortError
        )  # a workbook given for a table is told; among others it has its row
    for photo in photos:
        if photo == "-":
            found.others.append("/dev/stdin")  # which may be a file
        for name in _lines_of_standard_input() if photo == "-" else [photo]:
            found.mentions.extend(_mentions_of(name, found.skipped))
    if not found.mentions:
        seen = f" Skipped: {found.skipped.describe()}." if found.skipped else ""
        raise UsageError(f"No photograph was named.{seen} Give files, folders, globs, a cohort table, or - for a list.")
    missing = [mention.path for mention in found.mentions if not ask(lambda one=mention: os.path.lexists(one.file))]
    nothing_is_there = len(missing) == len(found.mentions) and not found.mentions[0].table
    if nothing_is_there and not any(Path(name).suffix.lower() in SUFFIXES for name in missing):
        raise UsageError(
            f"There is no such file or folder: {list_names(list(map(printable, missing)))}. {_hint(missing[0])}"
        )
    return found


def _hint(missing: str) -> str:
    """What to do about a path that does not exist: the names nearest to it, where the folder has any."""
    import difflib

    path = Path(missing.rstrip("/\\"))
    try:
        names = [each.name for each in path.parent.iterdir()]
    except (OSError, ValueError):
        return "Check the path."
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {printable(path.with_name(near[0]))}?" if near else "Check the path."


def _lines_of_standard_input() -> list[str]:
    """Lines that are not blank, decoded as names of files are: any bytes may stand in them."""
    if sys.stdin is None:
        raise UsageError(
            "-: standard input is closed. Give the list through a pipe or with <, or name the photographs."
        )
    lines = [os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer]
    return [line for line in lines if line.strip()]


def _mentions_of(photo: str, skipped: Skipped) -> Iterator[Mention]:
    path = Path(photo)
    if ask(path.is_dir):
        yield from _in_folder(photo, path, skipped)
    elif path.suffix.lower() not in SUFFIXES and ask(path.is_file) and _is_answer(path):
        skipped.add("file of a report", path)
    elif path.suffix.lower() in TABLE_SUFFIXES and ask(path.is_file):
        from fundoscope.cohort import Cohort  # here: a photograph alone need not wait for all that audits tables

        for record in Cohort.read(path, labelled=False):
            mention = Mention(record.image, record.infant, record.eye, record.exam, record.path, path)
            yield from expand_mention(mention, skipped, searched=False)
    elif _MAGIC.search(photo) and not ask(path.exists):
        yield from _by_pattern(photo, skipped)
    else:
        yield from expand_mention(Mention(photo), skipped, searched=False)


def _is_answer(path: Path) -> bool:
    """Whether a command of ours has written the file: a shell names it too, for `*` in a folder that holds a report."""
    marker = read_marker(path.parent)
    return marker is not None and marker.entries is not None and not marker.photographs and marker.owns(path.name)


def _in_folder(photo: str, folder: Path, skipped: Skipped) -> Iterator[Mention]:
    own = Skipped()
    files = photographs_below(folder, own)
    mentions = [each for file in files for each in expand_mention(Mention(str(file)), own, searched=True)]
    skipped.update(own)
    if not mentions and read_marker(folder) is None:
        seen = f" In it: {own.describe()}." if own else ""
        raise UsageError(f"{photo}: the folder holds no photograph ({', '.join(SUFFIXES)}).{seen} Give another folder.")
    yield from mentions


def _by_pattern(photo: str, skipped: Skipped) -> Iterator[Mention]:
    own = Skipped()
    files = _deep_matches(photo, own) if "**" in Path(photo).parts else _flat_matches(photo, own)
    if not files:
        seen = f" Skipped: {own.describe()}." if own else ""
        raise UsageError(
            f"{photo}: no file matches.{seen} Check the pattern, and quote it if the shell should not expand it."
        )
    for file in sorted(files, key=natural_order):
        yield from expand_mention(Mention(file), own, searched=True)
    skipped.update(own)


def _flat_matches(photo: str, skipped: Skipped) -> list[str]:
    """Files that match a pattern without `**`; what a walk would skip is left out unless the pattern names it."""
    fixed = len(Path(_fixed_part(photo)).parts)
    files, reports = [], set()
    for match in glob.glob(photo):  # noqa: PTH207 - the path as it was given
        parts = Path(match).parts
        above = [folder for folder in Path(match).parents if len(folder.parts) >= fixed]
        marked = ((folder, read_marker(folder)) for folder in above)
        report = next(
            ((f, m) for f, m in marked if m is not None and is_own(m, parts[len(f.parts)], len(f.parts) == fixed)), None
        )
        if report is not None:
            if report[0] not in reports:
                skipped.add(kind_of_answer(report[1]), report[0])
            reports.add(report[0])
        elif Path(match).is_dir():
            skipped.add("folder that a pattern matches", match)
        elif any(is_hidden(part) for part in parts[fixed:-1]) or (is_hidden(parts[-1]) and parts[-1][0] != "."):
            skipped.add("hidden or system file", match)  # a dot is matched only by a pattern that has it
        else:
            files.append(match)
    return files


def _deep_matches(photo: str, skipped: Skipped) -> list[str]:
    """Files that match a pattern with `**`, found by a walk of the folder before its first wildcard."""
    start = _fixed_part(photo)
    base = Path(start or ".")
    if not ask(base.is_dir):
        return []
    pattern = Path(photo[len(start) :]).parts
    inner = [file.relative_to(base) for file in files_below(base, skipped)]
    return [start + str(file) for file in inner if _matches(file.parts, pattern)]


def _fixed_part(photo: str) -> str:
    """The text of a pattern up to and with the last separator before its first wildcard."""
    first = _MAGIC.search(photo)
    head = photo[: first.start()] if first else photo
    return head[: max(head.rfind(separator) for separator in (os.sep, os.altsep or os.sep)) + 1]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match a pattern's, where `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[n:], pattern[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
