"""What a paper reports: rows of figures as they are printed, and the class counts of its folds.

A printed figure stands for a window of values, as wide as its last decimal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.sheet import Sheet, is_blank, parse_whole, read_sheet
from fundoscope.cohort.spellings import describe_spellings, find_two_spellings
from fundoscope.errors import UsageError, nearest

FIGURES = ("accuracy", "precision", "f1", "sensitivity", "specificity")

_MOST_DECIMALS = 9  # with these, counts up to ten millions stay exact in 64 bits
_FOLD_COLUMNS = ("fold", "part", "class", "n")
_PARTS = ("training", "validation")
_CLASSES = ("positive", "negative")
_MOST_IMAGES = 10_000_000  # beyond it the arithmetic is no longer exact


@dataclass(frozen=True, slots=True)
class RoundingWindow:
    """The values that are printed alike: from `low / scale` to `high / scale`, both ends included unless `open_above`."""

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
    """A printed fraction from 0 to 1: `digits` / 10 ** `decimals` (94.56 % has the digits 9456 and 4 decimals)."""

    digits: int
    decimals: int

    def __float__(self) -> float:
        return self.digits / 10**self.decimals

    def __str__(self) -> str:
        return f"{float(self):.{self.decimals}f}"

    def rounded(self, widened: int = 1) -> RoundingWindow:
        """The values that round to the figure, halves up or to even; `widened` makes the window so many times as wide."""
        return RoundingWindow(2 * self.digits - widened, 2 * self.digits + widened, 2 * 10**self.decimals)

    def truncated(self) -> RoundingWindow:
        """The values that give the figure when their further decimals are cut off."""
        return RoundingWindow(self.digits, self.digits + 1, 10**self.decimals, open_above=True)


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """One row of a paper's table: its name, and the figures that it reports by their names in `FIGURES`."""

    name: str
    figures: dict[str, ReportedFigure]


def read_reported_table(path: str | Path) -> list[ReportedRow]:
    """The rows of a CSV `name,accuracy,precision,f1,sensitivity,specificity`; blank cells are not reported.

    Figures are fractions or percentages; a row that holds one above 1 or a % sign is in percent. The number of decimals is
    read from the text, so zeros at the end must be kept. Raises `UsageError` naming the row.
    """
    rows: list[ReportedRow] = []
    for row in _read_closed(path, ("name",), FIGURES):
        name = row["name"]
        if not name or name in {other.name for other in rows}:
            fault = "there already" if name else "blank"
            raise UsageError(f"{row.where}: the name '{name}' is {fault}. Give it its own.")
        texts = {figure: row[figure] for figure in FIGURES if not is_blank(row[figure])}
        if not texts:
            raise UsageError(f"{row.where}: reports no figure. Fill in one at least, or remove the row.")
        try:
            rows.append(ReportedRow(name, _parse_figures(texts)))
        except UsageError as error:
            raise UsageError(f"{row.where}: {error}") from error
    return rows


def parse_figure(text: str, percent: bool = False) -> ReportedFigure:
    """A figure from its text, such as 0.9456, 94.56 % or .95; raises `UsageError` for anything outside 0 to 1."""
    number, has_sign = _parse_number(text)
    percent = percent or has_sign
    if not 0 <= number <= (100 if percent else 1):
        raise UsageError(f"{text} lies outside {'0 to 100' if percent else '0 to 1'}. Correct it, or leave it blank.")
    exponent = number.as_tuple().exponent
    decimals = min(_MOST_DECIMALS, max(0, -int(exponent)) + 2 * percent)
    return ReportedFigure(round(number.scaleb(decimals - 2 * percent)), decimals)


@dataclass(frozen=True, slots=True)
class ReportedPart:
    """Numbers of images of one part of one fold, by class; `part` is training or validation."""

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
    """The parts of all folds that a paper states, in the order of the file."""

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
        positive, negative = (sum(getattr(part, name) for part in self.validation) for name in _CLASSES)
        return ReportedPart("all", "validation", positive, negative)

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

    Training parts may be left out. Raises `UsageError` naming the row, for unknown words, counts that are negative or not
    whole, a row that stands twice, a fold that is written in two ways, and a part that lacks a class.
    """
    counts: dict[tuple[str, str], dict[str, int]] = {}
    sheet = _read_closed(path, _FOLD_COLUMNS)
    for spellings in find_two_spellings(row["fold"] for row in sheet):
        lines = {at: row.line for at, row in enumerate(sheet)}
        raise UsageError(f"{path}: {describe_spellings('fold', spellings, lines)}")
    for row in sheet:
        where, fold, text = row.where, row["fold"], row["n"]
        words = {}
        for column, known in (("part", _PARTS), ("class", _CLASSES)):
            words[column] = row[column].casefold()
            if words[column] not in known:
                hint = f"{nearest(words[column], known)} Write one of: {', '.join(known)}."
                raise UsageError(f"{where}: {column} is '{row[column]}'; {hint}")
        if is_blank(fold):
            raise UsageError(f"{where}: fold is blank. Write its number.")
        count = parse_whole(text)
        if count is None or count > _MOST_IMAGES:
            raise UsageError(f"{where}: n is '{text}'. Write a whole number of images from 0 to {_MOST_IMAGES}.")
        own = counts.setdefault((fold, words["part"]), {})
        if words["class"] in own:
            what = f"{words['part']} of fold {fold}, {words['class']}"
            raise UsageError(f"{where}: {what}, stands twice. Remove one of them.")
        own[words["class"]] = count
    for (fold, part), own in counts.items():
        for name in _CLASSES:
            if name not in own:
                raise UsageError(f"{path}: {part} of fold {fold} lacks the class {name}. Add its row (n may be 0).")
    parts = tuple(ReportedPart(*key, own["positive"], own["negative"]) for key, own in counts.items())
    if not any(part.part == "validation" and part.total for part in parts):
        raise UsageError(f"{path}: no validation part holds images. Add rows with the part 'validation'.")
    return ReportedFolds(parts)


def _read_closed(path: str | Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Sheet:
    """A table that holds these columns only, and at least one row."""
    sheet = read_sheet(path, needed)
    sheet.check_columns(needed, optional, closed=True)
    if not len(sheet):
        raise UsageError(f"{path}: holds a header only. Write a row for each entry below it.")
    return sheet


def _parse_figures(texts: dict[str, str]) -> dict[str, ReportedFigure]:
    """The figures of one row, all fractions or all percentages."""
    numbers = {name: _parse_number(text) for name, text in texts.items()}
    percent = any(number > 1 or has_sign for number, has_sign in numbers.values())
    if percent and any(0 < number <= 1 and not has_sign for number, has_sign in numbers.values()):
        raise UsageError("fractions and percentages are mixed. Write all as fractions, or all with a % sign.")
    figures = {name: parse_figure(text, percent) for name, text in texts.items()}
    # a bare 0 or 1 among decimals is one whose zeros a spreadsheet dropped, not a window as wide as half of all values
    decimals = max(2, *(one.decimals for one in figures.values()), 0)
    return {
        name: one if one.decimals else ReportedFigure(one.digits * 10**decimals, decimals)
        for name, one in figures.items()
    }


def _parse_number(text: str) -> tuple[Decimal, bool]:
    """The number, and whether it carries a % sign; a decimal comma is read as a point."""
    plain = re.sub(r"\s*%$", "", text.strip())
    try:
        number = Decimal(plain.replace(",", "."))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise UsageError(f"'{text}' is no number. Write it like 0.9456 or 94.56, without its interval.")
    return number, plain != text.strip()
