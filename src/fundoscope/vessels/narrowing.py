"""Narrowing of a vein on both sides of the artery that crosses it: the measure behind every grade of nicking.

After Nguyen et al. 2013 (IEEE TBME 60:3194): width near the crossing against width away from it, for each venous side.
The width is what can be seen, calibre times contrast, because a nicked vein tapers and fades; both come from the
sub-pixel column fitted across the vein on the photograph (`calibre`), never from a thresholded map or a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.vessels.calibre import Across, Ruler, amounts, read_across
from fundoscope.vessels.crossings import Crossing
from fundoscope.vessels.graph import Mask, Strand, along

Floats = NDArray[np.float64]

_NEAR = (-0.05, 0.4)  # vein widths beyond the artery's wall where a nick is looked for
_AWAY = (2.0, 4.5)  # and where the vein is taken to be undisturbed
_AT_LEAST = 1.2  # where a short vein's undisturbed part may begin, if it has no better
_CLEAR = 0.6  # share of the vein and its walls that a ray must see
_FITS = 0.5  # share of a ray's variance that the column must explain
_ALONG = 0.15  # vein widths: deviation of the averaging along the vein


@dataclass(frozen=True, slots=True, eq=False)
class Narrowing:
    """1 - seen width beside the artery / undisturbed seen width, of side 1 (the vein's points before the crossing) and
    2; nan where too little of the vein is clear. Widths in pixels; it may be negative.

    `across` are the vein's rays, `from_wall` (n,) their distance along the vein from the artery's nearer wall (negative
    under it), `side` (n,) 1 or 2, `profile` (n,) the seen width over the undisturbed one.
    """

    side_1: float
    side_2: float
    artery_width: float
    vein_width: float
    across: Across
    from_wall: Floats
    side: NDArray[np.int64]
    profile: Floats

    @property
    def worse(self) -> float:
        """The larger of the two, of those that could be measured; nan if none could."""
        known = [side for side in (self.side_1, self.side_2) if np.isfinite(side)]
        return max(known, default=float("nan"))


def measure_narrowing(ruler: Ruler, crossing: Crossing, arteries: Mask | None = None) -> Narrowing:
    """Narrowing of the vein (`second`) of a crossing by its artery (`first`), in the ruler's photograph.

    `arteries` (rows, columns) marks arterial pixels, which are not looked at; without it the crossing's own artery is
    drawn from its measured width.
    """
    rough = 2 * float(np.median(crossing.second.radius))
    hidden = _beneath(ruler.plane.shape, crossing.first) if arteries is None else arteries
    vein = _within(crossing.second, (_AWAY[1] + 2.5) * rough)
    rays = ruler.rays(vein, hidden)
    from_wall, _ = _from_walls(hidden, vein, rays.way)
    width = _undisturbed(rays.width, from_wall / rough, rays.fit > _FITS) or rough
    across = read_across(ruler.plane, vein, width, _ALONG * width, hidden)
    seen, sure = amounts(across, ruler.blur / width), across.clear >= _CLEAR
    from_wall, side = _from_walls(hidden, vein, across.way)
    whole = _undisturbed(seen, from_wall / width, sure)
    profile = seen / whole if whole > 0 else np.full(len(seen), np.nan)
    sides = [_side(profile, from_wall / width, sure & (side == k)) for k in (1, 2)]
    return Narrowing(sides[0], sides[1], _artery_width(ruler, crossing, rough), width, across, from_wall, side, profile)


def _from_walls(hidden: Mask, vein: Strand, way: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Distance along the vein from where it comes out from under the artery (negative beneath it), and the side."""
    way_of = along(vein.points)
    rows, columns = np.clip(np.round(vein.points).astype(int), 0, np.array(hidden.shape) - 1).T
    beneath = hidden[rows, columns]
    here = vein.here
    before, after = np.flatnonzero(~beneath[: here + 1]), np.flatnonzero(~beneath[here:])
    low = way_of[before[-1]] if len(before) else way_of[0]
    high = way_of[here + after[0]] if len(after) else way_of[-1]
    first = way < way_of[here]
    return np.where(first, low - way, way - high), np.where(first, 1, 2)


def _artery_width(ruler: Ruler, crossing: Crossing, vein_width: float) -> float:
    """Median width of the artery beside the vein, sub-pixel; the mask's where it cannot be measured."""
    rough = 2 * float(np.median(crossing.first.radius))
    artery = _within(crossing.first, vein_width + 2.5 * rough)
    rays = ruler.rays(artery)
    place = np.abs(rays.way - along(artery.points)[artery.here])
    beside = (place > vein_width / 2 + ruler.blur) & (rays.fit > _FITS)
    width = float(np.median(rays.width[beside])) if beside.any() else rough
    return width if 0.5 < width / rough < 2 else rough


def _within(strand: Strand, reach: float) -> Strand:
    """The part of a strand within `reach` pixels of its `here`."""
    way = along(strand.points)
    keep = np.abs(way - way[strand.here]) <= reach
    return Strand(strand.points[keep], strand.radius[keep], int(keep[: strand.here].sum()))


def _beneath(shape: tuple[int, ...], artery: Strand) -> Mask:
    """The artery drawn from its strand."""
    canvas = np.zeros(shape[:2], np.uint8)
    points = np.round(artery.points[:, ::-1] * 16).astype(np.int32)
    thickness = max(1, round(2 * float(np.median(artery.radius))))
    cv2.polylines(canvas, [points[:, None]], isClosed=False, color=1, thickness=thickness, shift=4)
    return canvas.astype(bool)


def _undisturbed(seen: Floats, widths_from_wall: Floats, sure: Mask) -> float:
    """Median away from the crossing; from nearer by where the vein is short, 0 where it is too short for that."""
    for start in (_AWAY[0], (_AWAY[0] + _AT_LEAST) / 2, _AT_LEAST):
        away = sure & (widths_from_wall > start) & (widths_from_wall < _AWAY[1])
        if away.sum() >= 5:
            return float(np.median(seen[away]))
    return 0.0


def _side(profile: Floats, widths_from_wall: Floats, sure: Mask) -> float:
    near = sure & (widths_from_wall >= _NEAR[0]) & (widths_from_wall <= _NEAR[1])
    return float(1 - np.mean(profile[near])) if near.sum() >= 2 else float("nan")
