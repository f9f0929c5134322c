"""How many fields of view a picture shows: a montage of two eyes must not be judged by one of them.

Cameras and archives print photographs side by side, above each other, or two by two. Each field is convex (a circle and
straight cuts), so the length of its lit lines, counted along rows and along columns, rises to one maximum and falls again. A
montage has a second maximum; there it is parted. Only parts that are fields by themselves count: round, filled, and not
much smaller than the largest, so that banners, logos, reflexes and small insets are none.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.circles import holds, robust_circle, round_part

Lit = NDArray[np.uint8]  # (rows, columns), 1 where lit

_VALLEY = 0.9  # a line this much shorter than the lesser of the maxima on both sides parts the picture
_FIELD_RADIUS = 0.4  # of the largest field's radius: smaller ones are insets
_APART = 0.6  # of the sum of two radii: nearer centres are of one field that shade has parted
_FILLED = 0.8  # share of circle and box that a field lights
_INSIDE = 0.9  # share of a part's lit pixels inside its circle; blur joins fields that touch
_LEAST_SIDE = 24  # pixels of the reduced copy: smaller parts show nothing that could be judged

_Circle = tuple[float, float, float]  # row, column, radius


def count_fields(lit: Lit) -> int:
    """Return how many fields of view a reduced copy shows, at least 1, from the pixels that are lit (rows, columns; 0 or 1)."""
    split = _split_at(lit)
    if split is None:
        return 1
    circles = sorted(_fields_in(lit, (0.0, 0.0)), key=lambda circle: -circle[2])
    fields: list[_Circle] = []
    for row, column, radius in circles:
        apart = all(np.hypot(row - r, column - c) >= _APART * (radius + other) for r, c, other in fields)
        if apart and radius >= _FIELD_RADIUS * circles[0][2]:
            fields.append((row, column, radius))
    return max(1, len(fields))


def _split_at(lit: Lit) -> tuple[int, int] | None:
    """Return (axis, line) of the deepest valley between two maxima of the lines' lit lengths, or None without any."""
    deepest, found = _VALLEY, None
    for axis in (0, 1):
        counts = cv2.reduce(lit, 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        lesser = np.minimum(np.maximum.accumulate(counts), np.maximum.accumulate(counts[::-1])[::-1])
        share = (counts + 2.0) / (lesser + 2.0)  # two pixels' doubt, so that small specks make no valley
        line = int(share.argmin())
        if share[line] < deepest:
            deepest, found = float(share[line]), (axis, line)
    return found


def _fields_in(lit: Lit, at: tuple[float, float]) -> list[_Circle]:
    """Return the circles of all fields in a part of the picture whose first pixel lies `at` (row, column)."""
    rows, columns = (np.flatnonzero(cv2.reduce(lit, axis, cv2.REDUCE_MAX).ravel()) for axis in (1, 0))
    if not len(rows) or min(rows[-1] - rows[0], columns[-1] - columns[0]) < _LEAST_SIDE:
        return []
    lit = lit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    at = (at[0] + int(rows[0]), at[1] + int(columns[0]))
    split = _split_at(lit)
    if split is None:
        circle = _circle_of_part(lit)
        return [] if circle is None else [(circle[0] + at[0], circle[1] + at[1], circle[2])]
    axis, line = split
    before, after = (lit[:line], lit[line + 1 :]) if axis == 0 else (lit[:, :line], lit[:, line + 1 :])
    beyond = (at[0] + (line + 1) * (axis == 0), at[1] + (line + 1) * (axis == 1))
    return _fields_in(before, at) + _fields_in(after, beyond)


def _circle_of_part(lit: Lit) -> _Circle | None:
    """Return the circle of a part that fills its picture, or None where it is no field: not round, or not filled."""
    lit = np.ascontiguousarray(lit)
    contours, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest: NDArray[Any] = max(contours, key=cv2.contourArea)
    outline = np.zeros(lit.shape, np.uint8)
    cv2.polylines(outline, [cv2.convexHull(largest)], isClosed=True, color=1)
    rim = np.argwhere(outline).astype(float)
    points = rim[round_part(rim, lit.shape)]
    circle = robust_circle(points, limit=2.0 * max(lit.shape)) if len(points) >= 24 else None
    if circle is None or not holds(circle, lit.view(np.bool_), _INSIDE):
        return None
    row, column, radius = circle
    r, c = np.arange(lit.shape[0]) - row, np.arange(lit.shape[1]) - column
    disc = r[:, None] ** 2 + c[None, :] ** 2 <= radius**2
    filled = np.count_nonzero(lit.view(np.bool_) & disc) >= _FILLED * np.count_nonzero(disc)
    return circle if filled else None
