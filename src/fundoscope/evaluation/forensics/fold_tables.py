"""The search for fold tables whose averages give a row; what is found is checked in exact fractions.

Damped Gauss-Newton steps (Levenberg 1944) from scattered starts lead to real numbers that average to the row; then all whole
numbers near each are tried. Sensitivity depends on the folds' tp alone, specificity on tn alone, and accuracy on the sum of a
term of each: so vectors of tp and of tn are listed separately and paired by accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation.forensics.mean_tables import figures_of_tables, window_centres
from fundoscope.evaluation.forensics.reported import FIGURES, RoundingWindow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Windows = Mapping[str, RoundingWindow]

_STARTS = 256
_STEPS = 200
_TRIED = 40
_LISTED = 170_000
_MATCHED = 1_000_000
_VARIED = 5  # folds that change at once; the others keep their rounded numbers


def find_fold_tables(
    windows: Windows, counts: Ints, f1_of_means: bool = False, seed: int = 0
) -> tuple[Ints | None, bool]:
    """Tables (folds, 4) of tp, fn, tn, fp whose averages lie in every window, or None; and whether all tables were tried.

    `counts` (folds, 2) are positives and negatives. With `f1_of_means` F1 is computed from the averaged precision and
    sensitivity instead of averaged. Where few tables are possible all are tried, and None is a proof.
    """
    rng = np.random.default_rng(seed)
    search = _FoldTableSearch(windows, counts, f1_of_means, rng)
    if (counts + 1).prod(0).max() <= _LISTED:
        found, whole = search.try_between(np.zeros_like(counts), counts)
        if found is not None or whole:
            return found, whole
    for start in search.starts():
        low, high = search.neighbourhood(np.rint(start).astype(np.int64))
        found, _ = search.try_between(low, high)
        if found is not None:
            return found, False
    return None, False


class _FoldTableSearch:
    def __init__(self, windows: Windows, counts: Ints, f1_of_means: bool, rng: np.random.Generator) -> None:
        self.windows, self.counts, self.f1_of_means, self.rng = windows, counts, f1_of_means, rng
        self.averaged = [name for name in windows if not (name == "f1" and f1_of_means)]
        self.columns = [FIGURES.index(name) for name in self.averaged]
        self.centre, self.half = window_centres({name: windows[name] for name in self.averaged})

    def starts(self) -> Floats:
        """Real numbers (n, folds, 2) of tp and tn whose averages come closest to the row, the best first."""
        folds = len(self.counts)
        rates = np.array([self._rate("sensitivity"), self._rate("specificity")])
        spread = self.rng.choice([0.01, 0.03, 0.1, 0.3], (_STARTS, 1, 1))
        at = np.clip(rates + spread * self.rng.normal(size=(_STARTS, folds, 2)), 0.02, 0.98) * self.counts
        for step in range(_STEPS):
            wrong = self._wrong(at)
            slope = self._slopes(at, wrong)
            damped = slope @ slope.transpose(0, 2, 1) + np.eye(len(self.columns)) * 10.0 ** -min(step // 10, 9)
            move = (slope.transpose(0, 2, 1) @ np.linalg.solve(damped, -wrong[..., None]))[..., 0]
            at = np.clip(at + move.reshape(at.shape) * self.counts, 0, self.counts)
        worst = np.abs(self._wrong(at) / self.half).max(1)
        return at[np.argsort(worst, kind="stable")[:_TRIED]]

    def neighbourhood(self, at: Ints) -> tuple[Ints, Ints]:
        """Lowest and highest tp and tn (folds, 2) to try around a point: as wide as can be listed."""
        varied = self.rng.permutation(len(at))[:_VARIED]
        reach = int((_LISTED ** (1 / len(varied)) - 1) // 2)
        low, high = at.copy(), at.copy()
        low[varied] -= reach
        high[varied] += reach
        return np.maximum(low, 0), np.minimum(high, self.counts)

    def try_between(self, low: Ints, high: Ints) -> tuple[Ints | None, bool]:
        """The first fold tables between these bounds that give the row, or None; and whether all of them were tried."""
        tp = self._listed("sensitivity", low[:, 0], high[:, 0], self.counts[:, 0])
        tn = self._listed("specificity", low[:, 1], high[:, 1], self.counts[:, 1])
        first, second, whole = self._matched(tp, tn)
        for at in range(0, len(first), _MATCHED // 8):
            some = slice(at, at + _MATCHED // 8)
            a, b = tp[first[some]], tn[second[some]]
            means = figures_of_tables(a, b, self.counts[:, 0], self.counts[:, 1]).mean(1)
            for hit in np.flatnonzero(self._inside(means)):
                tables = np.stack([a[hit], self.counts[:, 0] - a[hit], b[hit], self.counts[:, 1] - b[hit]], 1)
                if means_fit_exactly(self.windows, tables, self.f1_of_means):
                    return tables, True
        return None, whole

    def _rate(self, name: str) -> float:
        known = [window.ends for key, window in self.windows.items() if key in (name, "accuracy")]
        return float(np.mean(self.windows[name].ends if name in self.windows else known or 0.8))

    def _wrong(self, at: Floats) -> Floats:
        means = figures_of_tables(at[..., 0], at[..., 1], self.counts[:, 0], self.counts[:, 1]).mean(-2)
        return means[:, self.columns] - self.centre

    def _slopes(self, at: Floats, wrong: Floats) -> Floats:
        """Derivatives of each figure (n, figures, 2 folds) by tp and tn as shares of their class, by small differences."""
        n, folds, _ = at.shape
        step = np.where(at > self.counts / 2, -1e-6, 1e-6) * self.counts
        moved = at[:, None] + (np.eye(2 * folds).reshape(1, -1, folds, 2) * step[:, None])
        changed = self._wrong(moved.reshape(-1, folds, 2)).reshape(n, 2 * folds, -1) - wrong[:, None]
        share = np.where(step == 0, 1.0, step / np.maximum(self.counts, 1)).reshape(n, -1, 1)
        return (changed / share).transpose(0, 2, 1)

    def _listed(self, name: str, low: Ints, high: Ints, totals: Ints) -> Ints:
        """All vectors (n, folds) of counts between the bounds whose average rate lies in the window of `name`."""
        grids = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij")
        vectors = np.stack([grid.ravel() for grid in grids], 1)
        if name not in self.windows:
            return vectors
        rates = (vectors / np.maximum(totals, 1)).mean(1)
        least, most = self.windows[name].ends
        return vectors[(rates >= least - 1e-12) & (rates <= most + 1e-12)]

    def _matched(self, tp: Ints, tn: Ints) -> tuple[Ints, Ints, bool]:
        """Indices of the pairs of `tp` and `tn` whose accuracy fits, in no order, and whether these are all of them."""
        totals = np.maximum(self.counts.sum(1), 1)
        order = np.argsort((tn / totals).mean(1))
        share, rest = (tp / totals).mean(1), (tn / totals).mean(1)[order]
        least, most = self.windows["accuracy"].ends if "accuracy" in self.windows else (0.0, 1.0)
        begin = np.searchsorted(rest, least - share - 1e-12)
        counts = np.searchsorted(rest, most - share + 1e-12, "right") - begin
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        whole = total <= _MATCHED
        pick = np.arange(total) if whole else np.unique(self.rng.integers(0, total, _MATCHED))
        first = np.searchsorted(ends, pick, "right")
        return first, order[begin[first] + pick - (ends - counts)[first]], whole

    def _inside(self, means: Floats) -> NDArray[np.bool_]:
        inside = np.all(np.abs(means[:, self.columns] - self.centre) <= self.half + 1e-12, axis=1)
        if self.f1_of_means and "f1" in self.windows:
            precision, sensitivity = means[:, 1], means[:, 3]
            f1 = 2 * precision * sensitivity / np.maximum(precision + sensitivity, 1e-12)
            least, most = self.windows["f1"].ends
            inside = inside & (f1 >= least - 1e-12) & (f1 <= most + 1e-12)
        return np.asarray(inside, bool)


def means_fit_exactly(windows: Windows, tables: Ints, f1_of_means: bool = False, rounded_first: bool = False) -> bool:
    """Whether the averages over the tables (folds, 4) lie in every window, computed in exact fractions.

    With `rounded_first` each fold's figure is rounded, to the decimals of its window, before it is averaged.
    """
    folds = [exact_figures(*map(int, table)) for table in tables]
    if rounded_first:
        units = {name: window.scale // (1 if window.open_above else 2) for name, window in windows.items()}
        folds = [{name: Fraction(round(fold[name] * unit), unit) for name, unit in units.items()} for fold in folds]
    names = folds[0].keys()
    means = {name: sum((fold[name] for fold in folds), Fraction(0)) / len(folds) for name in names}
    if f1_of_means and (both := means["precision"] + means["sensitivity"]):
        means["f1"] = 2 * means["precision"] * means["sensitivity"] / both
    return all(_holds(window, means[name]) for name, window in windows.items())


def exact_figures(tp: int, fn: int, tn: int, fp: int) -> dict[str, Fraction]:
    """The five figures of one table as fractions; 0/0 is 0."""
    pairs: Sequence[tuple[int, int]] = (
        (tp + tn, tp + fn + tn + fp),
        (tp, tp + fp),
        (2 * tp, 2 * tp + fp + fn),
        (tp, tp + fn),
        (tn, tn + fp),
    )
    return {name: Fraction(a, b) if b else Fraction(0) for name, (a, b) in zip(FIGURES, pairs, strict=True)}


def _holds(window: RoundingWindow, value: Fraction) -> bool:
    low, high = Fraction(window.low, window.scale), Fraction(window.high, window.scale)
    return low <= value < high if window.open_above else low <= value <= high
