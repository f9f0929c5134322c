"""Retinopathy of prematurity: the border of the vascularised retina, and the lesion that grows on it.

Stages after the International Classification (ICROP 2021, Ophthalmology 128:e51): 1 a flat pale demarcation line, 2 a
ridge with width and height, 3 a ridge with extraretinal tufts on its posterior side.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import noise
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.ribbons import Canvas, Ribbons, ribbon_coverage
from fundoscope.simulate.truth import Mask

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

ANGLES = 720  # samples of the border around the disc
# The ora serrata as a circle in eye units, so that nasally it lies 2.8 from the disc: an infant's distance from disc to
# fovea is about 4.5 mm, from disc to nasal ora about 12.5 mm
ORA_CENTRE, ORA_RADIUS = (0.7, 0.0), 3.5
ZONE_1 = 2.0  # eye units from the disc: twice the distance from disc to fovea
ZONE_2 = ORA_RADIUS - ORA_CENTRE[0]  # disc to nasal ora
_HALF_WIDTH = {1: (0.008, 0.014), 2: (0.022, 0.04), 3: (0.035, 0.06)}  # eye units, of a lesion by stage
_FRONDS = 4  # new vessels in a tuft


def zone_of(distance: float) -> int:
    """Zone (1 to 3) of a lesion whose most posterior point lies `distance` eye units from the disc (ICROP 2021)."""
    return 1 if distance < ZONE_1 else 2 if distance < ZONE_2 else 3


@dataclass(frozen=True, slots=True, eq=False)
class Border:
    """Where the vessels end: distances `rho` (ANGLES,) from the disc in eye units, at angles from the temporal side up."""

    rho: Floats

    def distance_at(self, angle: NDArray[np.floating]) -> NDArray[np.float32]:
        """Distance of the border from the disc at any angles, radians."""
        place = np.asarray(angle) * (ANGLES / (2 * np.pi))
        low = np.floor(place).astype(np.int64)
        rho, share = self.rho.astype(np.float32), (place - low).astype(np.float32)
        before = rho.take(low, mode="wrap")
        return before + share * (rho.take(low + 1, mode="wrap") - before)

    def inside(self, points: Floats, margin: float = 0.0) -> NDArray[np.bool_]:
        """Which points (n, 2; eye coordinates) are vascularised and at least `margin` from the border."""
        return np.hypot(*points.T) < self.distance_at(np.arctan2(points[:, 1], points[:, 0])) - margin


def ora_distance() -> Floats:
    """Distance of the ora serrata from the disc at each of `ANGLES` angles, eye units."""
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    along = ORA_CENTRE[0] * np.cos(angle)
    return along + np.sqrt(along**2 + ORA_RADIUS**2 - ORA_CENTRE[0] ** 2)


def draw_border(nearest: float | None, rng: np.random.Generator) -> Border:
    """A border whose most posterior point lies `nearest` eye units from the disc; with None the whole retina has vessels."""
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    tilt, spread = rng.uniform(-0.5, 0.5), rng.uniform(0.04, 0.2)
    wobble = 0.035 * noise.ring(ANGLES, 6, rng) + 0.012 * noise.ring(ANGLES, 40, rng)
    shape = 1 + spread * (1 - np.cos(angle - tilt)) / 2 + wobble - wobble[0]
    if nearest is None:
        return Border(ora_distance() - 0.02)
    return Border(np.minimum(shape / shape.min() * nearest, ora_distance() - 0.02))


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """The lesion on the border.

    `points` (n, 2) in eye coordinates; `half_width` (n,) in eye units; `strength` (n,) how strongly it stands out, 0 to 1;
    `stage` 1 to 3; `light` the direction, in radians, the light comes from; `pinkness` 0 (white) to 1; `seed` of its tufts.
    """

    points: Floats
    half_width: Floats
    strength: Floats
    stage: int
    light: float
    pinkness: float
    seed: int


def draw_ridge(border: Border, stage: int, rng: np.random.Generator) -> Ridge | None:
    """A lesion of `stage` along the temporal part of the border, over 3 to 9 clock hours; None for stage 0.

    The same numbers are drawn for every stage, so that the stage changes nothing else of an eye.
    """
    low, high = _HALF_WIDTH[max(stage, 1)]
    middle, hours = rng.normal(0, 0.35), rng.uniform(3, 6) + stage
    width = rng.uniform(low, high)
    width_noise, strength_noise = noise.line(400, 30, rng) + 0.5 * noise.line(400, 9, rng), noise.line(400, 60, rng)
    strength = rng.uniform(0.45, 1.0)
    light, pinkness, seed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1), int(rng.integers(2**31))
    if stage == 0:
        return None
    before_ora = np.where(border.rho < ora_distance() - 0.05, border.rho, np.inf)  # elsewhere vessels reach the ora
    nearest = int(np.argmin(before_ora)) * 2 * np.pi / ANGLES  # the lesion includes the most posterior point
    middle = nearest + 0.3 * middle
    angle = middle + np.linspace(-0.5, 0.5, 400) * hours * np.pi / 6
    rho = border.distance_at(angle).astype(float)
    points = np.column_stack([rho * np.cos(angle), rho * np.sin(angle)])
    ends = noise.smoothstep(0, 0.08, 0.5 - np.abs(np.linspace(-0.5, 0.5, 400)))
    half_width = width * (1 + 0.28 * width_noise) * (0.35 + 0.65 * ends)
    inside = rho < np.interp(angle % (2 * np.pi), np.arange(ANGLES) * 2 * np.pi / ANGLES, ora_distance()) - 0.05
    first, last = np.flatnonzero(inside)[[0, -1]]
    part = slice(first, last + 1)
    shown = np.clip(strength * (1 + 0.25 * strength_noise), 0.3, 1) * (0.3 + 0.7 * ends)
    return Ridge(points[part], np.maximum(half_width[part], 0.3 * width), shown[part], stage, light, pinkness, seed)


def paint_avascular(picture: Image, border: Border, x: Image, y: Image) -> None:
    """Make the retina beyond the border paler and greyer, with a soft transition.

    `picture` is (3, rows, columns); `x` and `y` (rows, columns) are the eye coordinates of its pixels.
    """
    beyond = np.sqrt(x * x + y * y) - border.distance_at(np.arctan2(y, x))
    share = 0.24 * noise.smoothstep(-0.05, 0.3, beyond)
    grey = 1.05 * picture.mean(axis=0)
    for plane, tone in zip(picture, (1.12, 1.03, 0.85), strict=True):
        plane += share * (tone * grey - plane)


def paint_ridge(picture: Image, lesion: Ridge, projection: Projection) -> Mask:
    """Paint the lesion into `picture` (3, rows, columns) and return its mask (rows, columns)."""
    shape = picture.shape[1:]
    points, half = projection.to_pixels(lesion.points), lesion.half_width * projection.scale
    mean = float(half.mean())
    mask = ribbon_coverage(shape, points, half, np.ones(len(half))) >= 0.5
    if not mask.any():
        return mask
    body = _soft(ribbon_coverage(shape, points, half, lesion.strength), 0.4 * mean)
    if lesion.stage == 1:
        _blend(picture, body, _pale(lesion), 0.45)
        return mask
    away = np.array([np.cos(lesion.light), np.sin(lesion.light)]) * mean
    shadow = _soft(ribbon_coverage(shape, points + 1.2 * away, half, lesion.strength), 0.7 * mean)
    picture *= 1 - shadow * np.array([0.16, 0.2, 0.2], np.float32)[:, None, None]
    _blend(picture, body, _pale(lesion), 0.55)
    lit = ribbon_coverage(shape, points - 0.3 * away, 0.4 * half, lesion.strength**2)
    _blend(picture, _soft(lit, 0.35 * mean), (1.0, 0.92, 0.74), 0.4)
    return mask if lesion.stage < 3 else mask | _tufts(picture, lesion, projection)


def _pale(lesion: Ridge) -> tuple[float, float, float]:
    """Colour of a lesion, from creamy white to pink; a ridge with tufts is always pink."""
    pink = lesion.pinkness * (0.4 if lesion.stage == 1 else 1.0) if lesion.stage < 3 else 0.5 + 0.5 * lesion.pinkness
    return 0.96, 0.83 - 0.22 * pink, 0.6 - 0.16 * pink


def _tufts(picture: Image, lesion: Ridge, projection: Projection) -> Mask:
    """Paint clumps of ragged new vessels on the posterior side of the ridge, and return their mask."""
    rng = np.random.default_rng(lesion.seed)
    dense = noise.line(len(lesion.points), 50, rng)  # clumps and gaps
    at = np.arange(3, len(lesion.points) - 3, 2)
    at = at[dense[at] >= -0.6]
    points, half = lesion.points[at], lesion.half_width[at]
    inward = -points / np.hypot(*points.T)[:, None]
    size = (half * rng.uniform(0.5, 1.1, len(at)) * np.clip(0.8 + 0.6 * dense[at], 0, 1.5))[:, None]
    start = points + inward * (half * rng.uniform(0.2, 0.9, len(at)))[:, None]
    shape, mean = picture.shape[1:], float(lesion.half_width.mean()) * projection.scale
    flesh = start[:, None] + np.array([-0.4, 0, 0.7])[:, None] * (size * inward)[:, None]
    spread = _ribbons(shape, flesh, 0.6 * size, np.ones(3), projection)
    _blend(picture, _soft(spread, 0.3 * mean), (0.85, 0.42, 0.33), 0.42)
    paths, t = _fronds(start, size, inward, rng), np.linspace(0, 1, 6)
    fronds = _ribbons(shape, paths, 0.11 * np.repeat(size, _FRONDS, axis=0) * (1.4 - t), 1 - 0.5 * t, projection)
    _blend(picture, _soft(fronds, 0.08 * mean), (0.66, 0.18, 0.14), 0.5)
    return spread >= 0.5


def _fronds(start: Floats, size: Floats, inward: Floats, rng: np.random.Generator) -> Floats:
    """Curved paths (n * _FRONDS, 6, 2) of new vessels.

    From each of `start` (n, 2) a few run in the direction `inward` (n, 2), about `size` (n, 1) eye units long.
    """
    length, slant, curl = (rng.uniform(low, 1, (len(start), _FRONDS, 1)) for low in (0.3, -1, -1))
    t = np.linspace(0, 1, 6)
    along, aside = 2.0 * length * t, 0.9 * (slant * t + curl * t * t)
    sideways = np.column_stack([-inward[:, 1], inward[:, 0]])
    run = along[..., None] * inward[:, None, None] + aside[..., None] * sideways[:, None, None]
    return (start[:, None, None] + size[:, None, None] * run).reshape(-1, 6, 2)


def _ribbons(shape: tuple[int, ...], points: Floats, half: Floats, value: Floats, projection: Projection) -> Image:
    """Share of each pixel that many ribbons cover: `points` (ribbons, samples, 2) in eye units; half width and value
    broadcast to (ribbons, samples).
    """
    canvas, size = Canvas((shape[0], shape[1])), points.shape[:2]
    if len(points):
        half, value = (np.broadcast_to(part, size).ravel() for part in (half * projection.scale, value))
        pixels = projection.to_pixels(points.reshape(-1, 2))
        canvas.paint(Ribbons.of(pixels, half, value, np.full(size[0], size[1])))
    return canvas.coverage()


def _soft(cover: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), sigma), np.float32) if sigma > 0.2 else cover


def _blend(picture: Image, cover: Image, colour: tuple[float, float, float], alpha: float) -> None:
    """Lay a colour over the picture (3, rows, columns), with opacity `alpha` where `cover` is 1."""
    for plane, tone in zip(picture, colour, strict=True):
        plane += alpha * cover * (tone - plane)
