"""A folder into which a camera writes: a file is taken when it is whole, and moved away, so that the folder shows what is left.

    FOLDER/...            what the camera writes; a pattern tells the patient's number from the path
    FOLDER/taken/...      files that the room has
    FOLDER/refused/...    files that it does not take, each with a text beside it that says why and what to do

A file is whole when its size and time have not changed for a while and it decodes. It is copied, written down and only then moved: who
is stopped in between finds it again, and the room sees that it has it already.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath

from fundoscope.errors import FundoscopeError, PhotographError
from fundoscope.folders import SYSTEM_FILES, SYSTEM_FOLDERS, is_hidden
from fundoscope.server.dicom import arrived as kept
from fundoscope.server.dicom import decode_child, troubles
from fundoscope.server.dicom.intake import ArrivalOutcome, ArrivedFile, take_photographs
from fundoscope.server.models import DicomSource
from fundoscope.server.room import Room
from fundoscope.server.services import uploads
from fundoscope.server.services.placing import guess_place
from fundoscope.server.services.sniffing import sniff_photograph
from fundoscope.server.services.uploads import SentFile
from fundoscope.server.settings import UploadLimits

TAKEN, REFUSED = "taken", "refused"
_PATIENCE = 6  # times as long a file that does not decode may stay unchanged before it is refused
_TOGETHER = 20  # files
_MOST_FILES = 10_000  # of one look
_FIELDS = {
    "patient": r"[^/]+?",
    "eye": r"[^/]+?",
    "view": r"[^/]+?",
    "day": r"\d{4}[-_.]?\d\d[-_.]?\d\d",
    "any": r".*?",
}


class WatchedFolderError(FundoscopeError):
    """A watched folder is gone, or what lies in it cannot be moved; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that has not changed for `unchanged` seconds: where it lies, seen from the folder, and its state."""

    path: Path
    place: PurePosixPath
    size: int
    changed: int  # nanoseconds
    unchanged: float


@dataclass(frozen=True, slots=True)
class NamedPhotograph:
    """What a path tells by a pattern: the patient's number, day, eye and view (blank: not told), and the name without the number."""

    patient: str
    name: str
    day: date | None = None
    eye: str = ""
    view: str = ""


def look_into_folder(
    room: Room, source: DicomSource, known: dict[str, tuple[int, int, float]], outcomes: list[ArrivalOutcome],
    is_stopped: Callable[[], bool],
) -> None:  # fmt: skip
    """Take the files that are whole; `outcomes` gets what became of each. `known` is how each file was at the looks before.

    Raises `WatchedFolderError` where the folder cannot be used, and `BusyError` where the queue is full.
    """
    folder = Path(source.folder)
    try:
        for name in (TAKEN, REFUSED):
            (folder / name).mkdir(exist_ok=True)
            if not os.access(folder / name, os.W_OK):
                raise PermissionError(f"{name} cannot be written")
    except OSError as error:
        raise WatchedFolderError(troubles.UNUSABLE.format(folder=folder, reason=error.strerror or error)) from error
    patience = room.settings.traffic.whole_seconds
    ready = [one for one in _find_unchanged(folder, known) if one.unchanged >= patience]
    for start in range(0, len(ready), _TOGETHER):
        if is_stopped():
            return
        some = ready[start : start + _TOGETHER]
        broken = _find_broken([one.path for one in some], room.settings.limits)
        whole = [one for one in some if one.path not in broken]
        for one in some:
            if one.path in broken and one.unchanged >= _PATIENCE * patience:
                outcomes.append(ArrivalOutcome(one.path.name, "refused", broken[one.path]))
                _put_away(folder, one, outcomes[-1])
        for one, outcome in _take(room, source, whole):
            outcomes.append(outcome)
            _put_away(folder, one, outcome)


def _find_unchanged(folder: Path, known: dict[str, tuple[int, int, float]]) -> list[_Waiting]:
    """The files of a folder by their path, each with the time since which it has not changed; `known` is brought up to date."""
    moment, found, there = time.monotonic(), [], {}
    for path, state in _walk(folder):
        place = PurePosixPath(path.relative_to(folder).as_posix())
        before = known.get(str(place))
        since = before[2] if before and before[:2] == (state.st_size, state.st_mtime_ns) else moment
        there[str(place)] = (state.st_size, state.st_mtime_ns, since)
        found.append(_Waiting(path, place, state.st_size, state.st_mtime_ns, moment - since))
        if len(found) >= _MOST_FILES:
            break
    known.clear()
    known.update(there)
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Files below a folder in the order of their names, with their state.

    Links, what systems keep for themselves, and a file that has just gone are passed over.
    """
    for top, names, files in os.walk(folder):
        here = Path(top)
        names[:] = sorted(
            name
            for name in names
            if name.lower() not in SYSTEM_FOLDERS and not is_hidden(name) and not (here == folder and name in (TAKEN, REFUSED))
        )  # fmt: skip
        for name in sorted(files):
            path = here / name
            if name.lower() in SYSTEM_FILES or is_hidden(name):
                continue
            with suppress(FileNotFoundError):
                state = path.lstat()
                if stat.S_ISREG(state.st_mode):
                    yield path, state


def _find_broken(paths: Sequence[Path], limits: UploadLimits) -> dict[Path, str]:
    """The files that are no photographs, or do not decode, with the reason; a file that has just gone is one of them."""
    broken: dict[Path, str] = {}
    for path in paths:
        try:
            if path.stat().st_size <= limits.file_bytes:  # a larger one is refused for that
                sniff_photograph(path, path.name, limits.pixels)
        except PhotographError as error:
            broken[path] = f"{error.cause}. {error.remedy}"
        except OSError as error:
            broken[path] = str(error)
    return broken | decode_child.find_broken([path for path in paths if path not in broken], limits)


def _take(room: Room, source: DicomSource, waiting: list[_Waiting]) -> list[tuple[_Waiting, ArrivalOutcome]]:
    """Copy files, and take them; one that has changed meanwhile is left out, and looked at again."""
    found: list[tuple[_Waiting, ArrivalOutcome]] = []
    arrived: list[tuple[_Waiting, ArrivedFile]] = []
    with uploads.incoming_folder(room.settings) as incoming:
        for number, one in enumerate(waiting):
            copy = incoming / str(number)
            try:
                shutil.copyfile(one.path, copy, follow_symlinks=False)
                state = one.path.lstat()
            except FileNotFoundError:
                continue
            if (state.st_size, state.st_mtime_ns) != (one.size, one.changed):
                continue
            size, digest = kept.file_digest(copy)
            named = read_path(one.place, source.pattern)
            file_day = datetime.fromtimestamp(state.st_mtime).date()
            if named is None:
                sent = SentFile(one.path.name, copy, size, digest)
                arrived.append((one, ArrivedFile(sent)))
                continue
            sent = SentFile(named.name, copy, size, digest)
            arrived.append((one, ArrivedFile(sent, named.patient, named.day, file_day, named.eye, named.view)))
        outcomes = take_photographs(room, kept.intake_of(source), [file for _one, file in arrived], incoming)
    for (one, file), outcome in zip(arrived, outcomes, strict=True):
        if outcome.outcome == "refused" and not file.patient and not outcome.sop_instance and file.file_day is None:
            fits = troubles.NO_FIT.format(pattern=source.pattern)
            outcome = ArrivalOutcome(outcome.file, "refused", f"{fits} {outcome.reason}")
        found.append((one, outcome))
        key = outcome.sop_instance or file.sent.digest
        kept.remember(room.database, source.id, {key: outcome})
    return found


def read_path(place: PurePosixPath, pattern: str) -> NamedPhotograph | None:
    """What a path, seen from the folder, tells by the pattern; None where it does not fit. Endings are left out."""
    text = str(place.with_suffix("")) if place.suffix and not place.suffix[1:].isdigit() else str(place)
    expression, at = "", 0
    for field in re.finditer(r"\{(\w+)\}", pattern):
        name = field[1]
        group = f"(?:{_FIELDS[name]})" if name == "any" else f"(?P<{name}>{_FIELDS[name]})"
        expression += re.escape(pattern[at : field.start()]) + group
        at = field.end()
    found = re.fullmatch(expression + re.escape(pattern[at:]), text)
    if found is None:
        return None
    told = found.groupdict()
    start, end = found.span("patient")
    name = f"{text[:start]}{text[end:]}{place.suffix if text != str(place) else ''}"
    digits = re.sub(r"\D", "", told.get("day") or "")
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) if digits else None
    except ValueError:
        return None
    eye, view = told.get("eye") or "", told.get("view") or ""
    guess = guess_place(f"{eye}_{view}")
    return NamedPhotograph(
        told["patient"].strip(), name.strip("/"), day, guess.eye if eye else "", guess.view if view else ""
    )


def _put_away(folder: Path, one: _Waiting, outcome: ArrivalOutcome) -> None:
    """Move a file to what was taken or refused; beside a refused one lies a text that says why."""
    target = folder / (REFUSED if outcome.outcome == "refused" else TAKEN) / one.place
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while target.exists():  # another file had that name
        number += 1
        target = target.with_name(f"{one.path.stem}-{number}{one.path.suffix}")
    if outcome.outcome == "refused":
        target.with_name(f"{target.name}.txt").write_text(f"{outcome.reason}\n", encoding="utf-8", errors="replace")
    with suppress(FileNotFoundError):
        one.path.replace(target)
