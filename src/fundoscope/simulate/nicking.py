"""Arteriovenous nicking: the vein narrows and fades where a stiff artery crosses it.

A side is the venous segment on one side of the artery. Narrowing is 1 - remaining width / undisturbed width, the
width being what can be seen: a vein of calibre share t and contrast share c is seen at t x c of its width, and the
two come in varying mixtures. Signs as described by Gunn (1898: the vein seems to stop short of the artery), Bonnet
(swelling upstream) and Salus (crossing deflected to a right angle); the last two alone are no nicking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate.noise import smoothstep
from fundoscope.simulate.vessels import TreeCrossing, VesselSegment
from fundoscope.vessels.grade_rule import grade_of

Floats = NDArray[np.float64]

#: Narrowing of an affected side as it is generated, by grade: grades 1 and 2 affect one side, grade 3 both.
NARROWING = {1: (0.18, 0.32), 2: (0.40, 0.55), 3: (0.50, 0.70)}

#: Shares of the grades 0 to 3 among crossings of a healthy and of a diseased eye.
GRADE_SHARES = ((0.9, 0.05, 0.03, 0.02), (0.4, 0.2, 0.2, 0.2))

ROOM = 0.8  # vein widths between the artery and the next branching that a nicked crossing needs on each side
_ALONE = 3.5  # vein widths to the next crossing
_APART = 6.0  # vein widths to the next changed crossing: then no vein is narrowed from two sides at once
_SINE = 0.3  # of the angle between the vessels: those that graze are left alone
_WIDE = 0.36  # of the widest vessel's radius: an artery thinner than that does not press on a vein


@dataclass(frozen=True, slots=True)
class Nick:
    """What was done to one crossing: `narrowing` of side 1 (nearer the disc) and 2, `taper` the share of it (0 to 1,
    in the exponent) that is calibre rather than contrast, `swelling` of the vein upstream (Bonnet), `deflection`
    (Salus, 0 to 1), whether the artery runs above, the vein's undisturbed radius, and the `sine` of
    the angle at which they cross.
    """

    narrowing: tuple[float, float]
    taper: float
    swelling: float
    deflection: float
    artery_above: bool
    vein_radius: float
    sine: float = 1.0

    @property
    def grade(self) -> int:
        """The grade of the generated narrowing."""
        return grade_of(*self.narrowing)


def nick_crossings(
    arteries: list[VesselSegment],
    veins: list[VesselSegment],
    met: list[TreeCrossing],
    shares: tuple[float, ...],
    rng: np.random.Generator,
) -> tuple[list[VesselSegment], list[Nick]]:
    """The veins with nicks at their crossings, grades drawn by `shares`, and what was done at each of `met`.

    Crossings that lack room stay as they are; draws are made for each all the same, so that none shifts another's.
    """
    nicked, nicks = list(veins), []
    least = [_WIDE * max((float(v.radius.max()) for v in kind), default=0.0) for kind in (arteries, veins)]
    places = np.array([meeting.at for meeting in met]).reshape(-1, 2)
    changed: list[tuple[tuple[float, float], float]] = []
    for meeting in met:
        vein = veins[meeting.vein]
        width = 2 * float(vein.radius[meeting.vein_sample])
        drawn = _draw(shares, width / 2, rng)
        pressing = float(arteries[meeting.artery].radius[meeting.artery_sample])
        if pressing < least[0] or width < 2 * least[1] or not _has_room(meeting, places, vein, pressing):
            drawn = Nick((0.0, 0.0), 1.0, 0.0, 0.0, drawn.artery_above, width / 2)
        drawn = replace(drawn, sine=meeting.sine)
        if any(math.dist(place, meeting.at) < _APART * max(width, other) for place, other in changed):
            drawn = replace(drawn, narrowing=(0.0, 0.0), swelling=0.0, deflection=0.0)
        if drawn.narrowing != (0.0, 0.0) or drawn.swelling or drawn.deflection:
            changed.append((meeting.at, width))
            drawn = _apply(nicked, arteries[meeting.artery], meeting, drawn)
        nicks.append(drawn)
    return nicked, nicks


def _draw(shares: tuple[float, ...], radius: float, rng: np.random.Generator) -> Nick:
    grade = int(rng.choice(4, p=shares))
    low, high = NARROWING.get(grade, (0.0, 0.0))
    sides = rng.uniform(low, high, 2)
    if grade in (1, 2):
        sides[int(rng.integers(2))] = 0.0
    taper, swelling, deflection = rng.uniform(0.35, 1.0), rng.uniform(0.12, 0.35), rng.uniform(0.4, 1.0)
    swells, bends, above = rng.random(3) < (0.15, 0.2, 0.85)
    return Nick(
        (float(sides[0]), float(sides[1])),
        float(taper),
        float(swelling) if swells else 0.0,
        float(deflection) if bends else 0.0,
        bool(above or grade > 0),  # a vein that runs over its artery is not pressed by it
        radius,
    )


def _has_room(meeting: TreeCrossing, places: Floats, vein: VesselSegment, pressing: float) -> bool:
    """Even vein on both sides of an artery of radius `pressing`, no other crossing near, no grazing angle."""
    width = 2 * float(vein.radius[meeting.vein_sample])
    along = _along(vein.points, meeting)
    near = np.abs(along) < 2.5 * width
    even = bool((vein.seen[near] > 0.97).all()) and float(np.ptp(vein.radius[near])) < 0.03 * width
    room = pressing / max(meeting.sine, _SINE) + ROOM * width
    apart = np.hypot(*(places - meeting.at).T)
    alone = int((apart < _ALONE * width).sum()) == 1  # the crossing itself
    return even and alone and -along[0] > room and along[-1] > room and meeting.sine > _SINE


def _along(points: Floats, meeting: TreeCrossing) -> Floats:
    """Distance of each sample from the crossing along the vein, negative on the side of the disc."""
    way = _way(points)
    start = points[meeting.vein_sample]
    return way - way[meeting.vein_sample] - float(np.hypot(*(np.array(meeting.at) - start)))


def _apply(veins: list[VesselSegment], artery: VesselSegment, meeting: TreeCrossing, nick: Nick) -> Nick:
    """Change the crossing's stretch, and as far as the change reaches the stretches before and after it; gives the
    nick with the angle at which the vessels cross then.
    """
    k = meeting.vein
    own = _finer(veins[k], meeting, 2 * nick.vein_radius)
    own = replace(own, points=_deflected(own.points, artery, meeting, nick))
    along = _along_point(own.points, meeting.at)
    here, way = _heading(own.points, int(np.abs(along).argmin())), _heading(artery.points, meeting.artery_sample)
    nick = replace(nick, sine=float(abs(here[0] * way[1] - here[1] * way[0])))
    wall = float(artery.radius[meeting.artery_sample]) / nick.sine
    veins[k] = _narrowed(own, along, wall, nick)
    before = own.parent
    if before >= 0:
        way = _way(veins[before].points)
        veins[before] = _narrowed(veins[before], along[0] - way[-1] + way, wall, nick)
    for after, vein in enumerate(veins):
        if vein.parent == k:
            veins[after] = _narrowed(vein, along[-1] + _way(vein.points), wall, nick)
    return nick


def _narrowed(vein: VesselSegment, along: Floats, wall: float, nick: Nick) -> VesselSegment:
    seen = 1 - _profile(along, wall, nick)
    upstream = 2.6 * 2 * nick.vein_radius
    bump = 1 + nick.swelling * np.exp(-(((along - upstream) / (2.2 * nick.vein_radius)) ** 2))
    return replace(vein, radius=vein.radius * seen**nick.taper * bump, seen=vein.seen * seen ** (1 - nick.taper))


def _way(points: Floats) -> Floats:
    """Length of the line up to each point."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])


def _finer(vein: VesselSegment, meeting: TreeCrossing, width: float) -> VesselSegment:
    """Samples a fifth of the vein's width apart, so that the taper is drawn as it is stated."""
    way = _way(vein.points)
    at = np.unique(np.concatenate([way, np.arange(0, way[-1], width / 5)]))
    points = np.column_stack([np.interp(at, way, vein.points[:, k]) for k in (0, 1)])
    return replace(vein, points=points, radius=np.interp(at, way, vein.radius), seen=np.interp(at, way, vein.seen))


def _along_point(points: Floats, at: tuple[float, float]) -> Floats:
    """Distance of each sample along the vein from the sample nearest to `at`."""
    way = _way(points)
    return way - way[int(np.hypot(points[:, 0] - at[0], points[:, 1] - at[1]).argmin())]


def _profile(along: Floats, wall: float, nick: Nick) -> Floats:
    """Narrowing at each sample: full from the artery's wall to 0.4 widths beyond, gone at 1.8 widths."""
    width = 2 * nick.vein_radius
    beyond = np.abs(along) - wall
    fall = 1 - smoothstep(0.4 * width, 1.8 * width, beyond)
    depth = np.where(along < 0, nick.narrowing[0], nick.narrowing[1])
    blend = smoothstep(-0.5 * wall, 0.5 * wall, along)  # beneath the artery one side passes into the other
    under = nick.narrowing[0] * (1 - blend) + nick.narrowing[1] * blend
    return np.where(np.abs(along) < wall, under, depth) * fall


def _deflected(points: Floats, artery: VesselSegment, meeting: TreeCrossing, nick: Nick) -> Floats:
    """Turn the vein towards a right angle at the crossing; it comes back to its course in an S on each side."""
    along = _along_point(points, meeting.at)
    way, run = _heading(artery.points, meeting.artery_sample), _heading(points, int(np.abs(along).argmin()))
    reach = 2.2 * 2 * nick.vein_radius
    ends = smoothstep(0, 0.6 * reach, np.minimum(along - along[0], along[-1] - along))  # daughters stay attached
    shift = -nick.deflection * ends * np.clip(run @ way, -0.8, 0.8) * along * np.exp(-((along / reach) ** 2))
    return points + shift[:, None] * way


def _heading(points: Floats, at: int) -> Floats:
    """Unit direction of a line at a sample."""
    run = points[min(at + 1, len(points) - 1)] - points[max(at - 1, 0)]
    return run / max(float(np.hypot(*run)), 1e-12)
