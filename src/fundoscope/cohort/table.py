"""`Cohort`: a table of photographs and what is known of each.

    image,label[,treatment_requiring,infant,eye,exam,...]

`image` is a path relative to the table, `label` is normal or rop, `treatment_requiring` yes, no or blank,
`infant` whatever tells one infant from another; columns beyond these are kept. Spreadsheets write such tables
in many ways: a byte-order mark, semicolons or tabs, CRLF, UTF-16 and capital letters are all read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.columns import (
    COLUMNS,
    LABELS,
    match_header,
    parse_eye,
    parse_label,
    parse_treatment,
    treatment_word,
)
from fundoscope.errors import CohortError, nearest
from fundoscope.imaging.read import SUFFIXES, natural_order

_NAMED = 5  # so many rows or names an error lists before it says how many more there are


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One photograph of a cohort.

    `row` counts from 0 and is the index into every array made of the cohort; `line` is the row as a
    spreadsheet numbers it (the header is 1). `image` is the path as written, `path` the absolute one. `label`
    is normal or rop, blank only in a table to be screened.
    """

    row: int
    image: str
    path: Path
    label: str
    treatment_requiring: bool | None = None
    infant: str | None = None
    eye: str | None = None
    exam: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    line: int = 0

    def content(self) -> dict[str, Any]:
        """What the table says of the photograph, as JSON can hold it; the place of the file is left out."""
        return {
            "image": self.image,
            "label": self.label,
            "treatment_requiring": self.treatment_requiring,
            "infant": self.infant,
            "eye": self.eye,
            "exam": self.exam,
            "extra": self.extra,
        }


class Cohort:
    """Photographs with their labels, in the order of the table; `name` is how errors call it."""

    def __init__(self, records: Sequence[CohortRow], name: str) -> None:
        self.records = tuple(records)
        self.name = name
        if not self.records:
            raise CohortError(f"{name}: there is no photograph in it. Add a row for each, below the header.")
        self._check_infants()
        self._check_repeats()

    @classmethod
    def read(cls, path: str | Path, labelled: bool = True) -> Cohort:
        """The cohort in a CSV file; raises `CohortError` naming the row and what to do about it.

        `labelled=False` also takes a table that is to be screened: without labels, or with blank ones.
        """
        path = Path(path)
        header, rows = _cells_of(path)
        place = match_header(header, str(path), COLUMNS[: 1 + labelled])
        base = path.absolute().parent  # not resolved: a linked table keeps its neighbours
        records: list[CohortRow] = []
        for line, cells in rows:
            where = f"{path}, row {line}"
            _check_width(cells, header, where)
            cells = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
            records.append(_record(len(records), line, cells, header, place, base, where, labelled))
        return cls(records, str(path))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, str]], folder: str | Path, name: str = "cohort") -> Cohort:
        """The cohort of rows given as mappings from column to text; paths are relative to `folder`."""
        records: list[CohortRow] = []
        for number, row in enumerate(rows):
            header = list(row)
            where = f"{name}, row {number + 2}"
            cells = [str(value).strip() for value in row.values()]
            place = match_header(header, where)
            base = Path(folder).absolute()
            records.append(_record(number, number + 2, cells, header, place, base, where))
        return cls(records, name)

    @classmethod
    def from_folders(cls, folder: str | Path) -> Cohort:
        """The cohort of a folder that holds one folder a label, normal and rop, each searched to its depth.

        Raises `CohortError` naming every folder of another name, and photographs that lie in no label's
        folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise CohortError(f"{folder}: there is no such folder. Give the folder that holds normal/ and rop/.")
        children = sorted((c for c in folder.iterdir() if not _hidden(c)), key=_in_order)
        _check_folders(folder, children)
        rows = [
            {"image": photograph.relative_to(folder).as_posix(), "label": child.name.casefold()}
            for child in children
            if child.is_dir()
            for photograph in sorted(_photographs_in(child), key=_in_order)
        ]
        if not rows:
            raise CohortError(f"{folder}: no photograph in normal/ or rop/. Known are {', '.join(SUFFIXES)}.")
        return cls.from_rows(rows, folder, str(folder))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[CohortRow]:
        return iter(self.records)

    def __getitem__(self, row: int) -> CohortRow:
        return self.records[row]

    @property
    def labels(self) -> NDArray[np.int64]:
        """0 for normal, 1 for rop, one a photograph."""
        return np.array([LABELS.index(record.label) for record in self.records])

    @property
    def treatments(self) -> NDArray[np.int64]:
        """1 where treatment is required, 0 where not, -1 where the table does not say, one a photograph."""
        return np.array([-1 if r.treatment_requiring is None else int(r.treatment_requiring) for r in self.records])

    @property
    def paths(self) -> list[Path]:
        """The photographs' absolute paths, in the table's order."""
        return [record.path for record in self.records]

    @property
    def has_infants(self) -> bool:
        """Whether the table tells the infants apart."""
        return self.records[0].infant is not None

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each photograph's bytes, blank where the file is missing or cannot be opened."""
        return tuple(_digest(record.path) for record in self.records)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content: every cell of the table and every byte of the photographs."""
        whole = hashlib.sha256()
        for record, digest in zip(self.records, self.digests, strict=True):
            whole.update(json.dumps([record.content(), digest], sort_keys=True).encode())
        return whole.hexdigest()

    def write(self, path: str | Path) -> Path:
        """Write the table as CSV, its image paths relative to where it is written; returns `path`."""
        path = Path(path)
        columns = self._columns()
        extra = sorted({name for record in self.records for name in record.extra})
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*columns, *extra])
            for record in self.records:
                cells = record.content() | {
                    "image": _relative(record.path, path),
                    "treatment_requiring": treatment_word(record.treatment_requiring),
                }
                writer.writerow([cells[c] or "" for c in columns] + [record.extra.get(name, "") for name in extra])
        return path

    def _columns(self) -> list[str]:
        used = [c for c in COLUMNS[2:] if any(getattr(record, c) is not None for record in self.records)]
        return [*COLUMNS[:2], *used]

    def _check_infants(self) -> None:
        blank = [str(record.line) for record in self.records if record.infant is None]
        if blank and len(blank) < len(self.records):
            raise CohortError(
                f"{self.name}: the infant is blank in row {list_some(blank)} but given elsewhere. "
                "Fill it in, or leave it blank everywhere if the infants are unknown."
            )

    def _check_repeats(self) -> None:
        first: dict[Path, CohortRow] = {}
        for record in self.records:
            other = first.setdefault(record.path, record)
            if other.label != record.label:
                raise CohortError(
                    f"{self.name}: {record.image} is {other.label} in row {other.line} and {record.label} "
                    f"in row {record.line}. Decide which label is right and remove the other row."
                )


def _cells_of(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows that are not blank, each with its number in the file (the header is 1)."""
    text = _text_of(path)
    delimiter = _delimiter(text)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise CohortError(f"{path}: is not a CSV table ({error}). Save it as CSV (UTF-8).") from error
    filled = [(number, cells) for number, cells in enumerate(rows, 1) if any(cell.strip() for cell in cells)]
    if not filled:
        raise CohortError(f"{path}: the table is empty. Write a header 'image,label' and a row a photograph.")
    return [name.strip() for name in filled[0][1]], filled[1:]


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CohortError(f"{path}: cannot be read ({reason}). Give the path of the cohort's CSV table.") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise CohortError(f"{path}: is not a text file. Save the table as CSV (UTF-8) and give that.")
    # names that are no UTF-8 keep their bytes, as Python's own file names do
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: whichever parts the first line that is not blank most often."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _check_width(cells: list[str], header: list[str], where: str) -> None:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise CohortError(
            f"{where}: has {len(cells)} cells, the header {len(header)}. "
            "Put quotes around a name that holds the delimiter."
        )


def _record(
    row: int, line: int, cells: list[str], header: list[str], place: dict[str, int], base: Path, where: str,
    labelled: bool = True,
) -> CohortRow:  # fmt: skip
    def cell(column: str) -> str:
        return cells[place[column]] if column in place else ""

    image = cell("image")
    if not image:
        raise CohortError(f"{where}: the image is blank. Fill in its path, or remove the row.")
    label = parse_label(cell("label"), where) if labelled or cell("label") else ""
    known = set(place.values())
    return CohortRow(
        row=row,
        image=image,
        path=_resolve(image, base),
        label=label,
        treatment_requiring=parse_treatment(cell("treatment_requiring"), label, where),
        infant=cell("infant") or None,
        eye=parse_eye(cell("eye"), where),
        exam=cell("exam") or None,
        extra={name: cells[at] for at, name in enumerate(header) if at not in known and name},
        line=line,
    )


def _resolve(image: str, base: Path) -> Path:
    path = Path(os.path.normpath(base / image))
    if "\\" in image and not os.path.lexists(path):  # a table that was written on Windows
        return Path(os.path.normpath(base / image.replace("\\", "/")))
    return path


def _relative(image: Path, table: Path) -> str:
    try:
        return Path(os.path.relpath(image, os.path.normpath(table.absolute().parent))).as_posix()
    except ValueError:  # another drive
        return image.as_posix()


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _in_order(path: Path) -> list[tuple[int, str]]:
    return natural_order(str(path))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _photographs_in(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not _hidden(p)]


def _check_folders(folder: Path, children: list[Path]) -> None:
    unknown = [child.name for child in children if child.is_dir() and child.name.casefold() not in LABELS]
    if unknown:
        hint = nearest(unknown[0].casefold(), LABELS)
        raise CohortError(f"{folder}: no label is called {list_some(unknown)}; {hint} Name each folder normal or rop.")
    loose = [child.name for child in children if child.is_file() and child.suffix.lower() in SUFFIXES]
    if loose:
        raise CohortError(f"{folder}: {list_some(loose)} lies in no label's folder. Move it into normal/ or rop/.")


def list_some(names: Sequence[str], between: str = ", ") -> str:
    """The first few of the names, and how many more there are."""
    shown = between.join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
