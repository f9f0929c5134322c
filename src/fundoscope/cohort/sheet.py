"""The one reader of tables that people write: CSV files from spreadsheets, statistics programs and editors.

It finds the encoding (UTF-8 with or without a byte-order mark, UTF-16, Windows' 1252), the separator (comma, semicolon, tab or
`|`, or what a first line `sep=;` names) and the header (below a line of title, too). Cells lose the spaces, no-break spaces
and single quotes around them. Whatever cannot be read without guessing is refused with file, row and remedy.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fundoscope.errors import FundoscopeError, UsageError, nearest

#: Words that stand for "not known" in an optional cell, in small letters.
BLANK_WORDS = frozenset(
    {"", "-", "–", "—", "--", "---", ".", "?", "nan", "na", "n/a", "n.a.", "#n/a", "#nv", "<na>", "nat", "null", "none"}
    | {"empty", "(empty)", "(blank)", "unknown"}
)

_SEPARATORS = ",;\t|"
_HEADER_WITHIN = 10  # filled lines among which the header is sought: titles and dates of export may stand above it
_SLIP = 0.8  # likeness from which an unknown column is taken for a misspelt known one: infants, infant_id, eyes
_EDGES = re.compile(r"^[\s\u200b-\u200d\u2060\ufeff]+|[\s\u200b-\u200d\u2060\ufeff]+$")  # also spaces of no width


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row: `cells` maps each named column to its text, `line` counts from 1 as a spreadsheet does, and `where` names
    file and row for messages.
    """

    where: str
    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The text of a column; blank where the table has no such column."""
        return self.cells.get(column, "")


@dataclass(frozen=True)
class Sheet:
    """A table as text: its rows that hold something, in order.

    `titles` maps the columns, in small letters with underscores, to their names as written; a column without a name is not
    kept. `encoding` is the one found. `error` is the class of error that its faults raise.
    """

    name: str
    titles: dict[str, str]
    rows: tuple[SheetRow, ...]
    encoding: str = "utf-8"
    error: type[FundoscopeError] = field(default=UsageError, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[SheetRow]:
        return iter(self.rows)

    def check_columns(self, needed: Sequence[str], optional: Sequence[str] = (), closed: bool = False) -> None:
        """Raise `error` where a `needed` column is missing or an unknown one must be a slip.

        In a `closed` table every unknown column is refused; else only one whose name is nearly that of a known column which
        is absent: an `infants` kept as an unknown column would let an infant stand on two sides of a split.
        """
        known = [*needed, *optional]
        unknown = [column for column in self.titles if column not in known]
        for column in needed:
            if column not in self.titles:
                hint = f" {nearest(column, unknown)}" if unknown else ""
                raise self.error(f"{self.name}: there is no column '{column}';{hint} Name it '{column}' in the header.")
        absent = [column for column in known if column not in self.titles]
        for column in unknown:
            close = difflib.get_close_matches(column, absent, n=1, cutoff=_SLIP)
            if closed or close:
                hint = f"did you mean '{close[0]}'?" if close else nearest(column, known)
                remedy = "Rename or remove it." if closed else "Rename it to that, or to something less alike."
                raise self.error(f"{self.name}: the column '{column}' is unknown; {hint} {remedy}")

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, str]], name: str, error: type[FundoscopeError] = UsageError
    ) -> Sheet:
        """The table of rows given as mappings from column to text; the first stands in line 2."""
        titles: dict[str, str] = {}
        made = []
        for line, row in enumerate(rows, 2):
            where = f"{name}, row {line}"
            own = _name_columns(list(row), name, error)
            for column, value in row.items():
                if re.search(r"[\r\n]", str(value)):
                    raise error(f"{where}: the cell of '{column}' holds a line break. Write it in one line.")
            cells = [clean_cell(str(value)) for value in row.values()]
            made.append(SheetRow(where, line, {name: cells[at] for at, name in enumerate(own) if name}))
            titles |= {column: clean_cell(title) for column, title in zip(own, row, strict=True) if column}
        return cls(name, titles, tuple(made), error=error)


def read_sheet(path: str | Path, needed: Sequence[str] = (), error: type[FundoscopeError] = UsageError) -> Sheet:
    """The table in a file; `needed` columns help to tell the header from a title above it.

    Raises `error` for a file that cannot be read or is no text, a table without a header, a column that stands twice, a row
    with more cells than the header, and quotes that stay open at the end of a line: the rows after them would be lost.
    """
    name = str(path)
    text, encoding = _decode(Path(path), error)
    lines = list(enumerate(re.split(r"\r\n|\r|\n", text), 1))
    filled = [(number, line) for number, line in lines if _EDGES.sub("", line)]
    separators = _SEPARATORS
    if filled and (named := re.fullmatch(r'"?sep=(.)"?', filled[0][1].strip("\ufeff \r"))):
        separators, filled = named[1], filled[1:]
    if not filled:
        raise error(f"{name}: the table is empty. Write a header {','.join(needed)} and a row for each entry.")
    at, separator = _find_header(filled, separators, needed)
    header = _split(filled[at], separator, name, error)
    columns = _name_columns(header, name, error)
    rows = []
    for number, line in filled[at + 1 :]:
        cells = _split((number, line), separator, name, error)
        if not any(cells):
            continue
        where = f"{name}, row {number}"
        if any(cells[len(columns) :]):
            raise error(
                f"{where}: has {len(cells)} cells, the header {len(columns)}. "
                "Put quotes around a cell that holds the separator."
            )
        cells += [""] * (len(columns) - len(cells))
        rows.append(SheetRow(where, number, {own: cells[at] for at, own in enumerate(columns) if own}))
    titles = {column: title for column, title in zip(columns, header, strict=True) if column}
    return Sheet(name, titles, tuple(rows), encoding, error)


def clean_cell(text: str) -> str:
    """The text without the spaces (of any width, or of none) and the pairs of single quotes around it."""
    text = _EDGES.sub("", text)
    while len(text) > 1 and text[0] == text[-1] == "'":
        text = _EDGES.sub("", text[1:-1])
    return text


def is_blank(text: str) -> bool:
    """Whether a cell says that something is not known: it is empty, or holds one of `BLANK_WORDS`."""
    return text.casefold() in BLANK_WORDS


def _decode(path: Path, error: type[FundoscopeError]) -> tuple[str, str]:
    """The file's text, and the encoding that it was in."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise error(f"{path}: cannot be read ({reason}). Give the path of a CSV table.") from fault
    encodings = ["utf-8-sig", "cp1252"]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif b"\0" in data:  # text of one alphabet in UTF-16 has a zero in every other byte
        halves = [data[start:2000:2].count(0) / max(1, len(data[start:2000:2])) for start in (0, 1)]
        encodings = (
            ["utf-16-le"] if halves[1] > 0.5 > halves[0] else ["utf-16-be"] if halves[0] > 0.5 > halves[1] else []
        )
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, encoding
    if b"\0" in data:
        raise error(f"{path}: is not a text file. Save the table as CSV (UTF-8) and give that.")
    # neither UTF-8 nor Windows' 1252: bytes that are no letters are kept, as Python's own file names keep them
    return data.decode("utf-8", errors="surrogateescape"), "unknown"


def _find_header(filled: Sequence[tuple[int, str]], separators: str, needed: Sequence[str]) -> tuple[int, str]:
    """Which of the filled lines is the header, and the separator that parts it best.

    The header is the first line that names all `needed` columns; where none does, the first line, so that the user
    is told of the missing column.
    """

    def found(line: str, separator: str) -> int:
        return len(set(needed) & {_column(cell) for cell in line.split(separator)})

    for at, (_, line) in enumerate(filled[:_HEADER_WITHIN]):
        best = max(separators, key=lambda separator: (found(line, separator), line.count(separator)))
        if found(line, best) == len(set(needed)):
            return at, best
    return 0, max(separators, key=lambda separator: (found(filled[0][1], separator), filled[0][1].count(separator)))


def _split(line: tuple[int, str], separator: str, name: str, error: type[FundoscopeError]) -> list[str]:
    """The cells of one numbered line."""
    try:
        cells = next(csv.reader([line[1]], delimiter=separator, strict=True, skipinitialspace=True), [])
    except csv.Error as fault:
        raise error(
            f"{name}, row {line[0]}: its quotes do not match ({fault}). Put a pair of quotes around the whole cell, double "
            "those inside it, and keep each row on one line."
        ) from fault
    return [clean_cell(cell) for cell in cells]


def _name_columns(header: Sequence[str], name: str, error: type[FundoscopeError]) -> list[str]:
    """The header's names in small letters, with underscores for spaces and hyphens; `error` where one stands twice."""
    columns = [_column(title) for title in header]
    for column in filter(None, columns):
        if columns.count(column) > 1:
            raise error(f"{name}: the column '{column}' stands twice. Remove or rename one of them.")
    return columns


def _column(title: str) -> str:
    return clean_cell(title.strip('" ')).casefold().replace(" ", "_").replace("-", "_")
