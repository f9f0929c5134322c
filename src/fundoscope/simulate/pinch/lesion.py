"""Lesions put into real photographs: the vein is narrowed beside the artery that crosses it, and nothing else changes.

The photograph is warped towards the vein's centreline, and the vein fades into its surroundings; the artery stays. A sham
warp goes with it or alone, and all photographs are resampled alike, so that a network learns the lesion and not the warp.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from fundoscope.imaging import Pixels
from fundoscope.simulate.crossing_patches import SIDE, crossing_patch
from fundoscope.simulate.pinch.course import Course
from fundoscope.simulate.pinch.plan import WarpPlan
from fundoscope.simulate.pinch.site import PinchSite
from fundoscope.simulate.truth import CrossingTruth
from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Mask, arc_length

# Lengths in vein widths, unless said otherwise
_WINDOW = 9.0  # around the crossing that is resampled: a whole patch, however it is turned
_ALONE = 3.5  # from the artery's wall to the next crossing
_ROOM = 2.5  # that the vein runs on beyond the artery, at the least
_RIM = 2.0  # from what is warped to the field's rim
_APART = 1.5  # beyond the artery's wall from where on the vein must have left the artery
_MIN_SINE = 0.3  # of the angle between the vessels
_VISIBLE_PIXELS = (2.2, 3.4)  # of artery and vein in the photograph: a map's vessels are about one pixel too wide
_MAPPED_PIXELS = (1.0, 1.5)  # of artery and vein in the map: of thinner ones it gives neither width nor middle
_PRESSING = 0.5  # a thinner artery does not press on the vein
_MAX_VARIATION = 0.3  # of the radius along the vein (standard deviation over mean)
_FLANK = (0.95, 1.5)  # beside the centreline that no other vessel may fill
_FLANK_SHARE = 0.05  # by more than this share


def map_widths(crossing: MeasuredCrossing) -> tuple[float, float]:
    """Widths of artery and vein in pixels, the median of each centreline's radius doubled; at least 1."""
    artery, vein = (max(2 * float(np.median(line.radius)), 1.0) for line in (crossing.first, crossing.second))
    return artery, vein


def is_usable(
    crossing: MeasuredCrossing,
    others: list[MeasuredCrossing],
    vessels: Mask,
    field: Mask | None = None,
    scale: float = 1.0,
) -> bool:
    """Whether the vein can be pinched here: of one calibre, with room on both sides, and crossed at a clear angle.

    `others` are all crossings of the photograph (this one may be among them), `vessels` (rows, columns) its arteries and
    veins, `field` its field of view, all at one scale; `scale` is the photograph's pixels for each of theirs.
    """
    artery, vein = map_widths(crossing)
    sine = float(np.sin(np.radians(crossing.angle)))
    min_artery, min_vein = (
        max(visible / scale, mapped) for visible, mapped in zip(_VISIBLE_PIXELS, _MAPPED_PIXELS, strict=True)
    )
    if sine < _MIN_SINE or artery < max(min_artery, _PRESSING * vein) or vein < min_vein:
        return False
    course = Course.of(crossing.second, crossing.at, vein)
    wall = artery / 2 / sine
    room = wall + _ROOM * vein
    runs_on = course.way[0] < -room and course.way[-1] > room
    near_others = sum(float(np.hypot(*(crossing.at - other.at))) < wall + _ALONE * vein for other in others)
    way = arc_length(crossing.second.points)
    radius = crossing.second.radius[np.abs(way - way[crossing.second.crossing_index]) < room]
    one_calibre = float(np.std(radius)) < _MAX_VARIATION * float(np.mean(radius))
    in_field = field is None or _is_inside(field, crossing, room + _RIM * vein)
    if not (runs_on and near_others <= 1 and one_calibre and in_field):
        return False
    beyond = (np.abs(course.way) > wall + _APART * vein) & (np.abs(course.way) < room)
    from_artery = KDTree(crossing.first.points).query(course.points[beyond])[0]
    if not (from_artery > artery / 2 + 0.6 * vein).all():
        return False
    drawn = Course.of(crossing.first, crossing.at, artery).drawn(vessels.shape, 1.3 * artery + 2)
    return _flanks_are_clear(course, vessels & ~drawn, wall, room)


def _is_inside(field: Mask, crossing: MeasuredCrossing, reach: float) -> bool:
    """Whether the circle of `reach` pixels around a crossing lies in the field."""
    turns = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    around = np.round(crossing.at + reach * np.column_stack([np.sin(turns), np.cos(turns)])).astype(int)
    clipped = np.clip(around, 0, np.array(field.shape) - 1)
    return bool((clipped == around).all() and field[clipped[:, 0], clipped[:, 1]].all())


def _flanks_are_clear(course: Course, vessels: Mask, wall: float, room: float) -> bool:
    """Whether no other vessel leaves the vein, or runs beside it, from `wall` to `room` pixels from the crossing."""
    near = (np.abs(course.way) > wall) & (np.abs(course.way) < room)
    flank = np.abs(course.offsets(_FLANK[1])) > _FLANK[0] * course.width
    filled = course.straightened(vessels.astype(np.float32), _FLANK[1])[near][:, flank]
    return float(filled.mean()) < _FLANK_SHARE


def pinch(
    pixels: Pixels, crossing: MeasuredCrossing, plan: WarpPlan, widths: tuple[float, float] | None = None
) -> Pixels:
    """A copy of the photograph (rows, columns, 3; RGB) with the plan carried out at a crossing.

    The crossing's `first` vessel is the artery. `widths` of artery and vein in pixels replace those of the centrelines.
    Within 9 vein widths of the crossing every pixel is resampled twice, beyond that none.
    """
    artery, vein = widths or map_widths(crossing)
    reach = _WINDOW * vein
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.minimum(np.ceil(crossing.at + reach).astype(int) + 1, pixels.shape[:2])
    window = np.s_[low[0] : high[0], low[1] : high[1]]
    picture = pixels[window].astype(np.float32)
    first, second = (replace(line, points=line.points - low) for line in (crossing.first, crossing.second))
    site = PinchSite.of(picture, replace(crossing, at=crossing.at - low, first=first, second=second), (artery, vein))
    changed = pixels.copy()
    changed[window] = np.clip(np.rint(site.changed(picture, plan)), 0, 255).astype(np.uint8)
    return changed


def pinched_truth(
    crossing: MeasuredCrossing, plan: WarpPlan, widths: tuple[float, float] | None = None
) -> CrossingTruth:
    """The truth of a pinched crossing; side 1 is the vein's points before the crossing."""
    artery, vein = widths or map_widths(crossing)
    points, k = crossing.second.points, crossing.second.crossing_index
    up = points[:k, 0].mean() < points[k:, 0].mean()
    row, column = (float(x) for x in crossing.at)
    return CrossingTruth(
        row,
        column,
        artery,
        vein,
        crossing.angle,
        *plan.narrowing,
        plan.grade,
        True,
        bool(up),
        *plan.calibre,
        *plan.fade,
    )


def pinched_patch(
    pixels: Pixels,
    crossing: MeasuredCrossing,
    plan: WarpPlan,
    widths: tuple[float, float] | None = None,
    side: int = SIDE,
) -> Pixels:
    """The patch (side, side, 3) around a crossing, 12 vein widths to a side, with the plan carried out."""
    return crossing_patch(pinch(pixels, crossing, plan, widths), pinched_truth(crossing, plan, widths), side)
