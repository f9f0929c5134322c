"""Finding the files of a set: its photographs in order, and for each photograph the files of its truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fundoscope.datasets.record import PhotographRecord, PhotographSource
from fundoscope.errors import PhotographError, UsageError
from fundoscope.imaging import SUFFIXES
from fundoscope.imaging.read import natural_order


def list_photographs(folder: Path) -> list[Path]:
    """The photographs of a folder, in order of their names (9 before 10); `UsageError` where there is none."""
    found = list_pictures(folder)
    if not found:
        raise UsageError(f"{folder}: holds no photographs. Give the folder as its source hands it out.")
    return found


def list_pictures(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The files of a folder with such suffixes, in order of their names; `UsageError` where there is no such folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder, but the set needs it. Copy the set again, whole.")
    found = (path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_order(path.name))


def match_by_name(
    photographs: Sequence[Path], folder: Path, stem: Callable[[str], str] = str, *, may_lack: bool = False
) -> dict[Path, Path]:
    """Each photograph with its picture in `folder`: the one whose name without suffix is `stem(photograph's name)`.

    Raises `PhotographError` where a photograph has none, unless it `may_lack` one, and for pictures without a photograph.
    """
    wanted = {stem(path.stem): path for path in photographs}
    return match_stems(wanted, {path.stem: path for path in list_pictures(folder)}, folder, may_lack)


def match_stems(wanted: dict[str, Path], there: dict[str, Path], folder: Path, may_lack: bool) -> dict[Path, Path]:
    """Each photograph with its file, where `wanted` and `there` map the same stems to them; errors as in `match_by_name`."""
    missing = [stem for stem in wanted if stem not in there]
    if missing and not may_lack:
        cause = f"its file {missing[0]}.* is not in {folder}; {len(missing)} are missing"
        raise PhotographError(str(wanted[missing[0]]), cause, "Copy the set again, whole.")
    stray = [stem for stem in there if stem not in wanted]
    if stray:
        cause = f"belongs to no photograph of the set; {len(stray)} such files"
        raise PhotographError(str(there[stray[0]]), cause, "Put its photograph back, or take the file out.")
    return {wanted[stem]: path for stem, path in there.items()}


def make_sources(
    photographs: Sequence[Path],
    dataset: str,
    reader: Callable[[PhotographSource], PhotographRecord],
    **files: dict[Path, Path],
) -> list[PhotographSource]:
    """The sources of photographs that are each a group of its own, with those of the `files` that belong to them."""
    made = []
    for path in photographs:
        own = {kind: found[path] for kind, found in files.items() if path in found}
        made.append(PhotographSource(path.stem, dataset, path, path.stem, reader, own))
    return made
