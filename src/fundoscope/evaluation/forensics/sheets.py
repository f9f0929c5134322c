"""Small CSV files as people write them: commas, semicolons or tabs, a byte-order mark, capitals in the header."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fundoscope.errors import UsageError, nearest

_SEPARATORS = ";\t,"


def read_sheet(path: Path, columns: Sequence[str], needed: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table, each as where it stands (for errors) and its cells by column, blank lines left out.

    Raises `UsageError` for a file that cannot be read, a column that is unknown, missing or there twice, cells
    without a column, and a table without rows.
    """
    lines = _text(path).splitlines()
    separator = max(_SEPARATORS, key=lines[0].count) if lines else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    if not rows:
        raise UsageError(f"{path}: is empty. Write the header {','.join(columns)} and a row for each entry.")
    header = [cell.casefold().replace("-", "_").replace(" ", "_") for cell in rows[0]]
    _check_header(path, header, columns, needed)
    entries = [(f"{path}, row {at}", row) for at, row in enumerate(rows[1:], 2) if any(row)]
    if not entries:
        raise UsageError(f"{path}: holds a header only. Write a row for each entry below it.")
    for where, row in entries:
        if len(row) > len(header):
            raise UsageError(f"{where}: has {len(row)} cells for {len(header)} columns. Quote cells that hold commas.")
    return [(where, dict.fromkeys(columns, "") | dict(zip(header, row, strict=False))) for where, row in entries]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give a CSV file.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not text in UTF-8. Save it as CSV in UTF-8.") from error


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str], needed: Sequence[str]) -> None:
    for column in header:
        if column not in columns:
            raise UsageError(
                f"{path}: the column '{column}' is unknown; {nearest(column, columns)} Rename or remove it."
            )
        if header.count(column) > 1:
            raise UsageError(f"{path}: the column '{column}' stands twice. Remove one of them.")
    for column in needed:
        if column not in header:
            raise UsageError(f"{path}: there is no column '{column}'. Add it; known are: {', '.join(columns)}.")
