"""`Cohort`: photographs with their labels, and what is known of each.

    image,label[,treatment_requiring,infant,eye,exam,...]

`image` is a path relative to the table, `label` is normal or rop, `treatment_requiring` yes, no or blank, `infant` a name or
number that tells infants apart; further columns are kept. `sheet` reads the file.
"""

from __future__ import annotations

import hashlib
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
    MEASURES,
    parse_eye,
    parse_label,
    parse_measure,
    parse_name,
    parse_treatment,
    treatment_word,
)
from fundoscope.cohort.image_paths import find_file
from fundoscope.cohort.sheet import Sheet, SheetRow, clean_cell, is_blank, read_sheet, write_sheet
from fundoscope.cohort.spellings import describe_spellings, find_two_spellings
from fundoscope.errors import CohortError
from fundoscope.folders import OTHER, Skipped, is_hidden, kind_of_answer, photographs_below
from fundoscope.imaging.kinds import SUFFIXES
from fundoscope.imaging.read import natural_order
from fundoscope.outputs import read_marker

_NAMED = 5  # so many rows or names an error lists before it says how many more there are


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One photograph of a cohort.

    `row` counts from 0 and is the index into every array made of the cohort; `line` is the row as a spreadsheet numbers it
    (the header is 1). `image` is the path as written, `path` the absolute one. `label` is normal or rop, blank in a table
    to be screened. `extra` maps the further columns, in small letters with underscores, to their text.
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

    def measure(self, column: str) -> float:
        """The number in a column of `MEASURES`, in its unit; nan where the table does not say."""
        return parse_measure(self.extra.get(column, ""), column, f"row {self.line}")

    def content(self) -> dict[str, Any]:
        """The row's cells as JSON can hold them; where the file lies is left out."""
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
    """Photographs with their labels, in the order of the table; `name` is what errors call it.

    Raises `CohortError` for a cohort without photographs, for infants that are blank in some rows only, for one photograph
    under two labels, and, unless `allow_two_spellings`, for an infant or an exam that is written in two ways: its photographs
    would be taken for those of two.
    """

    def __init__(self, records: Sequence[CohortRow], name: str, allow_two_spellings: bool = False) -> None:
        self.records = tuple(records)
        self.name = name
        if not self.records:
            raise CohortError(f"{name}: there is no photograph in it. Add a row for each, below the header.")
        self._check_infants()
        self._check_repeats()
        if not allow_two_spellings:
            for noun, spellings in self.two_spellings():
                lines = {row: record.line for row, record in enumerate(self.records)}
                raise CohortError(f"{self.name}: {describe_spellings(noun, spellings, lines)}")

    @classmethod
    def read(cls, path: str | Path, labelled: bool = True, allow_two_spellings: bool = False) -> Cohort:
        """The cohort in a CSV file; raises `CohortError` naming the row and what to do about it.

        `labelled=False` takes a table that is to be screened: what it says of labels and treatment is not read, and an infant
        may be blank in some rows.
        `allow_two_spellings` leaves infants and exams that are written in two ways to the audit.
        """
        sheet = read_sheet(path, COLUMNS[: 1 + labelled], CohortError)
        base = Path(path).absolute().parent  # not resolved: a linked table keeps its neighbours
        return cls._from_sheet(sheet, base, labelled, allow_two_spellings)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, str]],
        folder: str | Path,
        name: str = "cohort",
        allow_two_spellings: bool = False,
    ) -> Cohort:
        """The cohort of rows given as mappings from column to text; paths are relative to `folder`."""
        sheet = Sheet.from_rows(rows, name, CohortError)
        return cls._from_sheet(sheet, Path(folder).absolute(), True, allow_two_spellings)

    @classmethod
    def _from_sheet(cls, sheet: Sheet, base: Path, labelled: bool, allow_two_spellings: bool) -> Cohort:
        if len(sheet):
            sheet.check_columns(COLUMNS[: 1 + labelled], (*COLUMNS[1 + labelled :], *MEASURES))
        records = [_parse_row(number, row, sheet, base, labelled) for number, row in enumerate(sheet)]
        return cls(records, sheet.name, allow_two_spellings)

    @classmethod
    def from_folders(cls, folder: str | Path, skipped: Skipped | None = None) -> Cohort:
        """The cohort of a folder that holds one folder a label, normal and rop, each searched to its depth.

        What is left out is counted in `skipped`. Raises `CohortError` naming every folder of another name, and photographs
        that lie in no label's folder.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise CohortError(f"{folder}: there is no such folder. Give the folder that holds normal/ and rop/.")
        skipped = Skipped() if skipped is None else skipped
        children, marker = [], read_marker(folder)
        for child in sorted(folder.iterdir(), key=_in_order):
            if is_hidden(child.name):
                skipped.add("hidden or system folder" if child.is_dir() else "hidden or system file", child)
            elif child.is_dir() and (answer := read_marker(child)) is not None:
                skipped.add(kind_of_answer(answer), child)
            elif child.is_dir() or child.suffix.lower() in SUFFIXES:
                children.append(child)
            elif marker is None or not marker.owns(child.name):
                skipped.add(OTHER, child)
        rows = [
            {"image": photograph.relative_to(folder).as_posix(), "label": label}
            for child, label in _label_folders(folder, children).items()
            for photograph in photographs_below(child, skipped)
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
        """0 for normal, 1 for rop, (n,)."""
        return np.array([LABELS.index(record.label) for record in self.records])

    @property
    def treatments(self) -> NDArray[np.int64]:
        """1 where treatment is required, 0 where not, -1 where the table does not say, (n,)."""
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
    def cameras(self) -> tuple[str, ...]:
        """The camera of each photograph, by the column of that name, `unknown` where it is blank; empty where the table tells
        no two cameras apart.

        Raises `CohortError` for a camera that is written in two ways.
        """
        named = [None if is_blank(cell) else cell.strip() for cell in (r.extra.get("camera", "") for r in self.records)]
        for spellings in find_two_spellings(named):
            lines = {row: record.line for row, record in enumerate(self.records)}
            raise CohortError(f"{self.name}: {describe_spellings('camera', spellings, lines)}")
        return tuple(camera or "unknown" for camera in named) if len(set(named)) > 1 else ()

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

    def two_spellings(self) -> list[tuple[str, dict[str, list[int]]]]:
        """Each infant, and each exam of one infant, that is written in several ways: which of the two it is, and by spelling
        the rows (from 0) in which it stands.
        """
        found = [("infant", spellings) for spellings in find_two_spellings(record.infant for record in self.records)]
        exams: dict[str, dict[int, str | None]] = {}
        for row, record in enumerate(self.records):
            if record.infant is not None:
                exams.setdefault(record.infant, {})[row] = record.exam
        for own in exams.values():
            rows = list(own)
            for spellings in find_two_spellings(own.values()):
                found.append(("exam", {name: [rows[at] for at in places] for name, places in spellings.items()}))
        return found

    def write(self, path: str | Path) -> Path:
        """Write the table as CSV, its image paths relative to where it is written; returns `path`."""
        path = Path(path)
        used = [c for c in COLUMNS[2:] if any(getattr(record, c) is not None for record in self.records)]
        columns = [*COLUMNS[:2], *used]
        extra = sorted({name for record in self.records for name in record.extra})
        rows = []
        for record in self.records:
            cells = record.content() | {
                "image": _relative(record.path, path),
                "treatment_requiring": treatment_word(record.treatment_requiring),
            }
            rows.append([cells[c] for c in columns] + [record.extra.get(name) for name in extra])
        return write_sheet(path, [*columns, *extra], rows)

    def _check_infants(self) -> None:
        if not self.records[0].label:
            return  # to be screened: a photograph of an unknown infant stands for itself
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


def list_some(names: Sequence[str], between: str = ", ") -> str:
    """The first five of the names, and how many more there are."""
    shown = between.join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _parse_row(number: int, row: SheetRow, sheet: Sheet, base: Path, labelled: bool) -> CohortRow:
    image = row["image"]
    if is_blank(image):
        raise CohortError(f"{row.where}: the image is blank. Fill in its path, or remove the row.")
    for column in MEASURES if labelled else ():
        parse_measure(row[column], column, row.where)  # a study that ends with it must not begin without
    label = parse_label(row["label"], row.where) if labelled else ""
    return CohortRow(
        row=number,
        image=image,
        path=find_file(image, base, sheet.encoding),
        label=label,
        treatment_requiring=parse_treatment(row["treatment_requiring"], label, row.where) if labelled else None,
        infant=parse_name(row["infant"], "infant", row.where),
        eye=parse_eye(row["eye"], row.where),
        exam=parse_name(row["exam"], "exam", row.where),
        extra={column: text for column, text in row.cells.items() if column not in COLUMNS},
        line=row.line,
    )


def _relative(image: Path, table: Path) -> str:
    try:
        text = Path(os.path.relpath(image, os.path.normpath(table.absolute().parent))).as_posix()
    except ValueError:  # another drive
        text = image.as_posix()
    return text if clean_cell(text) == text and not is_blank(text) else f"./{text}"  # a reader takes spaces off


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _in_order(path: Path) -> list[tuple[int, str]]:
    return natural_order(str(path))


def _label_folders(folder: Path, children: list[Path]) -> dict[Path, str]:
    """The label that each folder's name stands for, as the word in a table's cell would."""
    labels, unknown = {}, []
    for child in children:
        if child.is_dir():
            try:
                labels[child] = parse_label(clean_cell(child.name), str(folder))
            except CohortError:
                unknown.append(f"'{child.name}'")
    if unknown:
        raise CohortError(f"{folder}: no label is called {list_some(unknown)}. Name each folder normal or rop.")
    loose = [f"'{child.name}'" for child in children if child.is_file() and child.suffix.lower() in SUFFIXES]
    if loose:
        raise CohortError(f"{folder}: {list_some(loose)} lies in no label's folder. Move it into normal/ or rop/.")
    return labels
