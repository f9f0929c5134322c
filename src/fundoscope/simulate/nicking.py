"""Arteriovenous nicking: the vein narrows and fades where a stiff artery crosses it.

A side is the vein on one side of the artery. Narrowing is 1 - remaining width / undisturbed width, where width is what
can be seen: a vein that keeps share t of its calibre and share c of its contrast shows t x c of its width, and the two
come in varying mixtures. Signs as described by Gunn (1898: the vein seems to stop short of the artery), Bonnet (the vein
swells upstream) and Salus (the vein is deflected to a right angle); the last two alone are no nicking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.simulate.noise import smoothstep
from fundoscope.simulate.vessel_trees import TreeCrossing, VesselSegment
from fundoscope.vessels.grade_rule import grade_of
from fundoscope.vessels.graph import arc_length

Floats = NDArray[np.float64]

#: Narrowing of an affected side as it is generated, by grade: grades 1 and 2 affect one side, grade 3 both.
NARROWING = {1: (0.18, 0.32), 2: (0.40, 0.55), 3: (0.50, 0.70)}

#: Shares of the grades 0 to 3 among crossings of a healthy and of a diseased eye.
GRADE_SHARES = ((0.9, 0.05, 0.03, 0.02), (0.4, 0.2, 0.2, 0.2))

#: Vein widths beyond the artery's wall up to which a narrowing is full, and from which on it has gone.
FULL, GONE = 0.4, 1.8
_ROOM = 0.8  # vein widths between the artery and the next branching that a nicked crossing needs on each side
_ALONE = 3.5  # vein widths to the next crossing
_NEXT_NICK = 6.0  # vein widths to the next changed crossing, so that no vein is narrowed by two at once
_MIN_SINE = 0.3  # of the angle between the vessels: those that graze are left alone
_MIN_CALIBRE = 0.36  # of the widest vessel's radius: a thinner artery does not press on a vein


@dataclass(frozen=True, slots=True)
class Nick:
    """What is done to one crossing.

    `narrowing` of side 1 (nearer the disc) and of side 2; `taper` the share of it that is calibre rather than contrast
    (0 to 1, an exponent); `swelling` of the vein upstream (Bonnet); `deflection` towards a right angle (Salus, 0 to 1);
    whether the artery runs above; `vein_radius` undisturbed, eye units; `sine` of the angle at which they cross.
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
        """Grade of the generated narrowing, 0 to 3."""
        return grade_of(*self.narrowing)

    @property
    def losses(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Loss of calibre of both sides, and their loss of contrast, 0 to 1 each."""
        first, second = (split_narrowing(side, self.taper) for side in self.narrowing)
        return (first[0], second[0]), (first[1], second[1])


def split_narrowing(narrowing: float, taper: float) -> tuple[float, float]:
    """Loss of calibre and loss of contrast (fade), 0 to 1, that together are seen as `narrowing`:
    1 - narrowing = (1 - calibre) (1 - fade).

    `taper` is the share of it that is calibre (0 to 1, an exponent). A widened vein (negative) only gains calibre.
    """
    if narrowing <= 0:
        return narrowing, 0.0
    return 1 - (1 - narrowing) ** taper, 1 - (1 - narrowing) ** (1 - taper)


def nick_crossings(
    arteries: list[VesselSegment],
    veins: list[VesselSegment],
    crossings: list[TreeCrossing],
    grade_shares: tuple[float, ...],
    rng: np.random.Generator,
) -> tuple[list[VesselSegment], list[Nick]]:
    """The veins with nicks, grades drawn by `grade_shares`, and what was done at each crossing.

    Crossings without room stay as they are. The same numbers are drawn for each all the same, so that no crossing changes
    another's.
    """
    nicked, nicks = list(veins), []
    min_artery, min_vein = (
        _MIN_CALIBRE * max((float(vessel.radius.max()) for vessel in tree), default=0.0) for tree in (arteries, veins)
    )
    places = np.array([crossing.at for crossing in crossings]).reshape(-1, 2)
    changed: list[tuple[tuple[float, float], float]] = []
    for crossing in crossings:
        vein = veins[crossing.vein]
        width = 2 * float(vein.radius[crossing.vein_sample])
        nick = draw_nick(grade_shares, width / 2, rng)
        artery_radius = float(arteries[crossing.artery].radius[crossing.artery_sample])
        wide = artery_radius >= min_artery and width >= 2 * min_vein
        if not (wide and _has_room(crossing, places, vein, artery_radius)):
            nick = Nick((0.0, 0.0), 1.0, 0.0, 0.0, nick.artery_above, width / 2)
        nick = replace(nick, sine=crossing.sine)
        if any(math.dist(place, crossing.at) < _NEXT_NICK * max(width, other) for place, other in changed):
            nick = replace(nick, narrowing=(0.0, 0.0), swelling=0.0, deflection=0.0)
        if nick.narrowing != (0.0, 0.0) or nick.swelling or nick.deflection:
            changed.append((crossing.at, width))
            nick = _apply(nicked, arteries[crossing.artery], crossing, nick)
        nicks.append(nick)
    return nicked, nicks


def draw_nick(grade_shares: tuple[float, ...], vein_radius: float, rng: np.random.Generator) -> Nick:
    """A nick of a grade that is drawn by `grade_shares` (4,)."""
    grade = int(rng.choice(4, p=grade_shares))
    low, high = NARROWING.get(grade, (0.0, 0.0))
    sides = rng.uniform(low, high, 2)
    if grade in (1, 2):
        sides[int(rng.integers(2))] = 0.0
    taper, swelling, deflection = rng.uniform(0.35, 1.0), rng.uniform(0.12, 0.35), rng.uniform(0.4, 1.0)
    swells, is_deflected, above = rng.random(3) < (0.15, 0.2, 0.85)
    return Nick(
        (float(sides[0]), float(sides[1])),
        float(taper),
        float(swelling) if swells else 0.0,
        float(deflection) if is_deflected else 0.0,
        bool(above or grade > 0),  # a vein that runs over its artery is not pressed by it
        vein_radius,
    )


def _has_room(crossing: TreeCrossing, places: Floats, vein: VesselSegment, artery_radius: float) -> bool:
    """Whether the vein is of one calibre on both sides, no other crossing is near, and the vessels do not graze."""
    width = 2 * float(vein.radius[crossing.vein_sample])
    way = arc_length(vein.points)
    before = float(np.hypot(*(np.array(crossing.at) - vein.points[crossing.vein_sample])))
    along = way - way[crossing.vein_sample] - before
    near = np.abs(along) < 2.5 * width
    one_calibre = bool((vein.visible[near] > 0.97).all()) and float(np.ptp(vein.radius[near])) < 0.03 * width
    room = artery_radius / max(crossing.sine, _MIN_SINE) + _ROOM * width
    alone = int((np.hypot(*(places - crossing.at).T) < _ALONE * width).sum()) == 1  # the crossing itself
    return one_calibre and alone and -along[0] > room and along[-1] > room and crossing.sine > _MIN_SINE


def _apply(veins: list[VesselSegment], artery: VesselSegment, crossing: TreeCrossing, nick: Nick) -> Nick:
    """Change the crossing's vein in `veins`, and the segments before and after it as far as the change reaches.

    Returns the nick with the angle at which the vessels cross afterwards.
    """
    k = crossing.vein
    own = _resampled(veins[k], 2 * nick.vein_radius / 5)  # fine enough that the taper is drawn as it is stated
    own = replace(own, points=_deflected(own.points, artery, crossing, nick))
    along = distance_along(own.points, crossing.at)
    vein_way = _unit_direction(own.points, int(np.abs(along).argmin()))
    artery_way = _unit_direction(artery.points, crossing.artery_sample)
    nick = replace(nick, sine=float(abs(vein_way[0] * artery_way[1] - vein_way[1] * artery_way[0])))
    wall = float(artery.radius[crossing.artery_sample]) / nick.sine
    veins[k] = _narrowed(own, along, wall, nick)
    before = own.parent
    if before >= 0:
        way = arc_length(veins[before].points)
        veins[before] = _narrowed(veins[before], along[0] - way[-1] + way, wall, nick)
    for after, vein in enumerate(veins):
        if vein.parent == k:
            veins[after] = _narrowed(vein, along[-1] + arc_length(vein.points), wall, nick)
    return nick


def _narrowed(vein: VesselSegment, along: Floats, wall: float, nick: Nick) -> VesselSegment:
    """The vein with the nick's narrowing and swelling; `along` (n,) is each sample's distance from the crossing, `wall`
    the distance of the artery's wall, eye units.
    """
    left = 1 - _narrowing_along(along, wall, nick)
    upstream = 2.6 * 2 * nick.vein_radius
    bulge = 1 + nick.swelling * np.exp(-(((along - upstream) / (2.2 * nick.vein_radius)) ** 2))
    radius, visible = vein.radius * left**nick.taper * bulge, vein.visible * left ** (1 - nick.taper)
    return replace(vein, radius=radius, visible=visible)


def _narrowing_along(along: Floats, wall: float, nick: Nick) -> Floats:
    """Narrowing (n,) at each distance from the crossing: full from the artery's wall to `FULL` widths beyond it, none
    from `GONE` widths on.
    """
    width = 2 * nick.vein_radius
    fall = 1 - smoothstep(FULL * width, GONE * width, np.abs(along) - wall)
    beside = np.where(along < 0, nick.narrowing[0], nick.narrowing[1])
    blend = smoothstep(-0.5 * wall, 0.5 * wall, along)  # beneath the artery one side passes into the other
    beneath = nick.narrowing[0] * (1 - blend) + nick.narrowing[1] * blend
    return np.where(np.abs(along) < wall, beneath, beside) * fall


def _resampled(vein: VesselSegment, step: float) -> VesselSegment:
    """The vein with further samples at most `step` eye units apart."""
    way = arc_length(vein.points)
    at = np.unique(np.concatenate([way, np.arange(0, way[-1], step)]))
    points = np.column_stack([np.interp(at, way, vein.points[:, k]) for k in (0, 1)])
    radius, visible = np.interp(at, way, vein.radius), np.interp(at, way, vein.visible)
    return replace(vein, points=points, radius=radius, visible=visible)


def distance_along(points: Floats, at: tuple[float, float]) -> Floats:
    """Distance (n,) of each point of a line (n, 2), along it, from its point nearest to `at`; negative before it."""
    way = arc_length(points)
    return way - way[int(np.hypot(points[:, 0] - at[0], points[:, 1] - at[1]).argmin())]


def _deflected(points: Floats, artery: VesselSegment, crossing: TreeCrossing, nick: Nick) -> Floats:
    """The vein's points (n, 2) turned towards a right angle at the crossing; on each side it returns to its course."""
    along = distance_along(points, crossing.at)
    artery_way = _unit_direction(artery.points, crossing.artery_sample)
    vein_way = _unit_direction(points, int(np.abs(along).argmin()))
    reach = 2.2 * 2 * nick.vein_radius
    ends = smoothstep(0, 0.6 * reach, np.minimum(along - along[0], along[-1] - along))  # branches stay attached
    shift = (
        -nick.deflection * ends * np.clip(vein_way @ artery_way, -0.8, 0.8) * along * np.exp(-((along / reach) ** 2))
    )
    return points + shift[:, None] * artery_way


def _unit_direction(points: Floats, index: int) -> Floats:
    """Unit direction (2,) of a line (n, 2) at one of its points."""
    run = points[min(index + 1, len(points) - 1)] - points[max(index - 1, 0)]
    return run / max(float(np.hypot(*run)), 1e-12)
