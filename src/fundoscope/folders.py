"""The one walk through folders: every command that searches a folder finds the same photographs and skips the same things."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fundoscope.errors import UsageError, counted, list_names, printable
from fundoscope.imaging.dicom_header import may_be_dicom
from fundoscope.imaging.kinds import SUFFIXES
from fundoscope.imaging.read import natural_order
from fundoscope.outputs import OutputMarker, read_marker

#: Folders that operating systems, storage boxes and programs keep for themselves, in lower case; names with a dot are hidden.
SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "@__thumb", "$recycle.bin",
        "recycled", "recycler", "system volume information", "lost+found", "network trash folder", "temporary items",
    }
)  # fmt: skip
#: Files of the same kind.
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})

#: The kind under which files are counted that are no photographs, or of a kind that is not read.
OTHER = "other file"

#: Names of files that are read as tables, and of workbooks, which are given for one by mistake.
TABLE_SUFFIXES = (".csv", ".tsv")
WORKBOOK_SUFFIXES = (".xlsx", ".xls", ".ods")

_HIDDEN = ("hidden or system file", "hidden or system folder")
_NAMED = 5  # names of a kind that a line shows
_KEPT = 1000  # names of a kind that are kept


@dataclass
class Skipped:
    """What a walk left out: how many of each kind, a noun in the singular, and the names of the first thousand of it."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, kind: str, place: str | Path) -> None:
        """Count one, by its kind and path."""
        self.counts[kind] += 1
        named = self.names.setdefault(kind, [])
        if len(named) < _KEPT:
            named.append(str(place))

    def update(self, other: Skipped) -> None:
        """Count all that another walk left out."""
        for kind, count in other.counts.items():
            self.counts[kind] += count
            self.names.setdefault(kind, []).extend(other.names[kind])

    def describe(self) -> str:
        """What was left out, in words: how many of each kind, the endings of other files, the first names; blank if nothing."""
        parts = []
        for kind, count in self.counts.items():
            names = [printable(Path(name).name) for name in self.names[kind]]
            shown = list_names(names, _NAMED)
            if count > _NAMED and kind == OTHER:
                endings = Counter(Path(name).suffix.lower() for name in names)
                shown = (
                    ", ".join(f"{n} {ending or 'without ending'}" for ending, n in endings.most_common()) + f": {shown}"
                )
            parts.append(f"{counted(count, kind)} ({shown})")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The same for programs: by kind, how many and which."""
        return {kind: {"count": count, "names": self.names[kind]} for kind, count in self.counts.items()}


def is_hidden(name: str) -> bool:
    """Whether a file or a folder of that name is hidden, or kept by a system for itself."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or name.lower() in SYSTEM_FILES


def photographs_below(top: Path, skipped: Skipped) -> list[Path]:
    """Every photograph of a folder and of the folders in it, in natural order; all else is counted in `skipped`."""
    found = []
    for file in files_below(top, skipped):
        if file.suffix.lower() in SUFFIXES or may_be_dicom(file):
            found.append(file)
        else:
            skipped.add(OTHER, file)
    return sorted(found, key=lambda file: natural_order(str(file)))


def files_below(top: Path, skipped: Skipped) -> Iterator[Path]:
    """Every file of a folder and of the folders in it, in no particular order, without what is skipped.

    Links are followed, and no folder is entered twice, so loops end. Linked folders come last, so that a folder that can
    be reached in two ways is entered by its own name. What our own commands wrote is left out; of simulated eyes the
    photographs are taken where `top` is their folder. Raises `UsageError` where `top` cannot be read.
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
            skipped.add("unreadable folder", folder)
            continue
        if (identity.st_dev, identity.st_ino) in entered:
            skipped.add("linked folder that was entered already", folder)
            continue
        entered.add((identity.st_dev, identity.st_ino))
        marker = read_marker(folder)
        if marker is not None:
            skipped.add(kind_of_answer(marker), folder)
        for child in children:
            place = folder / child.name
            is_folder = ask(child.is_dir)
            if marker is not None and is_own(marker, child.name, named=folder == top):
                continue
            if is_hidden(child.name):
                skipped.add(_HIDDEN[is_folder], place)
            elif is_folder:
                (linked if child.is_symlink() else folders).append(place)
            elif child.is_symlink() and not ask(place.exists) and place.suffix.lower() not in SUFFIXES:
                skipped.add("dangling link", place)  # one that has a photograph's name has its own row
            else:
                yield place


def kind_of_answer(marker: OutputMarker) -> str:
    """What a folder that a command of ours wrote is called."""
    if marker.command == "study":
        return "study folder"
    if "dicom deidentify" in marker.command:
        return "folder of de-identified photographs"
    return "folder of simulated eyes" if marker.photographs else "report folder"


def is_own(marker: OutputMarker, name: str, named: bool) -> bool:
    """Whether an entry of a marked folder is left out; photographs are taken where the folder itself was `named`."""
    return marker.owns(name) or (name in marker.photographs and not named)


def ask(question: Callable[[], bool]) -> bool:
    """The answer of the file system; False for a name that it cannot hold."""
    try:
        return question()
    except (OSError, ValueError):
        return False
