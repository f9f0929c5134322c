"""Augmentation of standard squares (uint8 RGB, black outside the field), before their contrast is enhanced.

Each part breaks a shortcut by which normal and diseased photographs of one hospital can be told apart without looking at
the retina: the shape of the field, the camera's colours, sharpness and noise, and the encoding of the file. Geometry
stays within what another view of an eye could show. The same random generator gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.imaging.renderings import RENDERINGS, render


@dataclass(frozen=True)
class Augment:
    """How strongly each part acts; 0 switches it off. Angles in degrees, the rest as shares."""

    rotation: float = 180.0
    scale: float = 0.12
    shift: float = 0.04
    field: float = 0.5  # probability of another field shape
    colour: float = 0.6  # 1: gains within a factor 1.35, hue within 12 degrees
    light: float = 0.3  # probability of another slope of light over the field
    sharpness: float = 0.2  # probability of blur, of sharpening
    noise: float = 0.15  # probability of sensor noise
    encoding: float = 0.2  # probability of a lower resolution, of JPEG
    rendering: float = 0.0  # probability of one of `imaging.renderings`

    def __call__(self, square: Pixels, rng: Generator) -> Pixels:
        """Another photograph that could have been taken of the same eye, (size, size, 3), uint8, as the input."""
        out = self._geometry(square, rng)
        if rng.random() < self.light:
            out = _slope_of_light(out, rng)
        if self.colour:
            out = _colours(out, rng, self.colour)
        if rng.random() < self.sharpness:
            out = _sharpness(out, rng)
        if rng.random() < self.encoding:
            out = _resolution(out, rng)
        if rng.random() < self.noise:
            out = _noise(out, rng)
        if self.rendering and rng.random() < self.rendering:
            out = render_by_chance(out, rng)
        if rng.random() < self.encoding:
            out = _jpeg(out, rng)
        return _field_shape(out, square, rng) if rng.random() < self.field else out

    def _geometry(self, square: Pixels, rng: Generator) -> Pixels:
        size = square.shape[0]
        return _pixels(cv2.warpAffine(square, self.draw_geometry(size, rng), (size, size), flags=cv2.INTER_LINEAR))

    def draw_geometry(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """A turn, a zoom, a shift and perhaps a mirror: the matrix (2, 3) from a place (x, y, 1) to where it is seen."""
        angle = rng.uniform(-self.rotation, self.rotation)
        zoom = np.exp(rng.uniform(-self.scale, self.scale))
        matrix = np.asarray(cv2.getRotationMatrix2D((size / 2 - 0.5, size / 2 - 0.5), angle, zoom), np.float64)
        matrix[:, 2] += rng.uniform(-self.shift, self.shift, 2) * size
        if self.rotation and rng.random() < 0.5:
            matrix[0] = -matrix[0]
            matrix[0, 2] += size - 1
        return matrix


def render_by_chance(square: Pixels, rng: Generator) -> Pixels:
    """The square (size, size, 3) in one of the twelve renderings of `imaging.renderings`, each as likely as the others."""
    return render(square, list(RENDERINGS)[int(rng.integers(len(RENDERINGS)))])


def _pixels(picture: Any) -> Pixels:
    """OpenCV's result with the type that it always has here."""
    return np.asarray(picture, np.uint8)


def _colours(square: Pixels, rng: Generator, strength: float) -> Pixels:
    """Another gain and gamma for all channels and for each, another saturation and hue."""
    gain, gamma, mixed = draw_colours(rng, strength)
    table = np.clip((np.arange(256)[:, None] / 255.0) ** gamma * gain, 0, 1) * 255
    return _pixels(cv2.transform(cv2.LUT(square, table.astype(np.uint8)[None]), mixed))


def draw_colours(
    rng: Generator, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Gain (3,) and gamma (3,) of the channels, and the matrix (3, 3) of another saturation and hue.

    A value v in 0..1 becomes v^gamma x gain, at most 1; then the matrix turns the colours about grey (opponent colours).
    """
    reach = 0.30 * strength
    gain = np.exp(rng.uniform(-reach, reach) + rng.uniform(-reach / 2, reach / 2, 3))
    gamma = np.exp(rng.uniform(-reach, reach) + rng.uniform(-reach / 4, reach / 4, 3))
    turn, vivid = np.deg2rad(rng.uniform(-12, 12) * strength), np.exp(rng.uniform(-0.5, 0.25) * strength)
    if rng.random() < 0.08 * strength:
        vivid = 0.0  # a photograph without colour keeps its vessels and its ridge
    grey = np.full((3, 3), 1 / 3)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return gain, gamma, grey + vivid * (np.cos(turn) * (np.eye(3) - grey) + np.sin(turn) * axis)


def _slope_of_light(square: Pixels, rng: Generator) -> Pixels:
    """Light that falls off to one side or to the rim, by up to one half."""
    size = square.shape[0]
    at = np.linspace(-1, 1, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    tilt = 0.35 * rng.random() * (np.cos(angle) * at[:, None] + np.sin(angle) * at[None, :])
    bowl = rng.uniform(-0.3, 0.3) * (at[:, None] ** 2 + at[None, :] ** 2)
    light = np.clip(1 + tilt + bowl, 0.4, 1.5).astype(np.float32)
    return np.clip(square * light[..., None], 0, 255).astype(np.uint8)


def _sharpness(square: Pixels, rng: Generator) -> Pixels:
    sigma = rng.uniform(0.4, 1.8) * square.shape[0] / 256
    soft = cv2.GaussianBlur(square, (0, 0), sigma)
    if rng.random() < 0.6:
        return _pixels(soft)
    return _pixels(cv2.addWeighted(square, 1.7, soft, -0.7, 0))


def _resolution(square: Pixels, rng: Generator) -> Pixels:
    size = square.shape[0]
    small = round(size * rng.uniform(0.45, 0.95))
    return _pixels(cv2.resize(cv2.resize(square, (small, small), interpolation=cv2.INTER_AREA), (size, size)))


def _noise(square: Pixels, rng: Generator) -> Pixels:
    seed, spread = int(rng.integers(2**31)), float(rng.uniform(1, 7))
    grain = np.random.default_rng(seed).normal(0, spread, square.shape).astype(np.float32)
    return np.clip(square + grain, 0, 255).astype(np.uint8)


def _jpeg(square: Pixels, rng: Generator) -> Pixels:
    quality = int(rng.integers(35, 96))
    coded = cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return _pixels(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def _field_shape(out: Pixels, square: Pixels, rng: Generator) -> Pixels:
    """The field as another sensor would cut it: a smaller circle, and flat edges above and below or at the sides."""
    size = out.shape[0]
    at = (np.arange(size) + 0.5) / size * 2 - 1
    shift = rng.uniform(-0.06, 0.06, 2)
    inside = (at[:, None] - shift[0]) ** 2 + (at[None, :] - shift[1]) ** 2 <= rng.uniform(0.86, 1.0) ** 2
    kind = rng.random()
    if kind < 0.5:  # cut above and below, as a RetCam does
        inside[: round(size * rng.uniform(0, 0.17))] = False
        inside[size - round(size * rng.uniform(0, 0.17)) :] = False
    elif kind < 0.7:
        inside[:, : round(size * rng.uniform(0, 0.15))] = False
        inside[:, size - round(size * rng.uniform(0, 0.15)) :] = False
    out = out.copy()
    out[~inside] = 0
    return out
