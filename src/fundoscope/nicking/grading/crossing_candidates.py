"""Step 2: the places where an artery may cross a vein, and how likely each is a crossing. No torch.

Candidates come from two sources: peaks of the network's crossing map, and places where the vessel graph has an artery
and a vein that run through each other. Each candidate is described by six features of both sources. A logistic model,
fitted on photographs that the network of maps had not seen, turns the features into a confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.vessels import MeasuredCrossing, crossings_on
from fundoscope.vessels.artery_vein import ArteryVeinMap
from fundoscope.vessels.crossings import crossings_of_graphs
from fundoscope.vessels.graph import nearest_points

#: The features of a candidate, in this order.
FEATURES = (
    "crossing_map",  # logit of the highest value of the smoothed crossing map around it
    "artery_and_vein",  # logit of the lower of the highest artery and the highest vein probability around it
    "artery_crosses_vein",  # 1 where an artery and a vein cross here by their own graphs, else 0
    "two_vessels_cross",  # 1 where any two vessels cross here by the graph of all vessels, else 0
    "angle",  # of artery and vein, as a share of 90 degrees; 0 where they do not cross
    "thinner_width",  # log of 1 + the width in pixels of the thinner of them; 0 where they do not cross
)

SAME_PLACE = 8.0  # pixels at DRIVE's scale within which both sources mean one crossing: a wide vein's width
_PEAK_BLUR = 1.5  # pixels: standard deviation by which the crossing map is smoothed before peaks are taken
_PEAK_MINIMUM = 0.04  # probability of the crossing map at a peak
_PEAK_REACH = 3  # pixels around a peak over which its centre of mass is taken
_NEIGHBOURHOOD = 4.0  # pixels around a place in which artery and vein are looked for
_LOGIT_MARGIN = 1e-3  # keeps logits of 0 and 1 finite

Points = NDArray[np.float64]
Plane = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class CrossingCandidates:
    """Possible crossings of a photograph.

    `places` (n, 2), row and column at the maps' scale; `features` (n, 6) in the order of `FEATURES`; `vessels` (n), the
    two vessels that cross there (`first` the artery), or None where the artery's and the vein's own graphs show no two.
    """

    places: Points
    features: NDArray[np.float64]
    vessels: tuple[MeasuredCrossing | None, ...]

    def __len__(self) -> int:
        return len(self.places)

    def confidence(self, weights: tuple[float, ...]) -> NDArray[np.float64]:
        """The probability that each candidate is a crossing, (n,), by a logistic model: an offset, then a weight a feature."""
        return 1 / (1 + np.exp(-np.clip(weights[0] + self.features @ np.array(weights[1:]), -30, 30)))


def find_candidates(maps: Plane, artery_vein: ArteryVeinMap) -> CrossingCandidates:
    """The candidates of maps (4, rows, columns: vessel, artery, vein, crossing; 0 to 1) and their arteries and veins."""
    _, artery, vein, heat = maps
    heat = np.asarray(cv2.GaussianBlur(np.asarray(heat, np.float32), (0, 0), _PEAK_BLUR), np.float32)
    crossings = crossings_of_graphs(artery_vein.artery_graph, artery_vein.vein_graph)
    crossing_places = [crossing.at for crossing in crossings]
    peaks = _find_peaks(heat)
    far_from_peaks = _nearest(np.array(crossing_places).reshape(-1, 2), list(peaks)) < 0
    places = np.array([*peaks, *(p for p, far in zip(crossing_places, far_from_peaks, strict=True) if far)], float)
    places = places.reshape(-1, 2)

    of_artery_and_vein = _nearest(places, crossing_places)
    of_any_two = _nearest(places, [crossing.at for crossing in crossings_on(artery_vein.graph)])
    vessels = [crossings[k] if k >= 0 else None for k in of_artery_and_vein]
    features = np.column_stack([
        _logit(_highest_near(heat, places)),
        _logit(np.minimum(_highest_near(artery, places), _highest_near(vein, places))),
        of_artery_and_vein >= 0,
        of_any_two >= 0,
        [crossing.angle / 90 if crossing else 0.0 for crossing in vessels],
        [_log_thinner_width(crossing) if crossing else 0.0 for crossing in vessels],
    ])  # fmt: skip
    return CrossingCandidates(places, features.reshape(-1, len(FEATURES)), tuple(vessels))


def _find_peaks(heat: Plane) -> Points:
    """Places (n, 2) that are the highest within half of `SAME_PLACE`, to a part of a pixel (centre of mass)."""
    window = np.ones((2 * round(SAME_PLACE / 2) + 1,) * 2, np.uint8)
    highest = (heat >= cv2.dilate(heat, window)) & (heat >= _PEAK_MINIMUM)
    peaks = []
    for row, column in np.argwhere(highest).tolist():
        rows = np.arange(max(0, row - _PEAK_REACH), min(heat.shape[0], row + _PEAK_REACH + 1))
        columns = np.arange(max(0, column - _PEAK_REACH), min(heat.shape[1], column + _PEAK_REACH + 1))
        part = heat[np.ix_(rows, columns)]
        peaks.append(np.array([(part.sum(1) @ rows), (part.sum(0) @ columns)]) / part.sum())
    return np.array(peaks).reshape(-1, 2)


def _nearest(places: Points, others: list[Points]) -> NDArray[np.int64]:
    """For each place the index of the nearest other place within `SAME_PLACE`, -1 where there is none, (n,)."""
    if not len(others) or not len(places):
        return np.full(len(places), -1)
    distance, index = nearest_points(places, np.array(others))
    return np.where(distance <= SAME_PLACE, index, -1)


def _highest_near(plane: Plane, places: Points) -> Points:
    """The highest value of a plane within a few pixels of each place, (n,)."""
    side = 2 * round(_NEIGHBOURHOOD) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    dilated = cv2.dilate(np.asarray(plane, np.float32), disc)
    rows, columns = np.clip(np.round(places).astype(int), 0, np.array(plane.shape) - 1).T
    return dilated[rows, columns].astype(float)


def _logit(p: Points) -> Points:
    return np.log((p + _LOGIT_MARGIN) / (1 - p + _LOGIT_MARGIN))


def _log_thinner_width(crossing: MeasuredCrossing) -> float:
    """Log of the width of the thinner of the two vessels, pixels."""
    return float(np.log(2 * min(np.median(vessel.radius) for vessel in (crossing.first, crossing.second)) + 1))
