"""Eyes grown from rules, and photographs of them whose truth is known exactly.

An eye is grown (`vessel_skeletons`, `vessel_trees`, `fundus`, `lesions`, `nicking`), its light is drawn (`render`) and a
camera photographs it (`cameras`): `infants` and `adults` do so in this order. `pinch` puts lesions into real photographs.
"""

from fundoscope.simulate.adult_cohort import write_adults
from fundoscope.simulate.adults import adult
from fundoscope.simulate.cameras import CAMERAS, LEVELS
from fundoscope.simulate.cohort_files import read_masks
from fundoscope.simulate.crossing_patches import crossing_patch
from fundoscope.simulate.infant_cohort import write_infants
from fundoscope.simulate.infants import DISEASES, infant
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
