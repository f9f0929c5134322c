"""The table of a study of grades: a row a patch, with its grade and the photograph that it was cut from.

    patch,grade,photograph[,span,vein_px,narrowing_1,narrowing_2,sham,calibre_1,calibre_2,fade_1,fade_2,slope]

`patch` is a path relative to the table; `grade` 0 to 3, blank where it is not known; `photograph` keeps patches of one
photograph together (`image` does, too). A folder of the 90-patch set (Nguyen 2013) serves as a table.

The table that `fundoscope nicking cut-patches` writes for two readers serves, too:

    number,patch,photograph,row,column,reader_1,reader_2,settled,span,vein_px,slope

Its grade is the settled one, and where none is written that on which both readers agree.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from fundoscope.cohort.image_paths import find_file
from fundoscope.cohort.sheet import SheetRow, is_blank, parse_number, parse_whole, read_sheet
from fundoscope.cohort.spellings import describe_spellings, find_two_spellings
from fundoscope.datasets import open_dataset
from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics import settle
from fundoscope.imaging.alike import name_alike
from fundoscope.vessels.grade_rule import GRADES, SPAN

COLUMNS = (
    "patch", "grade", "photograph", "span", "vein_px", "narrowing_1", "narrowing_2", "sham",
    "calibre_1", "calibre_2", "fade_1", "fade_2", "slope",
)  # fmt: skip
#: What two readers write, and what they settle on where they differ.
READERS = ("reader_1", "reader_2")
SETTLED = "settled"
#: The columns of a table for readers.
READER_COLUMNS = ("number", "patch", "photograph", "row", "column", *READERS, SETTLED, "span", "vein_px", "slope")
_NUMBERS = tuple(name for name in COLUMNS[3:] if name != "sham")
_PLACE = ("row", "column")
#: Vein widths that a wide patch spans: the usual one can be cut from it turned, at half its size, and off its middle.
WIDE_SPAN = 27.0
_GROUPS = ("photograph", "image")


@dataclass(frozen=True, slots=True)
class PatchRow:
    """One patch of a table.

    `grade` is None where nobody graded it. It spans `span` widths of its vein; `vein_px` is that width in pixels at the
    scale of the vessel maps, `slope` the degrees by which it is turned clockwise from level, `narrowing` the true narrowing of the upper and the lower side that can be seen, `calibre` and
    `fade` the losses of width and of contrast that it is made of; nan where not known.
    `sham` is the sham warp that was carried out, blank or `none` where there was none. `readers` are the grades of two readers,
    None where one gave none; `number` is what they call the patch, `place` its row and column in the photograph, nan where not
    known.
    """

    path: Path
    grade: int | None
    photograph: str
    span: float = SPAN
    vein_px: float = math.nan
    narrowing: tuple[float, float] = (math.nan, math.nan)
    sham: str = ""
    calibre: tuple[float, float] = (math.nan, math.nan)
    fade: tuple[float, float] = (math.nan, math.nan)
    slope: float = math.nan
    readers: tuple[int | None, int | None] = (None, None)
    number: str = ""
    place: tuple[float, float] = (math.nan, math.nan)

    @property
    def crossing(self) -> str:
        """The crossing in the middle. Patches of one photograph whose names begin with the same two of three numbers, as those of
        `nicked_patches` do (photograph, crossing, what was drawn), show the same one; any other patch is a crossing of its own.
        """
        numbered = re.fullmatch(r"(\d+_\d+)_\d+", self.path.stem)
        return f"{self.photograph}/{numbered[1] if numbered else self.path.stem}"

    @property
    def is_narrowed(self) -> bool:
        """Whether a side is known to be narrowed, if only by less than a grade's worth."""
        return any(side > 0 for side in self.narrowing)


def read_patch_table(path: Path) -> list[PatchRow]:
    """The rows of a table, or of a folder of the 90-patch set.

    Raises `UsageError` for a table that cannot be read, a missing column, a wrong value, a photograph that is written in two
    ways, and a patch that is listed twice or does not exist; the message names file and line.
    """
    if path.is_dir():
        return _read_graded_folder(path)
    sheet = read_sheet(path, ("patch", "grade", *READERS))
    columns = set(sheet.titles)
    read_twice = set(READERS) <= columns
    if "patch" not in columns or not ("grade" in columns or read_twice) or not set(_GROUPS) & columns:
        raise UsageError(
            f"{path}: has the columns {', '.join(sheet.titles) or 'none'}. Give patch, grade and photograph; in place of grade "
            f"{READERS[0]} and {READERS[1]} do, and {SETTLED} where they differ."
        )
    sheet.check_columns(
        ("patch", *(READERS if read_twice else ("grade",))), list(dict.fromkeys((*COLUMNS[1:], *READER_COLUMNS)))
    )
    rows: list[PatchRow] = []
    paths: set[Path] = set()
    for line in sheet:
        row = _parse_row(path, line, sheet.encoding)
        if row.path in paths:
            raise UsageError(f"{line.where}: {row.path.name} stands there twice. Remove one of the two lines.")
        paths.add(row.path)
        rows.append(row)
    if not rows:
        raise UsageError(f"{path}: holds no patch. Add a line a patch.")
    for spellings in find_two_spellings(row.photograph for row in rows):
        lines = {row: line.line for row, line in enumerate(sheet)}
        raise UsageError(f"{path}: {describe_spellings('photograph', spellings, lines)}")
    return rows


def _read_graded_folder(folder: Path) -> list[PatchRow]:
    """The graded patches of a folder of the 90-patch set."""
    known = open_dataset(folder)
    if known.layout != "avn":
        raise UsageError(f"{folder}: is no folder of graded patches. Give one with grading.txt, or a table of patches.")
    return [
        PatchRow(source.path, int(record.grades[0]), source.group)
        for source, record in ((source, known[k]) for k, source in enumerate(known.sources))
        if record.grades is not None
    ]


def _parse_row(table: Path, line: SheetRow, encoding: str) -> PatchRow:
    cells, where = line.cells, line.where
    path = find_file(cells["patch"], table.parent, encoding)
    if is_blank(cells["patch"]) or not path.is_file():
        raise UsageError(
            f"{where}: there is no patch '{cells['patch']}'{name_alike(path)}. Paths are relative to the table."
        )
    group = next((cells[name] for name in _GROUPS if not is_blank(cells.get(name, ""))), "")
    if not group:
        raise UsageError(f"{where}: does not say which photograph {path.name} was cut from. Fill in 'photograph'.")
    first, second = (parse_grade(line, column) for column in READERS)
    settled = parse_grade(line, SETTLED)
    grade = parse_grade(line, "grade") if not is_blank(line["grade"]) else settle(first, second, settled)
    numbers = dict.fromkeys(_PLACE, math.nan)
    for name in (*_NUMBERS, *(_PLACE if READERS[0] in cells else ())):
        try:
            numbers[name] = parse_number(cells.get(name, ""))
        except ValueError as fault:
            raise UsageError(
                f"{where}: {name} {fault}. Give a number with a decimal point, or leave it blank."
            ) from None
    return PatchRow(
        path, grade, group, SPAN if math.isnan(numbers["span"]) else numbers["span"], numbers["vein_px"],
        (numbers["narrowing_1"], numbers["narrowing_2"]), cells.get("sham", ""),
        (numbers["calibre_1"], numbers["calibre_2"]), (numbers["fade_1"], numbers["fade_2"]), numbers["slope"],
        (first, second), line["number"], (numbers["row"], numbers["column"]),
    )  # fmt: skip


def parse_grade(line: SheetRow, column: str) -> int | None:
    """The grade in a column of a row, None where it is blank; `UsageError` for anything but 0 to 3."""
    grade = parse_whole(line[column])
    if not is_blank(line[column]) and (grade is None or grade >= GRADES):
        raise UsageError(
            f"{line.where}: '{line[column]}' in '{column}' is no grade. Give 0, 1, 2 or 3, or leave it blank."
        )
    return grade
