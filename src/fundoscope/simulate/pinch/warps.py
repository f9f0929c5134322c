"""Displacement fields, how they are composed and inverted, and the two resamplings that apply them.

A displacement field (rows, columns, 2; row, column) holds for each pixel of the outcome how far away, in pixels, the pixel
lies whose colour it takes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

BAND = 0.72  # vessel widths: half of the band across a vessel that shrinks evenly, its blurred edges included
FREE = 2.0  # vessel widths: nothing moves further than that beside the vessel


def squeeze(beside: Plane, share: Plane | float, width: float) -> Plane:
    """Displacement in pixels, outwards from a vessel's centreline, that shrinks the vessel to `share` of its `width`.

    `beside` is each pixel's signed distance from the centreline in pixels. The vessel shrinks evenly; what lies beside it
    is stretched inwards, from up to `FREE` widths away. A share above 1 widens.
    """
    band, free = BAND * width, FREE * width
    away = np.abs(beside)
    start = share * band
    slope = (free - start) / (free - band)
    x = np.clip((free - away) / (free - start), 0, 1)
    outside = free - (free - band) * (slope * x + (1 - slope) * x * x)  # slope 1 where it ends
    source = np.where(away < start, away / share, np.where(away < free, outside, away))
    return (np.sign(beside) * (source - away)).astype(np.float32)


def push(beside: Plane, shift: Plane, width: float) -> Plane:
    """Displacement by `shift` pixels up to one width beside a vessel's centreline, fading to none at `FREE` widths."""
    fade = np.clip((np.abs(beside) / width - 1.0) / (FREE - 1.0), 0, 1)
    return (shift * (1 - fade * fade * (3 - 2 * fade))).astype(np.float32)


def compose(first: Plane, second: Plane) -> Plane:
    """The single field that has the effect of resampling by `second` and resampling the outcome by `first`:
    first(x) + second(x + first(x)).
    """
    rows, columns = _pixel_grid(first.shape[:2])
    moved = cv2.remap(
        second, columns + first[..., 1], rows + first[..., 0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return first + moved


def invert(field: Plane, rounds: int = 12) -> Plane:
    """The field u that takes `field` back: the fixed point of u(x) = -field(x + u(x)), by damped iteration."""
    inverse = -field
    for _ in range(rounds):
        inverse = inverse - 0.7 * compose(inverse, field)
    return inverse


def resampled_twice(picture: Plane, first: Plane, second: Plane, jitter: tuple[float, float]) -> Plane:
    """`picture` (rows, columns, 3) resampled by the field `first`, and the outcome by `second`.

    The picture between them stands `jitter` (rows, columns) pixels off the grid. So every pixel is interpolated twice,
    also where nothing moves, and sharpness does not show what was warped.
    """
    offset = np.broadcast_to(np.array(jitter, np.float32), first.shape)
    between = _resampled(picture, compose(np.ascontiguousarray(offset), first))
    return _resampled(between, second - offset)


def _resampled(picture: Plane, field: Plane) -> Plane:
    rows, columns = _pixel_grid(field.shape[:2])
    x, y = columns + field[..., 1], rows + field[..., 0]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT), np.float32)


def _pixel_grid(shape: tuple[int, int]) -> tuple[Plane, Plane]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return rows, columns
