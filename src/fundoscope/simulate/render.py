"""From an eye to the light that leaves it: ground, vessels and landmarks on the photograph's own grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import fundus, lesions, noise
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.ribbons import Canvas, Ribbons
from fundoscope.simulate.truth import CrossingTruth, Mask
from fundoscope.simulate.vessel_trees import TreeCrossing, VesselSegment

Image = NDArray[np.float32]

# A thinner vessel holds less blood to look through, while the light scattered in front of it stays the same
_FULL_DEPTH = 0.016  # eye units: radius from which on a vessel has its full depth of colour
_FADING, _PALEST = 0.35, 0.4
_CORE, _CREST = 0.62, 0.22  # shares of the width of the column's darker core and of the reflex on its crest
_GROUND_SIDE = 640  # pixels: the ground is smooth, and is painted no finer than this
_SHINE = 0.18  # how much of the vein beneath is visible through an artery
_OFF_DISC = 1.2  # disc radii: nearer to the disc, trunks lie on each other and no crossing can be recognised
_FOVEAL_PIT = 0.11  # eye units


@dataclass(frozen=True, slots=True)
class Blood:
    """The share of light that a full column of blood lets through, by channel, in an `artery` and a `vein`; `reflex` is
    the share of the lost light that the reflex on the crest gives back, in each.
    """

    artery: tuple[float, float, float]
    vein: tuple[float, float, float]
    reflex: tuple[float, float]


def paint_ground(
    appearance: fundus.FundusAppearance,
    projection: Projection,
    shape: tuple[int, int],
    border: lesions.Border | None = None,
) -> Image:
    """The fundus without vessels, (3, rows, columns) in 0..1; beyond `border` the retina is avascular."""
    step = max(1.0, max(shape) / _GROUND_SIDE)
    small = (round(shape[0] / step), round(shape[1] / step))
    picture = fundus.paint(appearance, projection, small, step)
    if border is not None:
        lesions.paint_avascular(picture, border, *projection.grid(small, step))
    if step > 1:
        picture = np.stack([cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_CUBIC) for plane in picture])
    mottle = noise.plane(shape, 2.6 * max(shape) / 640, np.random.default_rng([appearance.seed, 5]))
    picture *= 1 + 0.012 * mottle
    return picture


@dataclass(frozen=True, slots=True, eq=False)
class VesselLayer:
    """All arteries, or all veins, drawn: `column` the depth of blood and `reflex` the light on its crest, both (rows,
    columns) in 0..1, and their `mask` (rows, columns).
    """

    column: Image
    reflex: Image
    mask: Mask


def draw_layer(vessels: list[VesselSegment], projection: Projection, shape: tuple[int, int]) -> VesselLayer:
    """Draw all arteries, or all veins: nested ribbons stand for the round column of blood, and one more for its reflex."""
    outline, whole, core, crest = (Canvas(shape) for _ in range(4))
    if vessels:
        points = np.concatenate([vessel.points for vessel in vessels])
        radius = np.concatenate([vessel.radius for vessel in vessels])
        visible = np.concatenate([vessel.visible for vessel in vessels])
        counts = np.array([len(vessel.points) for vessel in vessels])
        ribbons = Ribbons.of(projection.to_pixels(points), radius * projection.scale, visible, counts)
        outline.paint(ribbons)
        depth = np.clip((ribbons.radius / (_FULL_DEPTH * projection.scale)) ** _FADING, _PALEST, 1)
        ribbons = replace(ribbons, value=ribbons.value * depth)
        whole.paint(ribbons)
        core.paint(ribbons, _CORE, min_radius=1.0)
        crest.paint(ribbons, _CREST, min_radius=1.0)
    column = 0.68 * whole.coverage() + 0.32 * core.coverage()
    return VesselLayer(column, crest.coverage(), outline.coverage() >= 0.5)


def lay_vessels(
    picture: Image, arteries: VesselLayer, veins: VesselLayer, blood: Blood, veins_above: Mask | None = None
) -> None:
    """Lay the veins and, over them, the arteries into `picture` (3, rows, columns); inside `veins_above` the reverse."""
    artery_depth = arteries.column * (1 - blood.reflex[0] * arteries.reflex)
    vein_depth = veins.column * (1 - blood.reflex[1] * veins.reflex)
    # the upper vessel hides most of the lower one, so that a crossing is only a little darker than the upper one
    artery_hides, vein_hides = (np.clip(1.4 * layer.column, 0, 1) * (1 - _SHINE) for layer in (arteries, veins))
    for channel in range(3):
        artery = 1 - artery_depth * (1 - blood.artery[channel])
        vein = 1 - vein_depth * (1 - blood.vein[channel])
        light = artery * (vein + artery_hides * (1 - vein))
        if veins_above is not None:
            light = np.where(veins_above, vein * (artery + vein_hides * (1 - artery)), light)
        picture[channel] *= light


def landmarks(appearance: fundus.FundusAppearance, projection: Projection, shape: tuple[int, int]) -> tuple[Mask, Mask]:
    """Masks (rows, columns) of the disc and of the foveal pit."""
    x, y = projection.grid(shape, 1.0)
    fovea = (x - fundus.FOVEA[0]) ** 2 + (y - fundus.FOVEA[1]) ** 2 <= _FOVEAL_PIT**2
    return fundus.disc_distance(appearance, x, y) <= 1, fovea


def crossing_truth(
    crossing: TreeCrossing,
    trees: tuple[list[VesselSegment], list[VesselSegment]],
    appearance: fundus.FundusAppearance,
    projection: Projection,
    field: Mask,
) -> CrossingTruth | None:
    """A crossing of the `trees` (arteries, veins) in pixels of the photograph; None on the disc or outside the field."""
    if np.hypot(crossing.at[0] / appearance.disc_radii[0], crossing.at[1] / appearance.disc_radii[1]) < _OFF_DISC:
        return None
    column, row = projection.to_pixels(np.array([crossing.at]))[0]
    if not (0 <= row < field.shape[0] and 0 <= column < field.shape[1] and field[int(row), int(column)]):
        return None
    artery, vein = trees[0][crossing.artery], trees[1][crossing.vein]
    return CrossingTruth(
        row=float(row),
        col=float(column),
        artery_width_px=float(2 * projection.scale * artery.radius[crossing.artery_sample]),
        vein_width_px=float(2 * projection.scale * np.median(vein.radius)),
        angle_degrees=float(np.degrees(np.arcsin(min(1.0, crossing.sine)))),
    )
