"""Infants' eyes, with and without retinopathy of prematurity, and their photographs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.simulate import arcades, cameras, fundus, lesions, render
from fundoscope.simulate.cameras import Camera, Exposure
from fundoscope.simulate.grow import grow
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import Findings, Mask, Plus, SimulatedPhotograph, Truth
from fundoscope.simulate.vessels import Style, TreeCrossing, VesselSegment, clothe, find_crossings

Floats = NDArray[np.float64]
Disease = Literal["normal", "rop", "treatment-requiring"]

DISEASES: tuple[Disease, ...] = ("normal", "rop", "treatment-requiring")

#: Where the camera aims: the mean point of the field's centre in eye units.
AIMS = {
    "posterior": (0.9, 0.0),
    "temporal": (1.7, 0.0),
    "nasal": (-0.9, 0.0),
    "superior": (0.7, 1.2),
    "inferior": (0.7, -1.2),
}
AIM_SHARES = (0.42, 0.28, 0.08, 0.11, 0.11)

_NEAREST = {1: (1.35, 1.92), 2: (2.06, 2.7), 3: (2.86, 3.25)}  # eye units from the disc to the border, by zone
_VEIN = 0.0135  # eye units: mean radius of the venous trunks, about 60 micrometres
_ARTERY_SHARE = 0.7  # arterial over venous width
_LATTICES = ((0.58, 4.5), (0.38, 1.35))  # spacing and extent of the points that vessels reach for
_BLOOD = render.Blood((0.95, 0.71, 0.72), (0.87, 0.56, 0.6), (0.3, 0.12))


@dataclass(frozen=True, slots=True, eq=False)
class InfantEye:
    """All that belongs to one eye, whatever photograph is taken of it."""

    seed: int
    side: Literal["left", "right"]
    findings: Findings
    look: fundus.Look
    edge: lesions.Border
    ridge: lesions.Ridge | None
    arteries: list[VesselSegment]
    veins: list[VesselSegment]
    crossings: list[TreeCrossing]


def draw_findings(disease: Disease, rng: np.random.Generator) -> Findings:
    """A disease at random among those that deserve the name `disease`."""
    if disease not in DISEASES:
        raise UsageError(f"no disease is called '{disease}': {nearest(disease, DISEASES)}")
    if disease == "normal":
        return Findings()
    while True:
        stage, zone = int(rng.choice([1, 2, 3], p=[0.25, 0.4, 0.35])), int(rng.choice([1, 2, 3], p=[0.2, 0.6, 0.2]))
        likely = [0.75, 0.2, 0.05] if stage < 2 else [0.4, 0.25, 0.35]
        plus: Plus = ("none", "pre-plus", "plus")[int(rng.choice(3, p=likely))]
        found = Findings(stage, zone, plus)
        if found.treatment_requiring == (disease == "treatment-requiring") and not (zone == 3 and plus == "plus"):
            return found


def grow_eye(
    seed: int, findings: Findings, side: Literal["left", "right"] = "right", coat_seed: int | None = None
) -> InfantEye:
    """An eye with the given disease; all else depends on `seed`, its colours on `coat_seed` where that is given."""
    form, ill = (np.random.default_rng([seed, k]) for k in (1, 3))
    coat = np.random.default_rng([seed if coat_seed is None else coat_seed, 2])
    look = fundus.infant_look(coat)
    edge = _draw_border(findings, ill)
    lesion = lesions.ridge(edge, findings.stage, ill)
    styles = _styles(findings.plus, ill)
    may_carry = partial(_may_carry, edge=edge)
    trees, others = [], np.zeros((0, 2))
    for style in styles:
        points = arcades.carriers(form, _LATTICES, may_carry)
        skeleton = grow(arcades.trunks(form, style.kind), points, may_carry, others, form)
        others = skeleton.at
        trees.append(clothe(skeleton, style, form))
    return InfantEye(seed, side, findings, look, edge, lesion, trees[0], trees[1], find_crossings(trees[0], trees[1]))


def _draw_border(findings: Findings, rng: np.random.Generator) -> lesions.Border:
    """The border of the diseased zone; healthy eyes are mature, or still immature in zone III or outer zone II."""
    immature = rng.random() < 0.5
    reach = rng.uniform(*_NEAREST[findings.zone]) if findings.zone else rng.uniform(2.4, 3.2)
    return lesions.border(float(reach) if findings.zone or immature else None, rng)


def _styles(plus: Plus, rng: np.random.Generator) -> tuple[Style, Style]:
    """Calibre and tortuosity by quadrant: plus affects two to four, pre-plus is milder and may affect any."""
    affected = rng.permutation(4)[: rng.integers(2, 5)]
    mild = {"none": 0.0, "pre-plus": rng.uniform(0.3, 0.5), "plus": rng.uniform(0.85, 1.3)}[plus]
    amount = np.zeros(4)
    amount[affected] = mild * rng.uniform(0.85, 1.15, len(affected))
    own = rng.uniform(0.4, 1.0, 4)
    artery = Style("artery", _VEIN * _ARTERY_SHARE, _four(1 + 0.2 * amount), _four(own + 3.2 * amount), 26.0)
    vein = Style("vein", _VEIN, _four(1 + 0.42 * amount), _four(own + 1.3 * amount), 26.0)
    return artery, vein


def _four(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _may_carry(points: Floats, edge: lesions.Border) -> NDArray[np.bool_]:
    return edge.inside(points, 0.015) & arcades.spares_fovea(points)


def draw_projection(exposure: Exposure, aim: str, side: str, rng: np.random.Generator) -> Projection:
    """Aim the camera at one part of the eye, as roughly as a moving infant allows."""
    x, y = np.array(AIMS[aim]) + rng.normal(0, 0.16, 2)
    scale = exposure.radius / rng.uniform(*exposure.camera.reach)
    origin = (exposure.centre[1], exposure.centre[0])
    return Projection((float(x), float(y)), origin, float(scale), float(rng.normal(0, 0.09)), side == "right")


def take(eye: InfantEye, exposure: Exposure, projection: Projection, aim: str) -> SimulatedPhotograph:
    """Photograph an eye: the picture and the truth of what it shows."""
    shape = exposure.camera.shape
    retina = render.ground(eye.look, projection, shape, eye.edge)
    veins, arteries = render.layers(eye.arteries, eye.veins, projection, shape)
    render.lay_vessels(retina, arteries, veins, _BLOOD)
    field = exposure.field()
    veil = cameras.haze(exposure)
    ridge = np.zeros(shape, bool)
    if eye.ridge is not None:
        ridge = lesions.paint_ridge(retina, eye.ridge, projection)
        ridge = _visible(ridge & field, veil, exposure)
    file = cameras.photograph(retina, veil, exposure)
    disc, fovea = render.landmarks(eye.look, projection, shape)
    seen = _seen(eye, projection, exposure, ridge, veil)
    crossings = (render.crossing(eye.arteries, eye.veins, met, eye.look, projection, field) for met in eye.crossings)
    truth = Truth(
        eye.seed, exposure.camera.name, cameras.LEVELS[exposure.level], eye.side,
        arteries.mask & field, veins.mask & field, disc & field, fovea & field, ridge, field,
        tuple(crossing for crossing in crossings if crossing is not None),
        seen, eye.findings, aim,
    )  # fmt: skip
    return SimulatedPhotograph(cameras.decoded(file), truth, file)


_HIDDEN = 0.72  # veiled more than this, nothing can be made out


def _visible(ridge: Mask, veil: NDArray[np.float32], exposure: Exposure) -> Mask:
    """The part of a lesion that the haze lets through; nothing of it where that is too little to notice."""
    rows, columns = exposure.camera.shape
    through = ridge & (cv2.resize(veil, (columns, rows)) < _HIDDEN)
    enough = through.sum() >= (exposure.radius * 0.02) ** 2 and exposure.level < 4
    return through if enough else np.zeros_like(ridge)


def _seen(
    eye: InfantEye, projection: Projection, exposure: Exposure, ridge: Mask, veil: NDArray[np.float32]
) -> Findings:
    """Disease as far as this view shows it: a lesion in the picture, plus where two posterior quadrants are clear."""
    lesion = bool(ridge.any())
    plus: Plus = eye.findings.plus if _pole_is_seen(projection, exposure, veil) else "none"
    return Findings(eye.findings.stage if lesion else 0, eye.findings.zone if lesion else None, plus)


def _pole_is_seen(projection: Projection, exposure: Exposure, veil: NDArray[np.float32]) -> bool:
    """Whether at least three points in four around the disc, half a unit away, lie in the field and show clearly."""
    angle = np.arange(16) * (np.pi / 8)
    pixels = projection.to_pixels(0.5 * np.column_stack([np.cos(angle), np.sin(angle)]))
    rows, columns = exposure.camera.shape
    inside = np.hypot(pixels[:, 0] - exposure.centre[1], pixels[:, 1] - exposure.centre[0]) < exposure.radius
    inside &= (pixels >= 0).all(1) & (pixels[:, 0] < columns - 1) & (pixels[:, 1] < rows - 1)
    at = (np.clip(pixels, 0, [columns - 1, rows - 1]) * veil.shape[0] / rows).astype(int)
    clear = veil[np.minimum(at[:, 1], veil.shape[0] - 1), np.minimum(at[:, 0], veil.shape[1] - 1)] < 0.7
    return bool((inside & clear).sum() >= 8) and exposure.level < 4


def infant(
    seed: int,
    *,
    camera: str | None = None,
    disease: Disease | None = None,
    level: str | None = None,
    size: int | None = None,
) -> SimulatedPhotograph:
    """One photograph of one infant's eye.

    `camera` is one of `CAMERAS` (retcam, full-circle), `disease` one of `DISEASES`, `level` one of `LEVELS`; what is
    not given is drawn. `size` asks for that many pixels along the longer side. The same call gives the same bytes;
    camera, colours and sharpness depend on the seed and never on the disease. Raises `UsageError` for unknown names.
    """
    ill, shot = np.random.default_rng([seed, 11]), np.random.default_rng([seed, 12])
    chosen = disease or DISEASES[int(ill.choice(3, p=[0.5, 0.33, 0.17]))]
    findings = draw_findings(chosen, ill)
    side: Literal["left", "right"] = "left" if shot.random() < 0.5 else "right"
    kind, quality, cast = draw_camera(shot), draw_level(shot), cameras.draw_cast(shot)
    aim = tuple(AIMS)[int(shot.choice(len(AIMS), p=AIM_SHARES))]
    kind = kind if camera is None else cameras.camera_named(camera, infant=True)
    quality = quality if level is None else cameras.level_named(level)
    exposure = cameras.expose(kind.resized(size), quality, cast, shot)
    return take(grow_eye(seed, findings, side), exposure, draw_projection(exposure, aim, side, shot), aim)


def draw_camera(rng: np.random.Generator) -> Camera:
    """RetCam in four cases of five, else the full-circle camera."""
    return cameras.CAMERAS["retcam" if rng.random() < 0.8 else "full-circle"]


def draw_level(rng: np.random.Generator) -> int:
    """A quality level by `LEVEL_SHARES`."""
    return int(rng.choice(len(cameras.LEVELS), p=cameras.LEVEL_SHARES))
