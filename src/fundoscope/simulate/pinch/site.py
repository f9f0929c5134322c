"""The place of a crossing in a photograph, and the changes that a plan makes to it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from fundoscope.simulate.noise import smoothstep
from fundoscope.simulate.pinch.course import POINTS_PER_WIDTH, Course, Floats, Plane
from fundoscope.simulate.pinch.plan import USUAL_PROFILE, LesionProfile, Pair, WarpPlan
from fundoscope.simulate.pinch.warps import compose, invert, push, resampled_twice, squeeze
from fundoscope.vessels.crossings import MeasuredCrossing

# Lengths in widths of the vessel
_SLANTED = (0.3, 1.2)  # beyond the other vessel's wall: pixels move along that wall up to there, straight from there on
_MAX_SLANT = 2.0  # pixels along a vessel for one pixel across it
_FLANK = (0.75, 1.5)  # beside the centreline: the vessel's surroundings
_BODY = (0.7, 1.0)  # beside the centreline: where the vessel's own darkness ends
_BENEATH = (0.7, 1.2)  # beside the centreline: up to there a vessel lies beneath or upon the other one
_CORE = 0.35  # beside the centreline: what is surely of the artery
_BENEATH_CORE, _FAR_FLANK = (
    0.3,
    2.0,
)  # beside the vein's centreline: where the artery lies on it, and up to where beside it
_AVERAGED = 0.5  # along a vessel, over which its darkness is averaged
_TILTED = 0.6  # beside the centreline: up to there the ends of a tilted lesion run on


@dataclass(frozen=True, slots=True, eq=False)
class VesselAtCrossing:
    """One of the two vessels, with coordinates for each pixel (rows, columns): distance `along` its `course` from the
    crossing, and `beside` it, in pixels.

    `wall` is the distance along it, in pixels, up to which the other vessel hides it. `slant` is how many pixels that
    other vessel's wall runs along it for one pixel beside it.
    """

    course: Course
    along: Plane
    beside: Plane
    wall: float
    slant: float

    @classmethod
    def of(cls, course: Course, other: Course, shape: tuple[int, int]) -> VesselAtCrossing:
        """The vessel of `course` where the vessel of `other` crosses it, in a picture of `shape`."""
        along, beside = course.coordinates(shape)
        way, other_way = course.direction_at_crossing(), other.direction_at_crossing()
        sine = float(way[0] * other_way[1] - way[1] * other_way[0])
        across = float(np.array([-way[1], way[0]]) @ other_way)  # by the normal, as in Course.normals
        slant = (way @ other_way) / (across if abs(across) > 1e-6 else 1e-6)
        wall = other.width / 2 / max(abs(sine), 0.3)
        return cls(course, along, beside, wall, float(np.clip(slant, -_MAX_SLANT, _MAX_SLANT)))

    def remaining(self, losses: Pair, place: float = 0.0, profile: LesionProfile = USUAL_PROFILE) -> Plane:
        """Share of the undisturbed width, or contrast, that is left at each pixel's place along the vessel, (rows, columns).

        It is lost beside the other vessel's wall, or `place` widths from the crossing where that is not 0.
        """
        width = self.course.width
        beside = np.clip(self.beside, -_TILTED * width, _TILTED * width)
        along = self.along + profile.tilt * beside
        beyond = np.abs(along - place * width) - (0.0 if place else self.wall)
        ends = zip(profile.full, profile.gone, strict=True)
        before, after = (1 - smoothstep(full * width, gone * width, beyond) for full, gone in ends)
        extent = np.where(along < place * width, before, after)
        blend = smoothstep(-0.5 * self.wall, 0.5 * self.wall, along)  # one side passes into the other
        return (1 - (losses[0] * (1 - blend) + losses[1] * blend) * extent).astype(np.float32)

    def displacement(self, outwards: Plane) -> Plane:
        """The field (rows, columns, 2) that moves pixels by `outwards` (rows, columns) pixels across the vessel.

        Near the other vessel they move along that one's wall, so that the wall stays straight.
        """
        width, way = self.course.width, self.course.way
        near = 1 - smoothstep(_SLANTED[0] * width, _SLANTED[1] * width, np.abs(self.along) - self.wall)
        normals, tangents = (
            np.stack([np.interp(self.along, way, unit[:, k]) for k in (0, 1)], axis=-1)
            for unit in (self.course.normals, self.course.tangents)
        )
        return (outwards[..., None] * (normals + (self.slant * near)[..., None] * tangents)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PinchSite:
    """Artery and vein where they cross, in a window of a photograph."""

    artery: VesselAtCrossing
    vein: VesselAtCrossing

    @classmethod
    def of(cls, picture: Plane, crossing: MeasuredCrossing, widths: tuple[float, float]) -> PinchSite:
        """The site in `picture` (rows, columns, 3), with centrelines in the middle of the vessels that it shows.

        `widths` of artery and vein in pixels.
        """
        green = np.asarray(cv2.GaussianBlur(picture[..., 1], (0, 0), max(0.08 * widths[1], 0.3)), np.float32)
        lines = crossing.first, crossing.second
        artery, vein = (Course.of(line, crossing.at, width) for line, width in zip(lines, widths, strict=True))
        shape = picture.shape[:2]
        for _ in range(2):  # each finds its middle where the other does not hide it
            on_artery, on_vein = (course.drawn(shape, 1.4 * course.width) for course in (artery, vein))
            artery, vein = artery.centred(green, on_vein, crossing.at), vein.centred(green, on_artery, crossing.at)
        return cls(VesselAtCrossing.of(artery, vein, shape), VesselAtCrossing.of(vein, artery, shape))

    def changed(self, picture: Plane, plan: WarpPlan) -> Plane:
        """`picture` with the plan carried out, (rows, columns, 3), float32 grey levels."""
        contrast = self.vein.remaining(plan.fade, profile=plan.profile)
        calibre = self.vein.remaining(plan.calibre, profile=plan.profile)
        lesion = self._pinch(self.vein, calibre, plan.profile.off_middle)
        sham = np.zeros_like(lesion)
        if plan.sham == "far" or (plan.sham == "widened" and plan.place):
            place = plan.side * plan.place
            contrast = contrast * self.vein.remaining((plan.sham_fade, plan.sham_fade), place)
            sham = self._pinch(self.vein, self.vein.remaining((plan.amount, plan.amount), place))
        elif plan.sham not in ("none", "widened"):
            sham = self._sham_beside_artery(plan)
        darkness, off = self._vein_darkness(picture), self._off_other(self.vein)[..., None]
        shining = off + (1 - off) * self._shining_through(picture, darkness)
        picture = picture - (1 - contrast)[..., None] * shining * darkness
        if plan.sham == "restored":
            return resampled_twice(picture, compose(sham, lesion), invert(sham), plan.jitter)
        return resampled_twice(picture, lesion, sham, plan.jitter)

    def _sham_beside_artery(self, plan: WarpPlan) -> Plane:
        """The displacement field of a sham warp near the crossing."""
        if plan.sham == "shifted":  # one side of the vein is moved sideways, the most at 1.2 widths from the artery
            width = self.vein.course.width
            beyond = (self.vein.along * plan.side - self.vein.wall) / width
            extent = smoothstep(0.0, 1.2, beyond) * (1 - smoothstep(1.2, 2.8, beyond))
            outwards = push(self.vein.beside, (plan.amount * width * extent).astype(np.float32), width)
            return self.vein.displacement(outwards * self._may_move(self.vein))
        one_side = (plan.amount, 0.0) if plan.side < 0 else (0.0, plan.amount)
        if plan.sham == "artery":
            return self._pinch(self.artery, self.artery.remaining(one_side))
        place = plan.place if plan.sham == "background" else 0.0
        return self._pinch(self.vein, self.vein.remaining(one_side), place)

    def _pinch(self, vessel: VesselAtCrossing, share: Plane, place: float = 0.0) -> Plane:
        """The field that shrinks a vessel, or what lies `place` widths beside it, to `share` (rows, columns) of its width
        and leaves the other vessel in place.
        """
        width = vessel.course.width
        outwards = squeeze(vessel.beside - place * width, share, width)
        return vessel.displacement(outwards * self._may_move(vessel))

    def _off_other(self, vessel: VesselAtCrossing) -> Plane:
        """0 on the other vessel, 1 beside it, (rows, columns)."""
        other = self.artery if vessel is self.vein else self.vein
        half = other.course.width / 2
        return smoothstep(half, half + max(1.0, 0.25 * half), np.abs(other.beside)).astype(np.float32)

    def _may_move(self, vessel: VesselAtCrossing) -> Plane:
        """How freely pixels move when `vessel` is changed, 0 to 1 (rows, columns).

        The other vessel stays. Where the two lie on each other, both move along the other vessel: so what shines through
        it narrows too, and its own walls stay.
        """
        beside = np.abs(vessel.beside) / vessel.course.width
        return np.maximum(self._off_other(vessel), 1 - smoothstep(*_BENEATH, beside)).astype(np.float32)

    def _vein_darkness(self, picture: Plane) -> Plane:
        """How much darker the vein is than its surroundings, (rows, columns, 3), negative where darker.

        It is averaged along the vein, so that subtracting it leaves the photograph's grain in place.
        """
        course = self.vein.course
        offsets = course.offsets(_FLANK[1]) / course.width
        hidden = np.abs(self.artery.beside) < 0.5 * self.artery.course.width + 1.5
        weight = 1 - course.straightened(hidden.astype(np.float32), _FLANK[1]).clip(0, 1)
        straight = course.straightened(picture, _FLANK[1])
        darkness = straight - _background(straight, weight, offsets)
        darkness = _averaged_along(darkness * weight[..., None], weight[..., None])
        darkness *= (1 - smoothstep(*_BODY, np.abs(offsets)))[:, None]
        return course.bent_back(darkness.astype(np.float32), self.vein.along, self.vein.beside, _FLANK[1])

    def _shining_through(self, picture: Plane, darkness: Plane) -> Floats:
        """Share (3,) of the vein's darkness (rows, columns, 3) that is seen on the artery which crosses above it: how much
        darker the artery is on the vein than beside it.
        """
        beside = np.abs(self.vein.beside) / self.vein.course.width
        on_artery = np.abs(self.artery.beside) < _CORE * self.artery.course.width
        on_vein, off_vein = (
            on_artery & (beside < _BENEATH_CORE),
            on_artery & (beside > _FLANK[0]) & (beside < _FAR_FLANK),
        )
        if min(on_vein.sum(), off_vein.sum()) < 5:
            return np.zeros(3)
        darker = picture[on_vein].mean(axis=0) - picture[off_vein].mean(axis=0)
        return np.clip(darker / np.minimum(darkness[on_vein].mean(axis=0), -1), 0, 1)


def _background(straight: Plane, weight: Plane, offsets: Floats) -> Floats:
    """The surroundings beneath the vein in a straightened picture, (n, m, 3): a slope between the means of both flanks."""
    means = []
    for sign in (-1, 1):
        flank = (sign * offsets >= _FLANK[0]) & (sign * offsets <= _FLANK[1])
        known = weight[:, flank].mean(axis=1)[:, None]
        total = (straight[:, flank] * weight[:, flank, None]).mean(axis=1)
        means.append(_averaged_along(total, known))
    share = np.clip(0.5 + offsets / (_FLANK[0] + _FLANK[1]), 0, 1)[None, :, None]
    return means[0][:, None] * (1 - share) + means[1][:, None] * share


def _averaged_along(total: Floats, weight: Floats) -> Floats:
    """Weighted mean along the vein, from weighted values and their weights."""
    deviation = _AVERAGED * POINTS_PER_WIDTH
    known = gaussian_filter1d(weight, deviation, axis=0, mode="nearest")
    return gaussian_filter1d(total, deviation, axis=0, mode="nearest") / np.maximum(known, 1e-3)
