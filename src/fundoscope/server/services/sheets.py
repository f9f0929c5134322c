"""Tables as CSV that a spreadsheet opens without working anything out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def inert_cell(value: Any) -> Any:
    """The cell of a value: None is blank, and text that a spreadsheet would work out gets an apostrophe before it (CWE-1236)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_sheet(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The table as CSV text: a heading, then a row each, with the columns in this order."""
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(columns)
    sheet.writerows([inert_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()
