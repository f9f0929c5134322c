"""Proofs that a row cannot be the average over the folds of one confusion table per fold.

Each table of a fold is a point in the space of the reported figures. The averages of one point per fold lie within the average
of the folds' convex hulls; a plane between that body and the reported window proves that no choice of tables gives the row
(separating hyperplane theorem). The other proof is that one figure alone cannot be reached: averages of a / n over few folds
have gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation.forensics.reported import FIGURES, RoundingWindow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Where the folds' figures were rounded before averaging, their mean moves by up to half a decimal: one half window.
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
    """Centre and half width (figures,) of each window, in the order of the mapping."""
    ends = np.array([(window.low / window.scale, window.high / window.scale) for window in windows.values()])
    return ends.mean(1), (ends[:, 1] - ends[:, 0]) / 2


def fold_points(
    names: Sequence[str], counts: Ints, near: float = 1.0, rates: Floats | None = None
) -> list[Floats] | None:
    """For each fold the points (n, figures) of all its tables; None where they are too many to hold.

    `counts` (folds, 2) are positives and negatives. With `rates` (sensitivity, specificity), only tables within `near` of both
    are kept.
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
    """A lower bound of the distance of all averages of one point per fold from the window, and the plane (figures,) that proves it.

    The unit is the half width of the window: above 0 no average lies inside, and -1 is the centre. A linear programme over the
    hulls (column generation, Dantzig and Wolfe 1960) proposes planes, and each plane's distance is computed from all points,
    so that the bound holds whatever the solver's tolerance. Stops once the bound is above `enough`. `hint` is a plane to begin
    with.
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
    """The distance from the window at which a plane keeps all averages, given the points' heights above it for each fold."""
    return -sum(float(height.max()) for height in heights) - 1.0


def _nearest(scaled: Sequence[Floats], columns: Sequence[Sequence[int]]) -> tuple[float, Floats]:
    """The least distance from the window of any mixture of the chosen points, and its dual plane (figures,).

    Minimises t such that every figure of the mixture is within 1 + t half windows; the absolute weights of the plane sum to 1.
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
    if answer.status != 0:  # not solved: proves nothing
        return -1.0, np.zeros(figures)
    prices = answer.ineqlin.marginals
    plane = prices[:figures] - prices[figures:]
    return float(answer.fun), plane / max(float(np.abs(plane).sum()), 1e-12)


def mean_is_reachable(window: RoundingWindow, totals: Ints) -> bool:
    """Whether some average of a / n over folds of these sizes n lies in the window; True where there are too many to try."""
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
