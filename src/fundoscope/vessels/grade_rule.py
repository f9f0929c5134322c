"""The rule that grades nicking from measured narrowing, and the size of the patches in which it is graded."""

from __future__ import annotations

import math

from fundoscope.errors import UsageError

SPAN = 12  # widths of the vein along a patch's side
GRADES = 4  # 0 (none) to 3 (severe)

NICKED_FROM = 0.15  # narrowing of a side from which on it is nicked, and the grade at least 1
_MODERATE, _SEVERE = 0.36, 0.40  # narrowing from which on these grades are given


def grade_of(narrowing_1: float, narrowing_2: float) -> int:
    """Grade of a crossing, 0 to 3, from the narrowing of both sides of its vein.

    3 where both sides are narrowed by 0.40 or more; else by the larger narrowing: 2 from 0.36, 1 from 0.15, else 0.
    Raises `UsageError` where a side is not known (nan): no grade follows from the other one alone, see `possible_grades`.
    """
    if math.isnan(narrowing_1) or math.isnan(narrowing_2):
        raise UsageError(
            f"Narrowing {narrowing_1:g} and {narrowing_2:g}: one side was not measured, so there is no grade. Give both."
        )
    if min(narrowing_1, narrowing_2) >= _SEVERE:
        return 3
    larger = max(narrowing_1, narrowing_2)
    return 2 if larger >= _MODERATE else 1 if larger >= NICKED_FROM else 0


def possible_grades(narrowing_1: float, narrowing_2: float) -> tuple[int, int]:
    """The lowest and the highest grade that a crossing can have whose narrowing was measured so.

    A side that was not measured (nan) may be narrowed by anything. So one side of 0.5 is at least grade 2 and may be 3,
    and one side of 0 is anything from 0 to 2.
    """
    sides = (narrowing_1, narrowing_2)
    lowest, highest = (grade_of(*(unknown if math.isnan(side) else side for side in sides)) for unknown in (-1.0, 1.0))
    return lowest, highest
