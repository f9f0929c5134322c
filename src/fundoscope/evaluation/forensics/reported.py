"""Figures as they are printed: each stands for a window of values, as wide as its last decimal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.forensics.sheets import read_sheet

FIGURES = ("accuracy", "precision", "f1", "sensitivity", "specificity")

_BLANK = {"", "-", "–", "—", "nan", "na", "n/a"}
_MOST_DECIMALS = 9  # with these, counts up to ten millions stay exact in 64 bits


@dataclass(frozen=True, slots=True)
class Window:
    """All ratios from `low / scale` to `high / scale`, both ends included unless `open_above`."""

    low: int
    high: int
    scale: int
    open_above: bool = False

    def holds(self, part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether part / whole lies in the window, exactly; 0/0 counts as 0, as scikit-learn prints it."""
        whole = np.where(whole == 0, 1, whole)
        scaled = part * self.scale
        return (self.low * whole <= scaled) & (scaled <= self.high * whole - self.open_above)

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value, within 0 and 1."""
        return max(0.0, self.low / self.scale), min(1.0, self.high / self.scale)


@dataclass(frozen=True, slots=True)
class Figure:
    """`digits` / 10 ** `decimals`, as printed: a fraction from 0 to 1 (94.56 % is 0.9456)."""

    digits: int
    decimals: int

    def __float__(self) -> float:
        return self.digits / 10**self.decimals

    def __str__(self) -> str:
        return f"{float(self):.{self.decimals}f}"

    def rounded(self, widened: int = 1) -> Window:
        """All that rounds to the figure, halves up or to even; `widened` times as wide about it."""
        return Window(2 * self.digits - widened, 2 * self.digits + widened, 2 * 10**self.decimals)

    def truncated(self) -> Window:
        """All that gives the figure when its further decimals are cut off."""
        return Window(self.digits, self.digits + 1, 10**self.decimals, open_above=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a paper's table: its name, and the figures that it reports by their names."""

    name: str
    figures: dict[str, Figure]


def read_table(path: str | Path) -> list[Row]:
    """The rows of a CSV `name,accuracy,precision,f1,sensitivity,specificity`; blank cells are not reported.

    Figures are fractions or percentages; a row that holds one above 1 or a % sign is in percent. How many
    decimals count is read from the text, so zeros at the end belong there. Raises `UsageError` naming the row.
    """
    rows: list[Row] = []
    for where, cells in read_sheet(Path(path), ("name", *FIGURES), ("name",)):
        name = cells.pop("name")
        if not name or name in {row.name for row in rows}:
            raise UsageError(f"{where}: the name '{name}' is {'there already' if name else 'blank'}. Give it its own.")
        rows.append(Row(name, _figures(cells, where)))
    return rows


def figure(text: str, percent: bool = False) -> Figure:
    """A figure from its text, such as 0.9456, 94.56 % or .95; raises `UsageError` for anything outside 0 to 1."""
    number, signed = _number(text)
    percent = percent or signed
    if not 0 <= number <= (100 if percent else 1):
        raise UsageError(f"{text} lies outside {'0 to 100' if percent else '0 to 1'}. Correct it, or leave it blank.")
    exponent = number.as_tuple().exponent
    decimals = min(_MOST_DECIMALS, max(0, -int(exponent)) + 2 * percent)
    return Figure(round(number.scaleb(decimals - 2 * percent)), decimals)


def _figures(cells: dict[str, str], where: str) -> dict[str, Figure]:
    told = {name: text for name, text in cells.items() if text.casefold() not in _BLANK}
    if not told:
        raise UsageError(f"{where}: reports no figure. Fill in one at least, or remove the row.")
    try:
        numbers = {name: _number(text) for name, text in told.items()}
        percent = any(number > 1 or signed for number, signed in numbers.values())
        if percent and any(0 < number <= 1 and not signed for number, signed in numbers.values()):
            raise UsageError("fractions and percentages are mixed. Write all as fractions, or all with a % sign.")
        return _with_whole_ones({name: figure(text, percent) for name, text in told.items()})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _with_whole_ones(figures: dict[str, Figure]) -> dict[str, Figure]:
    """A bare 0 or 1 among decimals is one whose zeros a spreadsheet dropped, not half of all that there is."""
    decimals = max(2, *(one.decimals for one in figures.values()), 0)
    return {name: one if one.decimals else Figure(one.digits * 10**decimals, decimals) for name, one in figures.items()}


def _number(text: str) -> tuple[Decimal, bool]:
    """The number, and whether it carries a % sign; a decimal comma is read as a point."""
    plain = re.sub(r"\s*%$", "", text.strip())
    try:
        number = Decimal(plain.replace(",", "."))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise UsageError(f"'{text}' is no number. Write it like 0.9456 or 94.56, without its interval.")
    return number, plain != text.strip()
