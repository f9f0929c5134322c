"""Central retinal equivalents: what the central artery's and vein's calibre would be, from the widest vessels around the disc.

Knudtson et al. 2003 (Curr Eye Res 27:143): the widest vessel is combined with the narrowest, the second widest with the
second narrowest, and so on, again and again until one is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Branching coefficients of Knudtson et al. 2003: combined width = coefficient x sqrt(a^2 + b^2).
ARTERIOLES, VENULES = 0.88, 0.95
#: So many of the widest arterioles, and of the widest venules, are combined.
SIX = 6
#: So many of each kind make the ratio where a field of view shows no six: it is no AVR, and compares only with its like.
FOUR = 4


def equivalent(widths: Sequence[float], coefficient: float, number: int = SIX) -> float:
    """The central equivalent of the `number` widest of some widths, in their unit; nan where there are fewer."""
    left = sorted(widths, reverse=True)[:number]
    if len(left) < number:
        return float("nan")
    while len(left) > 1:
        pairs = [(left[k], left[-1 - k]) for k in range(len(left) // 2)]
        middle = [left[len(left) // 2]] if len(left) % 2 else []
        left = sorted([*(coefficient * float(np.hypot(*pair)) for pair in pairs), *middle], reverse=True)
    return float(left[0])


def crossing_calibre_ratio(widths: Sequence[tuple[float | None, float | None]]) -> tuple[float, int]:
    """Median arterial over median venous width at the crossings of which both are known, and their number; nan for none.

    It is not the AVR, which is CRAE / CRVE and taken around the disc.
    """
    known = np.array([pair for pair in widths if None not in pair], float).reshape(-1, 2)
    artery, vein = np.median(known, axis=0) if len(known) else (float("nan"), float("nan"))
    return float(artery / vein), len(known)
