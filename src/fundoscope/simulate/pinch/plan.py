"""What is to be done to a crossing: the lesion of a grade, and a sham warp that a network must not take for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fundoscope.errors import UsageError, nearest
from fundoscope.simulate.nicking import NARROWING
from fundoscope.vessels.grade_rule import grade_of

Sham = Literal["none", "widened", "far", "artery", "shifted", "restored", "background"]

#: Sham warps. widened: the vein is widened beside the artery, on sides without a lesion (with two lesions, further away).
#: far: the vein is pinched 4 widths away or more. artery: the artery is pinched beside the vein. And on one side, beside
#: the artery: shifted, the vein is moved sideways; restored, it is pinched and the pinch is taken back; background, the
#: retina beside the vein is warped.
SHAMS: tuple[Sham, ...] = ("none", "widened", "far", "artery", "shifted", "restored", "background")

_TAPER = (0.35, 1.0)  # as in simulated eyes
_WITHOUT_SHAM = 0.5  # share of the lesions without a sham
_FAR = (4.2, 4.8)  # vein widths from the crossing
_WIDENED = (0.15, 0.45)
_SHIFTED = (0.15, 0.3)  # vein widths
_BACKGROUND = 2.75  # vein widths beside the vein: a warp there does not move it
_JITTER = (0.25, 0.5)  # pixels


@dataclass(frozen=True, slots=True)
class WarpPlan:
    """What is done to one crossing, and thereby its truth.

    `narrowing` of side 1 (the vein's points before the crossing) and of side 2, negative where it is widened. `taper` is
    the share of it that is calibre rather than contrast (0 to 1, an exponent). `sham` is one of `SHAMS`, with its
    `amount` (a narrowing, or vein widths of shift), its `side` (-1: side 1, or 1) and its `place` (vein widths from the
    crossing along the vein; for `background` from the vein, beside it). `jitter` (rows, columns) is how far, in pixels,
    the picture between the two resamplings stands off the grid.
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
        """Grade of the narrowing, 0 to 3."""
        return grade_of(*self.narrowing)


def draw_plan(grade: int, rng: np.random.Generator, sham: Sham | None = None) -> WarpPlan:
    """A random plan of this grade (0 to 3), narrowed as in simulated eyes, with the given sham or a random one.

    Grade 0 always has a sham, the other grades in half the plans, so that being warped does not give the grade away.
    """
    low, high = NARROWING.get(grade, (0.0, 0.0))
    sides = rng.uniform(low, high, 2)
    healthy_side = int(rng.integers(2))
    if grade in (1, 2):
        sides[healthy_side] = 0.0
    if sham is None:
        sham = "none" if grade and rng.random() < _WITHOUT_SHAM else SHAMS[int(rng.integers(1, len(SHAMS)))]
    taper, share, place = rng.uniform(*_TAPER), rng.uniform(), rng.uniform(*_FAR)
    side, sign = (int(s) for s in rng.choice((-1, 1), 2))
    jitter = rng.uniform(*_JITTER, 2) * rng.choice((-1, 1), 2)
    # a sham does as much as a lesion of any grade
    ranges = {"none": (0.0, 0.0), "widened": _WIDENED, "shifted": _SHIFTED}
    smallest, largest = ranges.get(sham, (NARROWING[1][0], NARROWING[3][1]))
    amount = smallest + share * (largest - smallest)
    if sham == "background":
        place = sign * _BACKGROUND
    elif sham == "shifted":
        amount *= sign
    elif sham == "widened":
        amount = -amount
        if grade < 3:
            place = 0.0
            sides = np.where(sides == 0, amount, sides)
            if grade == 0 and sign > 0:
                sides[healthy_side] = 0.0
    return WarpPlan(
        (float(sides[0]), float(sides[1])), float(taper), sham, float(amount), side, float(place),
        (float(jitter[0]), float(jitter[1])),
    )  # fmt: skip
