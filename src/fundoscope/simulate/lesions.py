"""Retinopathy of prematurity: how far the retina has vessels, and what grows on that border.

Stages after the International Classification (ICROP 2021): 1 a flat pale demarcation line, 2 a ridge with width and
height, 3 a ridge with extraretinal tufts on its posterior side.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import noise
from fundoscope.simulate.draw import Canvas, strokes_of
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import Mask

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

ANGLES = 720  # samples of the border around the disc
ORA_CENTRE = (0.7, 0.0)  # the ora serrata as a circle in eye units, so that nasally it lies 2.8 from the disc:
ORA_RADIUS = 3.5  # an infant's disc-fovea distance is about 4.5 mm, disc to nasal ora about 12.5 mm
ZONE_1 = 2.0  # twice the disc-fovea distance
ZONE_2 = ORA_RADIUS - ORA_CENTRE[0]  # disc to nasal ora


def zone_of(distance: float) -> int:
    """Zone of a lesion whose most posterior point lies `distance` eye units from the disc (ICROP 2021)."""
    return 1 if distance < ZONE_1 else 2 if distance < ZONE_2 else 3


@dataclass(frozen=True, slots=True, eq=False)
class Border:
    """Where the vessels end: `rho` (ANGLES,) eye units from the disc at angles from the temporal side upwards."""

    rho: Floats

    def at(self, angle: NDArray[np.floating]) -> NDArray[np.float32]:
        """Its distance from the disc at any angle, radians."""
        place = np.asarray(angle) * (ANGLES / (2 * np.pi))
        low = np.floor(place).astype(np.int64)
        rho, share = self.rho.astype(np.float32), (place - low).astype(np.float32)
        here = rho.take(low, mode="wrap")
        return here + share * (rho.take(low + 1, mode="wrap") - here)

    def inside(self, points: Floats, margin: float = 0.0) -> NDArray[np.bool_]:
        """Which of `points`, (n, 2) eye coordinates, lie on the vascularised side."""
        return np.hypot(*points.T) < self.at(np.arctan2(points[:, 1], points[:, 0])) - margin


def ora() -> Floats:
    """Distance of the ora serrata from the disc, (ANGLES,)."""
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    along = ORA_CENTRE[0] * np.cos(angle)
    return along + np.sqrt(along**2 + ORA_RADIUS**2 - ORA_CENTRE[0] ** 2)


def border(nearest: float | None, rng: np.random.Generator) -> Border:
    """A border whose most posterior point lies `nearest` from the disc; None: the whole retina has vessels."""
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    tilt, spread = rng.uniform(-0.5, 0.5), rng.uniform(0.04, 0.2)
    wobble = 0.035 * noise.ring(ANGLES, 6, rng) + 0.012 * noise.ring(ANGLES, 40, rng)
    shape = 1 + spread * (1 - np.cos(angle - tilt)) / 2 + wobble - wobble[0]
    if nearest is None:
        return Border(ora() - 0.02)
    return Border(np.minimum(shape / shape.min() * nearest, ora() - 0.02))


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """The lesion on the border: `points` (n, 2) eye coordinates, `stage` 1 to 3, `half` half width (n,), `show`
    how strongly it stands out (n,), `light` the direction (radians) the light comes from, `warmth` 0 (white) to 1 (pink), `seed` of its tufts.
    """

    points: Floats
    half: Floats
    show: Floats
    stage: int
    light: float
    warmth: float
    seed: int


_HALF_WIDTH = {1: (0.008, 0.014), 2: (0.022, 0.04), 3: (0.035, 0.06)}  # eye units: 1 unit is about 4.5 mm


def ridge(edge: Border, stage: int, rng: np.random.Generator) -> Ridge | None:
    """A lesion of `stage` along the temporal part of the border, over 3 to 9 clock hours; None for stage 0."""
    low, high = _HALF_WIDTH[max(stage, 1)]
    middle, hours = rng.normal(0, 0.35), rng.uniform(3, 6) + stage
    width = rng.uniform(low, high)
    waist, show = noise.line(400, 30, rng) + 0.5 * noise.line(400, 9, rng), noise.line(400, 60, rng)
    strength = rng.uniform(0.45, 1.0)
    light, warmth, seed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1), int(rng.integers(2**31))
    if stage == 0:
        return None
    free = np.where(edge.rho < ora() - 0.05, edge.rho, np.inf)  # elsewhere the vessels reach the ora
    near = int(np.argmin(free)) * 2 * np.pi / ANGLES  # the lesion includes the most posterior point
    middle = near + 0.3 * middle
    angle = middle + np.linspace(-0.5, 0.5, 400) * hours * np.pi / 6
    rho = edge.at(angle).astype(float)
    points = np.column_stack([rho * np.cos(angle), rho * np.sin(angle)])
    ends = noise.smoothstep(0, 0.08, 0.5 - np.abs(np.linspace(-0.5, 0.5, 400)))
    half = width * (1 + 0.28 * waist) * (0.35 + 0.65 * ends)
    inside = rho < np.interp(angle % (2 * np.pi), np.arange(ANGLES) * 2 * np.pi / ANGLES, ora()) - 0.05
    first, last = np.flatnonzero(inside)[[0, -1]]
    keep = slice(first, last + 1)
    shown = np.clip(strength * (1 + 0.25 * show), 0.3, 1) * (0.3 + 0.7 * ends)
    return Ridge(points[keep], np.maximum(half[keep], 0.3 * width), shown[keep], stage, light, warmth, seed)


def paint_avascular(picture: Image, edge: Border, x: Image, y: Image) -> None:
    """Retina without vessels is paler and greyer; the change is soft. `picture` is (3, rows, columns)."""
    beyond = np.sqrt(x * x + y * y) - edge.at(np.arctan2(y, x))
    share = 0.24 * noise.smoothstep(-0.05, 0.3, beyond)
    grey = 1.05 * picture.mean(axis=0)
    for plane, tone in zip(picture, (1.12, 1.03, 0.85), strict=True):
        plane += share * (tone * grey - plane)


def paint_ridge(picture: Image, lesion: Ridge, projection: Projection) -> Mask:
    """Draw the lesion into `picture` (3, rows, columns); gives its mask (rows, columns)."""
    shape = picture.shape[1:]
    points, half = projection.to_pixels(lesion.points), lesion.half * projection.scale
    mean = float(half.mean())
    mask = _ribbon(shape, points, half, np.ones(len(half))) >= 0.5
    if not mask.any():
        return mask
    body = _soft(_ribbon(shape, points, half, lesion.show), 0.4 * mean)
    if lesion.stage == 1:
        _blend(picture, body, _pale(lesion), 0.45)
        return mask
    away = np.array([np.cos(lesion.light), np.sin(lesion.light)]) * mean
    shadow = _soft(_ribbon(shape, points + 1.2 * away, half, lesion.show), 0.7 * mean)
    picture *= 1 - shadow * np.array([0.16, 0.2, 0.2], np.float32)[:, None, None]
    _blend(picture, body, _pale(lesion), 0.55)
    lit = _ribbon(shape, points - 0.3 * away, 0.4 * half, lesion.show**2)
    _blend(picture, _soft(lit, 0.35 * mean), (1.0, 0.92, 0.74), 0.4)
    return mask if lesion.stage < 3 else mask | _tufts(picture, lesion, projection)


def _pale(lesion: Ridge) -> tuple[float, float, float]:
    """From creamy white to pink; a ridge with tufts is pink."""
    pink = lesion.warmth * (0.4 if lesion.stage == 1 else 1.0) if lesion.stage < 3 else 0.5 + 0.5 * lesion.warmth
    return 0.96, 0.83 - 0.22 * pink, 0.6 - 0.16 * pink


_FRONDS = 4  # new vessels in a tuft


def _tufts(picture: Image, lesion: Ridge, projection: Projection) -> Mask:
    """Ragged fronds of new vessels, in clumps, on the posterior side of the ridge."""
    rng = np.random.default_rng(lesion.seed)
    dense = noise.line(len(lesion.points), 50, rng)  # clumps and gaps
    at = np.arange(3, len(lesion.points) - 3, 2)
    at = at[dense[at] >= -0.6]
    points, half = lesion.points[at], lesion.half[at]
    inward = -points / np.hypot(*points.T)[:, None]
    size = (half * rng.uniform(0.5, 1.1, len(at)) * np.clip(0.8 + 0.6 * dense[at], 0, 1.5))[:, None]
    start = points + inward * (half * rng.uniform(0.2, 0.9, len(at)))[:, None]
    shape, mean = picture.shape[1:], float(lesion.half.mean()) * projection.scale
    flesh = start[:, None] + np.array([-0.4, 0, 0.7])[:, None] * (size * inward)[:, None]
    spread = _ribbons(shape, flesh, 0.6 * size, np.ones(3), projection)
    _blend(picture, _soft(spread, 0.3 * mean), (0.85, 0.42, 0.33), 0.42)
    paths, t = _fronds(start, size, inward, rng), np.linspace(0, 1, 6)
    fronds = _ribbons(shape, paths, 0.11 * np.repeat(size, _FRONDS, axis=0) * (1.4 - t), 1 - 0.5 * t, projection)
    _blend(picture, _soft(fronds, 0.08 * mean), (0.66, 0.18, 0.14), 0.5)
    return spread >= 0.5


def _fronds(start: Floats, size: Floats, inward: Floats, rng: np.random.Generator) -> Floats:
    """Curved paths (fronds, 6, 2), `_FRONDS` of them from each of `start` (n, 2), `size` (n, 1) long, `inward` (n, 2)."""
    length, slant, curl = (rng.uniform(low, 1, (len(start), _FRONDS, 1)) for low in (0.3, -1, -1))
    t = np.linspace(0, 1, 6)
    along, aside = 2.0 * length * t, 0.9 * (slant * t + curl * t * t)
    sideways = np.column_stack([-inward[:, 1], inward[:, 0]])
    run = along[..., None] * inward[:, None, None] + aside[..., None] * sideways[:, None, None]
    return (start[:, None, None] + size[:, None, None] * run).reshape(-1, 6, 2)


def _ribbons(shape: tuple[int, ...], points: Floats, half: Floats, value: Floats, projection: Projection) -> Image:
    """Coverage by ribbons of as many samples each: `points` (ribbons, samples, 2), the rest broadcast to (ribbons,
    samples).
    """
    canvas, size = Canvas((shape[0], shape[1])), points.shape[:2]
    if len(points):
        half, value = (np.broadcast_to(part, size).ravel() for part in (half * projection.scale, value))
        pixels = projection.to_pixels(points.reshape(-1, 2))
        canvas.strokes(strokes_of(pixels, half, value, np.full(size[0], size[1])))
    return canvas.coverage()


def _ribbon(shape: tuple[int, ...], points: Floats, half: Floats, value: Floats) -> Image:
    canvas = Canvas((shape[0], shape[1]))
    canvas.ribbon(points, half, np.clip(value, 0, 1))
    return canvas.coverage()


def _soft(cover: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), sigma), np.float32) if sigma > 0.2 else cover


def _blend(picture: Image, cover: Image, colour: tuple[float, float, float], alpha: float) -> None:
    """Lay a colour over the picture, at most `alpha` opaque."""
    for plane, tone in zip(picture, colour, strict=True):
        plane += alpha * cover * (tone - plane)
