"""A third lesion, of another shape than those that `pinch` and the second renderer put in: it only tests and never trains.

It is long on one side of the artery and short on the other, its ends run obliquely across the vein, and it dents one wall
of the vein more than the other. What a network has learnt on the usual lesions and still recognises on these does not hang
on their one length and symmetry.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fundoscope.imaging import Pixels
from fundoscope.simulate.pinch.lesion import pinch
from fundoscope.simulate.pinch.plan import LesionProfile, WarpPlan
from fundoscope.vessels.crossings import MeasuredCrossing

# Vein widths beyond the artery's wall up to which a lesion is full, and from which on it has gone
_LONG = ((0.7, 0.9), (2.2, 2.5))
_SHORT = ((0.3, 0.35), (0.95, 1.15))
_TILT = (0.35, 0.55)  # widths along the vein for one across it
_OFF_MIDDLE = (0.12, 0.2)  # vein widths


def draw_oblique_profile(rng: np.random.Generator) -> LesionProfile:
    """A random profile: which side is long, which way the ends are tilted, which wall is dented more, and by how much."""
    sides = [tuple(float(rng.uniform(*bounds)) for bounds in side) for side in (_LONG, _SHORT)]
    first, second = sides if rng.random() < 0.5 else sides[::-1]
    tilt, off_middle = (float(rng.uniform(*bounds) * rng.choice((-1, 1))) for bounds in (_TILT, _OFF_MIDDLE))
    return LesionProfile((first[0], second[0]), (first[1], second[1]), tilt, off_middle)


def pinch_obliquely(pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan, rng: np.random.Generator) -> Pixels:
    """A copy of the photograph (rows, columns, 3; RGB) with the plan carried out by a random oblique profile."""
    return pinch(pixels, crossing, replace(plan, profile=draw_oblique_profile(rng)))
