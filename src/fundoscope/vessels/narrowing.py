"""Narrowing of a vein on both sides of the artery that crosses it: the measure behind every grade of nicking.

After Nguyen et al. 2013 (IEEE TBME 60:3194): width near the crossing against width away from it, for each side of the
vein. It is the apparent width, calibre times contrast, because a nicked vein tapers and fades; both come from one model of
the vein and its artery that is fitted to the photograph (`joint_fit`), never from a thresholded map or a network. The
profile that is drawn beside it comes from cross-sections one by one (`calibre`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.vessels import draw
from fundoscope.vessels.calibre import CalibreModel, CrossSections, apparent_widths, sample_cross_sections
from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Centreline, Mask, Points, arc_length
from fundoscope.vessels.joint_fit import FittedCrossing, fit_crossing

Floats = NDArray[np.float64]

# Lengths in vein widths from the artery's wall, unless said otherwise
_FIRST_SEEN = (-0.05, 0.7)  # the vein must come into sight within this range,
_NICK_LENGTH = 0.45  # and a nick is looked for over so much of it from there
_UNDISTURBED = (2.0, 4.5)  # where the vein is taken to be undisturbed
_UNDISTURBED_SHORT = 1.2  # where that may begin in a vein too short for it
_FEWEST_UNDISTURBED = 3  # bins
_BIN = 0.25
_FEWEST_IN_BIN = 2  # cross-sections
_SMOOTHING = 0.05  # vein widths: deviation of the averaging along the vein before cross-sections are pooled
_VISIBLE = 0.8  # share of the vein and its walls that a cross-section must see
_HALO = 1.0  # blurs beyond the artery's wall where it still hides the vein in part
_GOOD_FIT = 0.5  # share of a cross-section's variance that the column must explain
_THINNEST = 1.0  # pixel: a map's vessel may be one pixel wide, of radius 0; and no thinner width is measured
_AGREEING = (
    0.5,
    2.0,
)  # a measured width is that of the map's vessel times a factor between these, or it is of something else
_SEEN, _FILLED, _ROOM = 0.5, 0.13, 1.5  # of a side that is measured: seen at least, filled at most, running on at least
_LARGEST_ERROR = 0.3  # standard error from which on a side counts as not measured
_UNKNOWN = (float("nan"), float("nan"))  # of both sides
_OWN_WIDTHS = 1.7  # vein widths around its centreline that belong to the vein; other veins' pixels are hidden


@dataclass(frozen=True, slots=True, eq=False)
class VeinProfile:
    """Apparent width of a vein along its course, in bins of a quarter of its width.

    (n,) each: `distance` of the bin's start from the artery's wall in vein widths, `side` 1 or 2, `apparent_width` (vein
    widths times grey levels), `beside_artery` whether it is the bin where a nick is looked for. `centres` and unit
    `normals` (n, 2; row, column) are in the photograph.
    """

    distance: Floats
    side: NDArray[np.int64]
    apparent_width: Floats
    centres: Points
    normals: Points
    beside_artery: Mask

    @classmethod
    def of(cls, sections: CrossSections, from_wall: Floats, side: NDArray[np.int64], blur: float) -> VeinProfile:
        """The profile of all cross-sections that see enough of the vein; `from_wall` (n,) and `blur` in vein widths."""
        visible = sections.visible >= _VISIBLE
        bins: list[tuple[float, int, bool, Mask]] = []  # distance, side, beside the artery, its cross-sections
        for k in (1, 2):
            own = visible & (side == k) & (from_wall >= _FIRST_SEEN[0])
            first = float(from_wall[own].min(initial=np.inf))
            start = first if first <= _FIRST_SEEN[1] else _FIRST_SEEN[1]
            edges = start + np.concatenate([[0.0], np.arange(_NICK_LENGTH, _UNDISTURBED[1] + 2, _BIN)])
            for low, high in pairwise(edges):
                inside = own & (from_wall >= low) & (from_wall < high)
                if inside.sum() >= _FEWEST_IN_BIN:
                    bins.append((low, k, low == first, inside))
        if not bins:
            nothing, nowhere = np.zeros(0), np.zeros((0, 2))
            return cls(nothing, np.zeros(0, np.int64), nothing, nowhere, nowhere, np.zeros(0, bool))
        members = np.stack([inside for *_, inside in bins]).astype(float)
        members /= members.sum(axis=1, keepdims=True)
        weight, total = members @ sections.weight, members @ (sections.weight * sections.grey)
        width = apparent_widths(total / np.maximum(weight, 1e-9), weight, blur)
        centres, normals = members @ sections.centres, members @ sections.normals
        distance, of_side, beside_artery = (np.array([each[part] for each in bins]) for part in range(3))
        return cls(distance, of_side, width, centres, normals, beside_artery)

    @property
    def undisturbed_bins(self) -> Mask:
        """The bins (n,) where the vein is taken to be undisturbed; in a short vein they begin nearer, or there are none."""
        for start in (_UNDISTURBED[0], (_UNDISTURBED[0] + _UNDISTURBED_SHORT) / 2, _UNDISTURBED_SHORT):
            away = (self.distance >= start) & (self.distance < _UNDISTURBED[1])
            if away.sum() >= _FEWEST_UNDISTURBED:
                return away
        return np.zeros(len(self.distance), bool)

    def undisturbed_width(self) -> float:
        """Median apparent width away from the crossing, of both sides; nan where too little is visible."""
        away = self.undisturbed_bins
        return (float(np.median(self.apparent_width[away])) or float("nan")) if away.any() else float("nan")

    def variation(self) -> float:
        """Half the interquartile range of the undisturbed bins as a share of their median; nan without any."""
        away = self.undisturbed_bins
        if not away.any():
            return float("nan")
        low, high = np.percentile(self.apparent_width[away], [25, 75])
        return float((high - low) / 2 / self.undisturbed_width())


@dataclass(frozen=True, slots=True, eq=False)
class Narrowing:
    """Narrowing of a vein at a crossing: 1 - apparent width beside the artery / undisturbed apparent width.

    `side_1` holds it for the vein's points before the crossing, `side_2` for those after it; it is negative where the
    vein is wider, and nan where too little of the vein is visible or its width could not be measured. A side that is nan
    is unknown: it never counts as not narrowed. Widths are in pixels, measured on the vessels' own edges; `vein_width` is
    nan where neither side was measured, `artery_width` where the artery's edges gave none. `profile` holds the widths
    along the vein in units of `unit` pixels, the vein's width by its edges, or by the map where these gave none.
    `standard_errors` of both sides are nan where the side is.
    """

    side_1: float
    side_2: float
    artery_width: float
    vein_width: float
    profile: VeinProfile
    unit: float
    standard_errors: tuple[float, float] = _UNKNOWN

    @property
    def sides(self) -> tuple[float, float]:
        """Narrowing of both sides, nan for one that was not measured."""
        return self.side_1, self.side_2

    @property
    def worse(self) -> float:
        """The larger narrowing of both sides; nan where a side was not measured, since that one may be the worse."""
        return float(np.max(self.sides))

    def is_undisturbed(self, narrowed_from: float) -> bool:
        """Whether both sides were measured, and both are narrowed by less than `narrowed_from`."""
        return self.worse < narrowed_from

    def draw(self, canvas: Pixels) -> None:
        """Draw the vein's walls, as far apart as its apparent width, onto the photograph (rows, columns, 3)."""
        share = self.profile.apparent_width / self.profile.undisturbed_width()
        for side in (1, 2):
            own = self.profile.side == side
            half = (self.unit / 2 * share[own])[:, None] * self.profile.normals[own]
            for sign in (-1, 1):
                draw.line(canvas, self.profile.centres[own] + sign * half, draw.WALL)


def measure_narrowing(
    model: CalibreModel, crossing: MeasuredCrossing, arteries: Mask | None = None, veins: Mask | None = None
) -> Narrowing:
    """Narrowing of the vein (`second`) of a crossing by its artery (`first`), in the photograph of `model`.

    `arteries` and `veins` (rows, columns) are the photograph's vessels: all but the vein itself are left out of its
    cross-sections. Without them, only the crossing's own artery is, drawn from its centreline.
    """
    rough = max(2 * float(np.median(crossing.second.radius)), _THINNEST)
    artery_mask = _drawn_vessel(model.plane.shape, crossing.first) if arteries is None else arteries
    others = np.zeros(model.plane.shape, bool)
    if veins is not None:
        others = veins & ~_drawn_vessel(model.plane.shape, crossing.second, _OWN_WIDTHS)
    other_arteries = artery_mask & ~_drawn_vessel(model.plane.shape, crossing.first, _OWN_WIDTHS)
    fit = fit_crossing(model.planes, model.blur, crossing, others | other_arteries)
    width = fit.vein_width if fit and _is_believable(fit.vein_width, rough) else rough
    vein = _part_near_crossing(crossing.second, (_UNDISTURBED[1] + 2.5) * rough)
    vein = vein if fit is None else _recentred(vein, fit.middle)
    artery_direction = _direction_at_crossing(crossing.first, width)
    hidden = others | _dilated(artery_mask, _HALO * model.blur)
    sections = sample_cross_sections(model.plane, vein, width, _SMOOTHING * width, hidden, artery_direction)
    from_wall, side = _distance_from_wall(artery_mask, vein, sections.way)
    profile = VeinProfile.of(sections, from_wall / width, side, model.blur / width)
    sides, errors = _measured_sides(fit, rough)
    vein_width = width if np.isfinite(sides).any() else float("nan")
    return Narrowing(*sides, _artery_width(model, crossing, rough), vein_width, profile, width, errors)


def _measured_sides(fit: FittedCrossing | None, rough: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Narrowing and standard error of both sides, nan for a side that is not clear or not sure; `rough` is the vein's width
    by the map, pixels.
    """
    if fit is None or not _is_believable(fit.vein_width, rough):
        return _UNKNOWN, _UNKNOWN
    clear = [
        seen > _SEEN and filled < _FILLED and room > _ROOM and error < _LARGEST_ERROR
        for seen, filled, room, error in zip(fit.seen, fit.filled, fit.room, fit.errors, strict=True)
    ]
    narrowing, errors = (np.where(clear, values, np.nan) for values in (fit.narrowing, fit.errors))
    return (float(narrowing[0]), float(narrowing[1])), (float(errors[0]), float(errors[1]))


def _is_believable(by_edges: float, by_map: float) -> bool:
    """Whether a width (pixels, 0 for none) that was read off a vessel's edges is that of the map's vessel."""
    return by_edges >= _THINNEST and _AGREEING[0] < by_edges / by_map < _AGREEING[1]


def _recentred(vein: Centreline, middle: Points) -> Centreline:
    """The centreline along the middle (n, 2) that was fitted."""
    at = int(np.hypot(*(middle - vein.points[vein.crossing_index]).T).argmin())
    nearest = np.hypot(*(middle[:, None] - vein.points[None]).transpose(2, 0, 1)).argmin(axis=1)
    return Centreline(middle, vein.radius[nearest], at)


def _direction_at_crossing(line: Centreline, reach: float) -> Floats:
    """Unit direction (2,) of a centreline over `reach` pixels to each side of the crossing."""
    way = arc_length(line.points)
    ends = _points_at(line, np.clip(way[line.crossing_index] + np.array([-reach, reach]), 0, way[-1]))
    run = ends[1] - ends[0]
    return run / max(float(np.hypot(*run)), 1e-9)


def _points_at(line: Centreline, way: Floats) -> Points:
    """The points (n, 2) of a centreline at lengths `way` (n,) along it."""
    return np.column_stack([np.interp(way, arc_length(line.points), line.points[:, k]) for k in (0, 1)])


def _distance_from_wall(arteries: Mask, vein: Centreline, way: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Distance along the vein from the artery's wall (negative beneath the artery) and side (1 or 2) at lengths `way`."""
    vein_way = arc_length(vein.points)
    rows, columns = np.clip(np.round(vein.points).astype(int), 0, np.array(arteries.shape) - 1).T
    beneath = arteries[rows, columns]
    crossing = vein.crossing_index
    before, after = np.flatnonzero(~beneath[: crossing + 1]), np.flatnonzero(~beneath[crossing:])
    low = vein_way[before[-1]] if len(before) else vein_way[0]
    high = vein_way[crossing + after[0]] if len(after) else vein_way[-1]
    is_before = way < vein_way[crossing]
    return np.where(is_before, low - way, way - high), np.where(is_before, 1, 2)


def _artery_width(model: CalibreModel, crossing: MeasuredCrossing, vein_width: float) -> float:
    """Median width of the artery beside the vein, pixels; nan where it cannot be measured."""
    rough = max(2 * float(np.median(crossing.first.radius)), _THINNEST)
    artery = _part_near_crossing(crossing.first, vein_width + 2.5 * rough)
    widths = model.measure_widths(artery)
    distance = np.abs(widths.way - arc_length(artery.points)[artery.crossing_index])
    beside = (distance > vein_width / 2 + model.blur) & (widths.fit > _GOOD_FIT)
    width = float(np.median(widths.width[beside])) if beside.any() else 0.0
    return width if _is_believable(width, rough) else float("nan")


def _part_near_crossing(line: Centreline, reach: float) -> Centreline:
    """The part of a centreline within `reach` pixels of the crossing, along it."""
    way = arc_length(line.points)
    near = np.abs(way - way[line.crossing_index]) <= reach
    return Centreline(line.points[near], line.radius[near], int(near[: line.crossing_index].sum()))


def _dilated(mask: Mask, radius: float) -> Mask:
    """The mask and all pixels within `radius` pixels of it."""
    size = 2 * int(np.ceil(radius)) + 1
    at = np.arange(size) - size // 2
    disc = (at[:, None] ** 2 + at[None, :] ** 2 <= max(radius, 0.5) ** 2).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def _drawn_vessel(shape: tuple[int, ...], line: Centreline, share: float = 1.0) -> Mask:
    """A mask of the vessel along a centreline, drawn at `share` of its median width."""
    canvas = np.zeros(shape[:2], np.uint8)
    points = np.round(line.points[:, ::-1] * 16).astype(np.int32)
    thickness = max(1, round(2 * share * float(np.median(line.radius))))
    cv2.polylines(canvas, [points[:, None]], isClosed=False, color=1, thickness=thickness, shift=4)
    return canvas.astype(bool)
