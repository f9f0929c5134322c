"""All whole-number confusion tables that give a row's figures, for stated class counts or for any.

A table is (tp, fn, tn, fp). Whether it fits is decided in whole numbers, so rounding errors play no part.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation.forensics.reported import RoundingWindow

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Windows = Mapping[str, RoundingWindow]

_MOST = 4_000_000  # tables held at once


def tables_fit(windows: Windows, tables: Ints) -> NDArray[np.bool_]:
    """Which of the tables (n, 4) give every reported figure."""
    tp, fn, tn, fp = tables.T
    ratios = {
        "accuracy": (tp + tn, tp + fn + tn + fp),
        "precision": (tp, tp + fp),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }
    fits = np.ones(len(tables), bool)
    for name, window in windows.items():
        fits &= window.holds(*ratios[name])
    return fits


def tables_of_counts(windows: Windows, positive: int, negative: int) -> Ints:
    """The tables (n, 4) with these class counts that give every figure, by ascending tp."""
    tp, tn = np.arange(positive + 1), np.arange(negative + 1)
    if "sensitivity" in windows:
        tp = tp[windows["sensitivity"].holds(tp, np.full_like(tp, positive))]
    if "specificity" in windows:
        tn = tn[windows["specificity"].holds(tn, np.full_like(tn, negative))]
    found = [np.empty((0, 4), np.int64)]
    for some in np.array_split(tp, 1 + len(tp) * len(tn) // _MOST):
        a, b = (grid.ravel() for grid in np.meshgrid(some, tn, indexing="ij"))
        tables = np.stack([a, positive - a, b, negative - b], 1)
        found.append(tables[tables_fit(windows, tables)])
    return np.concatenate(found)


def tables_of_any_counts(windows: Windows, size: int) -> tuple[Ints, int]:
    """The tables (n, 4) of at most `size` images, at least one of each class, that give every figure, smallest first.

    The second value is the number of images up to which all tables were searched: less than `size` where the figures leave
    millions of tables open.
    """
    while (tables := _candidates(windows, size)) is None:
        size //= 2
    tables = tables[tables_fit(windows, tables)]
    return tables[np.lexsort((tables[:, 0], tables.sum(1)))], size


def common_factor(tables: Ints) -> Ints:
    """The greatest common divisor of each table (n, 4): 1 where it is no multiple of a smaller table."""
    return np.gcd.reduce(tables, axis=1)


def _candidates(windows: Windows, size: int) -> Ints | None:
    """Tables (n, 4) that may fit: tp for each number of positives, then fp, then tn, each within its bounds. None if too many."""
    positive = np.arange(1, max(size, 1))
    if (candidates := _enumerate(*_tp_bounds(windows, positive))) is None:
        return None
    (at, tp), fn = candidates, positive[candidates[0]] - candidates[1]
    if (candidates := _enumerate(*_fp_bounds(windows, tp, fn, size))) is None:
        return None
    (at, fp), tp, fn = candidates, tp[candidates[0]], fn[candidates[0]]
    if (candidates := _enumerate(*_tn_bounds(windows, tp, fn, fp, size))) is None:
        return None
    at, tn = candidates
    return np.stack([tp[at], fn[at], tn, fp[at]], 1)


def _tp_bounds(windows: Windows, positive: Ints) -> tuple[Floats, Floats]:
    low, high = windows["sensitivity"].ends if "sensitivity" in windows else (0.0, 1.0)
    return np.multiply(positive, low, dtype=float), np.multiply(positive, high, dtype=float)


def _fp_bounds(windows: Windows, tp: Ints, fn: Ints, size: int) -> tuple[Floats, Floats]:
    least, most = np.zeros(len(tp)), (size - tp - fn).astype(float)
    for name, twice, missed in (("precision", 1, 0 * fn), ("f1", 2, fn)):
        if name in windows:  # twice tp / (twice tp + missed + fp)
            low, high = windows[name].ends
            least = np.maximum(least, twice * tp / high - twice * tp - missed)
            most = np.minimum(most, twice * tp / low - twice * tp - missed) if low > 0 else most
    return least, most


def _tn_bounds(windows: Windows, tp: Ints, fn: Ints, fp: Ints, size: int) -> tuple[Floats, Floats]:
    least, most = np.maximum(0.0, 1.0 - fp), (size - tp - fn - fp).astype(float)
    for name, right, rest in (("specificity", 0 * tp, fp), ("accuracy", tp, fn + fp)):
        if name in windows:  # (right + tn) / (right + rest + tn)
            low, high = windows[name].ends
            least = np.maximum(least, low * rest / max(1 - low, 1e-12) - right)
            most = np.minimum(most, high * rest / (1 - high) - right) if high < 1 else most
    return least, most


def _enumerate(least: Floats, most: Floats) -> tuple[Ints, Ints] | None:
    """The index of each pair of bounds and every whole number within it, (m,) each; None where they are too many."""
    first, last = np.ceil(least - 1e-6), np.floor(most + 1e-6)
    counts = np.maximum(0, last - np.maximum(first, 0) + 1)
    if counts.sum() > _MOST:
        return None
    lengths = counts.astype(np.int64)
    at = np.repeat(np.arange(len(lengths)), lengths)
    begun = np.cumsum(lengths) - lengths
    return at, np.arange(len(at)) - begun[at] + np.maximum(first, 0).astype(np.int64)[at]
