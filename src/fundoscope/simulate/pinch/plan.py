"""What is to be done to a crossing: a lesion of calibre and contrast, and a sham warp that a network must not take for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from fundoscope.errors import UsageError, nearest
from fundoscope.simulate.nicking import FULL, GONE, NARROWING, split_narrowing
from fundoscope.vessels.grade_rule import GRADES, grade_of

Sham = Literal["none", "widened", "far", "artery", "shifted", "restored", "background"]
Sides = Literal["healthy", "continuous", "bands"]
Pair = tuple[float, float]

#: Sham warps. widened: the vein is widened beside the artery, on sides without a lesion (with two lesions, further away).
#: far: the vein is pinched 4 widths away or more. artery: the artery is pinched beside the vein. And on one side, beside
#: the artery: shifted, the vein is moved sideways; restored, it is pinched and the pinch is taken back; background, the
#: retina beside the vein is warped.
SHAMS: tuple[Sham, ...] = ("none", "widened", "far", "artery", "shifted", "restored", "background")

#: How narrow the two sides of a vein are drawn. healthy: both as they are. continuous: each anything from 0 to
#: `LARGEST_NARROWING`, apart from the other. bands: as in simulated eyes, with gaps between the grades (`NARROWING`).
SIDES: tuple[Sides, ...] = ("healthy", "continuous", "bands")
LARGEST_NARROWING = 0.7  # of a side that is drawn continuously

_ONE_HEALTHY = 1 / 3  # share of the continuous pairs of which one side is healthy, before a grade is asked for
_TAPER = (0.35, 1.0)  # as in simulated eyes
_WITHOUT_SHAM = 0.5  # share of the lesions without a sham
_FAR = (4.2, 4.8)  # vein widths from the crossing
_WIDENED = (0.15, 0.45)
_SHIFTED = (0.15, 0.3)  # vein widths
_BACKGROUND = 2.75  # vein widths beside the vein: a warp there does not move it
_JITTER = (0.25, 0.5)  # pixels


@dataclass(frozen=True, slots=True)
class LesionProfile:
    """How a lesion lies along and across its vein; lengths in vein widths, of side 1 and side 2.

    It is `full` up to that far beyond the artery's wall and has `gone` from there on. `tilt` is how far its ends run along
    the vein for one width across it (0: at a right angle); the vein shrinks towards a line `off_middle` widths beside its
    own middle, so that one of its walls is dented more than the other.
    """

    full: Pair = (FULL, FULL)
    gone: Pair = (GONE, GONE)
    tilt: float = 0.0
    off_middle: float = 0.0


USUAL_PROFILE = LesionProfile()


@dataclass(frozen=True, slots=True)
class WarpPlan:
    """What is done to one crossing, and thereby its truth.

    `calibre` is the share of the vein's width that is lost on side 1 (the vein's points before the crossing) and on side
    2, negative where it is widened; `fade` the share of its contrast. `sham` is one of `SHAMS`, with its `amount` (a loss of
    calibre, or vein widths of shift), its `sham_fade`, its `side` (-1: side 1, or 1) and its `place` (vein widths from the
    crossing along the vein; for `background` from the vein, beside it). `jitter` (rows, columns) is how far, in pixels, the
    picture between the two resamplings stands off the grid.
    """

    calibre: Pair = (0.0, 0.0)
    fade: Pair = (0.0, 0.0)
    sham: Sham = "none"
    amount: float = 0.0
    sham_fade: float = 0.0
    side: int = 1
    place: float = 0.0
    jitter: Pair = (0.375, 0.375)
    profile: LesionProfile = USUAL_PROFILE

    def __post_init__(self) -> None:
        if self.sham not in SHAMS:
            raise UsageError(f"There is no sham warp '{self.sham}': {nearest(self.sham, SHAMS)}")
        if not all(-1 <= n <= 0.8 for n in (*self.calibre, *self.narrowing, self.amount)):
            raise UsageError(f"Narrowing is -1 to 0.8, and here {self.narrowing}, {self.amount}. Give shares of 1.")
        if not all(0 <= f <= 0.8 for f in (*self.fade, self.sham_fade)):
            raise UsageError(f"Fade is 0 to 0.8, and here {self.fade}, {self.sham_fade}. Give shares of 1.")

    @classmethod
    def of_narrowing(cls, narrowing: Pair, taper: float = 1.0) -> Self:
        """The plan of a narrowing of which `taper` is calibre on both sides (0 to 1, an exponent), without a sham."""
        first, second = (split_narrowing(side, taper) for side in narrowing)
        return cls((first[0], second[0]), (first[1], second[1]))

    @property
    def narrowing(self) -> Pair:
        """What can be seen of the lesion on each side, calibre and contrast together: 1 - (1 - calibre) (1 - fade)."""
        first, second = (1 - (1 - c) * (1 - f) for c, f in zip(self.calibre, self.fade, strict=True))
        return first, second

    @property
    def grade(self) -> int:
        """Grade of the narrowing that can be seen, 0 to 3."""
        return grade_of(*self.narrowing)


def draw_plan(grade: int, rng: np.random.Generator, sham: Sham | None = None, sides: Sides = "bands") -> WarpPlan:
    """A random plan of this grade (0 to 3), its sides drawn as `SIDES` says, with the given sham or a random one.

    A vein that is healthy on both sides always has a sham, others in half the plans, so that being warped does not give the
    grade away. In bands, grade 0 is healthy; continuously, it is narrowed by less than a grade's worth. Raises `UsageError`
    for other grades of healthy veins.
    """
    calibre, fade = _draw_losses(grade, rng, sides)
    healthy = (calibre == 0) & (fade == 0)
    if sham is None:
        plain = not healthy.all() and rng.random() < _WITHOUT_SHAM
        sham = "none" if plain else SHAMS[int(rng.integers(1, len(SHAMS)))]
    share, place = rng.uniform(), rng.uniform(*_FAR)
    side, sign = (int(s) for s in rng.choice((-1, 1), 2))
    jitter = rng.uniform(*_JITTER, 2) * rng.choice((-1, 1), 2)
    # a sham does as much as a lesion of any grade
    ranges = {"none": (0.0, 0.0), "widened": _WIDENED, "shifted": _SHIFTED}
    smallest, largest = ranges.get(sham, (NARROWING[1][0], NARROWING[3][1]))
    amount, sham_fade = smallest + share * (largest - smallest), 0.0
    if sham == "background":
        place = sign * _BACKGROUND
    elif sham == "shifted":
        amount *= sign
    elif sham == "widened":
        amount = -amount
        if healthy.any():
            place = 0.0
            calibre = np.where(healthy, amount, calibre)
            if healthy.all() and sign > 0:
                calibre[int(side > 0)] = 0.0
    if sham in ("far", "artery", "restored", "background"):
        amount, lost = split_narrowing(amount, rng.uniform(*_TAPER))
        sham_fade = lost if sham == "far" else 0.0
    return WarpPlan(
        (float(calibre[0]), float(calibre[1])), (float(fade[0]), float(fade[1])), sham, float(amount), float(sham_fade),
        side, float(place), (float(jitter[0]), float(jitter[1])),
    )  # fmt: skip


def _draw_losses(grade: int, rng: np.random.Generator, sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """Losses of calibre (2,) and of contrast (2,) of both sides."""
    if sides == "healthy" and grade:
        raise UsageError(
            f"A vein that is healthy on both sides has grade 0, not {grade}. Draw it continuously or in bands."
        )
    if grade not in range(GRADES):
        raise UsageError(f"Nicking has no grade {grade}. Ask for 0, 1, 2 or 3.")
    if sides == "continuous":
        narrowing, tapers = _draw_continuous_pair(grade, rng), rng.uniform(0, 1, 2)
    else:
        low, high = NARROWING.get(grade, (0.0, 0.0))
        narrowing, tapers = rng.uniform(low, high, 2), np.full(2, rng.uniform(*_TAPER))
        if grade in (1, 2):
            narrowing[int(rng.integers(2))] = 0.0
    calibre, fade = np.transpose([split_narrowing(n, t) for n, t in zip(narrowing, tapers, strict=True)])
    return calibre, fade


def _draw_continuous_pair(grade: int, rng: np.random.Generator) -> np.ndarray:
    """Narrowing (2,) of both sides: each evenly from 0 to `LARGEST_NARROWING`, in a third of the pairs one of them 0, drawn
    until the pair has the grade.

    A taper drawn evenly for each side then gives calibre and fade as if both had been drawn evenly and apart, and pairs
    taken so that what can be seen of them is even: for a narrowing n, the density of the calibre c is that of the fade
    1 - (1 - n) / (1 - c) times 1 / (1 - c), so that log(1 - c) is even between log(1 - n) and 0.
    """
    while True:
        narrowing = rng.uniform(0, LARGEST_NARROWING, 2)
        if rng.random() < _ONE_HEALTHY:
            narrowing[int(rng.integers(2))] = 0.0
        if grade_of(*narrowing) == grade:
            return narrowing
