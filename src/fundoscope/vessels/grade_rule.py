"""The rule that grades nicking from measured narrowing, and the size of the patches in which it is graded."""

from __future__ import annotations

SPAN = 12  # widths of the vein along a patch's side
GRADES = 4  # 0 (none) to 3 (severe)

_MILD, _MODERATE, _SEVERE = 0.15, 0.36, 0.40  # narrowing from which on the grade is given


def grade_of(narrowing_1: float, narrowing_2: float) -> int:
    """Grade of a crossing, 0 to 3, from the measured narrowing of both sides of its vein.

    3 where both sides are narrowed by 0.40 or more; else by the larger narrowing: 2 from 0.36, 1 from 0.15, else 0.
    """
    if min(narrowing_1, narrowing_2) >= _SEVERE:
        return 3
    larger = max(narrowing_1, narrowing_2)
    return 2 if larger >= _MODERATE else 1 if larger >= _MILD else 0
