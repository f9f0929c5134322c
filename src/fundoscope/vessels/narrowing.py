"""Narrowing of a vein on both sides of the artery that crosses it: the measure behind every grade of nicking.

After Nguyen et al. 2013 (IEEE TBME 60:3194): width near the crossing against width away from it, for each venous side.
The width is what can be seen, calibre times contrast, because a nicked vein tapers and fades; both come from the
sub-pixel column fitted across the vein on the photograph (`calibre`), never from a thresholded map or a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from fundoscope.imaging import Pixels
from fundoscope.vessels import draw
from fundoscope.vessels.calibre import CalibreModel, CrossSections, WidthProfile, apparent_widths, sample_cross_sections
from fundoscope.vessels.crossings import MeasuredCrossing
from fundoscope.vessels.graph import Centreline, Mask, Points, along

Floats = NDArray[np.float64]

_UNDER, _BEGINS = -0.05, 0.7  # vein widths from the artery's wall between which the vein must come into sight,
_NEAR = 0.45  # and for how many from there a nick is looked for
_AWAY = (2.0, 4.5)  # and where the vein is taken to be undisturbed
_AT_LEAST = 1.2  # where a short vein's undisturbed part may begin, if it has no better
_CLEAR = 0.8  # share of the vein and its walls that a ray must see
_HALO = 1.0  # blurs beyond the artery's wall where it still hides the vein in part
_FITS = 0.5  # share of a ray's variance that the column must explain
_ALONG = 0.05  # vein widths: deviation of the averaging along the vein before rays are pooled
_BIN = 0.25  # vein widths
_FEWEST = 2  # rays in a bin
_FEWEST_AWAY = 3  # undisturbed bins
_ROOM, _FEWEST_BESIDE = 1.8, 4  # a vein that does not run on for so many widths, clear in so many bins, branches here
_THINNEST = 1.0  # pixel: a map's vessel may be one pixel wide, of radius 0
_TUBE = 1.7  # vein widths around a strand that are the vein's own; other veins' pixels are not looked at


@dataclass(frozen=True, slots=True, eq=False)
class VeinProfile:
    """Rays pooled along the vein, a bin a quarter of its width: `place` (n,) widths from the artery's wall, `side` (n,)
    1 or 2, `seen` (n,) width times depth, in the vein's widths and grey levels; `centres` and unit `normals` (n, 2) in
    the photograph, `beside` (n,) whether it is the bin where a nick is looked for.
    """

    distance: Floats
    side: NDArray[np.int64]
    apparent_width: Floats
    centres: Points
    normals: Points
    beside_artery: Mask

    @classmethod
    def of(cls, across: CrossSections, from_wall: Floats, side: NDArray[np.int64], blur: float) -> VeinProfile:
        """The bins of all rays that see enough of the vein."""
        sure = across.clear >= _CLEAR
        pooled = []
        for k in (1, 2):
            own = sure & (side == k) & (from_wall >= _UNDER)
            first = float(from_wall[own].min(initial=np.inf))
            start = first if first <= _BEGINS else _BEGINS
            lows = start + np.concatenate([[0.0], np.arange(_NEAR, _AWAY[1] + 2, _BIN)])
            for low, high in pairwise(lows):
                rays = own & (from_wall >= low) & (from_wall < high)
                if rays.sum() >= _FEWEST:
                    pooled.append((low, k, low == first, rays))
        if not pooled:
            return cls(
                np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool)
            )
        weight = np.stack([across.weight[rays].sum(axis=0) for *_, rays in pooled])
        total = np.stack([(across.weight * across.grey)[rays].sum(axis=0) for *_, rays in pooled])
        seen = apparent_widths(total / np.maximum(weight, 1e-9), weight, blur)
        centres, normals = (
            np.stack([of[rays].mean(axis=0) for *_, rays in pooled]) for of in (across.centres, across.normals)
        )
        place, of_side, beside = (np.array([bin_[part] for bin_ in pooled]) for part in range(3))
        return cls(place, of_side, seen, centres, normals, beside)

    def width_beside(self, side: int) -> float:
        """What is seen of the vein just beside the artery, on one side; nan where nothing is."""
        own = self.side == side
        here = own & self.beside_artery
        runs_on = (own & (self.distance < _ROOM)).sum() >= _FEWEST_BESIDE
        return float(self.apparent_width[here][0]) if here.any() and runs_on else float("nan")

    @property
    def undisturbed_bins(self) -> Mask:
        """The bins in which the vein is taken to be undisturbed: nearer by where it is short, none where too short."""
        for start in (_AWAY[0], (_AWAY[0] + _AT_LEAST) / 2, _AT_LEAST):
            away = (self.distance >= start) & (self.distance < _AWAY[1])
            if away.sum() >= _FEWEST_AWAY:
                return away
        return np.zeros(len(self.distance), bool)

    def undisturbed_width(self) -> float:
        """What is seen of it away from the crossing; nan where too little."""
        return (
            (float(np.median(self.apparent_width[self.undisturbed_bins])) or float("nan"))
            if self.undisturbed_bins.any()
            else float("nan")
        )

    def variation(self) -> float:
        """Half the spread of the middle half of the undisturbed bins, as a share of their median; nan without any."""
        if not self.undisturbed_bins.any():
            return float("nan")
        low, high = np.percentile(self.apparent_width[self.undisturbed_bins], [25, 75])
        return float((high - low) / 2 / self.undisturbed_width())


@dataclass(frozen=True, slots=True, eq=False)
class Narrowing:
    """1 - seen width beside the artery / undisturbed seen width, of side 1 (the vein's points before the crossing) and
    2; nan where too little of the vein is clear. Widths in pixels; it may be negative.

    `profile` holds the widths along the vein.
    """

    side_1: float
    side_2: float
    artery_width: float
    vein_width: float
    profile: VeinProfile

    @property
    def larger_measured(self) -> float:
        """The larger of the two, of those that could be measured; nan if none could."""
        known = [side for side in (self.side_1, self.side_2) if np.isfinite(side)]
        return max(known, default=float("nan"))

    def draw(self, canvas: Pixels) -> None:
        """The vein between the walls it is seen to have, bin by bin, on the photograph (rows, columns, 3) itself."""
        share = self.profile.apparent_width / self.profile.undisturbed_width()
        for side in (1, 2):
            own = self.profile.side == side
            half = (self.vein_width / 2 * share[own])[:, None] * self.profile.normals[own]
            for sign in (-1, 1):
                draw.line(canvas, self.profile.centres[own] + sign * half, draw.WALL)


def measure_narrowing(
    ruler: CalibreModel, crossing: MeasuredCrossing, arteries: Mask | None = None, veins: Mask | None = None
) -> Narrowing:
    """Narrowing of the vein (`second`) of a crossing by its artery (`first`), in the ruler's photograph.

    `arteries` and `veins` (rows, columns) mark pixels that are not looked at, but for the vein's own; without them the
    crossing's own artery is drawn from its strand.
    """
    rough = max(2 * float(np.median(crossing.second.radius)), _THINNEST)
    beneath = _drawn(ruler.plane.shape, crossing.first) if arteries is None else arteries
    hidden = _widened(beneath, _HALO * ruler.blur)
    if veins is not None:
        hidden |= veins & ~_drawn(ruler.plane.shape, crossing.second, _TUBE)
    vein = _within(crossing.second, (_AWAY[1] + 2.5) * rough)
    rays = ruler.measure_widths(vein, hidden)
    from_wall, _ = _from_walls(beneath, vein, rays.way)
    width = _undisturbed(rays.width, from_wall / rough, rays.fit > _FITS) or rough
    vein = _centred(vein, rays, width)
    across = sample_cross_sections(ruler.plane, vein, width, _ALONG * width, hidden, _direction(crossing.first, width))
    from_wall, side = _from_walls(beneath, vein, across.way)
    bins = VeinProfile.of(across, from_wall / width, side, ruler.blur / width)
    sides = [bins.width_beside(k) / bins.undisturbed_width() for k in (1, 2)]
    return Narrowing(1 - sides[0], 1 - sides[1], _artery_width(ruler, crossing, rough), width, bins)


def _centred(vein: Centreline, rays: WidthProfile, width: float) -> Centreline:
    """The strand moved onto the vein as the rays saw it; between rays that saw it well it runs on smoothly."""
    off = np.hypot(*(rays.centres - _place(vein, rays.way)).T)
    good = (rays.fit > _FITS) & (off < 0.5 * width)
    if good.sum() < 5:
        return vein
    step = float(rays.way[1] - rays.way[0])
    centres = np.column_stack([np.interp(rays.way, rays.way[good], rays.centres[good, k]) for k in (0, 1)])
    centres = gaussian_filter1d(centres, 0.5 * width / step, axis=0, mode="nearest")
    here = int(np.hypot(*(centres - vein.points[vein.crossing_index]).T).argmin())
    return Centreline(centres, np.interp(rays.way, along(vein.points), vein.radius), here)


def _direction(strand: Centreline, reach: float) -> Floats:
    """Unit direction (2,) of a strand over `reach` pixels to each side of its `here`."""
    way = along(strand.points)
    ends = _place(strand, np.clip(way[strand.crossing_index] + np.array([-reach, reach]), 0, way[-1]))
    run = ends[1] - ends[0]
    return run / max(float(np.hypot(*run)), 1e-9)


def _place(strand: Centreline, way: Floats) -> Points:
    return np.column_stack([np.interp(way, along(strand.points), strand.points[:, k]) for k in (0, 1)])


def _from_walls(arteries: Mask, vein: Centreline, way: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Distance along the vein from where it comes out from under the artery (negative beneath it), and the side."""
    way_of = along(vein.points)
    rows, columns = np.clip(np.round(vein.points).astype(int), 0, np.array(arteries.shape) - 1).T
    beneath = arteries[rows, columns]
    here = vein.crossing_index
    before, after = np.flatnonzero(~beneath[: here + 1]), np.flatnonzero(~beneath[here:])
    low = way_of[before[-1]] if len(before) else way_of[0]
    high = way_of[here + after[0]] if len(after) else way_of[-1]
    first = way < way_of[here]
    return np.where(first, low - way, way - high), np.where(first, 1, 2)


def _artery_width(ruler: CalibreModel, crossing: MeasuredCrossing, vein_width: float) -> float:
    """Median width of the artery beside the vein, sub-pixel; the mask's where it cannot be measured."""
    rough = max(2 * float(np.median(crossing.first.radius)), _THINNEST)
    artery = _within(crossing.first, vein_width + 2.5 * rough)
    rays = ruler.measure_widths(artery)
    place = np.abs(rays.way - along(artery.points)[artery.crossing_index])
    beside = (place > vein_width / 2 + ruler.blur) & (rays.fit > _FITS)
    width = float(np.median(rays.width[beside])) if beside.any() else rough
    return width if 0.5 < width / rough < 2 else rough


def _within(strand: Centreline, reach: float) -> Centreline:
    """The part of a strand within `reach` pixels of its `here`."""
    way = along(strand.points)
    keep = np.abs(way - way[strand.crossing_index]) <= reach
    return Centreline(strand.points[keep], strand.radius[keep], int(keep[: strand.crossing_index].sum()))


def _widened(mask: Mask, by: float) -> Mask:
    """The mask with what lies within `by` pixels of it."""
    size = 2 * int(np.ceil(by)) + 1
    at = np.arange(size) - size // 2
    disc = (at[:, None] ** 2 + at[None, :] ** 2 <= max(by, 0.5) ** 2).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def _drawn(shape: tuple[int, ...], strand: Centreline, share: float = 1.0) -> Mask:
    """A strand drawn at `share` of its width."""
    canvas = np.zeros(shape[:2], np.uint8)
    points = np.round(strand.points[:, ::-1] * 16).astype(np.int32)
    thickness = max(1, round(2 * share * float(np.median(strand.radius))))
    cv2.polylines(canvas, [points[:, None]], isClosed=False, color=1, thickness=thickness, shift=4)
    return canvas.astype(bool)


def _undisturbed(seen: Floats, widths_from_wall: Floats, sure: Mask) -> float:
    """Median away from the crossing; from nearer by where the vein is short, 0 where it is too short for that."""
    for start in (_AWAY[0], (_AWAY[0] + _AT_LEAST) / 2, _AT_LEAST):
        away = sure & (widths_from_wall > start) & (widths_from_wall < _AWAY[1])
        if away.sum() >= 5:
            return float(np.median(seen[away]))
    return 0.0
