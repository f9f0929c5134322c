"""From an eye to the light that leaves it: ground, vessels and landmarks on the photograph's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import fundus, lesions, noise
from fundoscope.simulate.draw import Canvas, strokes_of
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import CrossingTruth, Mask
from fundoscope.simulate.vessels import TreeCrossing, VesselSegment

Image = NDArray[np.float32]

# A thinner vessel holds less blood to look through, and what light scatters back from before it is the same
_DEEP = 0.016  # eye units: radius from which a vessel is seen at full depth
_FADING, _PALEST = 0.35, 0.4
_GROUND_SIDE = 640  # pixels: the ground is smooth, and is painted no finer than this


@dataclass(frozen=True, slots=True)
class Blood:
    """What a full column of blood lets through, by channel, in an `artery` and a `vein`; `reflex`: how much of what
    it takes the light reflex on its crest gives back, in each.
    """

    artery: tuple[float, float, float]
    vein: tuple[float, float, float]
    reflex: tuple[float, float]


def ground(
    look: fundus.Look, projection: Projection, shape: tuple[int, int], edge: lesions.Border | None = None
) -> Image:
    """The fundus without vessels, (3, rows, columns)."""
    step = max(1.0, max(shape) / _GROUND_SIDE)
    small = (round(shape[0] / step), round(shape[1] / step))
    picture = fundus.paint(look, projection, small, step)
    if edge is not None:
        lesions.paint_avascular(picture, edge, *projection.grid(small, step))
    if step > 1:
        picture = np.stack([cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_CUBIC) for plane in picture])
    mottle = noise.plane(shape, 2.6 * max(shape) / 640, np.random.default_rng([look.seed, 5]))
    picture *= 1 + 0.012 * mottle
    return picture


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One kind of vessel drawn: `column` how much blood is looked through and `reflex` the light on its crest, both
    (rows, columns) in 0..1; `mask` where it stands.
    """

    kind: str
    column: Image
    reflex: Image
    mask: Mask


def layers(
    arteries: list[VesselSegment], veins: list[VesselSegment], projection: Projection, shape: tuple[int, int]
) -> tuple[Layer, Layer]:
    """The venous and the arterial layer."""
    return _layer("vein", veins, projection, shape), _layer("artery", arteries, projection, shape)


def _layer(kind: str, vessels: list[VesselSegment], projection: Projection, shape: tuple[int, int]) -> Layer:
    """Nested ribbons stand for the round blood column, another for its reflex; the outline knows nothing of depth."""
    outline, whole, core, crest = (Canvas(shape) for _ in range(4))
    if vessels:
        points, radius, seen = (
            np.concatenate(part) for part in zip(*((v.points, v.radius, v.seen) for v in vessels), strict=True)
        )
        counts = np.array([len(vessel.points) for vessel in vessels])
        strokes = strokes_of(projection.to_pixels(points), radius * projection.scale, seen, counts)
        outline.strokes(strokes)
        depth = np.clip((strokes.radius / (_DEEP * projection.scale)) ** _FADING, _PALEST, 1)
        strokes = replace(strokes, value=strokes.value * depth)
        whole.strokes(strokes)
        core.strokes(strokes, 0.62, least=1.0)
        crest.strokes(strokes, 0.22, least=1.0)
    column = 0.68 * whole.coverage() + 0.32 * core.coverage()
    return Layer(kind, column, crest.coverage(), outline.coverage() >= 0.5)


_SHINE = 0.18  # how much of the vein beneath is seen through an artery


def lay_vessels(picture: Image, arteries: Layer, veins: Layer, blood: Blood, veins_above: Mask | None = None) -> None:
    """Lay the veins and, over them, the arteries into `picture` (3, rows, columns); where `veins_above`, the reverse."""
    thick = (
        arteries.column * (1 - blood.reflex[0] * arteries.reflex),
        veins.column * (1 - blood.reflex[1] * veins.reflex),
    )
    # the upper vessel hides most of the lower, so that a crossing is only a little darker than the upper one
    upper = np.clip(1.4 * arteries.column, 0, 1) * (1 - _SHINE)
    if veins_above is not None:
        upper_vein = np.clip(1.4 * veins.column, 0, 1) * (1 - _SHINE)
    for channel in range(3):
        artery = 1 - thick[0] * (1 - blood.artery[channel])
        vein = 1 - thick[1] * (1 - blood.vein[channel])
        through = artery * (vein + upper * (1 - vein))
        if veins_above is not None:
            through = np.where(veins_above, vein * (artery + upper_vein * (1 - artery)), through)
        picture[channel] *= through


_OFF_DISC = 1.2  # disc radii: nearer, trunks lie on each other and no crossing can be told


def landmarks(look: fundus.Look, projection: Projection, shape: tuple[int, int]) -> tuple[Mask, Mask]:
    """Masks of the disc and of the foveal pit."""
    x, y = projection.grid(shape, 1.0)
    fovea = (x - fundus.FOVEA[0]) ** 2 + (y - fundus.FOVEA[1]) ** 2 <= 0.11**2
    return fundus.disc_distance(look, x, y) <= 1, fovea


def crossing(
    arteries: list[VesselSegment],
    veins: list[VesselSegment],
    meeting: TreeCrossing,
    look: fundus.Look,
    projection: Projection,
    field: Mask,
) -> CrossingTruth | None:
    """A crossing in pixels of the photograph; None where it lies on the disc or outside the field."""
    if np.hypot(meeting.at[0] / look.disc_radii[0], meeting.at[1] / look.disc_radii[1]) < _OFF_DISC:
        return None
    column, row = projection.to_pixels(np.array([meeting.at]))[0]
    if not (0 <= row < field.shape[0] and 0 <= column < field.shape[1] and field[int(row), int(column)]):
        return None
    artery, vein = arteries[meeting.artery], veins[meeting.vein]
    return CrossingTruth(
        row=float(row),
        col=float(column),
        artery_width_px=float(2 * projection.scale * artery.radius[meeting.artery_sample]),
        vein_width_px=float(2 * projection.scale * np.median(vein.radius)),
        angle_degrees=float(np.degrees(np.arcsin(min(1.0, meeting.sine)))),
    )
