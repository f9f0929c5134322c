"""The folder of a study, which goes on at its first unfinished step after it was cut off.

study.json        the manifest: recipe, versions, seeds, data hashes, commands
<step>/           the result of a finished step, moved into place in one go
.work/<step>/     the step that is being done; it may hold checkpoints from which to go on
"""

from __future__ import annotations

import atexit
import importlib.metadata
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fundoscope.errors import StudyError
from fundoscope.outputs import STUDY_MARKER, make_folder, refuse_overwriting, take_lock, written_whole

MANIFEST = STUDY_MARKER
LOCK = ".lock"
T = TypeVar("T")

#: Keys of a manifest that may change between one run and its continuation.
_MAY_CHANGE = ("commands", "versions")


class Progress(Protocol):
    """Progress callbacks of a long piece of work; the command line's `Console` has them, and so have silent ones in tests."""

    def say(self, text: str) -> None:
        """Print one line."""

    def follow(self, items: Iterable[T], total: int, what: str, done: int = 0) -> Iterator[T]:
        """The items, with progress and the time left; `done` of `total` were there before."""
        ...

    def stages(self) -> AbstractContextManager[Callable[[str, int, int], None]]:
        """A callback (stage, done, total) that shows the progress of each stage."""
        ...


@dataclass(frozen=True)
class Study:
    """A study in `folder`; its `manifest` holds everything that tells it from another study."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, manifest: dict[str, Any], inputs: Iterable[str | Path] = ()) -> Study:
        """The study in `folder`, begun now or gone on with; until this process ends no other one may write there.

        `manifest` is plain JSON with a list `commands`. Raises `StudyError` when the folder holds a study of another
        recipe, other data or other seeds, naming what differs, or when it holds something else; `UsageError` when one of
        `inputs` lies in the folder, which is the study's own, or another program writes there.
        """
        path = folder / MANIFEST
        refuse_overwriting(inputs, [path], [folder])
        manifest = json.loads(json.dumps(manifest))
        if path.exists():
            earlier = _read(path)
            _check_same(folder, earlier, manifest)
            commands = list(dict.fromkeys([*earlier.get("commands", []), *manifest.get("commands", [])]))
            manifest["commands"] = commands
        elif folder.is_dir() and any(each.name != LOCK for each in folder.iterdir()):
            raise StudyError(f"{folder} holds files but no study. Give an empty or a new folder to --out.")
        make_folder(folder)
        _lock_until_the_end(folder)
        write_json(path, manifest)
        return cls(folder, manifest)

    def done(self, step: str) -> bool:
        """Whether the step's result is in place."""
        return (self.folder / step).is_dir()

    def result(self, step: str) -> Path:
        """The folder of a finished step; `StudyError` when it is not finished."""
        if not self.done(step):
            raise StudyError(f"{self.folder}: the step '{step}' is not done. Run the study's command again.")
        return self.folder / step

    @contextmanager
    def step(self, step: str) -> Generator[Path]:
        """A folder to work in for the block; when the block ends, it becomes the step's result in one move.

        When the block raises, or the program is killed, the folder stays for the next run.
        """
        work = self.folder / ".work" / step
        work.mkdir(parents=True, exist_ok=True)
        yield work
        final = self.folder / step
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            shutil.rmtree(final)
        work.replace(final)


_locks: dict[str, Callable[[], None]] = {}


def _lock_until_the_end(folder: Path) -> None:
    """Hold the lock of a study's folder until this process ends."""
    name = os.path.realpath(folder)
    if name not in _locks or not (folder / LOCK).exists():
        _locks[name] = take_lock(folder / LOCK, folder)
        atexit.register(_locks[name])


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each package."""
    return {name: importlib.metadata.version(name) for name in packages}


def command() -> str:
    """The command that is running, as a person would type it again."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        words = [program.name]
    elif program.parts[-3:] == ("fundoscope", "cli", "main.py"):  # python -m fundoscope.cli.main
        words = ["fundoscope"]
    else:
        words = ["python", str(program)]
    return shlex.join([*words, *sys.argv[1:]])


def write_json(path: Path, values: Any) -> None:
    """Write JSON beside `path`, then move it into place; `OutputError` where it cannot be written."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}). Remove the folder, or give another to --out.") from error
    if not isinstance(values, dict):
        raise StudyError(f"{path} is no manifest of a study. Give another folder to --out.")
    return values


def _check_same(folder: Path, earlier: dict[str, Any], now: dict[str, Any]) -> None:
    keys = [key for key in {**earlier, **now} if key not in _MAY_CHANGE and earlier.get(key) != now.get(key)]
    if keys:
        differences = "; ".join(f"{key}: {_short(earlier.get(key))} there, {_short(now.get(key))} now" for key in keys)
        raise StudyError(
            f"{folder} holds another study ({differences}). Give another folder to --out, or repeat its settings."
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
