"""Vessels measured by geometry alone, without a network: lines, graph, crossings, calibre, narrowing, tortuosity.

Positions are (row, column) in pixels, 0-based, with fractions. `VesselMap`, `MeasuredCrossing`, `WidthProfile` and
`Narrowing` have a method `draw`, which draws the measurement onto the photograph.
"""

from fundoscope.vessels.calibre import CalibreModel, WidthProfile
from fundoscope.vessels.crossings import MeasuredCrossing, crossings_between, crossings_on
from fundoscope.vessels.graph import Centreline, edge_paths, vessel_graph
from fundoscope.vessels.lines import VesselMap, find_vessels, line_strength
from fundoscope.vessels.narrowing import Narrowing, measure_narrowing
from fundoscope.vessels.torn_crossings import crossing_through
from fundoscope.vessels.tortuosity import Tortuosity, tortuosity

__all__ = [
    "CalibreModel",
    "Centreline",
    "MeasuredCrossing",
    "Narrowing",
    "Tortuosity",
    "VesselMap",
    "WidthProfile",
    "crossing_through",
    "crossings_between",
    "crossings_on",
    "edge_paths",
    "find_vessels",
    "line_strength",
    "measure_narrowing",
    "tortuosity",
    "vessel_graph",
]
