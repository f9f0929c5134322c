"""The vessel baseline: how well the width and tortuosity of vessels predict the need for treatment.

Plus disease is dilated and tortuous vessels (ICROP3, Chiang et al. 2021, Ophthalmology 128:e51), and with stage and zone
it decides on treatment. Tools such as ROPtool grade it by these two measurements; a network must beat them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.evaluation.controls.baselines import BaselinePredictions, FoldRows, predict_out_of_fold
from fundoscope.imaging import Photograph, find_field
from fundoscope.vessels.graph import arc_length, edge_paths, vessel_graph
from fundoscope.vessels.lines import find_vessels
from fundoscope.vessels.tortuosity import tortuosity

Array = NDArray[np.float64]

#: Percentiles of width and tortuosity, weighted by the length of the vessels.
_PERCENTILES = (50, 75, 90)
_SHORTEST = 20.0  # pixels at the map's scale: shorter segments have no measurable course
_MOST = 1.0  # arc over chord less 1; beyond it a segment is a ring of the skeleton, not one vessel

VESSEL_FEATURES = (
    *(f"width, percentile {q}" for q in _PERCENTILES), "width, mean",
    *(f"tortuosity, percentile {q}" for q in _PERCENTILES), "tortuosity, mean", "density",
)  # fmt: skip


def vessel_features(photograph: Photograph) -> dict[str, float]:
    """The measurements `VESSEL_FEATURES` by name: widths in radii of the field, tortuosity as arc over chord less 1, at most 1.

    Both are weighted by length over the segments of the vessel graph that the line detector finds; density is the share
    of the field that is vessel. Where no segment is long enough to have a course, widths and tortuosity are 0.
    """
    field = find_field(photograph.pixels)
    found = find_vessels(photograph.pixels, field)
    density = float(found.mask.sum() / max(1, found.field.sum()))
    every = [(points, radius, arc_length(points)[-1]) for points, radius in edge_paths(vessel_graph(found.mask))]
    long = [segment for segment in every if segment[2] >= _SHORTEST]
    if not long:
        return dict.fromkeys(VESSEL_FEATURES, 0.0) | {"density": density}
    lengths = np.array([length for *_, length in long])
    # the circle's radius, not the seen area's: cameras that cut the field would else seem to show wider vessels
    width = np.array([_width(radius) for _, radius, _ in long]) * found.scale / field.radius
    winding = np.array([min(tortuosity(points).distance, _MOST) for points, *_ in long])
    values = [*_spread(width, lengths), *_spread(winding, lengths), density]
    return dict(zip(VESSEL_FEATURES, values, strict=True))


def _width(radius: Array) -> float:
    """Mean width over the middle half of a segment, away from the joints, where the mask is wider than the vessel."""
    quarter = len(radius) // 4
    return 2 * float(radius[quarter : len(radius) - quarter].mean()) - 1  # it reaches the middle of a pixel outside


def _spread(values: Array, lengths: Array) -> list[float]:
    """Percentiles and mean of `values`, each weighted by its length."""
    order = np.argsort(values)
    share = np.cumsum(lengths[order]) / lengths.sum()
    at = [min(int(np.searchsorted(share, q / 100)), len(values) - 1) for q in _PERCENTILES]
    return [*(float(values[order][k]) for k in at), float(np.average(values, weights=lengths))]


def vessel_table(photographs: Iterable[Photograph]) -> Array:
    """The measurements of many photographs, (n, K), with columns as in `VESSEL_FEATURES`."""
    return np.array([list(vessel_features(p).values()) for p in photographs]).reshape(-1, len(VESSEL_FEATURES))


def vessel_baseline(
    table: Array, y: ArrayLike, folds: FoldRows, groups: Sequence[object] | NDArray | None = None
) -> BaselinePredictions:
    """Out-of-fold probabilities of a logistic model of `vessel_table`; errors as in `predict_out_of_fold`."""
    return predict_out_of_fold(table, y, folds, groups)
