"""Vessels found by lines: the multi-scale line detector of Nguyen et al. 2013 (Pattern Recognition 46:703).

A vessel is darker along a line than in the window around it. Lines of several lengths, turned to every direction,
are laid through each pixel; long ones are sure, short ones keep two close vessels apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import remove_small_holes, remove_small_objects

from fundoscope.imaging import Field, Pixels, find_field
from fundoscope.vessels import draw

Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]

DIAMETER = 540.0  # pixels of the field across at which lines are laid: DRIVE's, whose mean vessel is 7 px wide
#: Pixels of the window, which is the longest line: about twice the mean vessel (section 2.1; there 15). Window, shortest
#: line and threshold had the best accuracy on the DRIVE training photographs; lines under 7 px add noise to vessels.
WINDOW, SHORTEST = 17, 7
_DIRECTIONS = 12  # 15 degrees apart
_RIM = 5  # pixels inside the field's edge whose light is the rim's: what lies inside them is continued outwards
#: Strength above which a pixel is a vessel's.
THRESHOLD = 0.8
_AS_IT_IS = 0.03  # a photograph this near to the right scale is not resized
_NOTHING = -3.0  # strength outside the field
_SPECK = 60  # pixels: smaller islands are noise
_HOLE = 12  # pixels: smaller holes are light reflexes


@dataclass(frozen=True, slots=True, eq=False)
class VesselMap:
    """Vessels of a photograph at `DIAMETER` pixels across the field.

    `strength` (rows, columns) float32, standardised inside the field; `mask` and `field` booleans of the same shape;
    `scale` the photograph's pixels for one of the map's.
    """

    strength: Plane
    mask: Mask
    field: Mask
    scale: float

    def to_photograph(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (n, 2; row, column) on the map as positions in the photograph."""
        return (np.asarray(points, float) + 0.5) * self.scale - 0.5

    def draw(self, pixels: Pixels) -> Pixels:
        """The photograph (rows, columns, 3) with its vessels tinted."""
        size = (pixels.shape[1], pixels.shape[0])
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return draw.tinted(pixels, mask.astype(bool), draw.WALL)


def find_vessels(pixels: Pixels, field: Field | None = None, threshold: float = THRESHOLD) -> VesselMap:
    """The vessels of an RGB photograph (rows, columns, 3), uint8, by the line detector."""
    field = field or find_field(pixels)
    scale = 2 * field.radius / DIAMETER
    scale = 1.0 if abs(scale - 1) < _AS_IT_IS else scale
    shape = (max(1, round(pixels.shape[0] / scale)), max(1, round(pixels.shape[1] / scale)))
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    green = np.asarray(cv2.resize(pixels[..., 1], shape[::-1], interpolation=method), np.float32)
    inside = field.mask(shape)
    strength = line_strength(255 - green, inside)
    return VesselMap(strength, cleaned((strength > threshold) & inside), inside, pixels.shape[0] / shape[0])


def line_strength(dark: Plane, field: Mask, window: int = WINDOW) -> Plane:
    """How much each pixel of `dark` (rows, columns; vessels bright) lies on a line; mean 0, deviation 1 inside `field`.

    Mean over the lengths `SHORTEST`, + 2, ... `window` of the best line's mean less the window's, each standardised in
    the field, and of the standardised image itself (equations 2 to 5).
    """
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RIM + 1, 2 * _RIM + 1))
    even = continued(dark, cv2.erode(field.astype(np.uint8), rim, borderValue=0).astype(bool))
    around = cv2.blur(even, (window, window), borderType=cv2.BORDER_REPLICATE)
    total = _standardised(even, field)
    lengths = range(SHORTEST, window + 1, 2)
    for length in lengths:
        total += _standardised(_best_line(even, length) - around, field)
    return np.where(field, _standardised(total, field), np.float32(_NOTHING)).astype(np.float32)


def continued(plane: Plane, field: Mask) -> Plane:
    """The plane with each pixel outside the field replaced by the nearest one inside."""
    if field.all() or not field.any():
        return plane
    outside = (~field).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels = np.asarray(labels, np.int64)
    value = np.zeros(int(labels.max()) + 1, np.float32)
    value[labels[field]] = plane[field]
    return value[labels]


def _best_line(plane: Plane, length: int) -> Plane:
    best = np.full(plane.shape, -np.inf, np.float32)
    for kernel in _kernels(length):
        np.maximum(best, cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REPLICATE), out=best)
    return best


@lru_cache(maxsize=32)
def _kernels(length: int) -> tuple[Plane, ...]:
    """A line of so many samples in each direction, its samples shared among the four nearest pixels."""
    half = (length - 1) // 2
    along = np.arange(-half, half + 1)
    kernels = []
    for k in range(_DIRECTIONS):
        angle = np.pi * k / _DIRECTIONS
        kernel = np.zeros((length + 2, length + 2))
        for row, column in zip(along * np.sin(angle) + half + 1, along * np.cos(angle) + half + 1, strict=True):
            r, c = int(np.floor(row + 1e-9)), int(np.floor(column + 1e-9))
            for dr, dc in ((0, 0), (0, 1), (1, 0), (1, 1)):
                share = (1 - abs(row - r - dr)) * (1 - abs(column - c - dc))
                if share > 1e-9:
                    kernel[r + dr, c + dc] += share / length
        kernels.append(kernel.astype(np.float32))
    return tuple(kernels)


def _standardised(plane: Plane, field: Mask) -> Plane:
    inside = plane[field]
    if not inside.size:
        return np.zeros_like(plane)
    return (plane - inside.mean()) / max(float(inside.std()), 1e-6)


def cleaned(mask: Mask) -> Mask:
    """A vessel mask without specks and pinholes."""
    return remove_small_holes(remove_small_objects(mask, max_size=_SPECK, connectivity=2), max_size=_HOLE)
