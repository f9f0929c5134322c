"""The true crossings of a drawn map: where an artery and a vein overlap and run on.

An overlap counts if it is larger than a speck and touches both an artery and a vein. It may be long, since two vessels that
cross at a small angle overlap over several of their widths: its shape is not tested. It is a crossing if the map draws the
artery on both sides of it and the vein on at least one; of any other overlap the map does not say what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.datasets.record import WIDE, Mask, Points

MIN_OVERLAP = 8  # pixels of an overlap at DRIVE's scale; smaller ones are specks of the drawing
_REACH = 7  # pixels at DRIVE's scale around an overlap in which the vessels' widths are taken: a wide vein's width
_ARM = 1.5  # widths of the wider vessel that an arm reaches from the overlap, at least ...
_MIN_ARM = 5  # ... pixels at DRIVE's scale
_TOUCH = 1.6  # pixels from an overlap to its neighbours, diagonal ones too
_OPPOSITE = np.radians(100)  # between the directions of two arms on two sides of an overlap


@dataclass(frozen=True, slots=True, eq=False)
class MapCrossings:
    """The crossings of one map, ordered by row, then column.

    `centres` (n, 2) are row and column of the overlaps' centroids, 0-based; `artery_widths` and `vein_widths` (n,) are in
    pixels, `areas` (n,) in pixels of the overlap; `artery_arms` and `vein_arms` (n,) say on how many sides of the overlap
    the map draws the vessel, 0 to 2; `scale` is the number of pixels for one of DRIVE's.
    """

    centres: Points
    artery_widths: Points
    vein_widths: Points
    areas: Points
    artery_arms: NDArray[np.int64]
    vein_arms: NDArray[np.int64]
    scale: float

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def wide(self) -> Mask:
        """Which crossings (n,) are wide: both vessels at least 4 px at DRIVE's scale."""
        return np.minimum(self.artery_widths, self.vein_widths) >= WIDE * self.scale

    @property
    def certain(self) -> Mask:
        """Which overlaps (n,) are crossings for certain: the artery is drawn on both sides, the vein on one at least."""
        return (self.artery_arms == 2) & (self.vein_arms >= 1)

    def __getitem__(self, chosen: Mask) -> MapCrossings:
        """The overlaps for which `chosen` (n,) is true."""
        return MapCrossings(
            self.centres[chosen], self.artery_widths[chosen], self.vein_widths[chosen], self.areas[chosen],
            self.artery_arms[chosen], self.vein_arms[chosen], self.scale,
        )  # fmt: skip


def find_map_crossings(artery: Mask, vein: Mask, scale: float = 1.0, min_overlap: float = MIN_OVERLAP) -> MapCrossings:
    """The overlaps of an arterial and a venous mask (rows, columns) that share the pixels where they cross.

    An overlap is an 8-connected overlap of at least `min_overlap` x `scale`^2 pixels that touches a pixel of each mask
    alone. A vessel's width is twice the greatest distance from one of its pixels to one outside, within 7 x `scale`
    pixels of the overlap: about a pixel more than from edge to edge, and the widest part counts.
    """
    overlap = artery & vein
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(overlap.astype(np.uint8), connectivity=8)
    depths = [cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) for mask in (artery, vein)]
    reach, found = round(_REACH * scale), []
    for k in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= min_overlap * scale**2):
        if k == 0:  # the background
            continue
        window = _around(stats[k], reach)
        blob = labels[window] == k
        ring = _grown(blob, 1)
        if not all((mask[window] & ~overlap[window] & ring).any() for mask in (artery, vein)):
            continue
        near = _grown(blob, reach)
        widths = [2 * float(depth[window][near].max()) for depth in depths]
        arm = max(_MIN_ARM * scale, _ARM * max(widths))
        wide = _around(stats[k], round(arm) + 1)
        arms = [_count_arms(mask[wide], labels[wide] == k, arm) for mask in (artery, vein)]
        found.append((centroids[k][1], centroids[k][0], *widths, stats[k, cv2.CC_STAT_AREA], *arms))
    table = np.array(sorted(found), float).reshape(-1, 7)
    artery_arms, vein_arms = table[:, 5:].T.astype(np.int64)
    return MapCrossings(table[:, :2], table[:, 2], table[:, 3], table[:, 4], artery_arms, vein_arms, scale)


def _count_arms(vessel: Mask, blob: Mask, reach: float) -> int:
    """On how many sides of its overlap `blob` a vessel runs on: 0, 1 or 2.

    An arm touches the overlap and gets `reach` pixels away from it; its outer half says into which direction.
    """
    away = cv2.distanceTransform((~blob).astype(np.uint8), cv2.DIST_L2, 5)
    arms = cv2.connectedComponents((vessel & ~blob & (away <= reach)).astype(np.uint8), connectivity=8)[1]
    touching = set(arms[away <= _TOUCH].tolist()) - {0}
    outer = np.isin(arms, list(touching)) & (away >= reach / 2)
    number, ends = cv2.connectedComponents(outer.astype(np.uint8), connectivity=8)
    centre, directions = np.argwhere(blob).mean(axis=0), []
    for k in range(1, number):
        if away[ends == k].max() >= reach - _TOUCH:
            directions.append(np.arctan2(*(np.argwhere(ends == k).mean(axis=0) - centre)))
    turns = [abs((a - b + np.pi) % (2 * np.pi) - np.pi) for a, b in combinations(directions, 2)]
    return 2 if max(turns, default=0.0) >= _OPPOSITE else min(len(directions), 1)


def _around(stats: Points, reach: int) -> tuple[slice, slice]:
    """A component's box, `reach` and a pixel wider on each side."""
    column, row, columns, rows = (int(value) for value in stats[:4])
    wider = reach + 1
    return (
        slice(max(0, row - wider), row + rows + wider),
        slice(max(0, column - wider), column + columns + wider),
    )


def _grown(blob: Mask, pixels: int) -> Mask:
    """A blob grown by so many pixels in all eight directions."""
    square = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate(blob.astype(np.uint8), square) > 0
