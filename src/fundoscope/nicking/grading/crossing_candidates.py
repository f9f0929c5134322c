"""Where arteries and veins meet: the network's map of crossings and the vessels' geometry, weighed together.

Two witnesses propose: peaks of the network's crossing map, and the places where the graph has an arterial and a venous
strand run through each other. Each proposal is described by what both say of it, and a logistic model, fitted on
photographs whose maps come from a network that had not seen them, turns that into a confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from fundoscope.vessels import MeasuredCrossing, crossings_between, crossings_on
from fundoscope.vessels.artery_vein import ArteryVeinMap

#: What is known of a proposal, in this order.
FEATURES = ("heat", "both", "strands", "graph", "angle", "width")

NEAR = 8.0  # pixels at DRIVE's scale within which two witnesses speak of one place: a wide vein's width
_SMOOTH = 1.5  # pixels: deviation by which the map is smoothed before its peaks are sought
_LEAST = 0.04  # of the map, at a peak that is worth a look
_AROUND = 4.0  # pixels in which the kinds at a place are looked for
_EVEN = 1e-3

Points = NDArray[np.float64]
Plane = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Meetings:
    """Proposals: `at` (n, 2), row and column at the maps' scale, `features` (n, 6) in the order of `FEATURES`, and the
    strands that cross there, `first` the artery, or None where the graph shows no two.
    """

    at: Points
    features: NDArray[np.float64]
    crossings: tuple[MeasuredCrossing | None, ...]

    def __len__(self) -> int:
        return len(self.at)


def meetings(maps: Plane, kinds: ArteryVeinMap) -> Meetings:
    """The proposals of a photograph's maps (4, rows, columns: vessel, artery, vein, crossing; 0 to 1)."""
    _, artery, vein, heat = maps
    heat = np.asarray(cv2.GaussianBlur(np.asarray(heat, np.float32), (0, 0), _SMOOTH), np.float32)
    strands = crossings_between(kinds.artery, kinds.vein)
    peaks = _peaks(heat)
    at = np.array([*peaks, *_unnamed([crossing.at for crossing in strands], peaks)], float).reshape(-1, 2)
    of_kind = _nearest(at, [crossing.at for crossing in strands])
    of_graph = _nearest(at, [crossing.at for crossing in crossings_on(kinds.graph)])
    both = np.minimum(_highest(artery, at), _highest(vein, at))
    found = [strands[k] if k >= 0 else None for k in of_kind]
    features = np.column_stack([
        _logit(_highest(heat, at)),
        _logit(both),
        of_kind >= 0,
        of_graph >= 0,
        [crossing.angle / 90 if crossing else 0.0 for crossing in found],
        [_thinner(crossing) if crossing else 0.0 for crossing in found],
    ])  # fmt: skip
    return Meetings(at, features.reshape(-1, len(FEATURES)), tuple(found))


def _peaks(heat: Plane) -> Points:
    """Places (n, 2) that are the highest within `NEAR` / 2 pixels, to a part of a pixel."""
    window = np.ones((2 * round(NEAR / 2) + 1,) * 2, np.uint8)
    highest = (heat >= cv2.dilate(heat, window)) & (heat >= _LEAST)
    return np.array([_refined(heat, int(row), int(column)) for row, column in np.argwhere(highest)]).reshape(-1, 2)


def _refined(heat: Plane, row: int, column: int, reach: int = 3) -> Points:
    """The centre of mass around a peak."""
    rows = np.arange(max(0, row - reach), min(heat.shape[0], row + reach + 1))
    columns = np.arange(max(0, column - reach), min(heat.shape[1], column + reach + 1))
    part = heat[np.ix_(rows, columns)]
    return np.array([(part.sum(1) @ rows), (part.sum(0) @ columns)]) / part.sum()


def _unnamed(places: list[Points], known: Points) -> list[Points]:
    """Those places that are near none of the known ones."""
    return [
        place
        for place, near in zip(places, _nearest(np.array(places).reshape(-1, 2), list(known)), strict=True)
        if near < 0
    ]


def _nearest(at: Points, places: list[Points]) -> NDArray[np.int64]:
    """The index of the nearest place within `NEAR`, -1 where there is none, (n,)."""
    if not len(places) or not len(at):
        return np.full(len(at), -1)
    distance, which = KDTree(np.array(places)).query(at)
    return np.where(distance <= NEAR, which, -1)


def _highest(plane: Plane, at: Points) -> Points:
    """The highest value within a few pixels of each place, (n,)."""
    side = 2 * round(_AROUND) + 1
    wide = cv2.dilate(np.asarray(plane, np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    rows, columns = np.clip(np.round(at).astype(int), 0, np.array(plane.shape) - 1).T
    return wide[rows, columns].astype(float)


def _logit(p: Points) -> Points:
    return np.log((p + _EVEN) / (1 - p + _EVEN))


def _thinner(crossing: MeasuredCrossing) -> float:
    """Log of the width of the thinner of the two vessels, pixels."""
    return float(np.log(2 * min(np.median(strand.radius) for strand in (crossing.first, crossing.second)) + 1))
