"""The optic disc, found from the vessels alone: wide vessels point to it.

The lines that prolong the vessels vote for the places they pass, wide vessels with more weight, and the disc is where the
votes are densest (voting along lines: Hough 1962; for fundus photographs Hoover and Goldbaum 2003, IEEE TMI 22:951).
"""

from __future__ import annotations

import cv2
import networkx as nx
import numpy as np

from fundoscope.vessels.graph import Mask, Points, arc_length

_VOTE_EVERY = 4  # points of a centreline
_DIRECTION_POINTS = 12  # to each side, over which the direction is taken
_REACH = 200.0  # pixels that a vessel is prolonged to each side; as all lengths here, at DRIVE's scale
_CELL = 4  # pixels to a side of one cell in which votes are counted
_POOLING = 22.0  # pixels: deviation by which votes are pooled, about half a disc's radius


def find_disc(graph: nx.MultiGraph, field: Mask) -> Points | None:
    """Row and column of the disc's centre in a vessel graph at DRIVE's scale; None where there are no vessels.

    `field` (rows, columns) is the field of view; the disc is looked for inside it only.
    """
    rows, columns = (side // _CELL + 1 for side in field.shape)
    votes = np.zeros((rows, columns))
    reach = np.arange(-_REACH, _REACH + 1, _CELL / 2)
    for *_, data in graph.edges(data=True):
        path, radius = data["path"], data["radius"]
        if arc_length(path)[-1] < _DIRECTION_POINTS:
            continue
        at = np.arange(0, len(path), _VOTE_EVERY)
        run = path[np.minimum(at + _DIRECTION_POINTS, len(path) - 1)] - path[np.maximum(at - _DIRECTION_POINTS, 0)]
        run /= np.maximum(np.hypot(*run.T), 1e-9)[:, None]
        cells = np.round((path[at][:, None] + reach[None, :, None] * run[:, None]) / _CELL).astype(int)
        inside = (cells >= 0).all(-1) & (cells < (rows, columns)).all(-1)
        weight = np.broadcast_to((radius[at] ** 2)[:, None], inside.shape)
        np.add.at(votes, tuple(cells[inside].T), weight[inside])
    if not votes.any():
        return None
    pooled = cv2.GaussianBlur(votes, (0, 0), _POOLING / _CELL)
    allowed = cv2.resize(field.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST) > 0
    best = np.unravel_index(int(np.where(allowed, pooled, -1).argmax()), pooled.shape)
    return np.array(best, float) * _CELL
