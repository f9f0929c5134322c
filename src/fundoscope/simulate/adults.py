"""Adults' eyes, with every artery-vein crossing and its nicking known, and their photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError
from fundoscope.simulate import arcades, cameras, cohort, fundus, nicking, render
from fundoscope.simulate.cameras import Exposure
from fundoscope.simulate.crossing_patches import write_patches
from fundoscope.simulate.grow import grow
from fundoscope.simulate.projection import Projection
from fundoscope.simulate.truth import CrossingTruth, Mask, SimulatedPhotograph, Truth
from fundoscope.simulate.vessels import Style, TreeCrossing, VesselSegment, clothe, find_crossings

Floats = NDArray[np.float64]

COLUMNS = ("image", "eye", "camera", "level", "crossings", "worst_grade", "seed")

_AIMS = {"drive": (0.95, 0.0), "hrf": (0.55, 0.0), "iostar": (0.4, 0.0)}  # eye units at the middle of the field
_VEIN = (0.0155, 0.0215)  # eye units: mean radius of the venous trunks
_ARTERY_SHARE = (0.64, 0.78)  # arterial over venous width
_LATTICES = ((0.36, 2.3), (0.26, 1.3))  # spacing and extent of the points that vessels reach for
_DISEASED = 0.4  # share of eyes with many nicked crossings
_BLOOD = render.Blood((0.9, 0.75, 0.84), (0.82, 0.61, 0.77), (0.34, 0.14))
_BLOOD_BY_LASER = render.Blood((0.74, 0.6, 0.75), (0.5, 0.4, 0.65), (0.25, 0.1))


@dataclass(frozen=True, slots=True, eq=False)
class AdultEye:
    """All that belongs to one eye; `nicks` stand in the order of `crossings`."""

    seed: int
    side: Literal["left", "right"]
    look: fundus.Look
    arteries: list[VesselSegment]
    veins: list[VesselSegment]
    crossings: list[TreeCrossing]
    nicks: list[nicking.Nick]


def grow_eye(
    seed: int, side: Literal["left", "right"] = "right", grade: int | None = None, laser: bool = False
) -> AdultEye:
    """An eye; `grade` asks for that grade wherever a crossing has room for it."""
    form, coat, ill = (np.random.default_rng([seed, k]) for k in (21, 22, 23))
    look = fundus.laser_look(coat) if laser else fundus.adult_look(coat)
    vein = form.uniform(*_VEIN)
    calm = tuple(float(x) for x in form.uniform(0.3, 1.0, arcades.TRUNKS))
    even = (1.0,) * arcades.TRUNKS
    trees, others = [], np.zeros((0, 2))
    for kind, radius in (("artery", vein * form.uniform(*_ARTERY_SHARE)), ("vein", vein)):
        points = arcades.carriers(form, _LATTICES, _may_carry)
        skeleton = grow(arcades.trunks(form, kind), points, _may_carry, others, form)
        others = skeleton.at
        trees.append(clothe(skeleton, Style(kind, float(radius), even, calm), form))
    met = find_crossings(trees[0], trees[1])
    shares = nicking.GRADE_SHARES[int(ill.random() < _DISEASED)] if grade is None else tuple(np.eye(4)[grade])
    veins, nicks = nicking.nick_crossings(trees[0], trees[1], met, shares, ill)
    return AdultEye(seed, side, look, trees[0], veins, met, nicks)


def _may_carry(points: Floats) -> NDArray[np.bool_]:
    return arcades.spares_fovea(points, 0.14) & (np.hypot(points[:, 0] - 0.5, points[:, 1]) < 2.4)


def take(eye: AdultEye, exposure: Exposure, projection: Projection) -> SimulatedPhotograph:
    """Photograph an eye: the picture and its truth."""
    shape = exposure.camera.shape
    retina = render.ground(eye.look, projection, shape)
    veins, arteries = render.layers(eye.arteries, eye.veins, projection, shape)
    blood = _BLOOD_BY_LASER if exposure.camera.laser else _BLOOD
    render.lay_vessels(retina, arteries, veins, blood, _veins_above(eye, projection, shape))
    file = cameras.photograph(retina, cameras.haze(exposure), exposure)
    field = exposure.field()
    disc, fovea = render.landmarks(eye.look, projection, shape)
    truth = Truth(
        eye.seed, exposure.camera.name, cameras.LEVELS[exposure.level], eye.side,
        arteries.mask & field, veins.mask & field, disc & field, fovea & field, np.zeros(shape, bool), field,
        _crossings(eye, projection, field),
    )  # fmt: skip
    return SimulatedPhotograph(cameras.decoded(file), truth, file)


def _veins_above(eye: AdultEye, projection: Projection, shape: tuple[int, int]) -> Mask | None:
    """Where the vein runs over the artery."""
    above = np.zeros(shape, np.uint8)
    for meeting, nick in zip(eye.crossings, eye.nicks, strict=True):
        if not nick.artery_above:
            column, row = projection.to_pixels(np.array([meeting.at]))[0]
            reach = 2.5 * nick.vein_radius * projection.scale / max(nick.sine, 0.3)
            cv2.circle(above, (round(column), round(row)), max(2, round(reach)), 1, -1)
    return above.astype(bool) if above.any() else None


def _crossings(eye: AdultEye, projection: Projection, field: Mask) -> tuple[CrossingTruth, ...]:
    found = []
    for meeting, nick in zip(eye.crossings, eye.nicks, strict=True):
        crossing = render.crossing(eye.arteries, eye.veins, meeting, eye.look, projection, field)
        if crossing is not None:
            found.append(_with_nick(crossing, nick, eye.veins[meeting.vein], projection))
    return tuple(found)


def _with_nick(
    crossing: CrossingTruth, nick: nicking.Nick, vein: VesselSegment, projection: Projection
) -> CrossingTruth:
    pixels = projection.to_pixels(vein.points)
    here = int(np.hypot(pixels[:, 0] - crossing.col, pixels[:, 1] - crossing.row).argmin())
    reach = max(1, len(pixels) // 8)
    up = pixels[max(here - reach, 0), 1] < pixels[min(here + reach, len(pixels) - 1), 1]
    return replace(
        crossing,
        vein_width_px=2 * projection.scale * nick.vein_radius,
        narrowing_1=round(nick.narrowing[0], 4),
        narrowing_2=round(nick.narrowing[1], 4),
        grade=nick.grade,
        angle_degrees=float(np.degrees(np.arcsin(min(1.0, nick.sine)))),
        artery_above=nick.artery_above,
        side_1_up=bool(up),
    )


def adult(
    seed: int, *, camera: str | None = None, level: str | None = None, size: int | None = None, grade: int | None = None
) -> SimulatedPhotograph:
    """One photograph of one adult's eye.

    `camera` is one of `CAMERAS` (drive, hrf, iostar; drive by default), `level` one of `LEVELS`; `size` asks for that
    many pixels along the longer side, `grade` (0 to 3) for that nicking wherever a crossing has room. The same call
    gives the same bytes. Raises `UsageError` for unknown names.
    """
    if grade is not None and grade not in range(4):
        raise UsageError(f"nicking has no grade {grade}. Ask for 0, 1, 2 or 3.")
    kind = cameras.camera_named(camera or "drive", infant=False)
    shot = np.random.default_rng([seed, 24])
    side: Literal["left", "right"] = "left" if shot.random() < 0.5 else "right"
    drawn = int(shot.choice(len(cameras.LEVELS), p=cameras.ADULT_LEVEL_SHARES))
    level_index = drawn if level is None else cameras.level_named(level)
    exposure = cameras.expose(kind.resized(size), level_index, cameras.draw_cast(shot, 0.5), shot)
    return take(grow_eye(seed, side, grade, kind.laser), exposure, draw_projection(exposure, side, shot))


def draw_projection(exposure: Exposure, side: str, rng: np.random.Generator) -> Projection:
    x, y = np.array(_AIMS[exposure.camera.name]) + rng.normal(0, 0.07, 2)
    scale = exposure.radius / rng.uniform(*exposure.camera.reach)
    origin = (exposure.centre[1], exposure.centre[0])
    return Projection((float(x), float(y)), origin, float(scale), float(rng.normal(0, 0.05)), side == "right")


@dataclass(frozen=True, slots=True)
class AdultJob:
    """One photograph of a cohort."""

    seed: int
    number: int
    camera: str | None
    size: int | None


def write_adults(
    n: int,
    out: str | Path,
    seed: int = 0,
    workers: int = 1,
    sheet: bool = False,
    *,
    camera: str | None = None,
    size: int | None = None,
    progress: cohort.Progress | None = None,
) -> Path:
    """Write `n` photographs of adults' eyes, with their truth, into the folder `out`; gives `cohort.csv`'s path.

    Each is another eye; `patches/` holds the surroundings of its crossings. Raises `UsageError` as `cohort.prepare`.
    """
    out = Path(out)
    cohort.prepare(out, n, workers)
    (out / "patches").mkdir(exist_ok=True)
    jobs = (AdultJob(seed, number, camera, size) for number in range(n))
    taken = cohort.run(jobs, partial(_write_adult, out), workers)
    cohort.write_tables(out, taken, COLUMNS, n, progress)
    if sheet:
        from fundoscope.simulate.sheet import write_sheet

        write_sheet(out)
    return out / "cohort.csv"


def _write_adult(out: Path, job: AdultJob) -> list[cohort.Taken]:
    own = int(np.random.SeedSequence([job.seed, job.number, 9]).generate_state(1)[0])
    photograph = adult(own, camera=job.camera, size=job.size)
    truth, name = photograph.truth, f"a{job.number:05d}"
    row: cohort.Row = {
        "image": f"images/{name}.jpg",
        "eye": truth.eye,
        "camera": truth.camera,
        "level": truth.level,
        "crossings": len(truth.crossings),
        "worst_grade": max((crossing.grade for crossing in truth.crossings), default=0),
        "seed": own,
    }
    taken = cohort.store(out, name, photograph, row, {})
    return [replace(taken, patches=write_patches(out, name, photograph))]
