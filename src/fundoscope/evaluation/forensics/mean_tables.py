"""Can a row be the average over the folds of one confusion table a fold? What rules it out.

Each table of a fold is a point in the space of the reported figures. Averages of one point a fold lie within
the average of the folds' convex hulls; a plane between that body and the reported window is a proof that no
tables give the row, however they are chosen (the separating hyperplane theorem). The other proof is that a
figure alone cannot be reached: averages of a / n over few folds have gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation.forensics.reported import FIGURES, RoundingWindow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A mean of folds' figures that were themselves rounded moves by up to half a decimal: as much as the window's half.
ROUNDED_FIRST = 1.0

_ROUNDS = 200  # of column generation; forty are usual
_MOST_POINTS = 8_000_000  # tables of all folds together, held as points
_MOST_SUMS = 3_000_000  # sums of one figure held at once


def figures_of_tables(tp: Floats | Ints, tn: Floats | Ints, positive: Ints, negative: Ints) -> Floats:
    """The five figures, in the order of `FIGURES` along a new last axis; 0/0 is 0."""
    called, missed = tp + negative - tn, positive - tp
    pairs = (
        (tp + tn, positive + negative + 0 * tn),
        (tp, called),
        (2 * tp, tp + missed + called),
        (tp, positive + 0 * tp),
        (tn, negative + 0 * tn),
    )
    return np.stack([np.where(b > 0, a / np.where(b > 0, b, 1), 0.0) for a, b in pairs], -1)


def window_centres(windows: Mapping[str, RoundingWindow]) -> tuple[Floats, Floats]:
    """Middle and half width of each window, in the order of the mapping."""
    ends = np.array([(window.low / window.scale, window.high / window.scale) for window in windows.values()])
    return ends.mean(1), (ends[:, 1] - ends[:, 0]) / 2


def fold_points(
    names: Sequence[str], counts: Ints, near: float = 1.0, rates: Floats | None = None
) -> list[Floats] | None:
    """The points (n, figures) of every table of each fold; None where they are too many to hold.

    `counts` (folds, 2) are positives and negatives. With `rates`, sensitivity and specificity, only tables
    within `near` of both.
    """
    if np.prod(counts + 1.0, axis=1).sum() > _MOST_POINTS:
        return None
    columns = [FIGURES.index(name) for name in names]
    made = []
    for positive, negative in counts:
        tp, tn = (grid.ravel() for grid in np.meshgrid(np.arange(positive + 1), np.arange(negative + 1)))
        points = figures_of_tables(tp, tn, positive, negative)
        if rates is not None:
            points = points[(np.abs(points[:, 3:] - rates) <= near).all(1)]
        made.append(points[:, columns])
    return made


def separating_plane(
    points: Sequence[Floats], centre: Floats, half: Floats, enough: float, hint: Floats | None = None
) -> tuple[float, Floats]:
    """How far, at least, every average of one point a fold stays outside the window, and the plane that shows it.

    In half widths of the window: above 0 no average lies inside; -1 is its centre. A linear programme over the
    hulls (columns made as they are needed, Dantzig and Wolfe 1960) proposes planes, and each plane's distance is
    worked out from all points, so that the bound holds whatever the solver's tolerance. Stops once above
    `enough`. `hint` is a plane to begin with.
    """
    if any(not len(cloud) for cloud in points):
        return float("inf"), np.zeros(len(centre))
    scaled = [(cloud - centre) / half / len(points) for cloud in points]
    columns = [[int(np.abs(cloud).max(1).argmin())] for cloud in scaled]
    best, best_plane = -1.0, np.zeros(len(centre))
    if hint is not None and hint.any():
        heights = [cloud @ hint for cloud in scaled]
        if (best := max(best, _height(heights))) > enough:
            return best, hint
        best_plane = hint
        columns = [list({*own, int(height.argmax())}) for own, height in zip(columns, heights, strict=True)]
    for _ in range(_ROUNDS):
        nearest, plane = _nearest(scaled, columns)
        heights = [cloud @ plane for cloud in scaled]
        if (bound := _height(heights)) > best:
            best, best_plane = bound, plane
        if best > enough or nearest <= best + 1e-6 or nearest <= -1 + 1e-6:
            break
        before = sum(map(len, columns))
        for own, height in zip(columns, heights, strict=True):
            if (at := int(height.argmax())) not in own:
                own.append(at)
        if sum(map(len, columns)) == before:
            break
    return best, best_plane


def _height(heights: Sequence[Floats]) -> float:
    """How far outside the window a plane holds all averages, from each fold's heights above it."""
    return -sum(float(height.max()) for height in heights) - 1.0


def _nearest(scaled: Sequence[Floats], columns: Sequence[Sequence[int]]) -> tuple[float, Floats]:
    """How far outside the best mixture of the chosen points lies, and the plane (figures,) that shows it.

    Minimises t such that every figure of the mixture is within 1 + t; the plane's weights sum to 1.
    """
    from scipy.optimize import linprog

    mixed = np.concatenate([cloud[own] for cloud, own in zip(scaled, columns, strict=True)]).T
    figures, n = mixed.shape
    fold = np.repeat(np.arange(len(columns)), [len(own) for own in columns])
    slack = np.ones((figures, 1))
    one_each = np.hstack([np.arange(len(columns))[:, None] == fold, np.zeros((len(columns), 1))])
    answer = linprog(
        np.r_[np.zeros(n), 1.0],
        A_ub=np.block([[mixed, -slack], [-mixed, -slack]]),
        b_ub=np.ones(2 * figures),
        A_eq=one_each,
        b_eq=np.ones(len(columns)),
        bounds=[(0, None)] * n + [(None, None)],
    )
    if answer.status != 0:  # not solved: claims nothing
        return -1.0, np.zeros(figures)
    prices = answer.ineqlin.marginals
    plane = prices[:figures] - prices[figures:]
    return float(answer.fun), plane / max(float(np.abs(plane).sum()), 1e-12)


def mean_is_reachable(window: RoundingWindow, totals: Ints) -> bool:
    """Whether some average of a / n over folds of these sizes lies in the window; True where too many to try."""
    half = len(totals) // 2
    sums = [_sums(part) for part in (totals[:half], totals[half:])]
    if sums[0] is None or sums[1] is None:
        return True
    low, high = (len(totals) * end for end in window.ends)
    first = np.searchsorted(sums[1], low - sums[0] - 1e-9)
    return bool((np.r_[sums[1], np.inf][first] <= high - sums[0] + 1e-9).any())


def _sums(totals: Ints) -> Floats | None:
    """All sums of a / n, sorted, equal ones once."""
    sums = np.zeros(1)
    for total in totals:
        if len(sums) * (total + 1) > _MOST_SUMS:
            return None
        sums = np.unique(np.round(np.add.outer(sums, np.arange(total + 1) / max(total, 1)).ravel(), 12))
    return sums
