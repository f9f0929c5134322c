"""The retina without its vessels: pigment, choroid, macula and disc, in colours from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate import noise
from fundoscope.simulate.projection import Projection

Image = NDArray[np.float32]
Colour = tuple[float, float, float]

FOVEA = (1.0, -0.06)  # eye units: the fovea lies one unit temporally and a little below the disc's centre

# Mean colours inside the field of infants' (RetCam) and adults' photographs, at the corners of their range
INFANT_BASES = np.array(
    [[0.90, 0.46, 0.36], [0.97, 0.53, 0.15], [0.88, 0.57, 0.33], [0.84, 0.30, 0.15], [0.90, 0.62, 0.36]]
)
LASER_BASES = np.array([[0.8, 0.4, 0.14], [0.72, 0.3, 0.1], [0.7, 0.42, 0.2]])
ADULT_BASES = np.array([[0.84, 0.42, 0.25], [0.98, 0.48, 0.3], [0.7, 0.43, 0.24], [0.84, 0.3, 0.2]])

_POLE = 0.45  # eye units from the disc to the posterior pole, where choroidal vessels start
_COLUMNS_PER_UNIT = 95 / 4.5  # of a sheet
_ROWS_PER_RADIAN = 719 / (2 * np.pi)  # of a sheet
_SWIRL = 0.55  # tangent of the angle by which the two sheets leave the radial direction, one to each side
_WEAVE_REACH = 5.0  # eye units from the disc to each side that the weave covers
_WEAVE_SIDE = 200  # its samples along a side
# By channel: how strongly choroidal vessels, the glow around the disc and the macula change the picture
_STREAK = (0.45, 1.15, 1.3)
_GLOW = (0.45, 1.0, 0.7)
_SHADE = (0.75, 1.0, 0.8)


@dataclass(frozen=True, slots=True, eq=False)
class FundusAppearance:
    """One eye's colours and textures, the same in all its photographs.

    `base` (3,) is the ground's colour. `fine` and `coarse` (angles, distances) are two sheets of choroidal vessels around
    the posterior pole, `weave` (3, side, side) how far these stray in x and in y (eye units) and how strongly they show,
    `choroid` their contrast. `macula` is the depth of the macular shade, `glow` the brightening around the disc,
    `disc_radii` its horizontal and vertical radius in eye units, `cup` the cup's share of the disc.
    """

    base: NDArray[np.float64]
    fine: Image
    coarse: Image
    weave: Image
    choroid: float
    macula: float
    glow: float
    disc_radii: tuple[float, float]
    disc_colour: Colour
    cup: float
    seed: int


def draw_infant_appearance(rng: np.random.Generator) -> FundusAppearance:
    """A pale, reddish to orange fundus with a visible choroid."""
    return _draw_appearance(
        rng, INFANT_BASES, choroid=float(rng.uniform(0.012, 0.05)), disc=float(rng.uniform(0.078, 0.1))
    )


def draw_adult_appearance(rng: np.random.Generator) -> FundusAppearance:
    """A darker fundus with a fainter choroid and a larger disc."""
    return _draw_appearance(
        rng, ADULT_BASES, choroid=float(rng.uniform(0.01, 0.05)), disc=float(rng.uniform(0.16, 0.2))
    )


def draw_laser_appearance(rng: np.random.Generator) -> FundusAppearance:
    """The false colours of a two-laser ophthalmoscope: orange, with a yellowish pole and a greenish disc."""
    drawn = _draw_appearance(
        rng, LASER_BASES, choroid=float(rng.uniform(0.04, 0.1)), disc=float(rng.uniform(0.14, 0.18))
    )
    return replace(drawn, disc_colour=(0.62, 0.66, 0.24), macula=0.5 * drawn.macula)


def _draw_appearance(
    rng: np.random.Generator, bases: NDArray[np.float64], choroid: float, disc: float
) -> FundusAppearance:
    pale = rng.uniform(0, 1)
    return FundusAppearance(
        base=rng.dirichlet(np.full(len(bases), 0.5)) @ bases * rng.uniform(0.92, 1.06),
        fine=_streaks(rng, 220, 20),
        coarse=_streaks(rng, 120, 13),
        weave=_weave(rng),
        choroid=choroid,
        macula=float(rng.uniform(0.14, 0.42)),
        glow=float(rng.uniform(0.1, 0.38)),
        disc_radii=(disc * float(rng.uniform(0.78, 0.95)), disc),
        disc_colour=(1.1, 0.7 + 0.13 * pale, 0.36 + 0.14 * pale),
        cup=float(rng.uniform(0.25, 0.5)),
        seed=int(rng.integers(2**31)),
    )


def _streaks(rng: np.random.Generator, around: int, along: int) -> Image:
    """Noise (720 angles, 96 distances) that is stretched along the distance, so that it looks like vessels from the pole."""
    raw = rng.standard_normal((around, along)).astype(np.float32)
    raw[-1] = raw[0]
    fine = cv2.resize(raw, (96, 720), interpolation=cv2.INTER_CUBIC)
    shift = np.cumsum(rng.normal(0, 0.45, 96))  # the streaks wander as they run outwards
    rolled = [np.roll(fine[:, k], round(float(shift[k]))) for k in range(96)]
    return np.stack(rolled, axis=1).astype(np.float32)


def _weave(rng: np.random.Generator) -> Image:
    """How far choroidal vessels stray in x and in y (eye units), and how strongly they show: (3, side, side)."""
    wide, near = rng.standard_normal((3, 24, 24)), rng.standard_normal((2, 70, 70))
    planes = [cv2.resize(plane, (_WEAVE_SIDE, _WEAVE_SIDE), interpolation=cv2.INTER_CUBIC) for plane in (*wide, *near)]
    shown = noise.smoothstep(-1.2, 1.0, planes[2]) * 1.6
    return np.stack([0.11 * planes[0] + 0.02 * planes[3], 0.11 * planes[1] + 0.02 * planes[4], shown]).astype(
        np.float32
    )


def paint(appearance: FundusAppearance, projection: Projection, shape: tuple[int, int], step: float) -> Image:
    """The fundus (3, rows, columns) in 0..1, one pixel every `step` pixels of the photograph."""
    x, y = projection.grid(shape, step)
    squared = (x - FOVEA[0]) ** 2 + (y - FOVEA[1]) ** 2
    streak = _choroid(appearance, x, y) * noise.smoothstep(
        -0.2, 0.8, np.sqrt(squared)
    )  # fades under the macula's pigment
    shade = appearance.macula * (np.exp(squared / -(0.42**2)) + 0.35 * np.exp(squared / -(0.11**2)))
    glow = appearance.glow * np.exp((x * x + y * y) / -(0.85**2))
    weights = zip(appearance.base.tolist(), _STREAK, _GLOW, _SHADE, strict=True)
    picture = np.stack([base * (1 + a * streak) * (1 + b * glow) * (1 - c * shade) for base, a, b, c in weights])
    _disc(picture, appearance, x, y)
    return picture


def _choroid(appearance: FundusAppearance, x: Image, y: Image) -> Image:
    """Brightness (rows, columns) of two interlaced sheets of choroidal vessels that leave the posterior pole."""
    column, row = ((each + _WEAVE_REACH) * ((_WEAVE_SIDE - 1) / (2 * _WEAVE_REACH)) for each in (x, y))
    right, up, shown = (
        np.asarray(cv2.remap(plane, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
        for plane in appearance.weave
    )
    right += x - _POLE
    up += y
    away = np.sqrt(right * right + up * up)
    column = np.minimum(away * _COLUMNS_PER_UNIT, 94.9)
    turned = np.arctan2(up, right) * _ROWS_PER_RADIAN
    swirl = _SWIRL * _ROWS_PER_RADIAN * np.log(away + 0.2)
    rise = appearance.choroid * noise.smoothstep(0.1 * _COLUMNS_PER_UNIT, 0.8 * _COLUMNS_PER_UNIT, np.arange(96))
    sheets = [
        cv2.remap((rise * sheet)[:719].astype(np.float32), column, place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for sheet, place in ((0.7 * appearance.fine, turned + swirl), (0.75 * appearance.coarse, turned - swirl))
    ]
    return np.asarray(shown * (sheets[0] + sheets[1]), np.float32)


def disc_distance(appearance: FundusAppearance, x: Image, y: Image) -> Image:
    """Distance of each point from the disc's centre in disc radii, so that it is 1 on the rim."""
    return np.sqrt((x / appearance.disc_radii[0]) ** 2 + (y / appearance.disc_radii[1]) ** 2)


def _disc(picture: Image, appearance: FundusAppearance, x: Image, y: Image) -> None:
    """Paint the disc with its cup, and the ring of pigment around it, into the picture (3, rows, columns)."""
    whole = disc_distance(appearance, x, y)
    rows, columns = (np.flatnonzero((whole < 1.7).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part, away = picture[:, *box], whole[box]
    part *= 1 - 0.1 * np.exp(-(((away - 1.12) / 0.14) ** 2))
    pale = np.maximum(_channels(appearance.disc_colour), part * _channels((1.05, 1.25, 1.25)))
    part += 0.92 * (1 - noise.smoothstep(0.86, 1.1, away)) * (pale - part)
    part *= 1 + noise.smoothstep(-1.25 * appearance.cup, -0.6 * appearance.cup, -away) * _channels((0.06, 0.22, 0.4))


def _channels(colour: Colour) -> Image:
    """(3, 1, 1)."""
    return np.array(colour, np.float32)[:, None, None]
