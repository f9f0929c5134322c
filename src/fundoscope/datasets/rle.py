"""Masks as COCO's run lengths (Lin 2014, ECCV), not compressed: what JSON holds and every reader of COCO knows.

The pixels are gone through column by column; `counts` are the lengths of the runs, of pixels outside and inside in
turn, beginning with those outside; `size` is [rows, columns].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fundoscope.datasets.record import Mask


def encode(part: Mask, corner: tuple[int, int], shape: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of a mask of `shape` (rows, columns) that holds only `part`, whose first pixel is at `corner` (row,
    column).
    """
    columns, rows = np.nonzero(part.T)
    inside = (columns + corner[1]) * shape[0] + rows + corner[0]
    starts, ends = inside[~np.isin(inside - 1, inside)], inside[~np.isin(inside + 1, inside)] + 1
    edges = np.column_stack([starts, ends]).ravel()
    counts = np.diff(np.concatenate([[0], edges, [shape[0] * shape[1]]]))
    counts = counts[:-1] if counts[-1] == 0 else counts
    return {"size": [int(side) for side in shape], "counts": counts.tolist()}


def decode(runs: dict[str, Any]) -> Mask:
    """(rows, columns) from run lengths."""
    rows, columns = runs["size"]
    inside = np.repeat(np.arange(len(runs["counts"])) % 2 == 1, runs["counts"])
    return inside.reshape(columns, rows).T
