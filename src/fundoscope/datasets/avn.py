"""Patches of AV nicking (Nguyen 2013, IEEE TBME 60:3194): `CERA_<image>_cy_<row>_cx_<col>.png` and `grading.txt`.

Several patches are cut from one photograph, so the photograph is their group.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from fundoscope.cohort.sheet import read_sheet
from fundoscope.datasets.record import PhotographRecord, PhotographSource
from fundoscope.errors import PhotographError, UsageError
from fundoscope.imaging import read
from fundoscope.vessels.grade_rule import GRADES

_NAME = re.compile(r"CERA_(?P<image>.+)_cy_(?P<row>\d+)_cx_(?P<col>\d+)")


def avn_sources(folder: Path, dataset: str) -> list[PhotographSource]:
    """The patches, each with its grade; the whole patch is field, and the place of its crossing is unknown.

    Raises `UsageError` for a line of `grading.txt` that is not `index, patch name, grade`, and `PhotographError` for a
    patch without a grade and a grade without its patch.
    """
    table = folder / "grading.txt"
    grades, patches = _read_grades(table), {path.stem: path for path in sorted(folder.rglob("*.png"))}
    for stem in sorted(grades.keys() - patches.keys()):
        raise PhotographError(
            f"{stem}.png", f"is not below {folder}, but {table} grades it", "Copy the set again, whole."
        )
    for stem in sorted(patches.keys() - grades.keys()):
        raise PhotographError(str(patches[stem]), f"has no grade in {table}", "Grade it there, or take it out.")
    return [
        PhotographSource(stem, dataset, patches[stem], _image(table, stem), partial(_read, grade))
        for stem, grade in grades.items()
    ]


def _read_grades(path: Path) -> dict[str, int]:
    """The grade of each patch by its name without suffix; the columns are known by their order, whatever their names."""
    grades: dict[str, int] = {}
    for row in read_sheet(path):
        cells = list(row.cells.values())
        if len(cells) != 3 or not cells[2].isdecimal() or int(cells[2]) >= GRADES:
            text = ", ".join(cells)
            raise UsageError(f"{row.where}: '{text}' is not 'index, patch name, grade 0 to 3'. Mend the row.")
        stem = cells[1].removesuffix(".png")
        if stem in grades:
            raise UsageError(f"{row.where}: {stem} stands there twice. Remove one of the two rows.")
        grades[stem] = int(cells[2])
    return grades


def _image(path: Path, stem: str) -> str:
    name = _NAME.fullmatch(stem)
    if name is None:
        raise UsageError(f"{path}: '{stem}' is not named CERA_<image>_cy_<row>_cx_<col>. Mend the row.")
    return name["image"]


def _read(grade: int, source: PhotographSource) -> PhotographRecord:
    rows, columns = read(source.path).pixels.shape[:2]
    return source.record(np.ones((rows, columns), bool), grades=np.array([grade]))
