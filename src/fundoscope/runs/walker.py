"""Which photographs a command line names: files, folders, patterns, cohort tables, and `-` for a list on standard input."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fundoscope.cohort import Cohort
from fundoscope.errors import UsageError
from fundoscope.findings import Mention
from fundoscope.imaging.kinds import SUFFIXES
from fundoscope.imaging.read import natural_order
from fundoscope.runs.folder import PICTURES, STATE, is_report_folder

#: Folders that operating systems and storage boxes keep for themselves.
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Walk:
    """The photographs named, in order, repeats included; and how much was skipped on the way, by kind."""

    mentions: list[Mention] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def describe_skipped(self) -> str:
        """What was skipped, in words; blank when nothing was."""
        return ", ".join(f"{kind}: {count}" for kind, count in self.skipped.items())


def walk(photos: Iterable[str]) -> Walk:
    """Every photograph that `photos` name, in the order given, repeats included.

    A named file is taken as it is, even when it is missing: its row will say so. Folders are searched to their depth,
    in natural order; links are followed, and no folder is entered twice. Raises `UsageError` for a folder or a pattern
    that holds no photograph, and when nothing is named.
    """
    found = Walk()
    for photo in photos:
        for name in _lines_of_standard_input() if photo == "-" else [photo]:
            found.mentions.extend(_mentions_of(name, found.skipped))
    if not found.mentions:
        raise UsageError("No photograph was named. Give files, folders, globs, a cohort table, or - for a list.")
    return found


def _lines_of_standard_input() -> list[str]:
    """Lines that are not blank, decoded as names of files are: any bytes may stand in them."""
    lines = [os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer]
    return [line for line in lines if line.strip()]


def _mentions_of(photo: str, skipped: Counter[str]) -> Iterator[Mention]:
    path = Path(photo)
    if _ask(path.is_dir):
        yield from _in_folder(photo, path, skipped)
    elif path.suffix.lower() == ".csv" and _ask(path.is_file):
        for record in Cohort.read(path, labelled=False):
            yield Mention(record.image, record.infant, record.eye, record.exam, record.path, path)
    elif _MAGIC.search(photo) and not _ask(path.exists):
        yield from _by_pattern(photo, skipped)
    else:
        yield Mention(photo)


def _ask(question: Callable[[], bool]) -> bool:
    """The answer of the file system; False for a name that it cannot hold."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _in_folder(photo: str, folder: Path, skipped: Counter[str]) -> Iterator[Mention]:
    own: Counter[str] = Counter()
    files = []
    for file in _files_below(folder, own):
        if file.suffix.lower() in SUFFIXES:
            files.append(str(file))
        else:
            own["other files"] += 1
    if not files:
        seen = f" In it: {Walk(skipped=own).describe_skipped()}." if own else ""
        raise UsageError(f"{photo}: the folder holds no photograph ({', '.join(SUFFIXES)}).{seen} Give another folder.")
    skipped.update(own)
    yield from (Mention(file) for file in sorted(files, key=natural_order))


def _files_below(top: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Every file of a folder and of the folders in it, in no particular order, without what is skipped.

    Linked folders come last, so that a folder that can be reached in two ways is entered by its own name.
    """
    entered: set[tuple[int, int]] = set()
    folders, linked = deque([top]), deque[Path]()
    while folders or linked:
        folder = folders.popleft() if folders else linked.popleft()
        try:
            identity = folder.stat()
            children = list(os.scandir(folder))
        except OSError as error:
            if folder == top:
                raise UsageError(f"{top}: cannot be read ({error.strerror}). Check its permissions.") from error
            skipped["folders that cannot be read"] += 1
            continue
        if (identity.st_dev, identity.st_ino) in entered:
            skipped["links to a folder that was entered already"] += 1
            continue
        entered.add((identity.st_dev, identity.st_ino))
        ours = is_report_folder(folder)
        skipped.update({"report folders": 1} if ours else {})
        for child in children:
            place = folder / child.name
            if ours and child.name in (PICTURES, STATE):
                continue
            if child.name.startswith(".") or child.name in SYSTEM_FOLDERS:
                skipped["hidden or system files and folders"] += 1
            elif _ask(child.is_dir):
                (linked if child.is_symlink() else folders).append(place)
            else:
                yield place


def _by_pattern(photo: str, skipped: Counter[str]) -> Iterator[Mention]:
    own: Counter[str] = Counter()
    files = _deep_matches(photo, own) if "**" in Path(photo).parts else _flat_matches(photo, own)
    if not files:
        raise UsageError(
            f"{photo}: no file matches. Check the pattern, and quote it if the shell should not expand it."
        )
    skipped.update(own)
    yield from (Mention(file) for file in sorted(files, key=natural_order))


def _flat_matches(photo: str, skipped: Counter[str]) -> list[str]:
    """Files that match a pattern without `**`; pictures in report folders are left out unless the pattern names those."""
    fixed = len(Path(_fixed_part(photo)).parts)
    files, reports = [], set()
    for match in glob.glob(photo):  # noqa: PTH207 - the path as it was given
        parts = Path(match).parts
        above = [folder for folder in Path(match).parents if len(folder.parts) >= fixed]
        report = next((f for f in above if parts[len(f.parts)] == PICTURES and is_report_folder(f)), None)
        if report is not None:
            reports.add(report)
        elif Path(match).is_dir():
            skipped["folders that a pattern matches"] += 1
        else:
            files.append(match)
    skipped.update({"report folders": len(reports)} if reports else {})
    return files


def _deep_matches(photo: str, skipped: Counter[str]) -> list[str]:
    """Files that match a pattern with `**`, found by a walk of the folder before its first wildcard."""
    start = _fixed_part(photo)
    base = Path(start or ".")
    if not _ask(base.is_dir):
        return []
    pattern = Path(photo[len(start) :]).parts
    inner = [file.relative_to(base) for file in _files_below(base, skipped)]
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
