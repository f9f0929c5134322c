"""Groups dealt into parts so that each part gets its share of every class and of the groups themselves.

A greedy assignment as in scikit-learn's `StratifiedGroupKFold`: the largest group first, each to the part that is furthest
from its share. Unlike there, shares may differ, and a last step brings a missing class to a part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]

_TRIES = 16  # orders of equal groups that are tried; the best balanced one is kept


def deal_groups(counts: Counts, shares: Sequence[float], rng: np.random.Generator) -> NDArray[np.int64]:
    """The number of the part that each group is dealt to, (groups,).

    `counts` is (groups, classes): photographs of each class. `shares` is what each part should hold of the whole; they add up
    to 1. Every part gets groups of the first two classes, as far as there are enough of them.
    """
    whole = np.column_stack([counts, np.ones(len(counts))])  # the groups themselves are balanced like a class
    whole = whole / np.maximum(whole.sum(axis=0), 1)
    best, lowest = np.zeros(len(counts), np.int64), np.inf
    for _ in range(_TRIES):
        parts = _deal_once(whole, np.array(shares), rng)
        _bring_missing(counts, parts, len(shares))
        sums = np.stack([whole[parts == part].sum(axis=0) for part in range(len(shares))])
        cost = float(((sums - np.array(shares)[:, None]) ** 2 / np.array(shares)[:, None]).sum())
        if cost < lowest:
            best, lowest = parts, cost
    return best


def _deal_once(whole: Counts, shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    order = rng.permutation(len(whole))
    # rarest and largest first: what is dealt last can only fill gaps
    order = order[np.argsort(-np.round(whole[order].max(axis=1), 9), kind="stable")]
    parts = np.zeros(len(whole), np.int64)
    sums = np.zeros((len(shares), whole.shape[1]))
    for group in order:
        # how far each part would be filled; the least filled one gets the group
        filled = ((sums + whole[group]) / shares[:, None]) ** 2
        gain = (filled - (sums / shares[:, None]) ** 2) * shares[:, None]
        parts[group] = int(gain.sum(axis=1).argmin())
        sums[parts[group]] += whole[group]
    return parts


def _bring_missing(counts: Counts, parts: NDArray[np.int64], n_parts: int) -> None:
    """Move, in place, the smallest group of a class to each part that has none, from the part with most."""
    for wanted in range(min(2, counts.shape[1])):
        has = counts[:, wanted] > 0
        for part in range(n_parts):
            groups = np.bincount(parts[has], minlength=n_parts)
            if groups[part] or groups.max() < 2:
                continue
            donors = np.flatnonzero(has & (parts == groups.argmax()))
            parts[donors[counts[donors].sum(axis=1).argmin()]] = part
