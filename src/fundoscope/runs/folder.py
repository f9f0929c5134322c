"""The folder of --out: the manifest that says whose run lies in it, its lock, and what may be removed from it.

run.json       the manifest: command, bundle, options, photographs, files, whether it is finished
results.csv    and the other answers
pictures/      named by row number and stem
.run/          lock and journal
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fundoscope.errors import OutputError, UsageError
from fundoscope.findings import Grader, Mention
from fundoscope.runs.resume import Journal

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MARKER = "run.json"
PICTURES = "pictures"
STATE = ".run"

_KIND = "fundoscope run"
_BEGIN_ANEW = "Give another folder to --out, or --replace, which removes that run's files and begins anew."

Manifest = dict[str, Any]


def is_report_folder(folder: Path) -> bool:
    """Whether a run of ours has written into this folder."""
    return read_manifest(folder) is not None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the run that lies in a folder; None where there is none."""
    try:
        manifest = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == _KIND else None


def manifest_of(grader: Grader, mentions: Sequence[Mention], files: Sequence[str], command: str, now: str) -> Manifest:
    """The manifest of a run that begins; `now` in words."""
    digest = hashlib.sha256()
    for mention in mentions:
        place = os.path.abspath(mention.file)  # noqa: PTH100 - links stay: the name is what is compared
        digest.update(f"{mention.path}\0{place}\n".encode("utf-8", "surrogateescape"))
    identity = grader.identity
    return {
        "kind": _KIND,
        "fundoscope": importlib.metadata.version("fundoscope"),
        "grader": grader.name,
        "bundle": {"name": identity.name, "made": identity.made, "digest": identity.digest},
        "options": dict(grader.options),
        "photographs": {"count": len(mentions), "digest": digest.hexdigest()[:16]},
        "files": list(files),
        "commands": [command],
        "started": now,
        "finished": False,
    }


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, locked for this process; `goes_on` tells whether finished photographs may lie in it."""

    path: Path
    manifest: Manifest
    goes_on: bool

    @classmethod
    @contextmanager
    def open(cls, path: Path, manifest: Manifest, mentions: Sequence[Mention], replace: bool) -> Generator[RunFolder]:
        """Make the folder, or go on in the one that holds the same run, and hold its lock for the block.

        Raises `UsageError`, before anything is written, when an answer would overwrite a photograph that is to be read,
        when another run writes into the folder, or when it holds another run or somebody's files of the same names.
        With `replace` the run that lies there is removed first.
        """
        refuse_overwriting(path, manifest["files"], mentions)
        if read_manifest(path) is None:
            _refuse_files_of_others(path, manifest, owned=set())
        _make_folder(path / STATE)
        with _locked(path):
            earlier = read_manifest(path)
            if earlier is not None:
                _refuse_files_of_others(path, manifest, owned_files(path, earlier))
            if earlier is not None and replace:
                remove_run(path, earlier)
                earlier = None
            if earlier is not None:
                _refuse_another(path, earlier, manifest)
                commands = dict.fromkeys([*earlier["commands"], *manifest["commands"]])
                manifest = {**earlier, "commands": list(commands)}
            folder = cls(path, manifest, goes_on=earlier is not None)
            _make_folder(path / PICTURES)
            folder.write_manifest()
            yield folder

    def finish(self, counts: dict[str, int]) -> None:
        """Note in the manifest that the run is finished, with the counts of its summary."""
        self.manifest.update(finished=True, counts=counts)
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write the manifest beside its place, then move it there."""
        place = self.path / MARKER
        beside = self.path / STATE / MARKER
        try:
            beside.write_text(json.dumps(self.manifest, indent=1) + "\n", encoding="utf-8")
            beside.replace(place)
        except OSError as error:
            raise OutputError(place, error) from error


def refuse_overwriting(path: Path, files: Iterable[str], mentions: Iterable[Mention]) -> None:
    """Raise `UsageError` if an answer in the folder `path` would overwrite a photograph or a table that is read."""
    outputs = {os.path.realpath(path / name) for name in files}
    folders = {os.path.realpath(path / PICTURES), os.path.realpath(path / STATE)}
    for source in dict.fromkeys(place for one in mentions for place in (one.file, one.table) if place is not None):
        try:
            real = os.path.realpath(source)
        except (OSError, ValueError):  # a name that no file system holds
            continue
        if real in outputs or any(str(parent) in folders for parent in Path(real).parents):
            raise UsageError(f"{source}: would be overwritten by the answers in {path}. Give another folder to --out.")


def _refuse_files_of_others(path: Path, manifest: Manifest, owned: set[str]) -> None:
    """Raise `UsageError` if the run would overwrite files that lie in the folder and are not `owned` by a run."""
    numbered = (path / PICTURES).glob("[0-9][0-9][0-9][0-9]*_*.jpg")
    names = [name for name in manifest["files"] if os.path.lexists(path / name)]
    names += [PICTURES] if (path / PICTURES).is_symlink() else [f"{PICTURES}/{place.name}" for place in numbered]
    if others := [name for name in names if name not in owned]:
        raise UsageError(
            f"{path}: holds {', '.join(others[:5])}{' and more' if len(others) > 5 else ''}, which no run that is known "
            "here has written. Move these files away, or give another folder to --out."
        )


def owned_files(path: Path, manifest: Manifest) -> set[str]:
    """Names, relative to the folder, of the files that its run has written: answers and pictures."""
    pictures = [entry["pictures"] for entry in Journal(path / STATE).entries()]
    begun = (path / PICTURES).glob(f"{len(pictures) + 1:04d}_*.jpg")  # of the photograph at which the run was cut off
    shown = [place.name for place in begun] + [Path(name).name for names in pictures for name in names]
    return {Path(name).name for name in manifest["files"]} | {f"{PICTURES}/{name}" for name in shown}


def remove_run(path: Path, manifest: Manifest) -> None:
    """Remove the files of the run that lies in a folder, and no others; the marker goes last."""
    try:
        for name in owned_files(path, manifest) - {MARKER}:
            (path / name).unlink(missing_ok=True)
        Journal(path / STATE).path.unlink(missing_ok=True)
        if (path / PICTURES).is_dir() and not any((path / PICTURES).iterdir()):
            (path / PICTURES).rmdir()
        (path / MARKER).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(path, error) from error


def _refuse_another(path: Path, earlier: Manifest, manifest: Manifest) -> None:
    if differences := describe_differences(earlier, manifest):
        raise UsageError(f"{path}: holds another run ({'; '.join(differences)}). {_BEGIN_ANEW}")


def describe_differences(earlier: Manifest, now: Manifest) -> list[str]:
    """Clauses that say why a run cannot go on as another one; empty where it is the same command."""
    if earlier.get("grader") != now["grader"]:
        return [f"of '{earlier.get('grader')}', and this is '{now['grader']}'"]
    clauses = []
    if earlier.get("bundle") != now["bundle"]:
        there, here = (f"{one.get('name')} of {one.get('made')}" for one in (earlier.get("bundle", {}), now["bundle"]))
        clauses.append(
            f"bundle {there} there, " + ("another of that name and day now" if there == here else f"{here} now")
        )
    before = earlier.get("options", {})
    for name in sorted({*before, *now["options"]}):
        if before.get(name) != now["options"].get(name):
            clauses.append(f"{name}: {before.get(name)} there, {now['options'].get(name)} now")
    if earlier.get("photographs") != now["photographs"]:
        there, here = (one.get("count") for one in (earlier.get("photographs", {}), now["photographs"]))
        clauses.append(f"{there} photographs there, {'others' if there == here else here} now")
    if earlier.get("fundoscope") != now["fundoscope"]:
        clauses.append(f"by fundoscope {earlier.get('fundoscope')}, and this is {now['fundoscope']}")
    return clauses


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{path.parent if path.name == STATE else path}: cannot be made a folder ({error.strerror}). "
            "Give another one to --out."
        ) from error
    except OSError as error:
        raise OutputError(path, error) from error


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the folder's lock; the system lets go of it when this process ends, however it ends."""
    try:
        file = (path / STATE / "lock").open("a+b")
    except OSError as error:
        raise OutputError(path, error) from error
    with file:
        if not _try_lock(file):
            raise UsageError(f"{path}: another run is writing into it. Wait for its end, or give another --out.")
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise OutputError(file.name, error) from error
    return True
