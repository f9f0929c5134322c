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
from fundoscope.simulate.draw import Canvas
from fundoscope.simulate.truth import Mask
from fundoscope.simulate.view import View

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
        place = (np.asarray(angle) / (2 * np.pi)) % 1 * ANGLES
        low = np.floor(place).astype(np.int64)
        share = place - low
        rho = self.rho[low % ANGLES] * (1 - share) + self.rho[(low + 1) % ANGLES] * share
        return rho.astype(np.float32)

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
    """Retina without vessels is paler and greyer; the change is soft."""
    beyond = np.hypot(x, y) - edge.at(np.arctan2(y, x))
    share = (0.24 * noise.smoothstep(-0.05, 0.3, beyond))[..., None]
    grey = picture.mean(axis=2, keepdims=True) * np.array([1.12, 1.03, 0.85], np.float32)
    picture += share * (grey * 1.05 - picture)


def paint_ridge(picture: Image, lesion: Ridge, view: View) -> Mask:
    """Draw the lesion into `picture` (rows, columns, 3); gives its mask (rows, columns)."""
    shape = picture.shape[:2]
    points, half = view.to_pixels(lesion.points), lesion.half * view.scale
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
    picture *= 1 - 0.2 * shadow[..., None] * np.array([0.8, 1.0, 1.0], np.float32)
    _blend(picture, body, _pale(lesion), 0.55)
    lit = _ribbon(shape, points - 0.3 * away, 0.4 * half, lesion.show**2)
    _blend(picture, _soft(lit, 0.35 * mean), (1.0, 0.92, 0.74), 0.4)
    return mask if lesion.stage < 3 else mask | _tufts(picture, lesion, view)


def _pale(lesion: Ridge) -> tuple[float, float, float]:
    """From creamy white to pink; a ridge with tufts is pink."""
    pink = lesion.warmth * (0.4 if lesion.stage == 1 else 1.0) if lesion.stage < 3 else 0.5 + 0.5 * lesion.warmth
    return 0.96, 0.83 - 0.22 * pink, 0.6 - 0.16 * pink


_FRONDS = 4  # new vessels in a tuft


def _tufts(picture: Image, lesion: Ridge, view: View) -> Mask:
    """Ragged fronds of new vessels, in clumps, on the posterior side of the ridge."""
    rng = np.random.default_rng(lesion.seed)
    shape = picture.shape[:2]
    flesh, fronds = Canvas((shape[0], shape[1])), Canvas((shape[0], shape[1]))
    dense = noise.line(len(lesion.points), 50, rng)  # clumps and gaps
    for k in range(3, len(lesion.points) - 3, 2):
        size = lesion.half[k] * rng.uniform(0.5, 1.1) * np.clip(0.8 + 0.6 * dense[k], 0, 1.5)
        inward = -lesion.points[k] / np.hypot(*lesion.points[k])
        start = lesion.points[k] + inward * lesion.half[k] * rng.uniform(0.2, 0.9)
        sideways = np.array([-inward[1], inward[0]])
        lengths, slants, bends = (rng.uniform(low, 1, _FRONDS) for low in (0.3, -1, -1))
        if dense[k] < -0.6:
            continue
        flesh.ribbon(
            view.to_pixels(start + np.outer([-0.4, 0, 0.7], inward) * size),
            np.full(3, 0.6 * size * view.scale),
            np.ones(3),
        )
        for length, slant, curl in zip(lengths, slants, bends, strict=True):
            t = np.linspace(0, 1, 6)[:, None]
            path = start + size * (2.0 * length * t * inward + (0.9 * slant * t + 0.9 * curl * t * t) * sideways)
            fronds.ribbon(view.to_pixels(path), 0.11 * size * view.scale * (1.4 - t[:, 0]), 1 - 0.5 * t[:, 0])
    spread, mean = flesh.coverage(), float(lesion.half.mean()) * view.scale
    _blend(picture, _soft(spread, 0.3 * mean), (0.85, 0.42, 0.33), 0.42)
    _blend(picture, _soft(fronds.coverage(), 0.08 * mean), (0.66, 0.18, 0.14), 0.5)
    return spread >= 0.5


def _ribbon(shape: tuple[int, ...], points: Floats, half: Floats, value: Floats) -> Image:
    canvas = Canvas((shape[0], shape[1]))
    canvas.ribbon(points, half, np.clip(value, 0, 1))
    return canvas.coverage()


def _soft(cover: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), sigma), np.float32) if sigma > 0.2 else cover


def _blend(picture: Image, cover: Image, colour: tuple[float, float, float], alpha: float) -> None:
    """Lay a colour over the picture, at most `alpha` opaque."""
    picture += (alpha * cover)[..., None] * (np.array(colour, np.float32) - picture)
