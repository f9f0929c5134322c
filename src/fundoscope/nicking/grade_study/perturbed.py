"""Tested patches perturbed in ways that leave the grade: another scale, blur, JPEG, other colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from fundoscope.imaging import Pixels
from fundoscope.learning.augment import Augment
from fundoscope.nicking.grade_study.patch_pixels import crop_patch
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH
from fundoscope.nicking.recipes.grades import PerturbationNumbers

_ZOOMS = {"half the scale": 0.5, "double the scale": 2.0}


def perturb(whole: Pixels, variant: str, rng: Generator, numbers: PerturbationNumbers) -> Pixels:
    """The usual patch, (PATCH_SIDE, PATCH_SIDE, 3), of a patch's whole file (s, s, 3) in a variant of `prediction_table.VARIANTS`."""
    patch = crop_patch(whole, zoom=_ZOOMS.get(variant, 1.0))
    if variant == "blurred":
        return np.asarray(cv2.GaussianBlur(patch, (0, 0), numbers.blur * VEIN_WIDTH), np.uint8)
    if variant == "recompressed":
        quality = [cv2.IMWRITE_JPEG_QUALITY, numbers.jpeg_quality]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(patch, cv2.COLOR_RGB2BGR), quality)
        return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
    if variant == "recoloured":
        camera = Augment(
            rotation=0, scale=0, shift=0, field=0, colour=numbers.colour, light=numbers.light, sharpness=0, noise=0,
            encoding=0,
        )  # fmt: skip
        return camera(patch, rng)
    return patch
