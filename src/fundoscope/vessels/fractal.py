"""Fractal dimension of the vessels' skeleton: how fully it fills the retina that a photograph shows.

Boxes are counted that hold a part of it (box counting: Mainster 1990, Eye 4:235, for retinal vessels). The dimension is the
slope of log count over log 1 / size. Boxes are shifted, and the least count is taken, so that where the grid begins does not
matter.
"""

from __future__ import annotations

import numpy as np

from fundoscope.vessels.multigraph import VesselGraph

_SIZES = (
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
)  # pixels of a box's side, at DRIVE's scale: a vein's width to a disc's diameter
_SHIFTS = 4  # of the grid along each side
_LEAST_POINTS = 200  # pixels of skeleton below which no dimension is given


def fractal_dimension(graph: VesselGraph) -> float:
    """Box-counting dimension of the centrelines of a vessel graph at DRIVE's scale; nan where there is too little of them.

    It depends on the field of view and on how many small vessels the map shows: compare only photographs of one camera.
    """
    paths = [data["path"] for *_, data in graph.edges()]
    points = np.unique(np.rint(np.concatenate(paths)).astype(np.int64), axis=0) if paths else np.zeros((0, 2), np.int64)
    if len(points) < _LEAST_POINTS:
        return float("nan")
    counts = [min(_count_boxes(points, size, k * size // _SHIFTS) for k in range(_SHIFTS)) for size in _SIZES]
    slope, _ = np.polyfit(np.log(_SIZES), np.log(counts), 1)
    return float(-slope)


def _count_boxes(points: np.ndarray, size: int, shift: int) -> int:
    """Boxes of `size` pixels that hold one of the points (n, 2), the grid shifted by `shift` pixels."""
    boxes = (points + shift) // size
    return len(np.unique(boxes[:, 0] * (1 << 20) + boxes[:, 1]))
