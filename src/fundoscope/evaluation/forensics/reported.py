"""What a paper reports: figures as they are printed, each a window as wide as its last decimal, and the class counts of its folds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.evaluation.forensics.sheets import read_sheet

FIGURES = ("accuracy", "precision", "f1", "sensitivity", "specificity")

_BLANK = {"", "-", "–", "—", "nan", "na", "n/a"}
_MOST_DECIMALS = 9  # with these, counts up to ten millions stay exact in 64 bits


@dataclass(frozen=True, slots=True)
class RoundingWindow:
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
class ReportedFigure:
    """`digits` / 10 ** `decimals`, as printed: a fraction from 0 to 1 (94.56 % is 0.9456)."""

    digits: int
    decimals: int

    def __float__(self) -> float:
        return self.digits / 10**self.decimals

    def __str__(self) -> str:
        return f"{float(self):.{self.decimals}f}"

    def rounded(self, widened: int = 1) -> RoundingWindow:
        """All that rounds to the figure, halves up or to even; `widened` times as wide about it."""
        return RoundingWindow(2 * self.digits - widened, 2 * self.digits + widened, 2 * 10**self.decimals)

    def truncated(self) -> RoundingWindow:
        """All that gives the figure when its further decimals are cut off."""
        return RoundingWindow(self.digits, self.digits + 1, 10**self.decimals, open_above=True)


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """One line of a paper's table: its name, and the figures that it reports by their names."""

    name: str
    figures: dict[str, ReportedFigure]


def read_reported_table(path: str | Path) -> list[ReportedRow]:
    """The rows of a CSV `name,accuracy,precision,f1,sensitivity,specificity`; blank cells are not reported.

    Figures are fractions or percentages; a row that holds one above 1 or a % sign is in percent. How many
    decimals count is read from the text, so zeros at the end belong there. Raises `UsageError` naming the row.
    """
    rows: list[ReportedRow] = []
    for where, cells in read_sheet(Path(path), ("name", *FIGURES), ("name",)):
        name = cells.pop("name")
        if not name or name in {row.name for row in rows}:
            raise UsageError(f"{where}: the name '{name}' is {'there already' if name else 'blank'}. Give it its own.")
        rows.append(ReportedRow(name, _figures(cells, where)))
    return rows


def parse_figure(text: str, percent: bool = False) -> ReportedFigure:
    """A figure from its text, such as 0.9456, 94.56 % or .95; raises `UsageError` for anything outside 0 to 1."""
    number, signed = _number(text)
    percent = percent or signed
    if not 0 <= number <= (100 if percent else 1):
        raise UsageError(f"{text} lies outside {'0 to 100' if percent else '0 to 1'}. Correct it, or leave it blank.")
    exponent = number.as_tuple().exponent
    decimals = min(_MOST_DECIMALS, max(0, -int(exponent)) + 2 * percent)
    return ReportedFigure(round(number.scaleb(decimals - 2 * percent)), decimals)


def _figures(cells: dict[str, str], where: str) -> dict[str, ReportedFigure]:
    told = {name: text for name, text in cells.items() if text.casefold() not in _BLANK}
    if not told:
        raise UsageError(f"{where}: reports no figure. Fill in one at least, or remove the row.")
    try:
        numbers = {name: _number(text) for name, text in told.items()}
        percent = any(number > 1 or signed for number, signed in numbers.values())
        if percent and any(0 < number <= 1 and not signed for number, signed in numbers.values()):
            raise UsageError("fractions and percentages are mixed. Write all as fractions, or all with a % sign.")
        return _with_whole_ones({name: parse_figure(text, percent) for name, text in told.items()})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _with_whole_ones(figures: dict[str, ReportedFigure]) -> dict[str, ReportedFigure]:
    """A bare 0 or 1 among decimals is one whose zeros a spreadsheet dropped, not half of all that there is."""
    decimals = max(2, *(one.decimals for one in figures.values()), 0)
    return {
        name: one if one.decimals else ReportedFigure(one.digits * 10**decimals, decimals)
        for name, one in figures.items()
    }


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


_FOLD_COLUMNS = ("fold", "part", "class", "n")
_PARTS = ("training", "validation")
_CLASSES = ("positive", "negative")
_MOST_IMAGES = 10_000_000  # images; beyond it the arithmetic is no longer exact


@dataclass(frozen=True, slots=True)
class ReportedPart:
    """Images of one part of one fold, by class."""

    fold: str
    part: str
    positive: int
    negative: int

    @property
    def total(self) -> int:
        """Images of both classes."""
        return self.positive + self.negative

    def __str__(self) -> str:
        which = "fold" if self.part == "validation" else "training part of fold"
        return f"{which} {self.fold} ({self.positive} positive, {self.negative} negative)"


@dataclass(frozen=True, slots=True)
class ReportedFolds:
    """The stated parts of all folds, in the order of the file."""

    parts: tuple[ReportedPart, ...]

    @property
    def validation(self) -> list[ReportedPart]:
        """The validation parts, one a fold."""
        return [part for part in self.parts if part.part == "validation"]

    @property
    def training(self) -> list[ReportedPart]:
        """The training parts, as far as they are stated."""
        return [part for part in self.parts if part.part == "training"]

    @property
    def union(self) -> ReportedPart:
        """All validation parts together."""
        return ReportedPart(
            "all", "validation", sum(p.positive for p in self.validation), sum(p.negative for p in self.validation)
        )

    @property
    def wholes(self) -> list[ReportedPart]:
        """Training and validation together, of each fold that states both."""
        pairs = [(v, t) for v in self.validation for t in self.training if v.fold == t.fold]
        return [ReportedPart(v.fold, "whole", v.positive + t.positive, v.negative + t.negative) for v, t in pairs]

    @property
    def size(self) -> int:
        """Images of the data set: the greatest of all validation parts together and any one fold's two parts."""
        return max(part.total for part in [self.union, *self.wholes])

    @property
    def problems(self) -> list[str]:
        """Why these folds cannot be a partition of one data set, in sentences; empty where they can."""
        found = []
        for name in _CLASSES:
            totals = {whole.fold: getattr(whole, name) for whole in self.wholes}
            together = getattr(self.union, name)
            if len(set(totals.values())) > 1:
                each = ", ".join(f"fold {fold}: {n}" for fold, n in totals.items())
                found.append(f"Training and validation hold different numbers of {name} images ({each}).")
            elif totals and together != (whole := next(iter(totals.values()))):
                found.append(
                    f"The validation parts sum to {together} {name} images, but each fold has {whole} in all: "
                    f"{abs(together - whole)} {'too many' if together > whole else 'too few'}."
                )
        return found


def read_reported_folds(path: str | Path) -> ReportedFolds:
    """The folds in a CSV `fold,part,class,n`: part training or validation, class positive or negative.

    Training parts may be left out. Raises `UsageError` naming the row, for unknown words, counts that are
    negative or not whole, a line that stands twice, and a part that lacks a class.
    """
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for where, cells in read_sheet(Path(path), _FOLD_COLUMNS, _FOLD_COLUMNS):
        part, name = _word(cells["part"], "part", _PARTS, where), _word(cells["class"], "class", _CLASSES, where)
        if not cells["fold"]:
            raise UsageError(f"{where}: fold is blank. Write its number.")
        own = counts.setdefault((cells["fold"], part), {})
        if name in own:
            raise UsageError(f"{where}: {part} of fold {cells['fold']}, {name}, stands twice. Remove one of them.")
        own[name] = _count(cells["n"], where)
    parts = tuple(_part(path, fold, part, own) for (fold, part), own in counts.items())
    if not any(part.part == "validation" and part.total for part in parts):
        raise UsageError(f"{path}: no validation part holds images. Add rows with the part 'validation'.")
    return ReportedFolds(parts)


def _word(text: str, column: str, known: tuple[str, ...], where: str) -> str:
    word = text.casefold()
    if word not in known:
        raise UsageError(f"{where}: {column} is '{text}'; {nearest(word, known)} Write one of: {', '.join(known)}.")
    return word


def _count(text: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _MOST_IMAGES:
        raise UsageError(f"{where}: n is '{text}'. Write a whole number of images from 0 to {_MOST_IMAGES}.")
    return int(text)


def _part(path: str | Path, fold: str, part: str, counts: dict[str, int]) -> ReportedPart:
    for name in _CLASSES:
        if name not in counts:
            raise UsageError(f"{path}: {part} of fold {fold} lacks the class {name}. Add its row (n may be 0).")
    return ReportedPart(fold, part, counts["positive"], counts["negative"])
