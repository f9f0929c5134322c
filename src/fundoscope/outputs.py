"""The one rule on what commands write: no output replaces a file that is read, or one that the command has not written.

Every folder that a command writes carries a marker, a small JSON file that says which entries of it are the command's own:

    run.json          photographs that were screened or graded
    study.json        a study: all that lies in the folder is its own
    fundoscope.json   simulated eyes, an audit, labels, forensics

By its marker an answer is known when it comes back as an input, and what may be replaced is known when a command is given again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from fundoscope.errors import OutputError, UsageError, list_names

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RUN_MARKER, STUDY_MARKER, ANSWER_MARKER = "run.json", "study.json", "fundoscope.json"
RUN_KIND, ANSWER_KIND = "fundoscope run", "fundoscope answer"
PICTURES = "pictures"  # of a run
DICOM = "dicom"  # of a run: its answers as DICOM objects
STATE = ".run"  # lock and journal of a run

#: Errors of the system that tell that there is no room or no right to write, whatever the file.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

#: What packages write that do not name the error of the system: NumPy, torch, safetensors.
_TELLS_OF_IT = (
    "No space left",
    "requested and",
    "PytorchStreamWriter failed",
    "unexpected pos",
    "File too large",
    "os error 28",
)

_PART = ".part"  # where an answer is made before it moves into its place


@dataclass(frozen=True)
class OutputMarker:
    """Which command wrote a folder, and which entries of it are the command's own; None for all of them.

    `photographs` names those of its entries that hold photographs to work on, as simulated eyes are.
    """

    command: str
    entries: frozenset[str] | None
    photographs: frozenset[str] = frozenset()

    def owns(self, name: str) -> bool:
        """Whether the entry of that name was written by the command, and holds no photographs to work on."""
        return self.entries is None or name in self.entries


def read_marker(folder: Path) -> OutputMarker | None:
    """The marker of a folder, of several commands joined; None where no command of ours has written it."""
    study = _read_object(folder / STUDY_MARKER)
    if isinstance(study.get("commands"), list):
        return OutputMarker("study", None)
    run, answer = _read_object(folder / RUN_MARKER), _read_object(folder / ANSWER_MARKER)
    commands, entries, photographs = [], set[str](), frozenset[str]()
    if run.get("kind") == RUN_KIND:
        commands.append(str(run.get("grader", "run")))
        entries |= {*map(str, run.get("files", ())), RUN_MARKER, PICTURES, STATE}
    if answer.get("kind") == ANSWER_KIND:
        commands.append(str(answer.get("command", "")))
        entries |= {*map(str, answer.get("entries", ())), ANSWER_MARKER, _PART}
        photographs = frozenset(map(str, answer.get("photographs", ())))
    return OutputMarker(" and ".join(commands), frozenset(entries), photographs) if commands else None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


# --- no output replaces an input


def refuse_overwriting(inputs: Iterable[str | Path], files: Iterable[Path], folders: Iterable[Path] = ()) -> None:
    """Raise `UsageError`, which names both, if one of `files` is an input or an input lies in one of `folders`.

    Files are compared by what they are, not by their names: links of both kinds, relative paths, and capitals where the
    file system ignores them make no difference.
    """
    outputs = {key: path for path in files for key in _identities(path)}
    within = {key: path for path in folders for key in _identities(path)}

    @cache
    def overwritten_in(folder: Path) -> Path | None:  # asked once a folder: thousands of photographs share theirs
        return next((within[key] for key in _identities(folder) if key in within), None)

    for source in dict.fromkeys(map(str, inputs)):
        try:
            own = list(_identities(Path(source)))
            places = [place[key] for place in (outputs, within) for key in own if key in place]
            if within:
                places += filter(None, map(overwritten_in, Path(str(own[0])).parents))
        except (OSError, ValueError):  # a name that no file system holds
            continue
        if places:
            raise UsageError(f"{source}: would be overwritten by {places[0]}. Give another --out.")


def _identities(path: Path) -> Generator[object]:
    """What a path is: the file system's number of the file, and its name with every link resolved."""
    yield os.path.realpath(path)
    with suppress(OSError, ValueError):
        status = path.stat()
        yield status.st_dev, status.st_ino


def new_file(path: Path, inputs: Iterable[str | Path]) -> Path:
    """The place of a file that is to be made: raises `UsageError` where something lies there, or no folder is to hold it."""
    refuse_overwriting(inputs, [path])
    if os.path.lexists(path):
        raise UsageError(f"{path}: is there already. Give another --out, or remove it first.")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}. Make it first, or give another --out.")
    return path


@contextmanager
def written_whole(path: Path, writer: str = "") -> Generator[Path]:
    """A place beside `path` to write a file to, which becomes `path` when the block ends; on an error nothing stays there.

    `writer` keeps that place apart where several processes may write the same file. Raises `OutputError` where it cannot be written.
    """
    beside = path.with_name(f".{path.name}{writer and '.'}{writer}{_PART}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        raise OutputError(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: what comes after may rely on them, whatever breaks."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(error: BaseException) -> bool:
    """Whether an error says that there is no room, or no right, to write."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in CANNOT_WRITE
    return type(error).__name__ in ("OSError", "RuntimeError", "SafetensorError") and any(
        words in str(error) for words in _TELLS_OF_IT
    )


def save_picture(path: Path, pixels: NDArray[Any], options: Iterable[int] = ()) -> None:
    """Write a picture, (rows, columns) or (rows, columns, 3) in OpenCV's order of colours; `OutputError` where it cannot be."""
    import cv2  # here, since the command line answers `--help` at once

    made, data = cv2.imencode(path.suffix, pixels, list(options))
    assert made, f"{path}: OpenCV writes no such file"
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(path, error) from error


# --- folders


@contextmanager
def answer_folder(
    folder: Path,
    command: str,
    entries: Iterable[str],
    inputs: Iterable[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    photographs: Iterable[str] = (),
) -> Generator[Path]:
    """A place to make an answer in; when the block ends, its entries move into `folder`, which then carries the marker.

    `entries` and `photographs` are the names of all files and folders that the command may write (see `OutputMarker`).
    An answer of the same command and `settings` is replaced. When the block raises, or the program is killed, what lay in
    the folder stays as it was.

    Raises `UsageError`, before anything is written, where an entry would replace an input or a file of other origin, where
    the folder holds another answer, or another program is writing into it; `OutputError` where it cannot be written.
    """
    entries, photographs = tuple(entries), tuple(photographs)
    every = [folder / name for name in (*entries, *photographs, ANSWER_MARKER)]
    refuse_overwriting(inputs, every, every)
    marker = {"kind": ANSWER_KIND, "command": command, "entries": entries, "photographs": photographs}
    marker = json.loads(json.dumps({**marker, "settings": dict(settings or {})}))
    _refuse_other_answer(folder, marker)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    part = folder / _PART
    try:
        make_folder(folder)
        with locked(folder / f"{_PART}.lock", folder):
            try:
                shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
                part.mkdir()
                yield part
                (part / ANSWER_MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
                _move_entries(part, folder, every)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if cannot_write(error) or _lies_in(error.filename, folder):
            raise OutputError(folder, error) from error
        raise
    finally:
        for each in made:  # of an answer that was not made nothing stays, not even an empty folder
            with suppress(OSError):
                each.rmdir()


def refuse_study_folder(folder: Path) -> None:
    """Raise `UsageError` if a study lies in the folder: all that is there is the study's."""
    marker = read_marker(folder)
    if marker is not None and marker.entries is None:
        raise UsageError(f"{folder}: holds a study, to which nothing may be added. Give another folder to --out.")


def _refuse_other_answer(folder: Path, marker: Mapping[str, Any]) -> None:
    refuse_study_folder(folder)
    names = [name for name in (*marker["entries"], *marker["photographs"]) if os.path.lexists(folder / name)]
    earlier = _read_object(folder / ANSWER_MARKER)
    if earlier.get("kind") != ANSWER_KIND:
        names += [ANSWER_MARKER] if os.path.lexists(folder / ANSWER_MARKER) else []
        owned: set[str] = set()
    else:
        for key in ("command", "settings"):
            if earlier.get(key) != marker[key]:
                there, here = (_describe(one.get(key)) for one in (earlier, marker))
                raise UsageError(
                    f"{folder}: holds another answer of fundoscope {earlier.get('command')} ({there} there, {here} now). "
                    "Give another folder to --out, or remove that one."
                )
        owned = {str(name) for name in (*earlier.get("entries", ()), *earlier.get("photographs", ()))}
    if others := [name for name in names if name not in owned or (folder / name).is_symlink()]:
        raise UsageError(
            f"{folder}: holds {list_names(others)}, which "
            f"fundoscope {marker['command']} has not written there. Move it away, or give another folder to --out."
        )


def _describe(value: Any) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def _move_entries(part: Path, folder: Path, every: Iterable[Path]) -> None:
    """Move what was made into its place, the marker first: a kill in between leaves nothing of unknown origin."""
    (part / ANSWER_MARKER).replace(folder / ANSWER_MARKER)
    for place in every:
        made = part / place.name
        if place.name == ANSWER_MARKER:
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        elif os.path.lexists(place):
            place.unlink()
        if made.exists():
            made.replace(place)


def _lies_in(name: object, folder: Path) -> bool:
    if not isinstance(name, str | os.PathLike):
        return False
    real = Path(os.path.realpath(name))
    return Path(os.path.realpath(folder)) in (real, *real.parents)


def make_folder(path: Path) -> None:
    """Make a folder for answers; `UsageError` where a file is in its way, `OutputError` where there is no room or right."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        folder = path.parent if path.name in (STATE, PICTURES) else path
        raise UsageError(f"{folder}: cannot be made a folder ({error.strerror}). Give another one to --out.") from error
    except OSError as error:
        raise OutputError(path, error) from error


# --- locks


@contextmanager
def locked(lock: Path, folder: Path) -> Generator[None]:
    """Hold the lock of a folder for the block; the system lets go of it when this process ends, however it ends.

    Raises `UsageError` where another program holds it.
    """
    release = take_lock(lock, folder)
    try:
        yield
    finally:
        release()


def take_lock(lock: Path, folder: Path) -> Callable[[], None]:
    """Take the lock of a folder until what is returned is called, or this process ends; see `locked`."""
    while True:
        try:
            file = lock.open("a+b")
        except OSError as error:
            raise OutputError(lock, error) from error
        if not _try_lock(file):
            file.close()
            raise UsageError(f"{folder}: another run is writing into it. Wait for its end, or give another --out.")
        if _is_still(lock, file):
            break
        file.close()  # whoever held it has removed it meanwhile

    def release() -> None:
        with suppress(OSError):
            lock.unlink()
        file.close()

    return release


def _is_still(lock: Path, file: IO[bytes]) -> bool:
    """Whether the open lock is the file that lies there now."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        file.close()
        raise OutputError(file.name, error) from error
    return True
