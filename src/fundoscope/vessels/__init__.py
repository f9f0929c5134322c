"""Vessels measured by geometry alone, without a network: lines, graph, crossings, calibre, narrowing, tortuosity.

Places are (row, column) in pixels, 0-based, sub-pixel. Each measurement can draw itself on the photograph.
"""

from fundoscope.vessels.calibre import Rays, Ruler
from fundoscope.vessels.crossings import Crossing, crossings_between, crossings_on
from fundoscope.vessels.graph import Strand, segments, vessel_graph
from fundoscope.vessels.lines import VesselMap, find_vessels, line_strength
from fundoscope.vessels.narrowing import Narrowing, measure_narrowing
from fundoscope.vessels.torn_crossings import crossing_through
from fundoscope.vessels.tortuosity import Tortuosity, tortuosity

__all__ = [
    "Crossing",
    "Narrowing",
    "Rays",
    "Ruler",
    "Strand",
    "Tortuosity",
    "VesselMap",
    "crossing_through",
    "crossings_between",
    "crossings_on",
    "find_vessels",
    "line_strength",
    "measure_narrowing",
    "segments",
    "tortuosity",
    "vessel_graph",
]
