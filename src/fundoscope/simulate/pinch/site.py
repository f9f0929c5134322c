"""The place of a crossing in a photograph, and the changes that a plan makes to it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from fundoscope.simulate.noise import smoothstep
from fundoscope.simulate.pinch.course import Course, Floats, Plane
from fundoscope.simulate.pinch.shams import WarpPlan
from fundoscope.simulate.pinch.warps import compose, invert, push, resampled_twice, squeeze
from fundoscope.vessels.crossings import MeasuredCrossing

_FULL, _GONE = (
    0.4,
    1.8,
)  # widths beyond the other vessel's wall: narrowing is full up to, and gone from, as in `nicking`
_LEANS = (0.3, 1.2)  # widths beyond that wall: up to there pixels move along it, from there straight towards the middle
_STEEPEST = 2.0  # pixels along a vessel for one towards its middle
_FLANK = (0.75, 1.5)  # widths beside the centreline: the vessel's surroundings
_BODY = (0.7, 1.0)  # widths beside it: the vessel's own darkness ends
_UNDER = (0.7, 1.2)  # widths beside it: there it lies no more beneath the other
_LIKE = 0.5  # widths along a vessel over which its look is averaged


@dataclass(frozen=True, slots=True, eq=False)
class VesselAtCrossing:
    """A vessel of the site: its `course`, each pixel's place `ahead` on it and `beside` it (rows, columns), and how far
    along its centreline the other one hides it, `wall` pixels; `lean`, the pixels along it for one beside it at that wall.
    """

    course: Course
    ahead: Plane
    beside: Plane
    wall: float
    lean: float

    def stretch(self, place: float = 0.0) -> Plane:
        """1 beside the other vessel's wall (or at `place` widths from the crossing), falling to 0."""
        width = self.course.width
        beyond = np.abs(self.ahead - place * width) - (0.0 if place else self.wall)
        return (1 - smoothstep(_FULL * width, _GONE * width, beyond)).astype(np.float32)

    def seen(self, narrowing: tuple[float, float], place: float = 0.0) -> Plane:
        """Share of the undisturbed width that is left at each pixel's place along the vessel."""
        after = smoothstep(
            -0.5 * self.wall, 0.5 * self.wall, self.ahead
        )  # beneath the artery one passes into the other
        return (1 - (narrowing[0] * (1 - after) + narrowing[1] * after) * self.stretch(place)).astype(np.float32)

    def inwards(self, far: Plane) -> Plane:
        """Displacement (rows, columns, 2) by `far` pixels beside the vessel; by the other one's wall, along that wall."""
        width = self.course.width
        near = 1 - smoothstep(_LEANS[0] * width, _LEANS[1] * width, np.abs(self.ahead) - self.wall)
        way = self.course.way
        normals, headings = (
            np.stack([np.interp(self.ahead, way, unit[:, k]) for k in (0, 1)], axis=-1)
            for unit in (self.course.normals, self.course.headings)
        )
        return (far[..., None] * (normals + (self.lean * near)[..., None] * headings)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Artery and vein where they cross, in a window of a photograph."""

    artery: VesselAtCrossing
    vein: VesselAtCrossing

    @classmethod
    def of(cls, picture: Plane, crossing: MeasuredCrossing, widths: tuple[float, float]) -> Site:
        """The site in `picture` (rows, columns, 3), the centrelines moved to the middle of what it shows.

        `widths` of artery and vein in pixels.
        """
        green = np.asarray(cv2.GaussianBlur(picture[..., 1], (0, 0), max(0.08 * widths[1], 0.3)), np.float32)
        strands = crossing.first, crossing.second
        courses = [Course.of(s, crossing.at, w) for s, w in zip(strands, widths, strict=True)]
        shape = picture.shape[:2]
        for _ in range(2):  # each finds its middle where the other does not hide it
            hidden = [c.drawn(shape, 1.4 * c.width) for c in courses]
            courses = [c.centred(green, hidden[1 - k], crossing.at) for k, c in enumerate(courses)]
        return cls(*(_vessel(c, courses[1 - k], shape) for k, c in enumerate(courses)))

    def changed(self, picture: Plane, plan: WarpPlan) -> Plane:
        """`picture` with `plan` carried out, (rows, columns, 3), float32 grey levels."""
        seen = self.vein.seen(plan.narrowing)
        fade = np.minimum(seen, 1) ** (1 - plan.taper)
        lesion = self._pinch(self.vein, _calibre(seen, plan.taper))
        sham = np.zeros_like(lesion)
        if plan.sham == "far" or (plan.sham == "widened" and plan.place):
            distant = self.vein.seen((plan.amount, plan.amount), plan.side * plan.place)
            fade = fade * np.minimum(distant, 1) ** (1 - plan.taper)
            sham = self._pinch(self.vein, _calibre(distant, plan.taper))
        elif plan.sham not in ("none", "widened"):
            sham = self._sham(plan)
        faded = picture - ((1 - fade) * self._free(self.vein))[..., None] * self._darkness(picture)
        if plan.sham == "restored":
            return resampled_twice(faded, compose(sham, lesion), invert(sham), plan.jitter)
        return resampled_twice(faded, lesion, sham, plan.jitter)

    def _sham(self, plan: WarpPlan) -> Plane:
        """The displacement of a sham warp near the crossing."""
        one = (plan.amount, 0.0) if plan.side < 0 else (0.0, plan.amount)
        if plan.sham == "artery":
            return self._pinch(self.artery, self.artery.seen(one) ** plan.taper)
        if plan.sham == "shifted":
            return self._shift(plan)
        place = plan.place if plan.sham == "background" else 0.0
        return self._pinch(self.vein, self.vein.seen(one) ** plan.taper, place)

    def _pinch(self, vessel: VesselAtCrossing, share: Plane, place: float = 0.0) -> Plane:
        """Draw a vessel together (or what lies `place` widths beside it); the other vessel stays."""
        width = vessel.course.width
        far = squeeze(vessel.beside - place * width, share, width)
        return vessel.inwards(far * self._loose(vessel))

    def _shift(self, plan: WarpPlan) -> Plane:
        """Move one flank of the vein sideways, the most at 1.2 widths from the artery."""
        width = self.vein.course.width
        beyond = (self.vein.ahead * plan.side - self.vein.wall) / width
        stretch = smoothstep(0.0, 1.2, beyond) * (1 - smoothstep(1.2, 2.8, beyond))
        far = push(self.vein.beside, (plan.amount * width * stretch).astype(np.float32), width)
        return self.vein.inwards(far * self._loose(self.vein))

    def _free(self, vessel: VesselAtCrossing) -> Plane:
        """0 on the other vessel, 1 beside it."""
        other = self.artery if vessel is self.vein else self.vein
        half = other.course.width / 2
        return smoothstep(half, half + max(1.0, 0.25 * half), np.abs(other.beside)).astype(np.float32)

    def _loose(self, vessel: VesselAtCrossing) -> Plane:
        """What may move: all but the other vessel; where the two lie on each other both do, along that other one, so
        that what shines through it narrows too and its own walls stay.
        """
        beside = np.abs(vessel.beside) / vessel.course.width
        return np.maximum(self._free(vessel), 1 - smoothstep(*_UNDER, beside)).astype(np.float32)

    def _darkness(self, picture: Plane) -> Plane:
        """What the vein takes from its surroundings (negative where it is darker), (rows, columns, 3), without grain.

        The photograph laid out along the vein, less the ground between both flanks, averaged along the vein; so that
        the grain stays when it is taken off.
        """
        course = self.vein.course
        aside = course.offsets(_FLANK[1]) / course.width
        hides = np.abs(self.artery.beside) < 0.5 * self.artery.course.width + 1.5
        weight = 1 - course.straightened(hides.astype(np.float32), _FLANK[1]).clip(0, 1)
        straight = course.straightened(picture, _FLANK[1])
        ground = _ground(straight, weight, aside)
        own = _averaged((straight - ground) * weight[..., None], weight[..., None])
        own *= (1 - smoothstep(*_BODY, np.abs(aside)))[:, None]
        return course.bent_back(own.astype(np.float32), self.vein.ahead, self.vein.beside, _FLANK[1])


def _calibre(seen: Plane, taper: float) -> Plane:
    """Share of the width that is left when the rest of what is missing has faded; what is widened has not."""
    return np.where(seen < 1, seen**taper, seen).astype(np.float32)


def _vessel(course: Course, other: Course, shape: tuple[int, int]) -> VesselAtCrossing:
    ahead, beside = course.coordinates(shape)
    way, across = course.heading(), other.heading()
    sine = float(way[0] * across[1] - way[1] * across[0])
    normal = np.array([-way[1], way[0]])  # as Course.normals
    over = float(normal @ across)
    lean = float(np.clip((way @ across) / (over if abs(over) > 1e-6 else 1e-6), -_STEEPEST, _STEEPEST))
    return VesselAtCrossing(course, ahead, beside, other.width / 2 / max(abs(sine), 0.3), lean)


def _ground(straight: Plane, weight: Plane, aside: Floats) -> Floats:
    """The surroundings beneath the vein, (n, m, 3): a slope between the means of both flanks."""
    sides = []
    for sign in (-1, 1):
        flank = (sign * aside >= _FLANK[0]) & (sign * aside <= _FLANK[1])
        known = weight[:, flank].mean(axis=1)[:, None]
        total = (straight[:, flank] * weight[:, flank, None]).mean(axis=1)
        sides.append(_averaged(total, known))
    share = np.clip(0.5 + aside / (_FLANK[0] + _FLANK[1]), 0, 1)[None, :, None]
    return sides[0][:, None] * (1 - share) + sides[1][:, None] * share


def _averaged(total: Floats, weight: Floats) -> Floats:
    """Mean along the vein of what is known, from sums and weights."""
    deviation = _LIKE * 10
    known = gaussian_filter1d(weight, deviation, axis=0, mode="nearest")
    return gaussian_filter1d(total, deviation, axis=0, mode="nearest") / np.maximum(known, 1e-3)
