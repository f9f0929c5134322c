"""Lesions put into real photographs: a vein pinched by a known amount, and sham warps that a network must not learn.

`pinch` warps, and its photographs may train a network. `second_renderer` was written apart from it and paints instead, and
`oblique_profile` warps a lesion of another shape; these two only test.
"""

from fundoscope.simulate.pinch.lesion import is_usable, pinch, pinched_patch, pinched_truth
from fundoscope.simulate.pinch.plan import SHAMS, SIDES, Sham, Sides, WarpPlan, draw_plan

__all__ = [
    "SHAMS",
    "SIDES",
    "Sham",
    "Sides",
    "WarpPlan",
    "draw_plan",
    "is_usable",
    "pinch",
    "pinched_patch",
    "pinched_truth",
]
