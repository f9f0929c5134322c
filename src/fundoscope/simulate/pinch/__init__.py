"""Lesions put into real photographs: a vein pinched by a known amount, and sham warps that a network must not learn."""

from fundoscope.simulate.pinch.lesion import pinch, pinched_patch, truth_of, usable
from fundoscope.simulate.pinch.shams import SHAMS, Plan, Sham, draw

__all__ = ["SHAMS", "Plan", "Sham", "draw", "pinch", "pinched_patch", "truth_of", "usable"]
