"""How a nick is graded from what was measured, and how much of a crossing a patch shows."""

from __future__ import annotations

SPAN = 12  # vein widths along a patch's side
GRADES = 4  # 0 to 3


def grade_of(narrowing_1: float, narrowing_2: float) -> int:
    """Grade read from the measured narrowing of both sides: 3 both at least 0.40; else 2 the worse at least 0.36; 1
    at least 0.15; else 0.
    """
    if min(narrowing_1, narrowing_2) >= 0.40:
        return 3
    worse = max(narrowing_1, narrowing_2)
    return 2 if worse >= 0.36 else 1 if worse >= 0.15 else 0
