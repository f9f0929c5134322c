"""Step 3: the widths of both vessels at a crossing, and how much the vein narrows beside the artery. No torch.

Widths and narrowing are read off the photograph's own pixels, at the places that the maps gave. A patch file is measured
in the same way: its own crossing is the one nearest its middle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CrossingSettings
from fundoscope.errors import UsageError
from fundoscope.imaging import Pixels
from fundoscope.imaging.places import enlarged_window, rescale_points
from fundoscope.languages import kept_text
from fundoscope.nicking.grading.crossing_candidates import CrossingCandidates
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph, classify_map_vessels
from fundoscope.vessels import (
    CalibreModel,
    Centreline,
    MeasuredCrossing,
    Narrowing,
    crossing_through,
    crossings_between,
    measure_narrowing,
)
from fundoscope.vessels.artery_vein import ArteryVeinMap
from fundoscope.vessels.disc import Disc

NOT_FOLLOWED = kept_text("the two vessels could not be followed through the crossing")
NOT_CLEAR = kept_text("too little of the vein is clear of other vessels to be measured")
ONE_SIDE = kept_text("side {0} of the vein could not be measured")
NO_ARTERY_WIDTH = kept_text("the artery's width could not be measured")

WIDE_VEIN = 6.0  # pixels at the maps' scale: width of a vein that is mapped well; in photographs most are 4 to 7 wide
SLOPE_REACH = (2.0, 5.0)  # vein widths from the crossing between which a vein's slope is read: outside any nick
_THINNEST_VEIN = 2.0  # pixels at the maps' scale: no vein is taken for thinner
_REACH = 14.0  # vein widths around a crossing within which it is measured
OFF_MIDDLE = 1 / 3  # of a patch's side: a crossing further from the middle is not the patch's own

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CrossingWidths:
    """A crossing of a photograph with its confidence and widths, in pixels of the file.

    `place`, row and column. `map_vein_width`, the vein's width by the maps' centreline, a wide vein's where it could not
    be followed. `vessels` (`first` the artery) and `narrowing` of the vein (side 1 is nearer the disc) are None where the
    two vessels could not be followed.
    """

    place: Points
    confidence: float
    map_vein_width: float
    vessels: MeasuredCrossing | None = None
    narrowing: Narrowing | None = None

    @property
    def reason(self) -> str:
        """Why something was not measured here; blank where nothing is missing."""
        return explain_unmeasured(self.narrowing)


def explain_unmeasured(narrowing: Narrowing | None) -> str:
    """Why a width or a side is missing, None where the two vessels could not be followed; blank where nothing is missing."""
    if narrowing is None:
        return NOT_FOLLOWED
    unknown = [k for k, side in enumerate(narrowing.sides, 1) if not np.isfinite(side)]
    vein = NOT_CLEAR if len(unknown) == 2 else ONE_SIDE.format(unknown[0]) if unknown else ""
    artery = "" if np.isfinite(narrowing.artery_width) else NO_ARTERY_WIDTH
    return "; ".join(filter(None, (vein, artery)))


def measure_crossings(
    photograph: MappedPhotograph, candidates: CrossingCandidates, settings: CrossingSettings
) -> list[CrossingWidths]:
    """The candidates of at least the settings' confidence, by row, then column, measured on the photograph's pixels."""
    return measure_with_model(photograph, candidates, settings)[0]


def measure_with_model(
    photograph: MappedPhotograph, candidates: CrossingCandidates, settings: CrossingSettings
) -> tuple[list[CrossingWidths], CalibreModel | None]:
    """The same, and the model of the photograph that measured; None where no vessel of a crossing could be followed."""
    confidence = candidates.confidence(settings.confidence_weights)
    kept = _follow_crossings(photograph, candidates, settings)
    followed = [(candidates.places[k], float(confidence[k]), crossing) for k, crossing in kept.items()]
    return _measure_followed(photograph, followed)


def measure_marked(photograph: MappedPhotograph, places: Iterable[tuple[float, float]]) -> list[CrossingWidths]:
    """Crossings that somebody has marked at these rows and columns of the file, measured like those that are found; confidence 1."""
    graph, (_, artery, vein, _) = photograph.artery_vein.graph, photograph.maps
    on_maps = [rescale_points(np.array(place, float), 1 / photograph.scale) for place in places]
    followed = [(place, 1.0, crossing_through(graph, place, artery, vein)) for place in on_maps]
    return _measure_followed(photograph, followed)[0]


def _measure_followed(
    photograph: MappedPhotograph, followed: Sequence[tuple[Points, float, MeasuredCrossing | None]]
) -> tuple[list[CrossingWidths], CalibreModel | None]:
    """Places of the maps, each with its confidence and its two vessels, None where these could not be followed."""
    scale, artery_vein = photograph.scale, photograph.artery_vein
    calibre = _fit_calibre(photograph, [crossing for _, _, crossing in followed])
    measured = []
    for at, own_confidence, crossing in followed:
        place = rescale_points(at, scale)
        if crossing is None or calibre is None:
            measured.append(CrossingWidths(place, own_confidence, WIDE_VEIN * scale))
            continue
        crossing = _disc_first(crossing, photograph.disc).scaled(scale)
        window, crossing_in_window = _measured_window(crossing, calibre.plane.shape)
        masks = [enlarged_window(mask, window, scale) for mask in (artery_vein.artery, artery_vein.vein)]
        narrowing = measure_narrowing(calibre.on(photograph.pixels[window]), crossing_in_window, *masks)
        width = max(2 * float(np.median(crossing.second.radius)), _THINNEST_VEIN * scale)
        measured.append(CrossingWidths(place, own_confidence, width, crossing, narrowing))
    return measured, calibre


def _follow_crossings(
    photograph: MappedPhotograph, candidates: CrossingCandidates, settings: CrossingSettings
) -> dict[int, MeasuredCrossing | None]:
    """The two vessels of each candidate of enough confidence, by its index, from top to bottom; None where they are not seen."""
    kept = np.flatnonzero(candidates.confidence(settings.confidence_weights) >= settings.operating_point.threshold)
    kept = kept[np.lexsort(candidates.places[kept].T[::-1])]
    graph, (_, artery, vein, _) = photograph.artery_vein.graph, photograph.maps
    # where artery's and vein's own graphs show no two, the stumps of a torn vessel may still be joined
    return {
        k: candidates.vessels[k] or crossing_through(graph, candidates.places[k], artery, vein) for k in kept.tolist()
    }


def _fit_calibre(photograph: MappedPhotograph, crossings: Iterable[MeasuredCrossing | None]) -> CalibreModel | None:
    """One blur and one plane for the whole photograph."""
    found = [vessel for crossing in crossings if crossing for vessel in (crossing.first, crossing.second)]
    return CalibreModel.fit(photograph.pixels, [each.scaled(photograph.scale) for each in found]) if found else None


def measure_patch(
    pixels: Pixels, maps: NDArray[np.float32], settings: CrossingSettings, scale: float, off_middle: float = OFF_MIDDLE
) -> Narrowing | None:
    """Narrowing of the vein, side 1 the upper one, at the crossing nearest a patch's middle; None where none is near it.

    `pixels` (s, s, 3), RGB; `maps` (4, rows, columns), 0 to 1, with `scale` of the patch's pixels for each of theirs.
    `off_middle` is as in `find_patch_crossing`. Lengths are in the patch's pixels. Raises `UsageError` where pixels, maps and scale do not go together.
    """
    is_square = len(pixels.shape) == 3 and pixels.shape[0] == pixels.shape[1] and pixels.shape[2] == 3
    is_four_maps = len(maps.shape) == 3 and maps.shape[0] == 4
    same_extent = all(abs(side * scale - pixels.shape[0]) <= max(scale, 1.0) for side in maps.shape[1:])
    if not (is_square and is_four_maps and same_extent):
        raise UsageError(
            f"A patch of pixels {pixels.shape} does not go with maps {maps.shape} at {scale:g} of its pixels for each of "
            "theirs. Give a square photograph, RGB, its four maps, and the ratio of their sides."
        )
    found = find_patch_crossing(maps, settings, off_middle)
    if found.own is None:
        return None
    vessels = [vessel.scaled(scale) for each in (found.own, *found.all) for vessel in (each.first, each.second)]
    calibre = CalibreModel.fit(pixels, vessels)
    whole = np.s_[0 : pixels.shape[0], 0 : pixels.shape[1]]
    masks = [enlarged_window(mask, whole, scale) for mask in (found.vessels.artery, found.vessels.vein)]
    return measure_narrowing(calibre, _upper_first(found.own).scaled(scale), *masks)


@dataclass(frozen=True, slots=True, eq=False)
class PatchCrossing:
    """The `own` crossing of a patch, `all` crossings in it, and its `vessels`, at the scale of its maps; `own` is None where no
    crossing is found near the middle.
    """

    own: MeasuredCrossing | None
    all: list[MeasuredCrossing]
    vessels: ArteryVeinMap

    @property
    def vein_width(self) -> float:
        """The width of the own crossing's vein, pixels of the maps."""
        assert self.own is not None
        return max(2 * float(np.median(self.own.second.radius)), _THINNEST_VEIN)


def find_patch_crossing(
    maps: NDArray[np.float32], settings: CrossingSettings, off_middle: float = OFF_MIDDLE
) -> PatchCrossing:
    """The crossing of a patch by its maps (4, rows, columns): the one nearest its middle, and at most `off_middle` of the side
    away from it; else the one that two vessels which end there would make.
    """
    vessels = classify_map_vessels(maps, settings)
    crossings = crossings_between(vessels.artery, vessels.vein)
    middle = (np.array(vessels.vein.shape) - 1) / 2
    distances = [float(np.hypot(*(crossing.at - middle))) for crossing in crossings]
    if distances and min(distances) <= off_middle * 2 * middle.min():
        return PatchCrossing(crossings[int(np.argmin(distances))], crossings, vessels)
    return PatchCrossing(crossing_through(vessels.graph, middle, maps[1], maps[2]), crossings, vessels)


def _disc_first(crossing: MeasuredCrossing, disc: Disc | None) -> MeasuredCrossing:
    """The crossing with the vein's points in the order from the disc outwards, so that side 1 is nearer the disc."""
    points = crossing.second.points
    if disc is None or np.hypot(*(points[0] - disc.centre)) <= np.hypot(*(points[-1] - disc.centre)):
        return crossing
    return _vein_reversed(crossing)


def _upper_first(crossing: MeasuredCrossing) -> MeasuredCrossing:
    """The crossing with the vein's points in such an order that those before the crossing are the upper ones."""
    vein = crossing.second
    if vein.points[: vein.crossing_index + 1, 0].mean() <= vein.points[vein.crossing_index :, 0].mean():
        return crossing
    return _vein_reversed(crossing)


def _vein_reversed(crossing: MeasuredCrossing) -> MeasuredCrossing:
    vein = crossing.second
    return replace(
        crossing, second=Centreline(vein.points[::-1], vein.radius[::-1], len(vein.points) - 1 - vein.crossing_index)
    )


def _measured_window(
    crossing: MeasuredCrossing, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], MeasuredCrossing]:
    """Rows and columns of the file within which a crossing is measured, and the crossing counted from their first."""
    reach = _REACH * max(2 * float(np.median(crossing.second.radius)), 3.0)
    low = np.maximum(np.floor(crossing.at - reach).astype(int), 0)
    high = np.minimum(np.ceil(crossing.at + reach).astype(int) + 1, shape[:2])
    first, second = (replace(vessel, points=vessel.points - low) for vessel in (crossing.first, crossing.second))
    return np.s_[low[0] : high[0], low[1] : high[1]], MeasuredCrossing(crossing.at - low, crossing.angle, first, second)
