"""Infants' eyes, with and without retinopathy of prematurity, and their photographs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.simulate import cameras, fundus, lesions, render
from fundoscope.simulate.cameras import Camera, Exposure
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import Findings, Mask, Plus, Side, SimulatedPhotograph, Truth
from fundoscope.simulate.vessel_skeletons import VesselType, outside_fovea
from fundoscope.simulate.vessel_trees import TreeCrossing, TreeStyle, VesselSegment, find_crossings, grow_trees

Floats = NDArray[np.float64]
Disease = Literal["normal", "rop", "treatment-requiring"]

DISEASES: tuple[Disease, ...] = ("normal", "rop", "treatment-requiring")

#: Where the camera is aimed: the mean point at the middle of the field, eye units.
AIMS = {
    "posterior": (0.9, 0.0),
    "temporal": (1.7, 0.0),
    "nasal": (-0.9, 0.0),
    "superior": (0.7, 1.2),
    "inferior": (0.7, -1.2),
}
AIM_SHARES = (0.42, 0.28, 0.08, 0.11, 0.11)

_BORDER_DISTANCE = {1: (1.35, 1.92), 2: (2.06, 2.7), 3: (2.86, 3.25)}  # eye units from the disc, by zone
_VEIN_RADIUS = 0.0135  # eye units: mean of the venous trunks, about 60 micrometres
_ARTERY_SHARE = 0.7  # arterial over venous width
_LATTICES = ((0.58, 4.5), (0.38, 1.35))  # spacing and radius of the points that vessels reach for, eye units
_BLOOD = render.Blood((0.95, 0.71, 0.72), (0.87, 0.56, 0.6), (0.3, 0.12))
_UNGRADABLE = len(cameras.LEVELS) - 1
_HIDDEN = 0.72  # share of haze from which on a lesion cannot be made out
_POLE_HIDDEN = 0.7  # and the vessels of the posterior pole


@dataclass(frozen=True, slots=True, eq=False)
class InfantEye:
    """One eye with all that its photographs have in common."""

    seed: int
    side: Side
    findings: Findings
    appearance: fundus.FundusAppearance
    border: lesions.Border
    ridge: lesions.Ridge | None
    arteries: list[VesselSegment]
    veins: list[VesselSegment]
    crossings: list[TreeCrossing]


def draw_findings(disease: Disease, rng: np.random.Generator) -> Findings:
    """Random findings of a disease; raises `UsageError` for an unknown one."""
    if disease not in DISEASES:
        raise UsageError(f"no disease is called '{disease}': {nearest(disease, DISEASES)}")
    if disease == "normal":
        return Findings()
    while True:
        stage, zone = int(rng.choice([1, 2, 3], p=[0.25, 0.4, 0.35])), int(rng.choice([1, 2, 3], p=[0.2, 0.6, 0.2]))
        plus_shares = [0.75, 0.2, 0.05] if stage < 2 else [0.4, 0.25, 0.35]
        plus: Plus = ("none", "pre-plus", "plus")[int(rng.choice(3, p=plus_shares))]
        findings = Findings(stage, zone, plus)
        fits = findings.treatment_requiring == (disease == "treatment-requiring")
        if fits and not (zone == 3 and plus == "plus"):
            return findings


def grow_eye(seed: int, findings: Findings, side: Side = "right", appearance_seed: int | None = None) -> InfantEye:
    """An eye with the given disease.

    Everything else depends on `seed`; colours and textures on `appearance_seed` instead, where it is given.
    """
    shape_rng, disease_rng = (np.random.default_rng([seed, k]) for k in (1, 3))
    colour_rng = np.random.default_rng([seed if appearance_seed is None else appearance_seed, 2])
    appearance = fundus.draw_infant_appearance(colour_rng)
    border = draw_border(findings, disease_rng)
    ridge = lesions.draw_ridge(border, findings.stage, disease_rng)
    styles = _draw_styles(findings.plus, disease_rng)
    region = partial(_may_have_vessels, border=border)
    arteries, veins = grow_trees(styles, _LATTICES, region, shape_rng)
    return InfantEye(seed, side, findings, appearance, border, ridge, arteries, veins, find_crossings(arteries, veins))


def draw_border(findings: Findings, rng: np.random.Generator) -> lesions.Border:
    """The border of the vascularised retina: in the zone of the disease; without disease the retina is mature, or
    immature in zone III or outer zone II.
    """
    immature = rng.random() < 0.5
    distance = rng.uniform(*_BORDER_DISTANCE[findings.zone]) if findings.zone else rng.uniform(2.4, 3.2)
    return lesions.draw_border(float(distance) if findings.zone or immature else None, rng)


def _draw_styles(plus: Plus, rng: np.random.Generator) -> tuple[TreeStyle, TreeStyle]:
    """Calibre and tortuosity of arteries and of veins, by quadrant: plus affects two to four, pre-plus is milder."""
    affected = rng.permutation(4)[: rng.integers(2, 5)]
    severity = {"none": 0.0, "pre-plus": rng.uniform(0.3, 0.5), "plus": rng.uniform(0.85, 1.3)}[plus]
    amount = np.zeros(4)
    amount[affected] = severity * rng.uniform(0.85, 1.15, len(affected))
    normal = rng.uniform(0.4, 1.0, 4)

    def style(vessel_type: VesselType, radius: float, dilated: float, tortuous: float) -> TreeStyle:
        dilation, tortuosity = 1 + dilated * amount, normal + tortuous * amount
        return TreeStyle(vessel_type, radius, tuple(dilation.tolist()), tuple(tortuosity.tolist()), wavelength=26.0)

    return style("artery", _VEIN_RADIUS * _ARTERY_SHARE, 0.2, 3.2), style("vein", _VEIN_RADIUS, 0.42, 1.3)


def _may_have_vessels(points: Floats, border: lesions.Border) -> NDArray[np.bool_]:
    return border.inside(points, 0.015) & outside_fovea(points)


def draw_projection(exposure: Exposure, aim: str, side: Side, rng: np.random.Generator) -> Projection:
    """How the retina falls on the sensor when the camera is aimed at one of `AIMS`, as roughly as a moving eye allows."""
    x, y = np.array(AIMS[aim]) + rng.normal(0, 0.16, 2)
    scale = exposure.radius / rng.uniform(*exposure.camera.field_radius)
    origin = (exposure.centre[1], exposure.centre[0])
    return Projection((float(x), float(y)), origin, float(scale), float(rng.normal(0, 0.09)), side == "right")


def photograph_eye(eye: InfantEye, exposure: Exposure, projection: Projection, aim: str) -> SimulatedPhotograph:
    """One photograph of an eye, with the truth of what it shows."""
    shape = exposure.camera.shape
    retina = render.paint_ground(eye.appearance, projection, shape, eye.border)
    veins, arteries = (render.draw_layer(tree, projection, shape) for tree in (eye.veins, eye.arteries))
    render.lay_vessels(retina, arteries, veins, _BLOOD)
    field = exposure.field()
    veil = cameras.draw_haze(exposure)
    ridge = np.zeros(shape, bool)
    if eye.ridge is not None:
        ridge = lesions.paint_ridge(retina, eye.ridge, projection)
        ridge = _visible_part(ridge & field, veil, exposure)
    file = cameras.take_photograph(retina, veil, exposure)
    disc, fovea = render.landmarks(eye.appearance, projection, shape)
    trees = eye.arteries, eye.veins
    crossings = (render.crossing_truth(c, trees, eye.appearance, projection, field) for c in eye.crossings)
    truth = Truth(
        eye.seed, exposure.camera.name, cameras.LEVELS[exposure.level], eye.side,
        arteries.mask & field, veins.mask & field, disc & field, fovea & field, ridge, field,
        tuple(crossing for crossing in crossings if crossing is not None),
        _findings_in_view(eye, projection, exposure, ridge, veil), eye.findings, aim,
    )  # fmt: skip
    return SimulatedPhotograph(cameras.decode(file), truth, file)


def _visible_part(ridge: Mask, veil: NDArray[np.float32], exposure: Exposure) -> Mask:
    """The part of a lesion that haze does not hide; none of it where that is too little to notice."""
    rows, columns = exposure.camera.shape
    visible = ridge & (cv2.resize(veil, (columns, rows)) < _HIDDEN)
    enough = visible.sum() >= (exposure.radius * 0.02) ** 2 and exposure.level < _UNGRADABLE
    return visible if enough else np.zeros_like(ridge)


def _findings_in_view(
    eye: InfantEye, projection: Projection, exposure: Exposure, ridge: Mask, veil: NDArray[np.float32]
) -> Findings:
    """The findings that a photograph shows: a stage where its `ridge` is visible, plus where the posterior pole is."""
    lesion = bool(ridge.any())
    plus: Plus = eye.findings.plus if _pole_is_visible(projection, exposure, veil) else "none"
    return Findings(eye.findings.stage if lesion else 0, eye.findings.zone if lesion else None, plus)


def _pole_is_visible(projection: Projection, exposure: Exposure, veil: NDArray[np.float32]) -> bool:
    """Whether at least half of the points half an eye unit from the disc lie in the field and are clear of haze."""
    angle = np.arange(16) * (np.pi / 8)
    pixels = projection.to_pixels(0.5 * np.column_stack([np.cos(angle), np.sin(angle)]))
    rows, columns = exposure.camera.shape
    inside = np.hypot(pixels[:, 0] - exposure.centre[1], pixels[:, 1] - exposure.centre[0]) < exposure.radius
    inside &= (pixels >= 0).all(1) & (pixels[:, 0] < columns - 1) & (pixels[:, 1] < rows - 1)
    at = (np.clip(pixels, 0, [columns - 1, rows - 1]) * veil.shape[0] / rows).astype(int)
    at = np.minimum(at, np.array(veil.shape[::-1]) - 1)
    clear = veil[at[:, 1], at[:, 0]] < _POLE_HIDDEN
    return bool((inside & clear).sum() >= 8) and exposure.level < _UNGRADABLE


def infant(
    seed: int,
    *,
    camera: str | None = None,
    disease: Disease | None = None,
    level: str | None = None,
    size: int | None = None,
) -> SimulatedPhotograph:
    """One photograph of one infant's eye.

    `camera` is one of `CAMERAS` (retcam, full-circle), `disease` one of `DISEASES`, `level` one of `LEVELS`; what is not
    given is drawn at random. `size` is the number of pixels along the longer side. The same call gives the same bytes;
    camera, colours and sharpness depend on the seed and never on the disease. Raises `UsageError` for unknown names.
    """
    disease_rng, shot_rng = np.random.default_rng([seed, 11]), np.random.default_rng([seed, 12])
    findings = draw_findings(disease or DISEASES[int(disease_rng.choice(3, p=[0.5, 0.33, 0.17]))], disease_rng)
    side: Side = "left" if shot_rng.random() < 0.5 else "right"
    # drawn even where they are given, so that the rest does not depend on it
    drawn_camera, drawn_level, cast = draw_camera(shot_rng), draw_level(shot_rng), cameras.draw_cast(shot_rng)
    aim = tuple(AIMS)[int(shot_rng.choice(len(AIMS), p=AIM_SHARES))]
    chosen_camera = drawn_camera if camera is None else cameras.camera_named(camera, infant=True)
    chosen_level = drawn_level if level is None else cameras.level_named(level)
    exposure = cameras.draw_exposure(chosen_camera.resized(size), chosen_level, cast, shot_rng)
    return photograph_eye(grow_eye(seed, findings, side), exposure, draw_projection(exposure, aim, side, shot_rng), aim)


def draw_camera(rng: np.random.Generator) -> Camera:
    """A RetCam in four cases of five, else the full-circle camera."""
    return cameras.CAMERAS["retcam" if rng.random() < 0.8 else "full-circle"]


def draw_level(rng: np.random.Generator) -> int:
    """Index of a quality level, by `LEVEL_SHARES`."""
    return int(rng.choice(len(cameras.LEVELS), p=cameras.LEVEL_SHARES))
