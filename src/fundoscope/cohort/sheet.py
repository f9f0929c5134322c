"""The one reader of tables that people write: CSV files from spreadsheets, statistics programs and editors; and their writer.

It finds the encoding (UTF-8 with or without a byte-order mark, UTF-16, Windows' 1252), the separator (comma, semicolon, tab or
`|`, or what a first line `sep=;` names) and the header (below a line of title, too). Cells lose the spaces, no-break spaces
and quotes around them. Whatever cannot be read without guessing is refused with file, row and remedy.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import math
import re
import unicodedata
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
#: What a spreadsheet shows in place of a value, in any language: #REF!, #WERT!, #NAME?, and ### in a narrow column.
_SPREADSHEET_ERROR = re.compile(r"#[^\W\d_/]+(/0)?[!?]|#{3,}")
#: How files begin that are taken for tables by mistake.
_FOREIGN = {
    b"PK\x03\x04": "a workbook of Excel or OpenOffice",
    b"\xd0\xcf\x11\xe0": "a workbook of an old Excel",
    b"%PDF": "a PDF document",
    b"{\\rtf": "a text document (RTF)",
    b"<": "a web page or XML",
}
_QUOTES = ("''", "‘’", "“”", "„“", "«»")  # double ones are taken off by the CSV reader
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
        is absent: an `infants` kept as an unknown column would let an infant stand on two sides of a split. An error that a
        spreadsheet left in a known column's cell is refused, too: #REF! in two rows would be one infant.
        """
        known = [*needed, *optional]
        unknown = [column for column in self.titles if column not in known]
        for column in needed:
            if column not in self.titles:
                hint = (
                    f"; {nearest(column, unknown)}".replace("there are", "others are").replace(
                        "there is only", "the other is"
                    )
                    if unknown
                    else "."
                )
                raise self.error(f"{self.name}: there is no column '{column}'{hint} Name it '{column}' in the header.")
        absent = [column for column in known if column not in self.titles]
        for column in unknown:
            close = difflib.get_close_matches(column, absent, n=1, cutoff=_SLIP)
            if closed or close:
                hint = f"did you mean '{close[0]}'?" if close else nearest(column, known)
                remedy = "Rename or remove it." if closed else "Rename it to that, or to something less alike."
                raise self.error(f"{self.name}: the column '{column}' is unknown; {hint} {remedy}")
        for row, column in itertools.product(self.rows, known):
            if _SPREADSHEET_ERROR.fullmatch(row[column]):
                raise self.error(
                    f"{row.where}: the cell of '{column}' holds the spreadsheet's error {row[column]}. "
                    "Write its value, or widen the column that shows ###, and save the table again."
                )

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
                    raise error(
                        f"{where}: the cell of '{column}' holds a line break ({value!r}). "
                        "Write it in one line; rename a file that has one in its name."
                    )
            cells = [clean_cell(str(value)) for value in row.values()]
            made.append(SheetRow(where, line, {name: cells[at] for at, name in enumerate(own) if name}))
            titles |= {column: clean_cell(title) for column, title in zip(own, row, strict=True) if column}
        return cls(name, titles, tuple(made), error=error)


def read_sheet(path: str | Path, needed: Sequence[str] = (), error: type[FundoscopeError] = UsageError) -> Sheet:
    """The table in a file; `needed` columns help to tell the header from a title above it.

    Raises `error` for a file that cannot be read or is no text, a table without a header, a column that stands twice, a row
    with more cells than the header or with another separator, and quotes that stay open at the end of a line: the rows after
    them would be lost.
    """
    name = str(path)
    text, encoding = _decode(Path(path), error)
    lines = list(enumerate(re.split(r"\r\n|\r|\n", text), 1))
    filled = [(number, line) for number, line in lines if _EDGES.sub("", line)]
    separators = _SEPARATORS
    if filled and (named := re.fullmatch(r'"?sep=(.)"?[,;|\t]*', filled[0][1].strip("\ufeff \r"), re.IGNORECASE)):
        filled = filled[1:]
        if filled and named[1] in filled[0][1]:  # else it names one that is not there
            separators = named[1]
    if not filled:
        raise error(f"{name}: the table is empty. Write a header {','.join(needed)} and a row for each entry.")
    at, separator = _find_header(filled, separators, needed)
    header = _split(filled[at], separator, name, error)
    if needed and not {_column(title) for title in header} & set(needed):
        close = difflib.get_close_matches(needed[0], [_column(title) for title in header], n=1, cutoff=_SLIP)
        line = f"its first line reads '{' '.join(filled[at][1].split())[:80]}'."
        hint = f"did you mean '{close[0]}'?" if close else line
        raise error(
            f"{name}: there is no column '{needed[0]}'; {hint} Name it '{needed[0]}' in the header; where the header is "
            f"missing, write {','.join(needed)} above the rows."
        )
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
        other = next((sign for sign in _SEPARATORS if sign in line), "")
        if len(cells) == 1 < len(columns) and other:
            raise error(
                f"{where}: is separated by {other!r}, the header by {separator!r}. Use one of them in the whole table."
            )
        cells += [""] * (len(columns) - len(cells))
        rows.append(SheetRow(where, number, {own: cells[at] for at, own in enumerate(columns) if own}))
    titles = {column: title for column, title in zip(columns, header, strict=True) if column}
    return Sheet(name, titles, tuple(rows), encoding, error)


def write_sheet(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a table that `read_sheet` reads, UTF-8 with commas, None as an empty cell; returns the path.

    Names of files that are no text keep their bytes. Raises `OSError` where the file cannot be written.
    """
    path = Path(path)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return path


def clean_cell(text: str) -> str:
    """The text without the spaces (of any width, or of none) and the pairs of quotes around it.

    Also without the formula that keeps a number's zeros in a spreadsheet: ="007" reads 007.
    """
    text = _EDGES.sub("", text)
    if kept := re.fullmatch(r'="([^"]*)"', text):
        text = _EDGES.sub("", kept[1])
    while len(text) > 1 and text[0] + text[-1] in _QUOTES:
        text = _EDGES.sub("", text[1:-1])
    return text


def parse_number(text: str) -> float:
    """A number from its text, with a decimal point or a decimal comma; nan where the cell is blank.

    Raises `ValueError`, whose text is a clause, for other text, and for what can be a thousand or a fraction: 1,250.
    """
    if is_blank(text):
        return math.nan
    if re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text):
        raise ValueError(f"'{text}' can be {text.replace(',', '.')} or {text.replace(',', '')}")
    try:
        number = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"'{text}' is no number")
    return number


def parse_whole(text: str) -> int | None:
    """A whole number from 0 up, also with the .0 that spreadsheets and pandas add; None for other text."""
    whole = re.fullmatch(r"([0-9]+)([.,]0+)?", text)
    return int(whole[1]) if whole and len(whole[1]) < 16 else None


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
    for start, kind in _FOREIGN.items():
        if data.removeprefix(b"\xef\xbb\xbf").lstrip()[: len(start)] == start:
            raise error(
                f"{path}: is {kind}, not a text file with a table. "
                "Open it in a spreadsheet program, save it as CSV (UTF-8), and give that."
            )
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
    """Which of the first filled lines is the header, and the separator that parts it best.

    The header is the line that names most of the `needed` columns, the first of several.
    """

    def found(line: str, separator: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            cells = line.split(separator)
        return len(set(needed) & {_column(cell) for cell in cells}), len(cells)

    ways = [(at, sign) for at in range(min(_HEADER_WITHIN, len(filled))) for sign in separators]
    most = max(found(filled[at][1], sign)[0] for at, sign in ways)
    at = next(at for at, sign in ways if found(filled[at][1], sign)[0] == most)
    return at, max(separators, key=lambda sign: found(filled[at][1], sign))


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
    """A header's name in small letters: full-width ones made usual, and underscores for spaces and hyphens."""
    return re.sub(r"[\s\-]+", "_", clean_cell(unicodedata.normalize("NFKC", title).strip('" ')).casefold())
