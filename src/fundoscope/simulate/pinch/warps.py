"""Displacements of a photograph's pixels, how they follow one another, and the two resamplings that apply them.

A displacement (rows, columns, 2; row, column) says for each pixel how far away the one is that it shows.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

BAND = 0.72  # widths: half of the band across a vessel that is drawn together evenly, its blurred edges included
FREE = 2.0  # widths: nothing moves that far beside the vessel


def squeeze(beside: Plane, share: Plane | float, width: float) -> Plane:
    """How far outwards the pixel lies that is to be seen `beside` a vessel drawn together to `share` of its `width`.

    Even within the vessel; beyond, the surroundings are stretched in from up to `FREE` widths. A share above 1 widens.
    """
    band, free = BAND * width, FREE * width
    away = np.abs(beside)
    start = share * band
    slope = (free - start) / (free - band)
    x = np.clip((free - away) / (free - start), 0, 1)
    outside = free - (free - band) * (slope * x + (1 - slope) * x * x)  # slope 1 where it ends
    source = np.where(away < start, away / share, np.where(away < free, outside, away))
    return (np.sign(beside) * (source - away)).astype(np.float32)


def push(beside: Plane, far: Plane, width: float) -> Plane:
    """A move by `far` pixels of the vessel and what lies within half a width beside it, gone at `FREE` widths."""
    away = np.clip((np.abs(beside) / width - 1.0) / (FREE - 1.0), 0, 1)
    return (far * (1 - away * away * (3 - 2 * away))).astype(np.float32)


def compose(first: Plane, then: Plane) -> Plane:
    """The displacement that looks up by `first`, and from there by `then`."""
    rows, columns = _grid(first.shape[:2])
    moved = cv2.remap(
        then, columns + first[..., 1], rows + first[..., 0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return first + moved


def invert(field: Plane, rounds: int = 12) -> Plane:
    """The displacement that takes `field` back: the fixed point of u(x) = -field(x + u(x))."""
    back = -field
    for _ in range(rounds):
        back = back - 0.7 * compose(back, field)
    return back


def resampled_twice(picture: Plane, first: Plane, second: Plane, jitter: tuple[float, float]) -> Plane:
    """`picture` (rows, columns, 3) displaced by `first` and the outcome by `second`.

    The picture between stands `jitter` (rows, columns) of a pixel beside the grid, so that both steps resample every
    pixel, the ones that stay where they are too: sharpness says nothing of what moved.
    """
    aside = np.broadcast_to(np.array(jitter, np.float32), first.shape)
    between = _resampled(picture, compose(np.ascontiguousarray(aside), first))
    return _resampled(between, second - aside)


def _resampled(picture: Plane, field: Plane) -> Plane:
    rows, columns = _grid(field.shape[:2])
    x, y = columns + field[..., 1], rows + field[..., 0]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT), np.float32)


def _grid(shape: tuple[int, int]) -> tuple[Plane, Plane]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return rows, columns
