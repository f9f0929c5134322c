"""From an adult's photograph to its crossings, measured: maps, kinds, meetings, widths, narrowing. No torch.

The maps are made at one scale, the field's diameter brought to DRIVE's; widths and narrowing are read off the
photograph's own pixels, at the places that the maps gave.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CrossingSettings
from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.local_contrast import DIAMETER, local_contrast
from fundoscope.imaging.places import rescale_points
from fundoscope.nicking.grading.crossing_candidates import Meetings, meetings
from fundoscope.vessels import (
    CalibreModel,
    Centreline,
    MeasuredCrossing,
    Narrowing,
    crossing_through,
    measure_narrowing,
)
from fundoscope.vessels.artery_vein import ArteryVeinMap, VoteWeights, classify_vessels
from fundoscope.vessels.disc import find_disc

NOT_FOLLOWED = "the two vessels could not be followed through the crossing"
NOT_CLEAR = "too little of the vein is clear of other vessels to be measured"
_AROUND = 14.0  # vein widths around a crossing that are measured in

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Eye:
    """What is seen in a photograph, at the maps' scale: its `maps` (4, rows, columns), the kinds of its vessels, all
    places that were proposed and how sure each is; `scale` is how many of the file's pixels make one of these.
    """

    maps: NDArray[np.float32]
    inside: Mask
    kinds: ArteryVeinMap
    meetings: Meetings
    confidence: NDArray[np.float64]
    disc: Points | None
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A crossing: `at` row and column in the file's pixels, its confidence, and, where both vessels could be followed, the
    strands and the narrowing of the vein (side 1 is nearer the disc); `reason` says why something is missing.
    """

    at: Points
    confidence: float
    crossing: MeasuredCrossing | None = None
    narrowing: Narrowing | None = None
    reason: str = ""


def look(photograph: Prepared, bundle: NickingBundle) -> Eye:
    """Vessels, kinds and proposed crossings of a photograph."""
    how = bundle.card.crossings
    small, inside = photograph.whole(DIAMETER)
    maps = bundle.map_vessels(local_contrast(small, inside)) * inside
    return seen(maps, inside, how, photograph.pixels.shape[0] / small.shape[0])


def seen(maps: NDArray[np.float32], inside: Mask, how: CrossingSettings, scale: float) -> Eye:
    """The same from maps (4, rows, columns) that are there already."""
    kinds = classify_vessels(maps[0] >= how.vessel_threshold, maps[1], maps[2], VoteWeights(**how.votes))
    found = meetings(maps, kinds)
    return Eye(
        maps, inside, kinds, found, trusted(found, how.confidence_weights), find_disc(kinds.graph, inside), scale
    )


def trusted(found: Meetings, trust: tuple[float, ...]) -> NDArray[np.float64]:
    """How sure each proposal is, (n,), 0 to 1, by the logistic model `trust`: an offset, then a weight a feature."""
    return 1 / (1 + np.exp(-np.clip(trust[0] + found.features @ np.array(trust[1:]), -30, 30)))


def measure(pixels: Pixels, eye: Eye, least: float) -> list[Measured]:
    """The crossings of at least that confidence, by row, then column, with widths and narrowing."""
    kept = np.flatnonzero(eye.confidence >= least)
    kept = kept[np.lexsort(eye.meetings.at[kept].T[::-1])]
    crossings = [_through(eye, k) for k in kept]
    strands = [strand.scaled(eye.scale) for c in crossings if c for strand in (c.first, c.second)]
    ruler = CalibreModel.fit(pixels, strands)
    places = rescale_points(eye.meetings.at[kept], eye.scale)
    return [
        _measured(ruler, eye, crossing, place, float(eye.confidence[k]))
        for k, crossing, place in zip(kept, crossings, places, strict=True)
    ]


def _through(eye: Eye, k: int) -> MeasuredCrossing | None:
    """The vessels of a proposal: those that its kinds' own graphs show, or what can be joined there."""
    known = eye.meetings.crossings[k]
    _, artery, vein, _ = eye.maps
    return known or crossing_through(eye.kinds.graph, eye.meetings.at[k], artery, vein)


def _measured(
    ruler: CalibreModel, eye: Eye, crossing: MeasuredCrossing | None, place: Points, confidence: float
) -> Measured:
    if crossing is None:
        return Measured(place, confidence, reason=NOT_FOLLOWED)
    there = _disc_first(crossing, eye.disc).scaled(eye.scale)
    window, here = _window(there, ruler.plane.shape)
    near = replace(ruler, plane=np.ascontiguousarray(ruler.plane[window]))
    masks = [masked(mask, window, eye.scale) for mask in (eye.kinds.artery, eye.kinds.vein)]
    narrowing = measure_narrowing(near, here, *masks)
    reason = "" if np.isfinite(narrowing.larger_measured) else NOT_CLEAR
    return Measured(place, confidence, there, narrowing, reason)


def _disc_first(crossing: MeasuredCrossing, disc: Points | None) -> MeasuredCrossing:
    """The crossing with the vein's points in the order from the disc outwards, so that side 1 is nearer the disc."""
    vein = crossing.second
    if disc is None or np.hypot(*(vein.points[0] - disc)) <= np.hypot(*(vein.points[-1] - disc)):
        return crossing
    turned = Centreline(vein.points[::-1], vein.radius[::-1], len(vein.points) - 1 - vein.crossing_index)
    return replace(crossing, second=turned)


def _window(crossing: MeasuredCrossing, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], MeasuredCrossing]:
    """As much around a crossing as is measured, and the crossing there."""
    reach = _AROUND * max(2 * float(np.median(crossing.second.radius)), 3.0)
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.minimum(np.ceil(crossing.at + reach).astype(int) + 1, shape[:2])
    first, second = (replace(s, points=s.points - low) for s in (crossing.first, crossing.second))
    return np.s_[low[0] : high[0], low[1] : high[1]], MeasuredCrossing(crossing.at - low, crossing.angle, first, second)


def masked(mask: Mask, window: tuple[slice, slice], scale: float) -> Mask:
    """A window of the file's pixels of a mask at the maps' scale."""
    rows, columns = (np.arange(part.start, part.stop) for part in window)
    at = [
        np.clip(((each + 0.5) / scale).astype(int), 0, side - 1)
        for each, side in zip((rows, columns), mask.shape, strict=True)
    ]
    return mask[np.ix_(*at)]
