"""From an eye to the light that leaves it: ground, vessels and landmarks on the photograph's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import fundus, lesions, noise
from fundoscope.simulate.draw import Canvas
from fundoscope.simulate.truth import Crossing, Mask
from fundoscope.simulate.vessels import Meeting, Vessel
from fundoscope.simulate.view import View

Image = NDArray[np.float32]

_GROUND_SIDE = 640  # pixels: the ground is smooth, and is painted no finer than this

# What a full column of blood lets through, by channel; the light reflex gives some back
_BLOOD = {"artery": (0.9, 0.66, 0.68), "vein": (0.8, 0.5, 0.56)}
_REFLEX = {"artery": 0.3, "vein": 0.12}


def ground(
    look: fundus.Look, view: View, shape: tuple[int, int], edge: lesions.Border | None = None
) -> tuple[Image, float]:
    """The fundus without vessels, (rows, columns, 3), and how many photograph pixels its painting took a pixel for."""
    step = max(1.0, max(shape) / _GROUND_SIDE)
    small = (round(shape[0] / step), round(shape[1] / step))
    picture = fundus.paint(look, view, small, step)
    if edge is not None:
        lesions.paint_avascular(picture, edge, *view.grid(small, step))
    if step > 1:
        picture = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_CUBIC)
    mottle = noise.plane(shape, 2.6 * max(shape) / 640, np.random.default_rng([look.seed, 5]))
    picture *= 1 + 0.012 * mottle[..., None]
    return picture, step


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One kind of vessel drawn: `column` how much blood is looked through and `reflex` the light on its crest, both
    (rows, columns) in 0..1; `mask` where it stands."""

    kind: str
    column: Image
    reflex: Image
    mask: Mask


def layers(arteries: list[Vessel], veins: list[Vessel], view: View, shape: tuple[int, int]) -> tuple[Layer, Layer]:
    """The venous and the arterial layer."""
    return _layer("vein", veins, view, shape), _layer("artery", arteries, view, shape)


def _layer(kind: str, vessels: list[Vessel], view: View, shape: tuple[int, int]) -> Layer:
    """Three nested ribbons stand for the round blood column, a fourth for its reflex."""
    whole, core, crest = Canvas(shape), Canvas(shape), Canvas(shape)
    for vessel in vessels:
        points, radius = view.to_pixels(vessel.points), vessel.radius * view.scale
        whole.ribbon(points, radius, vessel.seen)
        if radius.max() > 1.0:
            core.ribbon(points, 0.62 * radius, vessel.seen)
            crest.ribbon(points, 0.22 * radius, vessel.seen)
    full = whole.coverage()
    return Layer(kind, 0.68 * full + 0.32 * core.coverage(), crest.coverage(), full >= 0.5)


def lay_vessels(picture: Image, arteries: Layer, veins: Layer) -> None:
    """Lay the veins and, over them, the arteries into `picture` (rows, columns, 3)."""
    bare = picture.copy()
    picture *= _through(veins)
    over = bare * _through(arteries)
    # an artery hides most of the vein beneath it, so that a crossing is only a little darker than the artery
    cover = np.clip(arteries.column * 1.4, 0, 1)[..., None]
    picture += cover * (0.82 * over + 0.18 * picture * _through(arteries) - picture)


def _through(layer: Layer) -> Image:
    blood = np.array(_BLOOD[layer.kind], np.float32)
    lit = layer.column * (1 - _REFLEX[layer.kind] * layer.reflex)
    return 1 - lit[..., None] * (1 - blood)


def landmarks(look: fundus.Look, view: View, shape: tuple[int, int]) -> tuple[Mask, Mask]:
    """Masks of the disc and of the foveal pit."""
    x, y = view.grid(shape, 1.0)
    fovea = np.hypot(x - fundus.FOVEA[0], y - fundus.FOVEA[1]) <= 0.11
    return fundus.disc_distance(look, x, y) <= 1, fovea


def crossings(
    arteries: list[Vessel], veins: list[Vessel], met: list[Meeting], look: fundus.Look, view: View, field: Mask
) -> tuple[Crossing, ...]:
    """The crossings outside the disc that lie in the field, in pixels of the photograph."""
    found = []
    for meeting in met:
        if np.hypot(meeting.at[0] / look.disc_radii[0], meeting.at[1] / look.disc_radii[1]) < 1.2:
            continue
        column, row = view.to_pixels(np.array([meeting.at]))[0]
        inside = 0 <= row < field.shape[0] and 0 <= column < field.shape[1]
        if not inside or not field[int(row), int(column)]:
            continue
        artery, vein = arteries[meeting.artery], veins[meeting.vein]
        found.append(
            Crossing(
                row=float(row),
                col=float(column),
                artery_width_px=float(2 * view.scale * artery.radius[meeting.artery_sample]),
                vein_width_px=float(2 * view.scale * np.median(vein.radius)),
                angle_degrees=float(np.degrees(np.arcsin(min(1.0, meeting.sine)))),
            )
        )
    return tuple(found)
