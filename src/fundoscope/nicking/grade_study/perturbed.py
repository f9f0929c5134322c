"""Tested patches perturbed in ways that leave the grade: another scale, a turn, blur, JPEG, other colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from fundoscope.imaging import Pixels
from fundoscope.learning.augment import Augment
from fundoscope.nicking.grade_study.prediction_table import COLOUR_CHANGES
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH, lit_pixels, resize_square
from fundoscope.nicking.recipes.grades import PerturbationNumbers

_SCALES = {"half the scale": 0.5, "double the scale": 2.0}


def perturb(whole: Pixels, variant: str, rng: Generator, numbers: PerturbationNumbers) -> Pixels:
    """A patch's whole file (s, s, 3) in a variant of `prediction_table.VARIANTS`: as a photograph of another resolution, sharpness,
    encoding or colour would show it, (s, s, 3) or of another side; unchanged in a variant that is none of its pixels.
    """
    patch = resize_square(whole, round(whole.shape[0] * _SCALES.get(variant, 1.0)))
    if variant == "turned":
        middle = (whole.shape[0] - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), numbers.turn, 1.0)
        return np.asarray(cv2.warpAffine(whole, matrix, whole.shape[:2], flags=cv2.INTER_CUBIC), np.uint8)
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
    return change_colour(patch, variant, numbers) if variant in COLOUR_CHANGES else patch


def change_colour(patch: Pixels, change: str, numbers: PerturbationNumbers) -> Pixels:
    """A patch (s, s, 3) with one of `COLOUR_CHANGES`; what lies beyond the field stays black."""
    inside, value = lit_pixels(patch), patch.astype(np.float32)
    if change == "darker":
        value *= numbers.brightness
    elif change == "less contrast":
        mean = value[inside].mean(axis=0) if inside.any() else 0.0
        value = mean + (value - mean) * numbers.contrast
    elif change == "less saturated":
        grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
        value = grey + (value - grey) * numbers.saturation
    else:
        hue, saturation, light = cv2.split(cv2.cvtColor(value, cv2.COLOR_RGB2HSV))
        value = cv2.cvtColor(cv2.merge([(hue + numbers.hue) % 360, saturation, light]), cv2.COLOR_HSV2RGB)
    return np.where(inside[..., None], np.clip(np.round(value), 0, 255), patch).astype(np.uint8)
