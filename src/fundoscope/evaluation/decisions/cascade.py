"""Two stages in a row scored as one grader: is there ROP, and if so, does it require treatment?

Scored alone, each stage looks better than the two in a row, since an infant is treated only if both stages call it. The paper
on ROP by distillation reports a sensitivity of .9456 for its first stage and .9516 for its second (its tables 4 and 6) and
never scored the two in a row: if their misses were independent, .900 would be left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import bootstrap, broadcast_thresholds
from fundoscope.evaluation.metrics.scores import check_scores, ratio

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cascade:
    """Probabilities of both stages, (n,) or (seeds, n), each with its threshold(s): one number or of that shape.

    Both stages answer for everything, also for what the first stage calls normal, so that each can be judged alone. The n
    units may be photographs, eyes, exams or infants (`EyeViews.combine` makes the others of photographs).
    """

    p_rop: ArrayLike
    p_tr: ArrayLike
    rop_threshold: ArrayLike = 0.5
    tr_threshold: ArrayLike = 0.5

    def __post_init__(self) -> None:
        shapes = self.stage_1.shape, self.stage_2.shape
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"The stages answer in shapes {shapes[0]} and {shapes[1]}. Give the same photographs and seeds."
            )

    @property
    def stage_1(self) -> Bools:
        """Where stage 1 calls ROP, and so passes the photograph on, in the shape of `p_rop`."""
        return _at_or_above(self.p_rop, self.rop_threshold)

    @property
    def stage_2(self) -> Bools:
        """Where stage 2, applied to everything, calls treatment-requiring, in the shape of `p_tr`."""
        return _at_or_above(self.p_tr, self.tr_threshold)

    @property
    def called(self) -> Bools:
        """Where the grader calls treatment-requiring: both stages at or above their thresholds."""
        return self.stage_1 & self.stage_2


def _at_or_above(p: ArrayLike, threshold: ArrayLike) -> Bools:
    scores = np.asarray(p, float)
    if not np.isfinite(scores).all():
        raise UsageError("A stage gives nan or infinity. Let both stages answer for every photograph.")
    return scores >= broadcast_thresholds(scores, threshold)


def score_cascade(
    truth_tr: ArrayLike,
    truth_rop: ArrayLike,
    cascade: Cascade,
    groups: Sequence[object] | NDArray | None = None,
    weights: ArrayLike | None = None,
    stages_alone: bool = True,
) -> list[dict[str, Any]]:
    """A row for each figure of the two stages in a row: `figure` in words, its `share` (an `Estimate`), `count` and `of`.

    `truth_tr` (n,) is 1 for treatment-requiring, `truth_rop` (n,) 1 for any ROP. The share is `count` of `of` (a mean over
    seeds, unweighted); both are None for figures that are no share. `groups` and `weights` are those of `estimate`. The
    product of the two sensitivities is what would be left if the stages missed independently; a sensitivity end to end above
    it means that they miss the same photographs; without `stages_alone` these figures are left out, as where stage 2 was asked
    of what stage 1 calls ROP only. Raises `UsageError` for shapes that do not match and for
    treatment-requiring without ROP.
    """
    tr, rop = (check_scores(truth, np.asarray(cascade.p_rop, float))[0] == 1 for truth in (truth_tr, truth_rop))
    if (tr & ~rop).any():
        raise UsageError(f"{(tr & ~rop).sum()} are treatment-requiring without ROP. Correct the labels.")
    parts = _parts(tr, rop, cascade)
    if not stages_alone:
        parts = {name: part for name, part in parts.items() if name not in (_FIRST, _SECOND)}

    def values(drawn: Array) -> dict[str, Array]:
        shares = {name: _weighted_share(drawn, units, hits) for name, (units, hits) in parts.items()}
        if stages_alone:
            product = shares[_FIRST] * shares[_SECOND]
            shares |= {_PRODUCT: product, _BEYOND: shares["sensitivity"] - product}
        return {name: each.mean(axis=0) for name, each in shares.items()}

    found = bootstrap(values, tr.astype(float), groups, weights=weights)
    rows = []
    for name, share in found.items():
        row: dict[str, Any] = {"figure": _WORDS.get(name, name), "share": share, "count": None, "of": None}
        if name in parts:
            units, hits = parts[name]
            row |= {"count": float((hits & units).sum(axis=1).mean()), "of": int(units.sum())}
        rows.append(row)
    return rows


_FIRST, _SECOND = "sensitivity of stage 1 alone", "sensitivity of stage 2 alone"
_PRODUCT, _BEYOND = "product of the two, if independent", "end to end minus product"
_WORDS = {
    "sensitivity": "sensitivity for treatment-requiring, end to end",
    "specificity": "specificity, all others",
    _FIRST: f"{_FIRST}, among treatment-requiring",
    _SECOND: f"{_SECOND}, among treatment-requiring",
}


def _parts(tr: Bools, rop: Bools, cascade: Cascade) -> dict[str, tuple[Bools, Bools]]:
    """For each figure: the units that it is a share of (n,), and where they count (seeds, n)."""
    one, two = np.atleast_2d(cascade.stage_1), np.atleast_2d(cascade.stage_2)
    called = one & two
    return {
        "sensitivity": (tr, called),
        "specificity": (~tr, ~called),
        "missed: lost in stage 1": (tr, ~one),
        "missed: lost in stage 2": (tr, one & ~two),
        "false alarms among normal": (~rop, called),
        "false alarms among ROP that needs no treatment": (rop & ~tr, called),
        _FIRST: (tr, one),
        _SECOND: (tr, two),
    }


def _weighted_share(drawn: Array, units: Bools, hits: Bools) -> Array:
    """The share of `hits` (seeds, n) among `units` (n,) under weightings `drawn` (B, n), (seeds, B)."""
    among = drawn * units
    return ratio(hits.astype(float) @ among.T, np.broadcast_to(among.sum(axis=1), (len(hits), len(drawn))))
