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
    wobble = 0.035 * noise.ring(ANGLES, 6, rng)
    shape = 1 + spread * (1 - np.cos(angle - tilt)) / 2 + wobble - wobble[0]
    if nearest is None:
        return Border(ora() - 0.02)
    return Border(np.minimum(shape / shape.min() * nearest, ora() - 0.02))


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """The lesion on the border: `points` (n, 2) eye coordinates, `stage` 1 to 3, `half` half width (n,), `light`
    the direction (radians) the light comes from, `warmth` 0 (white) to 1 (pink), `seed` of its tufts."""

    points: Floats
    half: Floats
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
    waist = noise.line(400, 40, rng)
    light, warmth, seed = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1), int(rng.integers(2**31))
    if stage == 0:
        return None
    near = int(np.argmin(edge.rho)) * 2 * np.pi / ANGLES  # the lesion includes the most posterior point
    middle = near + 0.3 * middle
    angle = middle + np.linspace(-0.5, 0.5, 400) * hours * np.pi / 6
    rho = edge.at(angle).astype(float)
    points = np.column_stack([rho * np.cos(angle), rho * np.sin(angle)])
    ends = noise.smoothstep(0, 0.08, 0.5 - np.abs(np.linspace(-0.5, 0.5, 400)))
    half = width * (1 + 0.25 * waist) * (0.35 + 0.65 * ends)
    inside = rho < np.interp(angle % (2 * np.pi), np.arange(ANGLES) * 2 * np.pi / ANGLES, ora()) - 0.05
    first, last = np.flatnonzero(inside)[[0, -1]]
    keep = slice(first, last + 1)
    return Ridge(points[keep], np.maximum(half[keep], 0.3 * width), stage, light, warmth, seed)


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
    body = _ribbon(shape, points, half)
    if not body.any():
        return body > 0.5
    if lesion.stage == 1:
        _blend(picture, _soft(body, 0.3 * half.mean()), _crest(lesion), 0.42)
        return body >= 0.5
    away = np.array([np.cos(lesion.light), np.sin(lesion.light)]) * half.mean()
    shadow = _soft(_ribbon(shape, points + 1.1 * away, half), 0.55 * half.mean())
    picture *= 1 - 0.2 * shadow[..., None] * np.array([0.8, 1.0, 1.0], np.float32)
    _blend(picture, _soft(body, 0.35 * half.mean()), _body(lesion), 0.5)
    lit = _ribbon(shape, points - 0.3 * away, 0.35 * half)
    _blend(picture, _soft(lit, 0.25 * half.mean()), (1.0, 0.93, 0.78), 0.5)
    if lesion.stage < 3:
        return body >= 0.5
    return (body >= 0.5) | _tufts(picture, lesion, view)


def _crest(lesion: Ridge) -> tuple[float, float, float]:
    return 0.97, 0.86 - 0.05 * lesion.warmth, 0.66 - 0.05 * lesion.warmth


def _body(lesion: Ridge) -> tuple[float, float, float]:
    red = lesion.warmth if lesion.stage == 2 else 0.5 + 0.5 * lesion.warmth
    return 0.95, 0.82 - 0.24 * red, 0.64 - 0.2 * red


def _tufts(picture: Image, lesion: Ridge, view: View) -> Mask:
    """Ragged fronds of new vessels on the posterior side of the ridge."""
    rng = np.random.default_rng(lesion.seed)
    fronds, cores = Canvas(picture.shape[:2]), Canvas(picture.shape[:2])
    count = max(12, len(lesion.points) // 5)
    for k in np.sort(rng.integers(4, len(lesion.points) - 4, count)):
        size = rng.uniform(0.35, 1.0) * lesion.half[k]
        inward = -lesion.points[k] / np.hypot(*lesion.points[k])
        at = lesion.points[k] + inward * lesion.half[k] * rng.uniform(0.4, 1.5) + rng.normal(0, 0.01, 2)
        pixel = view.to_pixels(at[None])[0]
        if not (-200 < pixel[0] < picture.shape[1] + 200 and -200 < pixel[1] < picture.shape[0] + 200):
            continue
        fronds.cap(pixel, size * view.scale, 1.0)
        for _ in range(3):
            frond = at + inward * np.linspace(0, 1, 6)[:, None] * size * rng.uniform(0.8, 1.9)
            frond = frond + np.cumsum(rng.normal(0, 0.12 * size, frond.shape), axis=0)
            cores.ribbon(view.to_pixels(frond), np.full(6, 0.16 * size * view.scale), np.ones(6))
    spread = fronds.coverage()
    blur = 0.3 * float(lesion.half.mean()) * view.scale
    _blend(picture, _soft(spread, blur), (0.86, 0.46, 0.36), 0.38)
    _blend(picture, _soft(cores.coverage(), 0.25 * blur), (0.68, 0.2, 0.16), 0.55)
    return spread >= 0.5


def _ribbon(shape: tuple[int, ...], points: Floats, half: Floats) -> Image:
    canvas = Canvas((shape[0], shape[1]))
    canvas.ribbon(points, half, np.ones(len(points)))
    return canvas.coverage()


def _soft(cover: Image, sigma: float) -> Image:
    return cv2.GaussianBlur(cover, (0, 0), sigma) if sigma > 0.2 else cover


def _blend(picture: Image, cover: Image, colour: tuple[float, float, float], alpha: float) -> None:
    """Lay a colour over the picture, at most `alpha` opaque; as bright as the picture around it asks for."""
    picture += (alpha * cover)[..., None] * (np.array(colour, np.float32) - picture)
