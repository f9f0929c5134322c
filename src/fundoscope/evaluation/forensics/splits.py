"""The class counts that a paper states for its folds, and whether they can be the parts of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fundoscope.errors import UsageError, nearest
from fundoscope.evaluation.forensics.sheets import read_sheet

_COLUMNS = ("fold", "part", "class", "n")
_PARTS = ("training", "validation")
_CLASSES = ("positive", "negative")
_MOST = 10_000_000  # images; beyond it the arithmetic is no longer exact


@dataclass(frozen=True, slots=True)
class Part:
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
class Splits:
    """The stated parts of all folds, in the order of the file."""

    parts: tuple[Part, ...]

    @property
    def validation(self) -> list[Part]:
        """The validation parts, one a fold."""
        return [part for part in self.parts if part.part == "validation"]

    @property
    def training(self) -> list[Part]:
        """The training parts, as far as they are stated."""
        return [part for part in self.parts if part.part == "training"]

    @property
    def union(self) -> Part:
        """All validation parts together."""
        return Part(
            "all", "validation", sum(p.positive for p in self.validation), sum(p.negative for p in self.validation)
        )

    @property
    def wholes(self) -> list[Part]:
        """Training and validation together, of each fold that states both."""
        pairs = [(v, t) for v in self.validation for t in self.training if v.fold == t.fold]
        return [Part(v.fold, "whole", v.positive + t.positive, v.negative + t.negative) for v, t in pairs]

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


def read_splits(path: str | Path) -> Splits:
    """The folds in a CSV `fold,part,class,n`: part training or validation, class positive or negative.

    Training parts may be left out. Raises `UsageError` naming the row, for unknown words, counts that are
    negative or not whole, a line that stands twice, and a part that lacks a class.
    """
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for where, cells in read_sheet(Path(path), _COLUMNS, _COLUMNS):
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
    return Splits(parts)


def _word(text: str, column: str, known: tuple[str, ...], where: str) -> str:
    word = text.casefold()
    if word not in known:
        raise UsageError(f"{where}: {column} is '{text}'; {nearest(word, known)} Write one of: {', '.join(known)}.")
    return word


def _count(text: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _MOST:
        raise UsageError(f"{where}: n is '{text}'. Write a whole number of images from 0 to {_MOST}.")
    return int(text)


def _part(path: str | Path, fold: str, part: str, counts: dict[str, int]) -> Part:
    for name in _CLASSES:
        if name not in counts:
            raise UsageError(f"{path}: {part} of fold {fold} lacks the class {name}. Add its row (n may be 0).")
    return Part(fold, part, counts["positive"], counts["negative"])
