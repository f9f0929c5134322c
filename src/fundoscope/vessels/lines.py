"""Vessels found by lines: the multi-scale line detector of Nguyen et al. 2013 (Pattern Recognition 46:703).

A vessel is darker along a line than in the window around it. Lines of several lengths are laid through each pixel in
every direction: long ones respond to noise least, short ones keep two close vessels apart.
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

DIAMETER = 540.0  # pixels across the field at which lines are laid: DRIVE's, where the mean vessel is 7 pixels wide
#: Pixels of the window, which is also the longest line: about twice the mean vessel (section 2.1; there 15). Window,
#: shortest line and threshold had the best accuracy on the DRIVE training photographs; shorter lines add noise.
WINDOW, SHORTEST = 17, 7
#: Strength above which a pixel belongs to a vessel.
THRESHOLD = 0.8
_DIRECTIONS = 12  # 15 degrees apart
_RIM = 5  # pixels inside the field's edge where the light is the rim's; they are replaced by what lies further inside
_SAME_SCALE = 0.03  # a photograph whose scale is off by less is not resized
_OUTSIDE = -3.0  # strength outside the field
_SPECK = 60  # pixels: smaller islands are noise
_HOLE = 12  # pixels: smaller holes are light reflexes


@dataclass(frozen=True, slots=True, eq=False)
class VesselMap:
    """Vessels of a photograph whose field is brought to `DIAMETER` pixels across.

    `strength` (rows, columns) float32 has mean 0 and standard deviation 1 inside the field; `mask` and `field` are
    booleans of the same shape; `scale` is the photograph's pixels for one of the map's.
    """

    strength: Plane
    mask: Mask
    field: Mask
    scale: float

    def to_photograph(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (n, 2; row, column) on the map as positions in the photograph."""
        return (np.asarray(points, float) + 0.5) * self.scale - 0.5

    def draw(self, pixels: Pixels) -> Pixels:
        """A copy of the photograph (rows, columns, 3) with its vessels tinted."""
        size = (pixels.shape[1], pixels.shape[0])
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return draw.tinted(pixels, mask.astype(bool), draw.WALL)


def find_vessels(pixels: Pixels, field: Field | None = None, threshold: float = THRESHOLD) -> VesselMap:
    """The vessels of an RGB photograph (rows, columns, 3), uint8, by the line detector on its green channel."""
    field = field or find_field(pixels)
    scale = 2 * field.radius / DIAMETER
    scale = 1.0 if abs(scale - 1) < _SAME_SCALE else scale
    shape = (max(1, round(pixels.shape[0] / scale)), max(1, round(pixels.shape[1] / scale)))
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    green = np.asarray(cv2.resize(pixels[..., 1], shape[::-1], interpolation=method), np.float32)
    inside = field.mask(shape)
    strength = line_strength(255 - green, inside)
    mask = without_specks((strength > threshold) & inside)
    return VesselMap(strength, mask, inside, pixels.shape[0] / shape[0])


def line_strength(dark: Plane, field: Mask, window: int = WINDOW) -> Plane:
    """How strongly each pixel of `dark` (rows, columns; vessels bright) lies on a line; mean 0, deviation 1 in `field`.

    For each length `SHORTEST`, + 2, ... `window`: the mean along the best line less the mean of the window, standardised
    in the field. The strength is the mean of these and of the standardised image (equations 2 to 5).
    """
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RIM + 1, 2 * _RIM + 1))
    filled = extended_outwards(dark, cv2.erode(field.astype(np.uint8), rim, borderValue=0).astype(bool))
    around = cv2.blur(filled, (window, window), borderType=cv2.BORDER_REPLICATE)
    total = _standardised(filled, field)
    for length in range(SHORTEST, window + 1, 2):
        best = np.full(filled.shape, -np.inf, np.float32)
        for kernel in _line_kernels(length):
            np.maximum(best, cv2.filter2D(filled, -1, kernel, borderType=cv2.BORDER_REPLICATE), out=best)
        total += _standardised(best - around, field)
    return np.where(field, _standardised(total, field), np.float32(_OUTSIDE)).astype(np.float32)


def extended_outwards(plane: Plane, field: Mask) -> Plane:
    """The plane (rows, columns) with each pixel outside the field replaced by the nearest pixel inside.

    OpenCV's distance transform, since SciPy's exact one takes three times as long.
    """
    if field.all() or not field.any():
        return plane
    outside = (~field).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels = np.asarray(labels, np.int64)
    value = np.zeros(int(labels.max()) + 1, np.float32)
    value[labels[field]] = plane[field]
    return value[labels]


@lru_cache(maxsize=32)
def _line_kernels(length: int) -> tuple[Plane, ...]:
    """Averaging kernels (length + 2, length + 2) of a line of `length` samples in each of `_DIRECTIONS` directions.

    Each sample is shared among the four pixels around it, by bilinear weights.
    """
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


def without_specks(mask: Mask) -> Mask:
    """A vessel mask without islands under 60 pixels and without holes under 12."""
    return remove_small_holes(remove_small_objects(mask, max_size=_SPECK, connectivity=2), max_size=_HOLE)
