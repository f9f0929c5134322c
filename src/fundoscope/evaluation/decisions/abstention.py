"""A grader that may abstain: how much better it is on the photographs that it keeps, and from which probabilities to abstain.

Confidence is the distance of a photograph's log-odds from those of the threshold; photographs abstained from go to a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import LEVEL, broadcast_thresholds, clopper_pearson
from fundoscope.evaluation.metrics.recalibration import log_odds
from fundoscope.evaluation.metrics.scores import check_scores, ratio

Array = NDArray[np.float64]

#: Share of wrong decisions that a band may leave to the grader.
MAX_ERROR = 0.05
_ABOVE_ALL = float(np.nextafter(1, 2))  # the upper end of a band that holds 1 as well
_ROUNDING = 1e-9  # log-odds nearer than this are the same but for the last digits


def decision_confidence(p: ArrayLike, threshold: ArrayLike) -> Array:
    """Distance of `p` from the threshold in log-odds, 0 and up, in the shape of `p` (n,) or (seeds, n)."""
    scores = np.asarray(p, float)
    return np.abs(log_odds(scores) - log_odds(broadcast_thresholds(scores, threshold)))


@dataclass(frozen=True, slots=True, eq=False)
class CoverageRisk:
    """Error and sensitivity when only the k most confident of n photographs are kept, for k = 1 to n; each array is (n,).

    `coverage` is k / n, `error` the share of wrong decisions among the kept, `sensitivity` that among the kept (nan as long as
    no positive is kept). `aurc` is the mean error over all coverages: 0 is ideal, and a confidence without information gives
    the error at full coverage.
    """

    coverage: Array
    error: Array
    sensitivity: Array
    aurc: float


def coverage_risk(y: ArrayLike, p: ArrayLike, threshold: ArrayLike = 0.5) -> CoverageRisk:
    """Risk against coverage (Geifman and El-Yaniv 2017) and the area under it (Geifman, Uziel, El-Yaniv 2019).

    `y` (n,) is 0 or 1, `p` (n,) or (seeds, n; then the mean over seeds) probabilities, `threshold` one number
    or of either shape. Photographs of equal confidence enter in a random order, and the values are its expectation.
    Raises `UsageError` for no photographs or values out of range.
    """
    labels, scores, at = _checked(y, p, threshold)
    runs = [_run_risk(labels, run, cut) for run, cut in zip(scores, at, strict=True)]
    error, sensitivity = np.mean(runs, axis=0)
    return CoverageRisk(np.arange(1, len(labels) + 1) / len(labels), error, sensitivity, float(error.mean()))


def _checked(y: ArrayLike, p: ArrayLike, threshold: ArrayLike) -> tuple[Array, Array, Array]:
    """Labels (n,), probabilities and thresholds (seeds, n)."""
    labels, scores = check_scores(y, p)
    scores = np.atleast_2d(scores)
    if not len(labels) or scores.min() < 0 or scores.max() > 1:
        raise UsageError("To abstain takes photographs with probabilities from 0 to 1. Give at least one.")
    return labels, scores, broadcast_thresholds(scores, threshold)


def _run_risk(y: Array, p: Array, threshold: Array) -> tuple[Array, Array]:
    """Error and sensitivity (n,) of one run when the most confident 1 to n photographs are kept."""
    called, positive = p >= threshold, y == 1
    marks = np.column_stack([called != positive, called & positive, positive]).astype(float)
    block, sizes, sums = _tied_blocks(decision_confidence(p, threshold), marks)
    means = (sums / sizes[:, None])[block]
    wrong, hits, positives = means.cumsum(axis=0).T
    return wrong / np.arange(1, len(y) + 1), ratio(hits, np.where(positives > _ROUNDING, positives, 0))


def _tied_blocks(confidence: Array, marks: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Blocks of equal confidence, the highest first: each photograph's block (n,), their sizes (K,) and sums of marks (K, m)."""
    order = np.argsort(-confidence, kind="stable")
    block = np.concatenate([[0], (np.diff(confidence[order]) < -_ROUNDING).cumsum()])
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    return block, np.bincount(block), np.add.reduceat(marks[order], starts, axis=0)


@dataclass(frozen=True, slots=True)
class AbstentionBand:
    """The probabilities from which the grader abstains: `low <= p < high`, none where the two are equal; `text` describes it."""

    low: float
    high: float
    text: str

    def abstains(self, p: ArrayLike) -> NDArray[np.bool_]:
        """Where the grader abstains, in the shape of `p`."""
        scores = np.asarray(p, float)
        return (self.low <= scores) & (scores < self.high)


def choose_band(y: ArrayLike, p: ArrayLike, threshold: float, max_error: float = MAX_ERROR) -> AbstentionBand:
    """The narrowest band around `threshold` outside which at most the share `max_error` is wrong; for inner data only.

    `y` and `p` are (n,). Both edges are equally far from the threshold in log-odds, midway between the last photograph
    abstained from and the first kept. Where even the most confident photographs are wrong too often, the band holds every
    probability. The text gives the upper bound of the error too (Clopper and Pearson 1934), since few photographs prove
    little. Raises `UsageError` for values out of range.
    """
    if np.ndim(p) != 1 or np.ndim(threshold) or not 0 <= max_error < 1:
        raise UsageError("A band needs p (n,), one threshold, and a share of errors from 0 to below 1.")
    labels, scores, at = _checked(y, p, threshold)
    confidence = decision_confidence(scores[0], at[0])
    wrong = ((scores[0] >= at[0]) != (labels == 1)).astype(float)
    block, sizes, sums = _tied_blocks(confidence, wrong[:, None])
    kept, errors = sizes.cumsum(), sums[:, 0].cumsum()
    good = np.flatnonzero(errors <= max_error * kept + _ROUNDING)
    n = len(labels)
    if not good.size:
        text = (
            f"abstains from everything: even the surest of {n} inner photographs are wrong in more than {max_error:.0%}"
        )
        return AbstentionBand(0.0, _ABOVE_ALL, text)
    last = int(good.max())
    n_wrong, n_kept = int(errors[last]), int(kept[last])
    bound = clopper_pearson(n_wrong, n_kept)[1]
    outside = f"{n_wrong} of {n_kept} inner photographs are wrong ({LEVEL:.0%} interval up to {bound:.2f})"
    if last == block[-1]:
        return AbstentionBand(float(threshold), float(threshold), f"abstains from nothing: {outside}")
    edges = np.sort(confidence)[::-1][np.searchsorted(block, last, side="right") - 1 :][:2]
    low, high = (_move_threshold(float(threshold), side * float(edges.mean())) for side in (-1, 1))
    text = f"abstains from {low:.3f} to {high:.3f}, {n - n_kept} of {n}: of the others {outside}"
    return AbstentionBand(low, high, text)


def _move_threshold(threshold: float, by: float) -> float:
    """The threshold moved by `by` in log-odds; 0 or just above 1 where that leaves the range of clipped log-odds."""
    from scipy.special import expit

    z = float(log_odds(np.array(threshold))) + by
    if abs(z) >= log_odds(np.array(1.0)):
        return 0.0 if z < 0 else _ABOVE_ALL
    return float(expit(z))
