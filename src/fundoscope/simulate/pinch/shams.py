"""What is to be done to a crossing: the lesion of each grade, and sham warps that a network must not take for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fundoscope.errors import UsageError, nearest
from fundoscope.simulate.nicking import NARROWING
from fundoscope.vessels.grade_rule import grade_of

Sham = Literal["none", "widened", "far", "artery", "shifted", "restored", "background"]

#: widened: the vein is wider beside the artery (on sides without a lesion; with two lesions further away). far: it is
#: pinched 4 widths away or more. artery: the artery is pinched beside the vein. On a flank beside the artery, shifted:
#: the vein is moved sideways; restored: pinched, and that undone; background: what lies beside it is warped.
SHAMS: tuple[Sham, ...] = ("none", "widened", "far", "artery", "shifted", "restored", "background")

_TAPER = (0.35, 1.0)  # as in simulated eyes
_ALONE = 0.5  # share of the lesions without a sham
_FAR = (4.2, 4.8)  # vein widths from the crossing
_WIDENED = (0.15, 0.45)
_SHIFTED = (0.15, 0.3)  # vein widths
_BESIDE = 2.75  # vein widths beside the vein: so far it is not moved
_JITTER = (0.25, 0.5)  # pixels


@dataclass(frozen=True, slots=True)
class WarpPlan:
    """What is done to one crossing, and thereby its truth.

    `narrowing` of side 1 (the vein's course before the crossing) and 2, negative where it is widened; `taper` the
    share of it (0 to 1, in the exponent) that is calibre rather than contrast; `sham` one of `SHAMS`, with its
    `amount` (a narrowing, or widths of shift), its `side` (-1: side 1, or 1) and `place` (vein widths from the
    crossing; of warped background, from the vein, negative on its one side); `jitter` (rows, columns) pixels off the grid between the two resamplings.
    """

    narrowing: tuple[float, float] = (0.0, 0.0)
    taper: float = 1.0
    sham: Sham = "none"
    amount: float = 0.0
    side: int = 1
    place: float = 0.0
    jitter: tuple[float, float] = (0.375, 0.375)

    def __post_init__(self) -> None:
        if self.sham not in SHAMS:
            raise UsageError(f"There is no sham warp '{self.sham}': {nearest(self.sham, SHAMS)}")
        if not all(-1 <= n <= 0.8 for n in (*self.narrowing, self.amount)):
            raise UsageError(f"Narrowing is -1 to 0.8, and here {self.narrowing}, {self.amount}. Give shares of 1.")

    @property
    def grade(self) -> int:
        """The grade of the narrowing."""
        return grade_of(*self.narrowing)


def draw_plan(grade: int, rng: np.random.Generator, sham: Sham | None = None) -> WarpPlan:
    """A plan of this grade (0 to 3) in the mixtures of simulated eyes, with `sham` or one that is drawn.

    Grade 0 always has a sham warp, the others as often as not, so that being warped says nothing of the grade.
    """
    low, high = NARROWING.get(grade, (0.0, 0.0))
    sides = rng.uniform(low, high, 2)
    well = int(rng.integers(2))
    if grade in (1, 2):
        sides[well] = 0.0
    if sham is None:
        sham = "none" if grade and rng.random() < _ALONE else SHAMS[int(rng.integers(1, len(SHAMS)))]
    taper, size, place = rng.uniform(*_TAPER), rng.uniform(), rng.uniform(*_FAR)
    side, sign = (int(s) for s in rng.choice((-1, 1), 2))
    jitter = rng.uniform(*_JITTER, 2) * rng.choice((-1, 1), 2)
    place = sign * _BESIDE if sham == "background" else place
    amount = _between(_sizes(sham), size) * (sign if sham == "shifted" else 1)
    if sham == "widened":
        amount = -amount
        if grade < 3:
            place = 0.0
            sides = np.where(sides == 0, amount, sides)
            if grade == 0 and sign > 0:
                sides[well] = 0.0
    return WarpPlan(
        (float(sides[0]), float(sides[1])), float(taper), sham, float(amount), side, float(place),
        (float(jitter[0]), float(jitter[1])),
    )  # fmt: skip


def _sizes(sham: Sham) -> tuple[float, float]:
    """How much is done: as much as a lesion of any grade does."""
    if sham == "none":
        return 0.0, 0.0
    return {"widened": _WIDENED, "shifted": _SHIFTED}.get(sham, (NARROWING[1][0], NARROWING[3][1]))


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + share * (bounds[1] - bounds[0])
