"""The true crossings of a drawn map: where its arteries and veins overlap.

An overlap counts if it is larger than a speck and touches both an artery and a vein. It may be long, since two vessels that
cross at a small angle overlap over several of their widths: its shape is not tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fundoscope.datasets.record import WIDE, Mask, Points

MIN_OVERLAP = 8  # pixels of an overlap at DRIVE's scale; smaller ones are specks of the drawing
_REACH = 7  # pixels at DRIVE's scale around an overlap in which the vessels' widths are taken: a wide vein's width


@dataclass(frozen=True, slots=True, eq=False)
class MapCrossings:
    """The crossings of one map, ordered by row, then column.

    `centres` (n, 2) are row and column of the overlaps' centroids, 0-based; `artery_widths` and `vein_widths` (n,) are in
    pixels, `areas` (n,) in pixels of the overlap; `scale` is the number of pixels for one of DRIVE's.
    """

    centres: Points
    artery_widths: Points
    vein_widths: Points
    areas: Points
    scale: float

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def wide(self) -> Mask:
        """Which crossings (n,) are wide: both vessels at least 4 px at DRIVE's scale."""
        return np.minimum(self.artery_widths, self.vein_widths) >= WIDE * self.scale


def find_map_crossings(artery: Mask, vein: Mask, scale: float = 1.0, min_overlap: float = MIN_OVERLAP) -> MapCrossings:
    """The crossings of an arterial and a venous mask (rows, columns) that share the pixels where they cross.

    A crossing is an 8-connected overlap of at least `min_overlap` x `scale`^2 pixels that touches a pixel of each mask
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
        found.append((centroids[k][1], centroids[k][0], *widths, stats[k, cv2.CC_STAT_AREA]))
    table = np.array(sorted(found), float).reshape(-1, 5)
    return MapCrossings(table[:, :2], table[:, 2], table[:, 3], table[:, 4], scale)


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
