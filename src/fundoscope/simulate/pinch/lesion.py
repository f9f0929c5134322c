"""Lesions put into real photographs: the vein is narrowed beside the artery that crosses it, and nothing else changes.

The photograph is warped towards the vein's centreline, and the vein fades into its surroundings; the artery stays. A
sham warp goes with it or alone, and all are resampled alike, so that a network learns the lesion and not the trick.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.simulate.crossing_patches import SIDE, crossing_patch
from fundoscope.simulate.pinch.course import Course
from fundoscope.simulate.pinch.shams import WarpPlan
from fundoscope.simulate.pinch.site import Site
from fundoscope.simulate.truth import CrossingTruth
from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Centreline, Mask, arc_length

_WINDOW = 9.0  # vein widths around the crossing that are resampled: a patch, however it is turned
_ALONE = 3.5  # vein widths to the next crossing
_ROOM = 2.5  # vein widths that the vein runs on beyond the artery, at the least
_RIM = 2.0  # vein widths from what is warped to the field's rim
_PARTED = 1.5  # vein widths beyond the artery's wall where the vein has left it
_SINE = 0.3  # of the angle between the vessels
_SEEN = (2.7, 4.3)  # pixels of artery and vein at the least: maps have about one more than can be seen
_MAPPED = (1.9, 2.7)  # and pixels of the map: of thinner ones it says neither width nor middle
_PRESSING = 0.5  # vein widths: a thinner artery does not press on the vein
_UNEVEN = 0.3  # of the radius: variation along an even vein
_FLANK = (0.95, 1.5)  # vein widths beside the centreline that no other vessel may fill,
_CLEAR = 0.05  # by more than this share


def map_widths(crossing: MeasuredCrossing) -> tuple[float, float]:
    """Widths in pixels of artery and vein as their maps have them, the median along each strand."""
    artery, vein = (max(2 * float(np.median(s.radius)), 1.0) for s in (crossing.first, crossing.second))
    return artery, vein


def is_usable(
    crossing: MeasuredCrossing,
    others: list[MeasuredCrossing],
    vessels: Mask,
    field: Mask | None = None,
    scale: float = 1.0,
) -> bool:
    """Whether a vein runs through evenly here, with room on both sides: no other crossing or branch near, no grazing.

    `others` are all crossings of the photograph (this one may be among them), `vessels` (rows, columns) its arteries
    and veins, and `field` its field of view, in the same pixels, of which the photograph has `scale` for each.
    """
    artery, vein = map_widths(crossing)
    sine = float(np.sin(np.radians(crossing.angle)))
    least = [max(seen / scale, mapped) for seen, mapped in zip(_SEEN, _MAPPED, strict=True)]
    if sine < _SINE or artery < max(least[0], _PRESSING * vein) or vein < least[1]:
        return False
    course = Course.of(crossing.second, crossing.at, vein)
    wall = artery / 2 / sine
    room = wall + _ROOM * vein
    alone = sum(float(np.hypot(*(crossing.at - other.at))) < wall + _ALONE * vein for other in others) <= 1
    near = (
        np.abs(arc_length(crossing.second.points) - arc_length(crossing.second.points)[crossing.second.crossing_index])
        < room
    )
    radius = crossing.second.radius[near]
    even = float(np.std(radius)) < _UNEVEN * float(np.mean(radius))
    runs = course.way[0] < -room and course.way[-1] > room
    inside = field is None or _within(field, crossing, room + _RIM * vein)
    parted = _parted(course, crossing.first, wall + _PARTED * vein, room, artery / 2 + 0.6 * vein)
    drawn = Course.of(crossing.first, crossing.at, artery).drawn(vessels.shape, 1.3 * artery + 2)
    return alone and even and runs and inside and parted and _clear(course, vessels & ~drawn, wall, room)


def _within(field: Mask, crossing: MeasuredCrossing, reach: float) -> bool:
    """Whether all around a crossing, `reach` pixels far, is field."""
    turns = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    around = np.round(crossing.at + reach * np.column_stack([np.sin(turns), np.cos(turns)])).astype(int)
    there = np.clip(around, 0, np.array(field.shape) - 1)
    return bool((there == around).all() and field[there[:, 0], there[:, 1]].all())


def _parted(course: Course, artery: Centreline, start: float, end: float, apart: float) -> bool:
    """Whether from `start` to `end` pixels of its course the vein is that far from the artery's middle."""
    from scipy.spatial import KDTree

    beyond = (np.abs(course.way) > start) & (np.abs(course.way) < end)
    return bool((KDTree(artery.points).query(course.points[beyond])[0] > apart).all())


def _clear(course: Course, vessels: Mask, wall: float, room: float) -> bool:
    """Whether no other vessel leaves the vein beyond the artery, or runs along it."""
    near = (np.abs(course.way) > wall) & (np.abs(course.way) < room)
    aside = np.abs(course.offsets(_FLANK[1])) > _FLANK[0] * course.width
    flanks = course.straightened(vessels.astype(np.float32), _FLANK[1])[near][:, aside]
    return float(flanks.mean()) < _CLEAR


def pinch(
    pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan, widths: tuple[float, float] | None = None
) -> Pixels:
    """The photograph (rows, columns, 3; RGB) with `plan` carried out at a crossing of an artery, `first`, and a vein.

    `widths` of artery and vein in pixels, where they are known better than by the strands. Within 9 vein widths of the
    crossing every pixel is resampled twice; beyond, none.
    """
    artery, vein = widths or map_widths(crossing)
    reach = _WINDOW * vein
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.minimum(np.ceil(crossing.at + reach).astype(int) + 1, pixels.shape[:2])
    window = np.s_[low[0] : high[0], low[1] : high[1]]
    out = pixels.copy()
    picture = pixels[window].astype(np.float32)
    site = Site.of(picture, _moved(crossing, low), (artery, vein))
    out[window] = np.clip(np.rint(site.changed(picture, plan)), 0, 255).astype(np.uint8)
    return out


def _moved(crossing: MeasuredCrossing, origin: NDArray[np.int64]) -> MeasuredCrossing:
    first, second = (replace(s, points=s.points - origin) for s in (crossing.first, crossing.second))
    return replace(crossing, at=crossing.at - origin, first=first, second=second)


def pinched_truth(
    crossing: MeasuredCrossing, plan: WarpPlan, widths: tuple[float, float] | None = None
) -> CrossingTruth:
    """The truth of a pinched crossing, as simulated eyes have it; side 1 is the vein's course before the crossing."""
    artery, vein = widths or map_widths(crossing)
    points = crossing.second.points
    up = points[: crossing.second.crossing_index, 0].mean() < points[crossing.second.crossing_index :, 0].mean()
    row, column = (float(x) for x in crossing.at)
    return CrossingTruth(row, column, artery, vein, crossing.angle, *plan.narrowing, plan.grade, side_1_up=bool(up))


def pinched_patch(
    pixels: Pixels,
    crossing: MeasuredCrossing,
    plan: WarpPlan,
    widths: tuple[float, float] | None = None,
    side: int = SIDE,
) -> Pixels:
    """(side, side, 3) around the crossing, 12 widths of its vein, with `plan` carried out."""
    return crossing_patch(pinch(pixels, crossing, plan, widths), pinched_truth(crossing, plan, widths), side)
