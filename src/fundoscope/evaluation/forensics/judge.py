"""The verdict on each row of a reported table, with the tables and proofs that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import numpy as np

from fundoscope.cohort.sheet import write_sheet
from fundoscope.errors import OutputError
from fundoscope.evaluation.forensics import mean_tables
from fundoscope.evaluation.forensics.confusion_tables import Ints, common_factor, tables_of_any_counts, tables_of_counts
from fundoscope.evaluation.forensics.fold_tables import find_fold_tables
from fundoscope.evaluation.forensics.integer_search import Undecided, search_integer_tables
from fundoscope.evaluation.forensics.reported import FIGURES, ReportedFolds, ReportedPart, ReportedRow, RoundingWindow

#: Solutions written for one row; rows with few or coarse figures have millions.
MOST_SOLUTIONS = 1000

#: Number of tables expected by chance below which a fit is called unlikely.
RARE = 0.05

#: Steps of `search_integer_tables` for a mean that is neither found nor ruled out, some forty a second.
SEARCH_STEPS = 400

_WIDENED = 10  # the chance of a fit is counted in windows so many times as wide
_MOST_FOLDS = 20  # of an average; beyond it nothing is decided in seconds
_SPREADS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.75)


class RowVerdict(StrEnum):
    """What a row of figures can have come from; the rules stand in `fundoscope.evaluation.forensics`."""

    SINGLE_SPLIT = "single-split"
    MEAN = "mean"
    NONE = "none"


@dataclass(frozen=True)
class MeanVerdict:
    """Whether averages over the folds can give a row: `found` with `tables` (folds, 4), `impossible`, or `open`.

    `outside` is the least distance of all averages from the windows, in half windows (0 where they may lie inside). `spread`
    is how far some fold must at least differ from the row's sensitivity or specificity. `alone` names a figure that no average
    reaches, whatever the other figures are.
    """

    state: Literal["found", "impossible", "open"]
    tables: Ints | None = None
    outside: float = 0.0
    spread: float = 0.0
    alone: str = ""


@dataclass(frozen=True)
class RowFinding:
    """The verdict on one row, and all tables (n, 4) of tp, fn, tn, fp that give its figures.

    `stated` holds the tables with the class counts of each stated part that has any, `pooled` those of all folds together,
    `any_counts` those of any counts up to `searched` images, smallest first. `chance` is about how many tables as small as the
    smallest would fit by chance. `averaged` is the verdict on averages of every figure; `f1_of_means`, examined only where
    `averaged` is not found, on averages whose F1 is computed from the averaged precision and sensitivity. Where no table fits,
    `slips` holds the smallest table that fits all figures except the named one. `truncated` says that the figures fit only as
    cut off, not as rounded.
    """

    row: ReportedRow
    verdict: RowVerdict
    stated: tuple[tuple[ReportedPart, Ints], ...]
    pooled: Ints
    any_counts: Ints
    searched: int
    chance: float
    averaged: MeanVerdict | None
    f1_of_means: MeanVerdict | None
    slips: dict[str, Ints]
    truncated: bool = False

    @property
    def solutions(self) -> Ints:
        """All single tables that fit (n, 4), of stated counts first, then by size; each once."""
        tables = np.concatenate([*(tables for _, tables in self.stated), self.pooled, self.any_counts])
        _, first = np.unique(tables, axis=0, return_index=True)
        return tables[np.sort(first)]

    @property
    def smallest(self) -> Ints:
        """The tables of any counts that are no multiple of a smaller one."""
        return self.any_counts[common_factor(self.any_counts) == 1]


@dataclass(frozen=True, slots=True)
class _Effort:
    seed: int
    steps: int
    truncated: bool = False


def examine_row(row: ReportedRow, folds: ReportedFolds, seed: int = 0, steps: int = SEARCH_STEPS) -> RowFinding:
    """The verdict on one row; takes seconds for five folds of some hundred images.

    Where no table fits the figures as rounded, they are taken as cut off, if a solution can then be shown. `seed` sets the
    starting points of the search; `steps` bounds the search for a mean, some forty a second.
    """
    found = _examine_windows(
        row, folds, {name: one.rounded() for name, one in row.figures.items()}, _Effort(seed, steps)
    )
    if found.verdict is not RowVerdict.NONE:
        return found
    cut = _examine_windows(
        row, folds, {name: one.truncated() for name, one in row.figures.items()}, _Effort(seed, steps // 20, True)
    )
    shown = len(cut.solutions) > 0 or (cut.averaged is not None and cut.averaged.state == "found")
    return cut if shown else found


def write_solutions(findings: Sequence[RowFinding], folder: Path) -> None:
    """Write `solutions.csv` (a row a solution) and `means.csv` (the fold tables of averages that were found).

    `solutions.csv` has `name,verdict,tp,fn,tn,fp`; a row of figures that no single table gives stands there once
    with blank counts. Raises `OutputError` where the folder cannot be written.
    """
    singles = [
        (found.row.name, found.verdict.value, *table)
        for found in findings
        for table in found.solutions[:MOST_SOLUTIONS].tolist() or [("", "", "", "")]
    ]
    means = [
        (found.row.name, fold, *table)
        for found in findings
        if found.averaged is not None and found.averaged.tables is not None
        for fold, table in enumerate(found.averaged.tables.tolist(), 1)
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_sheet(folder / "solutions.csv", ("name", "verdict", "tp", "fn", "tn", "fp"), singles)
        write_sheet(folder / "means.csv", ("name", "fold", "tp", "fn", "tn", "fp"), means)
    except OSError as error:
        raise OutputError(folder, error) from error


def _examine_windows(
    row: ReportedRow, folds: ReportedFolds, windows: dict[str, RoundingWindow], effort: _Effort
) -> RowFinding:
    """The verdict on a row whose figures stand for these windows."""

    def tables_of(part: ReportedPart) -> Ints:
        return tables_of_counts(windows, part.positive, part.negative)

    stated = tuple((part, tables) for part in folds.parts if len(tables := tables_of(part)))
    several = len(folds.validation) > 1
    pooled = tables_of(folds.union) if several else np.empty((0, 4), np.int64)
    any_counts, searched = tables_of_any_counts(windows, folds.size)
    averaged = _examine_means(windows, folds, effort) if several else None
    f1_of_means = None
    if averaged and averaged.state != "found" and {"f1", "precision", "sensitivity"} <= windows.keys():
        f1_of_means = _examine_means(windows, folds, effort, f1_of_means=True)
    single = bool(stated) or bool(len(any_counts))
    verdict = RowVerdict.SINGLE_SPLIT if single else RowVerdict.NONE
    if len(pooled) or (averaged is not None and averaged.state != "impossible"):
        verdict = RowVerdict.MEAN
    return RowFinding(
        row,
        verdict,
        stated,
        pooled,
        any_counts,
        searched,
        _chance(row, any_counts),
        averaged,
        f1_of_means,
        {} if single else _slips(row, windows, folds),
        effort.truncated,
    )


def _chance(row: ReportedRow, tables: Ints) -> float:
    """The number of tables as small as the smallest to be expected by chance: counted in wider windows, and scaled down."""
    if not len(tables):
        return 0.0
    wide, _ = tables_of_any_counts(
        {name: one.rounded(_WIDENED) for name, one in row.figures.items()}, int(tables[0].sum())
    )
    return float((common_factor(wide) == 1).sum() / _WIDENED ** _count_independent(set(row.figures)))


def _count_independent(names: set[str]) -> int:
    """How many of the figures are independent: sensitivity and precision determine F1, and a table has three ratios."""
    overlapping = names & {"precision", "f1", "sensitivity"}
    return min(3, min(2, len(overlapping)) + len(names - overlapping))


def _slips(row: ReportedRow, windows: dict[str, RoundingWindow], folds: ReportedFolds) -> dict[str, Ints]:
    """For each figure, the smallest table that gives all others; only where chance would hardly give one."""
    found = {}
    for left_out in windows:
        rest = {name: window for name, window in windows.items() if name != left_out}
        if _count_independent(set(rest)) == 3:
            tables, _ = tables_of_any_counts(rest, folds.size)
            figures = {name: row.figures[name] for name in rest}
            if len(tables) and _chance(ReportedRow(row.name, figures), tables) < RARE:
                found[left_out] = tables[0]
    return found


def _examine_means(
    windows: dict[str, RoundingWindow], folds: ReportedFolds, effort: _Effort, f1_of_means: bool = False
) -> MeanVerdict:
    counts = np.array([(part.positive, part.negative) for part in folds.validation])
    for name, totals in zip(("accuracy", *FIGURES[3:]), (counts.sum(1), *counts.T), strict=True):
        if name in windows and not mean_tables.mean_is_reachable(_doubled(windows[name]), totals):
            return MeanVerdict("impossible", alone=name)
    names = [name for name in windows if not (name == "f1" and f1_of_means)]
    centre, half = mean_tables.window_centres({name: windows[name] for name in names})
    points = mean_tables.fold_points(names, counts) if len(counts) <= _MOST_FOLDS else None
    if points is None:
        return MeanVerdict("open")
    room = mean_tables.ROUNDED_FIRST * (2 if effort.truncated else 1)
    outside, _ = mean_tables.separating_plane(points, centre, half, enough=100 * room)
    if outside > room:
        return MeanVerdict("impossible", outside=outside)
    tables, _ = find_fold_tables(windows, counts, f1_of_means, effort.seed) if outside <= 0 else (None, False)
    if tables is None:
        try:
            tables = search_integer_tables(windows, counts, room, f1_of_means, effort.steps)
        except Undecided:
            return MeanVerdict("open", None, max(0.0, outside), _spread(windows, names, counts, outside))
        if tables is None:
            return MeanVerdict("impossible")
    return MeanVerdict("found", tables, max(0.0, outside), _spread(windows, names, counts, outside))


def _doubled(window: RoundingWindow) -> RoundingWindow:
    """A window twice as wide about its middle: figures of the folds may have been rounded before averaging."""
    return RoundingWindow(3 * window.low - window.high, 3 * window.high - window.low, 2 * window.scale)


def _spread(windows: dict[str, RoundingWindow], names: list[str], counts: Ints, outside: float) -> float:
    """The least of `_SPREADS` by which folds may differ from the row's rates; 0 where it does not report both rates."""
    if not {"sensitivity", "specificity"} <= windows.keys():
        return 0.0
    rates = np.array([np.mean(windows[name].ends) for name in FIGURES[3:]])
    centre, half = mean_tables.window_centres({name: windows[name] for name in names})
    half = half * (1 + max(0.0, outside))
    low, high = 0, len(_SPREADS)
    while low < high:  # a wider spread never forbids what a narrower one allows
        middle = (low + high) // 2
        points = mean_tables.fold_points(names, counts, _SPREADS[middle], rates)
        if points is not None and mean_tables.separating_plane(points, centre, half, enough=1e-6)[0] <= 1e-6:
            high = middle
        else:
            low = middle + 1
    return _SPREADS[low] if low < len(_SPREADS) else 1.0
