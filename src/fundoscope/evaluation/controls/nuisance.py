"""The nuisance baseline: how well file size, field shape, colour and sharpness predict the label.

They belong to the camera, the clinic and the day, not to the disease. Where they alone separate the classes, a network may
use them too: it must beat this baseline, and must hold when the shortcuts are removed (`matched_photographs`). The mean
colour alone is the simplest of these baselines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.evaluation.controls.baselines import BaselinePredictions, FoldRows, predict_out_of_fold
from fundoscope.evaluation.controls.matched_photographs import SIDE
from fundoscope.imaging import Field, Photograph, Pixels, Prepared, find_field

Array = NDArray[np.float64]

#: Share of the radius left out along the field's edge, which is known to a few hundredths only.
RIM = 0.06

_PERCENTILES = (50, 90, 99)
_LEVELS = np.arange(256) / 255.0

#: The names of the measurements, by family.
NUISANCE_FAMILIES: dict[str, tuple[str, ...]] = {
    "file": ("bytes_per_pixel",),
    "field": ("radius", "row", "column", *(f"cut_{side}" for side in ("top", "bottom", "left", "right")),
              "seen", "lit", "found"),
    "colour": (*(f"{kind}_{c}" for kind in ("mean", "deviation") for c in ("red", "green", "blue")),
               "mean_saturation", "deviation_saturation"),
    "sharpness": ("laplacian", *(f"gradient_{percent}" for percent in _PERCENTILES)),
}  # fmt: skip

NUISANCE_FEATURES: tuple[str, ...] = tuple(name for names in NUISANCE_FAMILIES.values() for name in names)


def nuisance_features(photograph: Photograph, field: Field | None = None) -> dict[str, float]:
    """The measurements `NUISANCE_FEATURES` of one photograph by name, all finite.

    `bytes_per_pixel` is log(1 + bytes / pixels), 0 for an array; lengths of the field are in radii, except `radius`, which is
    in diagonals; colours are 0 to 1; `laplacian` is a log variance; gradients are in grey levels per pixel of a square of
    320 pixels.
    """
    field = field or find_field(photograph.pixels)
    rows, columns = photograph.pixels.shape[:2]
    values = [float(np.log1p(photograph.n_bytes / (rows * columns)))]
    values += [
        *_shape(field),
        *_colour(photograph.pixels[field.mask(shrink=RIM)]),
        *_sharpness(photograph, field),
    ]
    return dict(zip(NUISANCE_FEATURES, values, strict=True))


def nuisance_table(photographs: Iterable[Photograph]) -> Array:
    """The measurements of many photographs, (n, K), with columns as in `NUISANCE_FEATURES`."""
    return np.array([list(nuisance_features(p).values()) for p in photographs]).reshape(-1, len(NUISANCE_FEATURES))


def nuisance_baseline(
    table: Array,
    y: ArrayLike,
    folds: FoldRows,
    groups: Sequence[object] | NDArray | None = None,
    families: Sequence[str] = tuple(NUISANCE_FAMILIES),
) -> BaselinePredictions:
    """Out-of-fold probabilities of a logistic model of the nuisances.

    `table` comes from `nuisance_table`; `families` restricts it to some families, to see which one predicts. Raises
    `UsageError` for an unknown family, and the errors of `predict_out_of_fold`.
    """
    for family in families:
        if family not in NUISANCE_FAMILIES:
            raise UsageError(f"There is no family of nuisances '{family}': {nearest(family, NUISANCE_FAMILIES)}")
    columns = [NUISANCE_FEATURES.index(name) for family in families for name in NUISANCE_FAMILIES[family]]
    return predict_out_of_fold(table[:, columns], y, folds, groups)


def _shape(field: Field) -> list[float]:
    rows, columns = field.shape
    radius = field.radius
    over = (
        radius - field.row,
        radius + field.row - (rows - 1),
        radius - field.column,
        radius + field.column - (columns - 1),
    )
    cut = [max(0.0, length) / radius for length in over]
    offset = [(field.row - (rows - 1) / 2) / radius, (field.column - (columns - 1) / 2) / radius]
    return [
        radius / float(np.hypot(rows, columns)),
        *offset,
        *cut,
        field.visible_share,
        field.lit_share,
        float(field.found),
    ]


def _colour(inside: Pixels) -> list[float]:
    """Mean and deviation of the colours (m, 3) of a field, and of their saturation."""
    if not len(inside):
        return [0.0] * len(NUISANCE_FAMILIES["colour"])
    # a colour at a time, from counts of its 256 levels: a photograph has millions of pixels
    channels = [np.ascontiguousarray(inside[:, channel]) for channel in range(3)]
    shares = [np.bincount(each, minlength=256) / len(inside) for each in channels]
    means = [float(share @ _LEVELS) for share in shares]
    deviations = [float(np.sqrt(share @ (_LEVELS - mean) ** 2)) for share, mean in zip(shares, means, strict=True)]
    highest, lowest = (choose(choose(*channels[:2]), channels[2]) for choose in (np.maximum, np.minimum))
    saturation = (highest - lowest) / np.maximum(highest, 1)
    return [*means, *deviations, float(saturation.mean()), float(saturation.std())]


def _sharpness(photograph: Photograph, field: Field) -> list[float]:
    prepared = Prepared(photograph, field)
    inside, green = prepared.inside(SIDE, RIM), prepared.square(SIDE)[..., 1].astype(np.float32)
    if not inside.any():
        return [0.0] * len(NUISANCE_FAMILIES["sharpness"])
    laplacian = cv2.Laplacian(green, cv2.CV_32F)[inside]
    gradient = np.hypot(cv2.Sobel(green, cv2.CV_32F, 1, 0), cv2.Sobel(green, cv2.CV_32F, 0, 1))[inside] / 8
    return [float(np.log1p(laplacian.var())), *(float(v) for v in np.percentile(gradient, _PERCENTILES))]


def mean_colour_table(photographs: Iterable[Photograph]) -> Array:
    """Mean red, green and blue inside the field of view of each photograph, (n, 3), 0 to 255; nan where it has no pixel."""
    inside = (p.pixels[find_field(p.pixels).mask(shrink=RIM)] for p in photographs)
    return np.array([_mean_colour(seen) for seen in inside]).reshape(-1, 3)


def _mean_colour(inside: Pixels) -> list[float]:
    """Mean of each colour of the pixels (m, 3), 0 to 255."""
    return [float(inside[:, channel].mean()) for channel in range(3)] if len(inside) else [np.nan] * 3


def mean_colour_baseline(
    photographs: Iterable[Photograph],
    y: ArrayLike,
    folds: FoldRows,
    groups: Sequence[object] | NDArray | None = None,
) -> BaselinePredictions:
    """Out-of-fold probabilities of a logistic model of the three mean colours; errors as in `predict_out_of_fold`."""
    return predict_out_of_fold(mean_colour_table(photographs), y, folds, groups)
