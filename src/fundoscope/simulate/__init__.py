"""Eyes grown from rules, and photographs of them with exact truth."""

from fundoscope.simulate.adults import adult, write_adults
from fundoscope.simulate.cameras import CAMERAS, LEVELS
from fundoscope.simulate.cohort import read_masks
from fundoscope.simulate.crossing_patches import crossing_patch
from fundoscope.simulate.infants import DISEASES, infant
from fundoscope.simulate.nursery import write_infants
from fundoscope.simulate.truth import MASKS, CrossingTruth, Findings, SimulatedPhotograph, Truth

__all__ = [
    "CAMERAS",
    "DISEASES",
    "LEVELS",
    "MASKS",
    "CrossingTruth",
    "Findings",
    "SimulatedPhotograph",
    "Truth",
    "adult",
    "crossing_patch",
    "infant",
    "read_masks",
    "write_adults",
    "write_infants",
]
