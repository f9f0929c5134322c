"""The folder of --out: the manifest that says whose run lies in it, its lock, and what may be removed from it.

run.json       the manifest: command, bundle, options, photographs, files, whether it is finished
results.csv    and the other answers
pictures/      named by row number and stem
dicom/         answers as DICOM objects, where they were asked for
.run/          lock and journal
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fundoscope.errors import OutputError, UsageError, list_names
from fundoscope.findings import Grader, Mention
from fundoscope.languages import current_language
from fundoscope.outputs import (
    DICOM,
    PICTURES,
    RUN_KIND,
    RUN_MARKER,
    STATE,
    locked,
    make_folder,
    refuse_overwriting,
    refuse_study_folder,
)
from fundoscope.runs.resume import Journal

BEGIN_ANEW = "Give another folder to --out, or --replace, which removes that run's files and begins anew."

Manifest = dict[str, Any]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the run that lies in a folder; None where there is none."""
    try:
        manifest = json.loads((folder / RUN_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == RUN_KIND else None


def manifest_of(
    grader: Grader,
    mentions: Sequence[Mention],
    files: Sequence[str],
    command: str,
    now: str,
    skipped: Mapping[str, Any],
) -> Manifest:
    """The manifest of a run that begins; `now` in words, `skipped` what was left out when photographs were looked for."""
    digest = hashlib.sha256()
    for mention in mentions:
        place = os.path.abspath(mention.file)  # noqa: PTH100 - links stay: the name is what is compared
        digest.update(f"{mention.path}\0{place}\n".encode("utf-8", "surrogateescape"))
    identity = grader.identity
    return {
        "kind": RUN_KIND,
        "fundoscope": importlib.metadata.version("fundoscope"),
        "grader": grader.name,
        "bundle": {"name": identity.name, "made": identity.made, "digest": identity.digest},
        "options": {**grader.options, **({} if current_language() == "en" else {"lang": current_language()})},
        "photographs": {"count": len(mentions), "digest": digest.hexdigest()[:16]},
        "skipped": dict(skipped),
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
    def open(cls, path: Path, manifest: Manifest, inputs: Sequence[str | Path], replace: bool) -> Generator[RunFolder]:
        """Make the folder, or go on in the one that holds the same run, and hold its lock for the block.

        Raises `UsageError`, before anything is written, when an answer would overwrite one of `inputs`, when another run
        writes into the folder, or when it holds another run or somebody's files of the same names. With `replace` the run
        that lies there is removed first.
        """
        folders = [path / PICTURES, path / STATE, path / DICOM]
        refuse_overwriting(inputs, [path / name for name in manifest["files"]], folders)
        refuse_study_folder(path)
        if read_manifest(path) is None:
            _refuse_files_of_others(path, manifest, owned=set())
        make_folder(path / STATE)
        with locked(path / STATE / "lock", path):
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
            make_folder(path / PICTURES)
            folder.write_manifest()
            yield folder

    def finish(self, counts: dict[str, int]) -> None:
        """Note in the manifest that the run is finished, with the counts of its summary."""
        self.manifest.update(finished=True, counts=counts)
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write the manifest beside its place, then move it there."""
        place = self.path / RUN_MARKER
        beside = self.path / STATE / RUN_MARKER
        try:
            beside.write_text(json.dumps(self.manifest, indent=1) + "\n", encoding="utf-8")
            beside.replace(place)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise OutputError(place, error) from error


def _refuse_files_of_others(path: Path, manifest: Manifest, owned: set[str]) -> None:
    """Raise `UsageError` if the run would overwrite files that lie in the folder and are not `owned` by a run."""
    numbered = (path / PICTURES).glob("[0-9][0-9][0-9][0-9]*_*.[jp][pn]g")
    names = [name for name in manifest["files"] if os.path.lexists(path / name)]
    names += [PICTURES] if (path / PICTURES).is_symlink() else [f"{PICTURES}/{place.name}" for place in numbered]
    if others := [name for name in names if name not in owned or (path / name).is_symlink()]:
        raise UsageError(
            f"{path}: holds {list_names(others)}, which no run that is known "
            "here has written. Move these files away, or give another folder to --out."
        )


def owned_files(path: Path, manifest: Manifest) -> set[str]:
    """Names, relative to the folder, of the files that its run has written: answers and pictures."""
    pictures = [entry["pictures"] for entry in Journal(path / STATE).entries()]
    begun = (path / PICTURES).glob(
        f"{len(pictures) + 1:04d}_*.[jp][pn]g"
    )  # of the photograph at which the run was cut off
    shown = [place.name for place in begun] + [
        Path(name).name for names in pictures for name in names if not name.startswith(f"{DICOM}/")
    ]
    objects = (path / DICOM).glob("[0-9][0-9][0-9]*_*.dcm") if DICOM in manifest["files"] else ()
    return (
        {Path(name).name for name in manifest["files"]}
        | {f"{PICTURES}/{name}" for name in shown}
        | {f"{DICOM}/{place.name}" for place in objects}
    )


def remove_run(path: Path, manifest: Manifest) -> None:
    """Remove the files of the run that lies in a folder, and no others; the marker goes last."""
    try:
        for name in owned_files(path, manifest) - {RUN_MARKER, DICOM}:
            (path / name).unlink(missing_ok=True)
        Journal(path / STATE).path.unlink(missing_ok=True)
        for inner in (path / PICTURES, path / DICOM):
            if inner.is_dir() and not inner.is_symlink() and not any(inner.iterdir()):
                inner.rmdir()
        (path / RUN_MARKER).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(path, error) from error


def _refuse_another(path: Path, earlier: Manifest, manifest: Manifest) -> None:
    if differences := describe_differences(earlier, manifest):
        raise UsageError(f"{path}: holds another run ({'; '.join(differences)}). {BEGIN_ANEW}")


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
    before, after = ({"lang": "en", **one.get("options", {})} for one in (earlier, now))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            clauses.append(f"{name}: {before.get(name)} there, {after.get(name)} now")
    if earlier.get("photographs") != now["photographs"]:
        there, here = (one.get("count") for one in (earlier.get("photographs", {}), now["photographs"]))
        clauses.append(f"{there} photographs there, {'others' if there == here else here} now")
    if earlier.get("fundoscope") != now["fundoscope"]:
        clauses.append(f"by fundoscope {earlier.get('fundoscope')}, and this is {now['fundoscope']}")
    return clauses
