"""Adults' eyes, with every artery-vein crossing and its nicking known, and their photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError
from fundoscope.simulate import cameras, fundus, nicking, render
from fundoscope.simulate.cameras import Exposure
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import CrossingTruth, Mask, Side, SimulatedPhotograph, Truth
from fundoscope.simulate.vessel_skeletons import TRUNKS, outside_fovea
from fundoscope.simulate.vessel_trees import TreeCrossing, TreeStyle, VesselSegment, find_crossings, grow_trees

Floats = NDArray[np.float64]

_AIMS = {
    "drive": (0.95, 0.0),
    "hrf": (0.55, 0.0),
    "iostar": (0.4, 0.0),
    "clipped": (0.6, 0.0),
}  # eye units at the middle of the field
_VEIN_RADIUS = (0.0155, 0.0215)  # eye units: mean of the venous trunks
_ARTERY_SHARE = (0.64, 0.78)  # arterial over venous width
_LATTICES = ((0.36, 2.3), (0.26, 1.3))  # spacing and radius of the points that vessels reach for, eye units
_FOVEAL_ZONE, _REACH = 0.14, 2.4  # eye units: the zone around the fovea without vessels, and the end of the retina
_DISEASED = 0.4  # share of eyes with many nicked crossings
_BLOOD = render.Blood((0.9, 0.75, 0.84), (0.82, 0.61, 0.77), (0.34, 0.14))
_BLOOD_BY_LASER = render.Blood((0.74, 0.6, 0.75), (0.5, 0.4, 0.65), (0.25, 0.1))


@dataclass(frozen=True, slots=True, eq=False)
class AdultEye:
    """One eye with all that its photographs have in common; `nicks` stand in the order of `crossings`."""

    seed: int
    side: Side
    appearance: fundus.FundusAppearance
    arteries: list[VesselSegment]
    veins: list[VesselSegment]
    crossings: list[TreeCrossing]
    nicks: list[nicking.Nick]


def grow_eye(seed: int, side: Side = "right", grade: int | None = None, laser: bool = False) -> AdultEye:
    """An eye; `grade` (0 to 3) nicks every crossing that has room for it alike, `laser` gives a laser's false colours."""
    shape_rng, colour_rng, nick_rng = (np.random.default_rng([seed, k]) for k in (21, 22, 23))
    appearance = fundus.draw_laser_appearance(colour_rng) if laser else fundus.draw_adult_appearance(colour_rng)
    vein_radius = shape_rng.uniform(*_VEIN_RADIUS)
    tortuosity = tuple(float(x) for x in shape_rng.uniform(0.3, 1.0, TRUNKS))
    artery_radius = vein_radius * shape_rng.uniform(*_ARTERY_SHARE)
    artery, vein = (
        TreeStyle(vessel_type, float(radius), (1.0,) * TRUNKS, tortuosity)
        for vessel_type, radius in (("artery", artery_radius), ("vein", vein_radius))
    )
    arteries, veins = grow_trees((artery, vein), _LATTICES, _may_have_vessels, shape_rng)
    crossings = find_crossings(arteries, veins)
    shares = nicking.GRADE_SHARES[int(nick_rng.random() < _DISEASED)] if grade is None else tuple(np.eye(4)[grade])
    veins, nicks = nicking.nick_crossings(arteries, veins, crossings, shares, nick_rng)
    return AdultEye(seed, side, appearance, arteries, veins, crossings, nicks)


def _may_have_vessels(points: Floats) -> NDArray[np.bool_]:
    return outside_fovea(points, _FOVEAL_ZONE) & (np.hypot(points[:, 0] - 0.5, points[:, 1]) < _REACH)


def photograph_eye(eye: AdultEye, exposure: Exposure, projection: Projection) -> SimulatedPhotograph:
    """One photograph of an eye, with its truth."""
    shape = exposure.camera.shape
    retina = render.paint_ground(eye.appearance, projection, shape)
    veins, arteries = (render.draw_layer(tree, projection, shape) for tree in (eye.veins, eye.arteries))
    blood = _BLOOD_BY_LASER if exposure.camera.laser else _BLOOD
    render.lay_vessels(retina, arteries, veins, blood, _veins_above(eye, projection, shape))
    file = cameras.take_photograph(retina, cameras.draw_haze(exposure), exposure)
    field = exposure.field()
    disc, fovea = render.landmarks(eye.appearance, projection, shape)
    truth = Truth(
        eye.seed, exposure.camera.name, cameras.LEVELS[exposure.level], eye.side,
        arteries.mask & field, veins.mask & field, disc & field, fovea & field, np.zeros(shape, bool), field,
        _crossing_truths(eye, projection, field),
    )  # fmt: skip
    return SimulatedPhotograph(cameras.decode(file), truth, file)


def _veins_above(eye: AdultEye, projection: Projection, shape: tuple[int, int]) -> Mask | None:
    """Where a vein runs over its artery, (rows, columns); None where none does."""
    above = np.zeros(shape, np.uint8)
    for crossing, nick in zip(eye.crossings, eye.nicks, strict=True):
        if not nick.artery_above:
            column, row = projection.to_pixels(np.array([crossing.at]))[0]
            reach = 2.5 * nick.vein_radius * projection.scale / max(nick.sine, 0.3)
            cv2.circle(above, (round(column), round(row)), max(2, round(reach)), 1, -1)
    return above.astype(bool) if above.any() else None


def _crossing_truths(eye: AdultEye, projection: Projection, field: Mask) -> tuple[CrossingTruth, ...]:
    """The crossings in the field, off the disc, with their nicking."""
    found = []
    for crossing, nick in zip(eye.crossings, eye.nicks, strict=True):
        truth = render.crossing_truth(crossing, (eye.arteries, eye.veins), eye.appearance, projection, field)
        if truth is None:
            continue
        pixels = projection.to_pixels(eye.veins[crossing.vein].points)
        nearest = int(np.hypot(pixels[:, 0] - truth.col, pixels[:, 1] - truth.row).argmin())
        reach = max(1, len(pixels) // 8)
        before, after = pixels[max(nearest - reach, 0), 1], pixels[min(nearest + reach, len(pixels) - 1), 1]
        calibre, fade = nick.losses
        truth = replace(
            truth,
            vein_width_px=2 * projection.scale * nick.vein_radius,
            narrowing_1=round(nick.narrowing[0], 4),
            narrowing_2=round(nick.narrowing[1], 4),
            grade=nick.grade,
            angle_degrees=float(np.degrees(np.arcsin(min(1.0, nick.sine)))),
            artery_above=nick.artery_above,
            side_1_up=bool(before < after),
            calibre_1=round(calibre[0], 4),
            calibre_2=round(calibre[1], 4),
            fade_1=round(fade[0], 4),
            fade_2=round(fade[1], 4),
        )
        found.append(truth)
    return tuple(found)


def adult(
    seed: int, *, camera: str | None = None, level: str | None = None, size: int | None = None, grade: int | None = None
) -> SimulatedPhotograph:
    """One photograph of one adult's eye.

    `camera` is one of `CAMERAS` (drive, hrf, iostar, clipped; drive by default), `level` one of `LEVELS`; `size` is the number of
    pixels along the longer side, `grade` (0 to 3) the nicking of every crossing that has room for it. The same call gives
    the same bytes. Raises `UsageError` for unknown names.
    """
    if grade is not None and grade not in range(4):
        raise UsageError(f"nicking has no grade {grade}. Ask for 0, 1, 2 or 3.")
    chosen_camera = cameras.camera_named(camera or "drive", infant=False)
    shot_rng = np.random.default_rng([seed, 24])
    side: Side = "left" if shot_rng.random() < 0.5 else "right"
    drawn_level = int(shot_rng.choice(len(cameras.LEVELS), p=cameras.ADULT_LEVEL_SHARES))
    chosen_level = drawn_level if level is None else cameras.level_named(level)
    cast = cameras.draw_cast(shot_rng, 0.5)
    exposure = cameras.draw_exposure(chosen_camera.resized(size), chosen_level, cast, shot_rng)
    projection = draw_projection(exposure, side, shot_rng)
    return photograph_eye(grow_eye(seed, side, grade, chosen_camera.laser), exposure, projection)


def draw_projection(exposure: Exposure, side: Side, rng: np.random.Generator) -> Projection:
    """How the retina falls on the sensor when the camera is aimed as usual for adults."""
    x, y = np.array(_AIMS[exposure.camera.name]) + rng.normal(0, 0.07, 2)
    scale = exposure.radius / rng.uniform(*exposure.camera.field_radius)
    origin = (exposure.centre[1], exposure.centre[0])
    return Projection((float(x), float(y)), origin, float(scale), float(rng.normal(0, 0.05)), side == "right")
