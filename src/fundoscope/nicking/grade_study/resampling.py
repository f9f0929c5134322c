"""Intervals of a study of grades: photographs are drawn with return, then the crossings of each, and each grader's seeds.

All patches of a crossing are drawn together. That is a bootstrap of two stages (Davison and Hinkley 1997, section 3.8);
seeds are drawn apart from it, so that what differs between two fits of one grader widens its intervals, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.evaluation.metrics import LEVEL, MIN_GROUPS, REPLICATES, Estimate, group_codes

Array = NDArray[np.float64]

_MIN_DEFINED = 0.9  # share of resamples in which a figure must exist for its percentiles to mean anything


@dataclass(frozen=True, eq=False)
class Resamples:
    """How often each of n patches counts in B resamples, `weights` (1 + B, n), of which the first is the sample itself.

    `photographs` (n,) are the numbers of their photographs.
    """

    weights: Array
    photographs: NDArray[np.int64]

    @classmethod
    def draw(
        cls, photographs: Sequence[str], crossings: Sequence[str], replicates: int = REPLICATES, seed: int = 0
    ) -> Resamples:
        """Of patches whose photographs (n,) and crossings (n,) are named. Equal seeds give equal resamples."""
        rng = np.random.default_rng(seed)
        groups, crossing = group_codes(photographs, len(photographs)), group_codes(crossings, len(crossings))
        of_photograph = [np.unique(crossing[groups == k]) for k in range(int(groups.max(initial=-1)) + 1)]
        times = rng.multinomial(
            len(of_photograph), np.full(len(of_photograph), 1 / max(1, len(of_photograph))), replicates
        )
        drawn = np.zeros((replicates, int(crossing.max(initial=-1)) + 1))
        for k, own in enumerate(of_photograph):
            drawn[:, own] = rng.multinomial(times[:, k] * len(own), np.full(len(own), 1 / len(own)))
        return cls(np.concatenate([np.ones((1, len(groups))), drawn[:, crossing]]), groups)

    def mean_over_seeds(self, values: Array, stream: int = 0) -> Array:
        """The mean of a figure's values of each seed, (S, 1 + B), over S seeds that are drawn with return, (1 + B,).

        `stream` tells graders apart whose seeds are drawn apart.
        """
        seeds = len(values)
        times = np.random.default_rng((stream, seeds)).multinomial(seeds, np.full(seeds, 1 / seeds), values.shape[1])
        times[0] = 1
        return np.where(times.T > 0, values * times.T, 0.0).sum(axis=0) / seeds

    def estimate(self, values: Array, positive: NDArray[np.bool_], among: ArrayLike | None = None) -> Estimate:
        """The estimate of a figure with values (1 + B,) that was measured on the patches `among` (n,; default all), of which
        some are `positive` (n,); no interval for fewer than ten photographs.
        """
        chosen = np.ones(len(self.photographs), bool) if among is None else np.asarray(among, bool)
        value, defined = float(values[0]), values[1:][np.isfinite(values[1:])]
        groups, low, high = len(np.unique(self.photographs[chosen])), math.nan, math.nan
        if math.isfinite(value) and groups >= MIN_GROUPS and len(defined) >= _MIN_DEFINED * (len(values) - 1):
            tail = (1 - LEVEL) / 2
            low, high = (float(edge) for edge in np.quantile(defined, [tail, 1 - tail]))
        return Estimate(value, low, high, int(chosen.sum()), int((positive & chosen).sum()), groups)
