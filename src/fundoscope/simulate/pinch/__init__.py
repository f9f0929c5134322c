"""Lesions put into real photographs: a vein pinched by a known amount, and sham warps that a network must not learn."""

from fundoscope.simulate.pinch.lesion import is_usable, pinch, pinched_patch, pinched_truth
from fundoscope.simulate.pinch.shams import SHAMS, Sham, WarpPlan, draw_plan

__all__ = ["SHAMS", "Sham", "WarpPlan", "draw_plan", "is_usable", "pinch", "pinched_patch", "pinched_truth"]
