"""Local contrast at one scale: what the vessel network sees, in training and in use.

A vessel is told from the retina around it by being darker than its surroundings, whatever the camera's colour, light
and pixel count. So a photograph is brought to one field diameter, each channel loses its broad mean, and what is
left is measured in broad deviations (as in Sermanet 2012, ICPR, there with a narrower window). Nothing outside the
field of view enters.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.field import Field, find_field
from fundoscope.imaging.prepared import scale_whole
from fundoscope.imaging.read import Pixels

#: Diameter in pixels to which fields of view are brought: DRIVE's, where the thinnest vessels seen are a pixel wide.
DIAMETER = 540

_MEAN_SIGMA = 12.0  # pixels: twice the widest vein's radius and a half, so that it does not fill its surroundings
_DEVIATION_SIGMA = 24.0
_FLOOR = 1.5 / 255  # a deviation that noise alone has; keeps empty places from being blown up
LIMIT = 5.0  # in deviations: reflexes and the rim of exudates say no more than that
_STEP = 4  # the broad blurs are computed on this many pixels at once


def scale_to_diameter(pixels: Pixels, field: Field | None = None) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the photograph with its field `DIAMETER` pixels across, and the mask of its field; see `Prepared.whole`."""
    return scale_whole(pixels, field or find_field(pixels), DIAMETER)


def local_contrast(pixels: Pixels, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Local contrast of a scaled photograph, (3, rows, columns), float32: (value - mean) / deviation, by channel.

    Mean and deviation are Gaussian-weighted over the pixels `inside` (rows, columns); 0 outside; within -5 to 5.
    """
    weight = inside.astype(np.float32)
    value = cv2.multiply(pixels, cv2.merge([weight] * 3), scale=1 / 255, dtype=cv2.CV_32F)
    value -= _local_mean(value, weight, _MEAN_SIGMA) * weight[..., None]
    spread = np.sqrt(_local_mean(value * value, weight, _DEVIATION_SIGMA) + _FLOOR**2)
    contrast = np.clip(value / spread, -LIMIT, LIMIT)
    return np.ascontiguousarray(contrast.transpose(2, 0, 1), np.float32)


def _local_mean(value: NDArray[Any], weight: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian-weighted mean of `value` (already 0 where the weight is), (rows, columns, 3)."""
    rows, columns = weight.shape
    size = (max(1, columns // _STEP), max(1, rows // _STEP))
    parts = []
    for part in (value, weight):
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        parts.append(cv2.GaussianBlur(small, (0, 0), sigma / _STEP, borderType=cv2.BORDER_REPLICATE))
    mean = parts[0] / np.maximum(parts[1], 1e-3)[..., None]
    return np.asarray(cv2.resize(mean, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
