"""Labels by two readers of the same photographs.

    image,reader_1,reader_2[,label,infant,...]

`reader_1` and `reader_2` are normal or rop, in any of the words of a cohort's table, blank where a reader gave none; `label` is
the settled one, where there is one; `infant` keeps photographs of one infant together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fundoscope.cohort.columns import LABELS, parse_label, parse_name
from fundoscope.cohort.image_paths import find_file
from fundoscope.cohort.sheet import SheetRow, is_blank, read_sheet
from fundoscope.cohort.spellings import describe_spellings, find_two_spellings
from fundoscope.errors import CohortError

READERS = ("reader_1", "reader_2")
_SETTLED = "label"


@dataclass(frozen=True, slots=True)
class LabelReading:
    """One photograph and what was said of it: numbers of `LABELS` by both `readers` and as `settled`, None where blank.

    `image` is the path as written, `path` the absolute one; `infant` is None where the table does not tell infants apart.
    """

    image: str
    path: Path
    readers: tuple[int | None, int | None]
    settled: int | None = None
    infant: str | None = None


def read_label_readings(path: str | Path) -> list[LabelReading]:
    """The rows of a table with two readers' labels.

    Raises `CohortError`, which names file and row, for a missing column, an unknown label, a photograph that stands there
    twice, an infant that is blank in some rows only or written in two ways, and a reader without any label.
    """
    sheet = read_sheet(path, ("image", *READERS), CohortError)
    sheet.check_columns(("image", *READERS), (_SETTLED, "infant"))
    base = Path(path).absolute().parent
    found: dict[Path, LabelReading] = {}
    for row in sheet:
        if is_blank(row["image"]):
            raise CohortError(f"{row.where}: the image is blank. Fill in its path, or remove the row.")
        file = find_file(row["image"], base, sheet.encoding)
        if file in found:
            raise CohortError(f"{row.where}: {row['image']} stands there twice. Remove one of the two rows.")
        first, second, settled = (_parse(row, column) for column in (*READERS, _SETTLED))
        infant = parse_name(row["infant"], "infant", row.where)
        found[file] = LabelReading(row["image"], file, (first, second), settled, infant)
    rows = list(found.values())
    _check_rows(str(path), rows, {k: row.line for k, row in enumerate(sheet)})
    return rows


def _parse(row: SheetRow, column: str) -> int | None:
    return None if is_blank(row[column]) else LABELS.index(parse_label(row[column], f"{row.where}, {column}"))


def _check_rows(name: str, rows: list[LabelReading], lines: dict[int, int]) -> None:
    if not rows:
        raise CohortError(f"{name}: there is no photograph in it. Add a row for each, below the header.")
    for k, reader in enumerate(READERS):
        if all(row.readers[k] is None for row in rows):
            raise CohortError(f"{name}: {reader} has no label. Write normal or rop for each photograph that was read.")
    blank = [k for k, row in enumerate(rows) if row.infant is None]
    if 0 < len(blank) < len(rows):
        raise CohortError(
            f"{name}: the infant is blank in row {lines[blank[0]]} but given elsewhere. Fill it in, or leave it blank everywhere."
        )
    for spellings in find_two_spellings(row.infant for row in rows):
        raise CohortError(f"{name}: {describe_spellings('infant', spellings, lines)}")
