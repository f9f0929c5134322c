"""Pack a folder of patch tables into one file that is a fifth of its size, and unpack it on the machine that trains.

    python benchmarks/patch_pack.py pack runs/nicked patches.zip [--only real banded]
    python benchmarks/patch_pack.py unpack patches.zip runs/nicked

All patches of one crossing show the same square but for the lesion: of the second one on only the difference from the first
is kept. Pixels come back exactly; files are PNG again.
"""

from __future__ import annotations

import argparse
import csv
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels

_LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]
_STACKED = 24  # pictures in one stack: WebP takes at most 16383 rows

Group = tuple[str, list[Path]]


def group_patches(folder: Path, only: Iterable[str]) -> Iterator[Group]:
    """The patches below a folder, of one crossing together, in stacks of equal size: a name, and their paths in it."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in sorted({path for table in folder.glob("*.csv") for path in _listed(table)}):
        table, *inner = path.relative_to(folder).parts
        if only and table not in only:
            continue
        crossing = path.stem.rsplit("_", 1)[0] if path.stem.count("_") == 2 else path.stem
        groups["/".join([*inner[:-1], crossing])].append(path)
    for name, paths in groups.items():
        for first in range(0, len(paths), _STACKED):
            yield f"{name}/{first}", paths[first : first + _STACKED]


def _listed(table: Path) -> list[Path]:
    """The patches that a table lists."""
    with table.open(newline="", encoding="utf-8") as file:
        return [table.parent / row["patch"] for row in csv.DictReader(file)]


def pack_group(group: Group) -> bytes:
    """The stack of a group as WebP: the first picture, then differences from it."""
    pictures = [cv2.imread(str(path)) for path in group[1]]
    differences = [pictures[0], *(picture - pictures[0] for picture in pictures[1:])]
    return cv2.imencode(".webp", np.concatenate(differences), _LOSSLESS)[1].tobytes()


def unpack_group(task: tuple[bytes, list[Path]]) -> None:
    """Write the pictures of a stack."""
    data, paths = task
    stack = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    first, *others = np.split(stack, len(paths))
    for path, picture in zip(paths, [first, *(_add(first, other) for other in others)], strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _add(first: NDArray[np.uint8], difference: NDArray[np.uint8]) -> Pixels:
    return first + difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--only", nargs="*", default=(), help="tables (folders) that are packed; all without it")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(given.workers) as pool:
        if given.what == "pack":
            groups = list(group_patches(given.source, given.only))
            with zipfile.ZipFile(given.target, "w") as file:
                for (name, paths), data in zip(groups, pool.map(pack_group, groups, chunksize=4), strict=True):
                    file.writestr(name, data)
                    listed = "\n".join(path.relative_to(given.source).as_posix() for path in paths)
                    file.writestr(f"{name}.txt", listed)
                for table in sorted(given.source.glob("*.csv")):
                    file.write(table, table.name)
        else:
            with zipfile.ZipFile(given.source) as file:
                names = file.namelist()
                tasks = [
                    (file.read(name), [given.target / part for part in file.read(f"{name}.txt").decode().split("\n")])
                    for name in names
                    if f"{name}.txt" in names
                ]
                given.target.mkdir(parents=True, exist_ok=True)
                for name in names:
                    if name.endswith(".csv"):
                        file.extract(name, given.target)
            list(pool.map(unpack_group, tasks, chunksize=4))
    print(f"{given.target}")


if __name__ == "__main__":
    main()
