"""From a patch and its maps to the measured crossing in its middle, with the ruler that whole photographs get. No torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CrossingSettings
from fundoscope.errors import UsageError
from fundoscope.imaging import Pixels
from fundoscope.nicking.grading.measure import masked
from fundoscope.vessels import (
    CalibreModel,
    Centreline,
    MeasuredCrossing,
    Narrowing,
    crossing_through,
    crossings_between,
    measure_narrowing,
)
from fundoscope.vessels.artery_vein import VoteWeights, classify_vessels

_OFF = 1 / 3  # of the patch's side: a crossing further from the middle is not the patch's own


def measured_patch(pixels: Pixels, maps: NDArray[np.float32], how: CrossingSettings, scale: float) -> Narrowing | None:
    """Narrowing of the vein, side 1 the upper one, at the crossing nearest the middle; None where none is near it.

    `pixels` (s, s, 3), RGB; `maps` (4, rows, columns), 0 to 1, with `scale` of the patch's pixels for each of theirs.
    Lengths are in the patch's pixels. Raises `UsageError` where pixels, maps and scale do not go together.
    """
    _check(pixels.shape, maps.shape, scale)
    kinds = classify_vessels(maps[0] >= how.vessel_threshold, maps[1], maps[2], VoteWeights(**how.votes))
    found = crossings_between(kinds.artery, kinds.vein)
    middle = (np.array(kinds.vein.shape) - 1) / 2
    own = _middlemost(found, middle) or crossing_through(kinds.graph, middle, maps[1], maps[2])
    if own is None:
        return None
    ruler = CalibreModel.fit(
        pixels, [strand.scaled(scale) for each in (own, *found) for strand in (each.first, each.second)]
    )
    whole = np.s_[0 : pixels.shape[0], 0 : pixels.shape[1]]
    masks = [masked(mask, whole, scale) for mask in (kinds.artery, kinds.vein)]
    return measure_narrowing(ruler, _upper_first(own).scaled(scale), *masks)


def _check(pixels: tuple[int, ...], maps: tuple[int, ...], scale: float) -> None:
    square = len(pixels) == 3 and pixels[0] == pixels[1] and pixels[2] == 3
    four = len(maps) == 3 and maps[0] == 4
    if not (square and four and all(abs(side * scale - pixels[0]) <= max(scale, 1.0) for side in maps[1:])):
        told = f"A patch of pixels {pixels} does not go with maps {maps} at {scale:g} of its pixels for each of theirs"
        raise UsageError(f"{told}. Give a square photograph, RGB, its four maps, and the ratio of their sides.")


def _middlemost(found: list[MeasuredCrossing], middle: NDArray[np.float64]) -> MeasuredCrossing | None:
    """The crossing nearest the middle, if it is near enough."""
    away = [float(np.hypot(*(crossing.at - middle))) for crossing in found]
    return found[int(np.argmin(away))] if away and min(away) <= _OFF * 2 * middle.min() else None


def _upper_first(crossing: MeasuredCrossing) -> MeasuredCrossing:
    """The crossing with the vein's points in such an order that those before the crossing are the upper ones."""
    vein = crossing.second
    if vein.points[: vein.crossing_index + 1, 0].mean() <= vein.points[vein.crossing_index :, 0].mean():
        return crossing
    turned = Centreline(vein.points[::-1], vein.radius[::-1], len(vein.points) - 1 - vein.crossing_index)
    return replace(crossing, second=turned)
