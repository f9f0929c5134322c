"""Bright borders around a photograph: frames, the paper of a printed page. They are background, as a camera's black is.

A frame is taken off at full size, line by line; paper that reaches up to the circle itself is blackened on the reduced copy.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.read import Pixels

_BRIGHT = 64  # grey levels of a frame's brightest channel: above any camera's surround
_PALE, _NEUTRAL = 170, 16  # least grey level of paper, and by how much its channels may differ
_WHITE = 235  # least grey level of white
_WHITE_EDGE = 0.06  # share of a picture's edge that is white where paper reaches it
_ALIKE = 24  # grey levels by which a frame's pixels may differ from its colour
_MOSTLY = 0.9  # share of a line whose pixels must not differ by more
_THICKEST = 0.45  # of a side: a frame beyond that leaves no photograph
_SAMPLES = 200  # pixels looked at along a line
_FRINGE = 0.003  # of the longer side: lines after a frame that resampling has mixed
_LAYERS = 3  # frames around one another

Levels = NDArray[np.uint8]


def find_frame(pixels: Pixels) -> tuple[int, int, int, int] | None:
    """Return (first row, end row, first column, end column) of what bright frames leave of a picture; None without a frame.

    A frame may run along one side only, as a banner does.
    """
    top, bottom, left, right = 0, pixels.shape[0], 0, pixels.shape[1]
    for _ in range(_LAYERS):
        inner = pixels[top:bottom, left:right]
        if min(inner.shape[:2]) < 16 or not any(inner[r, c].max() >= _BRIGHT for r in (0, -1) for c in (0, -1)):
            break
        turned = inner.transpose(1, 0, 2)
        depths = [_frame_depth(lines) for lines in (inner, inner[::-1], turned, turned[::-1])]
        if not any(depths):
            break
        fringe = max(1, round(_FRINGE * max(pixels.shape[:2])))
        depths = [depth + fringe * (depth > 0) for depth in depths]
        if depths[0] + depths[1] >= inner.shape[0] or depths[2] + depths[3] >= inner.shape[1]:
            break
        top, bottom, left, right = top + depths[0], bottom - depths[1], left + depths[2], right - depths[3]
    frame = (top, bottom, left, right)
    return None if frame == (0, pixels.shape[0], 0, pixels.shape[1]) else frame


def _frame_depth(lines: Pixels) -> int:
    """Return how many lines, from the first, are of one bright colour from end to end; 0 where that is no frame."""
    if min(lines[0, 0].max(), lines[0, -1].max()) < _BRIGHT:
        return 0
    step = max(1, lines.shape[1] // _SAMPLES)
    first = lines[0, ::step].astype(np.int16)
    colour = np.median(first, axis=0)
    if colour.max() < _BRIGHT or (np.abs(first - colour).max(axis=1) <= _ALIKE).mean() < _MOSTLY:
        return 0
    looked_at = lines[: max(1, int(_THICKEST * len(lines))), ::step].astype(np.int16)
    alike = (np.abs(looked_at - colour).max(axis=2) <= _ALIKE).mean(axis=1)
    others = np.flatnonzero(alike < _MOSTLY)
    if not len(others):
        return 0
    depth = int(others[0])
    # a retina that fills its picture can begin with an even line too, but does not end so abruptly
    after = alike[depth : depth + 4].min()
    return depth if after < 0.5 or is_paper(colour) else 0


def is_paper(colour: NDArray[np.floating]) -> bool:
    """Return whether a colour (3,) is white or a light grey."""
    return bool(colour.min() >= _PALE and np.ptp(colour) <= _NEUTRAL)


def darken_paper(small: Pixels) -> tuple[Levels, bool]:
    """Return the brightest channel of a reduced copy, (rows, columns), white paper around the field blackened, and whether any was.

    There is paper where all four corners are white or of one light grey, or a part of the edge is white.
    """
    red, green, blue = cv2.split(small)
    level = np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
    edge = _edge_of(small)
    least = edge.min(axis=1)
    white = np.count_nonzero(least >= _WHITE) >= _WHITE_EDGE * len(edge)
    if not white:
        corners = small[[0, 0, -1, -1], [0, -1, 0, -1]].astype(float)
        if corners.min() < _PALE or np.ptp(corners, axis=0).max() > _ALIKE or np.ptp(corners, axis=1).max() > _NEUTRAL:
            return level, False
    rows, columns = small.shape[:2]
    along_rows, along_columns = np.arange(rows), np.arange(columns)
    r = np.concatenate([np.zeros(columns, int), np.full(columns, rows - 1), along_rows, along_rows])
    c = np.concatenate([along_columns, along_columns, np.zeros(rows, int), np.full(rows, columns - 1)])
    filled = np.zeros((rows + 2, columns + 2), np.uint8)
    canvas = np.ascontiguousarray(small)
    how = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    for k in np.flatnonzero(least >= (_WHITE if white else _PALE)).tolist():
        if not filled[r[k] + 1, c[k] + 1]:
            cv2.floodFill(canvas, filled, (int(c[k]), int(r[k])), 0, (_ALIKE,) * 3, (_ALIKE,) * 3, how)
    level[filled[1:-1, 1:-1] > 0] = 0
    # where paper meets black, resampling leaves a thin grey line
    return np.asarray(cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8), True


def is_pale(small: Pixels) -> bool:
    """Return whether most of the outermost pixels of a reduced copy are white or light grey."""
    edge = _edge_of(small).astype(np.int16)
    return bool(((edge.min(axis=1) >= _PALE) & (np.ptp(edge, axis=1) <= _NEUTRAL)).mean() > 0.75)


def _edge_of(small: Pixels) -> Pixels:
    """The outermost pixels (n, 3): the first row, the last row, the first column, the last column."""
    return np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
