"""Where the disc is, told by the vessels: the place from which the wide ones come.

Each vessel points at the disc, the wider the more surely; the lines that prolong them meet there (voting along lines,
after Hough 1962; for fundus photographs Hoover and Goldbaum 2003, IEEE TMI 22:951).
"""

from __future__ import annotations

import cv2
import networkx as nx
import numpy as np

from fundoscope.vessels.graph import Mask, Points, along

_EVERY = 4  # points of a centreline from one vote to the next
_AHEAD = 12  # points over which its direction is taken
_FAR = 200.0  # pixels at DRIVE's scale that a vessel points ahead, both ways
_STEP = 4  # pixels to one of the ballot
_NEAR = 22.0  # pixels: deviation by which votes are pooled, about half a disc's radius


def find_disc(graph: nx.MultiGraph, field: Mask) -> Points | None:
    """Row and column of the disc in a graph at DRIVE's scale; None where there are no vessels to tell it.

    `field` (rows, columns) is where it may lie; where it lies outside, the nearest place inside is told.
    """
    rows, columns = (side // _STEP + 1 for side in field.shape)
    ballot = np.zeros((rows, columns))
    reach = np.arange(-_FAR, _FAR + 1, _STEP / 2)
    for *_, data in graph.edges(data=True):
        path, radius = data["path"], data["radius"]
        if along(path)[-1] < _AHEAD:
            continue
        at = np.arange(0, len(path), _EVERY)
        run = path[np.minimum(at + _AHEAD, len(path) - 1)] - path[np.maximum(at - _AHEAD, 0)]
        run /= np.maximum(np.hypot(*run.T), 1e-9)[:, None]
        places = np.round((path[at][:, None] + reach[None, :, None] * run[:, None]) / _STEP).astype(int)
        inside = (places >= 0).all(-1) & (places < (rows, columns)).all(-1)
        votes = np.broadcast_to((radius[at] ** 2)[:, None], inside.shape)
        np.add.at(ballot, tuple(places[inside].T), votes[inside])
    if not ballot.any():
        return None
    pooled = cv2.GaussianBlur(ballot, (0, 0), _NEAR / _STEP)
    allowed = cv2.resize(field.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    best = np.unravel_index(int(np.where(allowed, pooled, -1).argmax()), pooled.shape)
    return np.array(best, float) * _STEP
