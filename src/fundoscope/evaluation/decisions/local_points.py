"""A threshold from labelled positives of one place, and a lower bound of its sensitivity that photographs of one infant keep.

Photographs of an infant are called or missed together, so infants are counted and not photographs: each counts once, by the
share of its positives that are called. A target sensitivity S and m infants fix beforehand how many must be called,
c = ceil(S m); the threshold is the highest that calls c. Then

    sensitivity at the threshold >= b,  where P(Binomial(m, b) >= c) = 0.025,

holds in at least 95 % of cohorts, whatever the distribution of the scores and however alike the photographs of an infant
are. With one positive an infant the threshold is an order statistic, and b is the distribution-free limit of Wilks (1941),
which is the lower end of Clopper and Pearson (1934) at c of m although the threshold was chosen on the same data; it then
holds in 97.5 %. With several positives, draw one of each infant at random: the number B of those that are called is
Binomial(m, sensitivity), and its mean given the cohort is the sum of shares. Where that sum reaches the integer c, B reaches
c with a chance of at least 1/2, since the median of a sum of independent trials is no further from its mean than the next
integer (Jogdeo and Samuels 1968). So the sum reaches c at most twice as often as B does: 2 x 2.5 %. Averages over such draws
are described by Dunn, Wasserman and Ramdas (2022) for hierarchical data.

The sensitivity that is bounded is that of a new infant's positive, infants drawn alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.decisions.operating_points import between_scores
from fundoscope.evaluation.metrics.intervals import LEVEL, group_codes
from fundoscope.evaluation.metrics.scores import check_scores

Array = NDArray[np.float64]

#: Groups of either class without which no threshold is set: fewer support no interval either (`intervals.MIN_GROUPS`).
MIN_LOCAL_GROUPS = 10

#: A target sensitivity is supported where its lower bound is at most this far below it: our choice. At a target of .95 and a
#: bound of .75, a twentieth of the ill may be missed as well as a quarter; a wider gap says next to nothing.
MAX_SHORTFALL = 0.20

_ROUNDING = 1e-9
_MOST_GROUPS = 200  # with these every target is supported


@dataclass(frozen=True, slots=True)
class SensitivitySupport:
    """What `groups` infants with positives support for the sensitivity `target`: `hits` must be called, which proves `bound`."""

    target: float
    groups: int
    hits: int
    bound: float

    @property
    def supported(self) -> bool:
        """Whether the infants are enough for this target: see `MIN_LOCAL_GROUPS` and `MAX_SHORTFALL`."""
        return self.groups >= MIN_LOCAL_GROUPS and self.bound >= self.target - MAX_SHORTFALL


def sensitivity_support(target: float, groups: int) -> SensitivitySupport:
    """The support of a target sensitivity (above 0, up to 1) by `groups` infants with positives; `UsageError` out of range."""
    if not 0 < target <= 1:
        raise UsageError(f"A target sensitivity of {target} cannot be. Give a share above 0 and up to 1.")
    hits = math.ceil(target * groups - _ROUNDING)
    return SensitivitySupport(target, groups, hits, _lower_bound(hits, groups))


@lru_cache(maxsize=8192)
def _lower_bound(hits: int, groups: int) -> float:
    """The lower end of `clopper_pearson`, by the quantile of the beta distribution, which is faster to ask many times."""
    from scipy.special import betaincinv

    return float(betaincinv(hits, groups - hits + 1, (1 - LEVEL) / 2)) if hits else 0.0


@lru_cache(maxsize=64)
def groups_enough(target: float) -> int:
    """From how many infants with positives on a target is supported, by that many and by every greater number.

    Between whole numbers of misses the bound falls a little as infants are added, so the least supported number may be less.
    """
    support = (sensitivity_support(target, groups) for groups in range(_MOST_GROUPS, 0, -1))
    return next(each.groups for each in support if not each.supported) + 1


@dataclass(frozen=True, slots=True)
class LocalPoint:
    """A threshold chosen on local positives, with what supports it.

    `called` is the sum over infants of the share of their positives at or above `threshold`, `positives` their number, `n`
    that of all units (photographs or eyes) among which the threshold was sought.
    """

    threshold: float
    support: SensitivitySupport
    called: float
    positives: int
    n: int

    @property
    def sensitivity(self) -> float:
        """Sensitivity on the data that chose the threshold, infants weighing alike: a little too good."""
        return self.called / self.support.groups


def choose_local_point(y: ArrayLike, p: ArrayLike, groups: Sequence[object] | NDArray, target: float) -> LocalPoint:
    """The highest threshold at which so many infants' positives are called as `sensitivity_support` asks for.

    `y` (n,) is 0 or 1, `p` (n,) are probabilities, `groups` (n,) name the infant of each. Raises `UsageError` for data of one
    class or values out of range. Whether the support suffices is the caller's to ask.
    """
    labels, scores = check_scores(y, p)
    if scores.ndim != 1 or not 0 < labels.sum() < len(labels) or scores.min() < 0 or scores.max() > 1:
        raise UsageError("A local threshold needs probabilities (n,) of both classes. Give positives and negatives.")
    positive = labels == 1
    codes = group_codes(np.asarray(groups)[positive].tolist(), int(positive.sum()))
    weights = 1 / np.bincount(codes)[codes]  # of each positive, so that each infant counts once
    support = sensitivity_support(target, int(codes.max()) + 1)
    order = np.argsort(-scores[positive], kind="stable")
    called = np.cumsum(weights[order])
    lowest = scores[positive][order][int(np.searchsorted(called, support.hits - _ROUNDING))]
    thresholds = between_scores(np.unique(scores))
    threshold = float(thresholds[np.searchsorted(thresholds, lowest, side="right") - 1])
    at_or_above = float(weights[scores[positive] >= threshold].sum())
    return LocalPoint(threshold, support, at_or_above, int(positive.sum()), len(labels))
