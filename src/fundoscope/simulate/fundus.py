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


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One eye's own colours and textures, the same in all its photographs."""

    base: NDArray[np.float64]  # (3,)
    fine: Image  # (angles, distances): choroidal vessels around the posterior pole
    coarse: Image
    weave: Image  # (3, side, side) over the eye: how far choroidal vessels wander (eye units), and where they show
    choroid: float  # their contrast
    macula: float  # depth of the macular shade
    glow: float  # brightening around the disc
    disc_radii: tuple[float, float]  # eye units, horizontal and vertical
    disc_colour: Colour
    cup: float  # share of the disc
    seed: int


def infant_look(rng: np.random.Generator) -> Look:
    """A pale, reddish to orange fundus with a visible choroid."""
    return _look(rng, INFANT_BASES, choroid=float(rng.uniform(0.012, 0.05)), disc=float(rng.uniform(0.078, 0.1)))


def adult_look(rng: np.random.Generator) -> Look:
    """A darker fundus with a fainter choroid and a larger disc."""
    return _look(rng, ADULT_BASES, choroid=float(rng.uniform(0.01, 0.05)), disc=float(rng.uniform(0.16, 0.2)))


def laser_look(rng: np.random.Generator) -> Look:
    """The false colours of a two-laser ophthalmoscope: orange, with a yellowish pole and a greenish disc."""
    look = _look(rng, LASER_BASES, choroid=float(rng.uniform(0.04, 0.1)), disc=float(rng.uniform(0.14, 0.18)))
    return replace(look, disc_colour=(0.62, 0.66, 0.24), macula=0.5 * look.macula)


def _look(rng: np.random.Generator, bases: NDArray[np.float64], choroid: float, disc: float) -> Look:
    pale = rng.uniform(0, 1)
    return Look(
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
    """Noise over angle and distance, long in the distance, so that it looks like vessels leaving the pole."""
    raw = rng.standard_normal((around, along)).astype(np.float32)
    raw[-1] = raw[0]
    fine = cv2.resize(raw, (96, 720), interpolation=cv2.INTER_CUBIC)
    shift = np.cumsum(rng.normal(0, 0.45, 96))  # the streaks wander as they run outwards
    rolled = [np.roll(fine[:, k], round(float(shift[k]))) for k in range(96)]
    return np.stack(rolled, axis=1).astype(np.float32)


_WOVEN = 5.0  # eye units from the disc to each side that the weave covers
_WEAVE = 200  # its samples along a side


def _weave(rng: np.random.Generator) -> Image:
    wide, near = rng.standard_normal((3, 24, 24)), rng.standard_normal((2, 70, 70))
    planes = [cv2.resize(plane, (_WEAVE, _WEAVE), interpolation=cv2.INTER_CUBIC) for plane in (*wide, *near)]
    shown = noise.smoothstep(-1.2, 1.0, planes[2]) * 1.6
    return np.stack([0.11 * planes[0] + 0.02 * planes[3], 0.11 * planes[1] + 0.02 * planes[4], shown]).astype(
        np.float32
    )


_STREAK = (0.45, 1.15, 1.3)  # by channel: how much streaks, the glow and the macula change the picture
_GLOW = (0.45, 1.0, 0.7)
_SHADE = (0.75, 1.0, 0.8)


def paint(look: Look, projection: Projection, shape: tuple[int, int], step: float) -> Image:
    """(3, rows, columns) of the fundus, one pixel every `step` photograph pixels."""
    x, y = projection.grid(shape, step)
    squared = (x - FOVEA[0]) ** 2 + (y - FOVEA[1]) ** 2
    streak = _choroid(look, x, y) * noise.smoothstep(-0.2, 0.8, np.sqrt(squared))  # fades under the macula's pigment
    shade = look.macula * (np.exp(squared / -(0.42**2)) + 0.35 * np.exp(squared / -(0.11**2)))
    glow = look.glow * np.exp((x * x + y * y) / -(0.85**2))
    weights = zip(look.base.tolist(), _STREAK, _GLOW, _SHADE, strict=True)
    picture = np.stack([base * (1 + a * streak) * (1 + b * glow) * (1 - c * shade) for base, a, b, c in weights])
    _disc(picture, look, x, y)
    return picture


_POLE = 0.45  # eye units from the disc to where the streaks start
_OUT = 95 / 4.5  # columns of the streaks for an eye unit
_ROUND = 719 / (2 * np.pi)  # their rows for a radian
_SWIRL = 0.55  # tangent of the angle at which the two sheets leave the radial direction, to either side


def _choroid(look: Look, x: Image, y: Image) -> Image:
    """(rows, columns): two sheets of vessels that leave the posterior pole, wander, and interlace."""
    column, row = ((each + _WOVEN) * ((_WEAVE - 1) / (2 * _WOVEN)) for each in (x, y))
    right, up, shown = (
        np.asarray(cv2.remap(plane, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
        for plane in look.weave
    )
    right += x - _POLE
    up += y
    away = np.sqrt(right * right + up * up)
    column = np.minimum(away * _OUT, 94.9)
    turned = np.arctan2(up, right) * _ROUND
    swirl = _SWIRL * _ROUND * np.log(away + 0.2)
    rise = look.choroid * noise.smoothstep(0.1 * _OUT, 0.8 * _OUT, np.arange(96))
    sheets = [
        cv2.remap((rise * sheet)[:719].astype(np.float32), column, place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for sheet, place in ((0.7 * look.fine, turned + swirl), (0.75 * look.coarse, turned - swirl))
    ]
    return np.asarray(shown * (sheets[0] + sheets[1]), np.float32)


def disc_distance(look: Look, x: Image, y: Image) -> Image:
    """Distance from the disc's centre in its own radii: 1 on its rim."""
    return np.sqrt((x / look.disc_radii[0]) ** 2 + (y / look.disc_radii[1]) ** 2)


def _disc(picture: Image, look: Look, x: Image, y: Image) -> None:
    """The disc with its cup, and the pigment ring at its rim."""
    whole = disc_distance(look, x, y)
    rows, columns = (np.flatnonzero((whole < 1.7).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part, away = picture[:, *box], whole[box]
    part *= 1 - 0.1 * np.exp(-(((away - 1.12) / 0.14) ** 2))
    pale = np.maximum(_channels(look.disc_colour), part * _channels((1.05, 1.25, 1.25)))
    part += 0.92 * (1 - noise.smoothstep(0.86, 1.1, away)) * (pale - part)
    part *= 1 + noise.smoothstep(-1.25 * look.cup, -0.6 * look.cup, -away) * _channels((0.06, 0.22, 0.4))


def _channels(colour: Colour) -> Image:
    """(3, 1, 1)."""
    return np.array(colour, np.float32)[:, None, None]
