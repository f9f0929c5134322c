"""Whether activation maps lie where the disease is: the share of a map on a structure, compared with chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import bootstrap
from fundoscope.evaluation.metrics.scores import ratio

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where the positive activation of one photograph lies.

    `mass` is its sum inside the field of view, in logits times pixels. `share` is the share of it on each structure (nan where
    there is no mass); `area` (0 to 1) is each structure's share of the field, which is the share of a uniform map.
    """

    mass: float
    share: Mapping[str, float]
    area: Mapping[str, float]

    @property
    def times_chance(self) -> dict[str, float]:
        """Share over area: 1 is chance; nan where there is no mass or no such structure."""
        return {name: self.share[name] / area if area > 0 else math.nan for name, area in self.area.items()}


def pointing(activation: ArrayLike, masks: Mapping[str, Mask], inside: Mask) -> Pointing:
    """How much of the positive part of `activation` (h, w; logits) lies on each of `masks` (H, W).

    The positive part is enlarged bilinearly to (H, W) and cut to `inside` (H, W), the field of view. This is the
    energy-based pointing game of Score-CAM (Wang et al. 2020), compared with chance, since any map overlaps a large
    structure. Raises `UsageError` for shapes that do not match, an empty field, or an
    activation that is not finite.
    """
    field = np.asarray(inside, bool)
    logits = np.asarray(activation, np.float32)
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise UsageError(f"An activation of shape {logits.shape} must be (h, w) and finite. Give one photograph's.")
    if field.ndim != 2 or not field.any():
        raise UsageError("The field of view is empty. Give (H, W), true inside it.")
    for name, mask in masks.items():
        if np.shape(mask) != field.shape:
            raise UsageError(
                f"Mask '{name}' {np.shape(mask)} does not fit the field {field.shape}. Give both in one size."
            )
    rows, columns = field.shape
    evidence = cv2.resize(np.maximum(logits, 0), (columns, rows), interpolation=cv2.INTER_LINEAR).astype(float)
    mass = float(evidence[field].sum())
    parts = {name: np.asarray(mask, bool) & field for name, mask in masks.items()}
    share = {name: float(evidence[part].sum()) / mass if mass > 0 else math.nan for name, part in parts.items()}
    return Pointing(mass, share, {name: float(part.sum() / field.sum()) for name, part in parts.items()})


def pointing_summary(
    found: Sequence[Pointing], groups: Sequence[object] | NDArray | None = None
) -> list[dict[str, Any]]:
    """A row for each structure: `structure`, `times_chance` (an `Estimate`), `share`, `area`, `no_mass`, `no_structure`.

    `times_chance` is the mean over the photographs that have both mass and structure, with its group-bootstrap
    interval; its `n` counts those, its `positives` those above chance. `share` and `area` are their means.
    `no_mass` and `no_structure` count the photographs left out (a photograph may be both). `groups` (n,) as in
    `estimate`. Raises `UsageError` where photographs were compared with different structures.
    """
    if groups is not None and len(groups) != len(found):
        raise UsageError(f"{len(groups)} groups stand beside {len(found)} photographs. Name one group a photograph.")
    names = list(found[0].area) if found else []
    if any(set(each.area) != set(names) for each in found):
        raise UsageError("Photographs were compared with different structures. Give each the same masks, if empty.")
    return [_row(name, found, groups) for name in names]


def _row(name: str, found: Sequence[Pointing], groups: Sequence[object] | NDArray | None) -> dict[str, Any]:
    times = np.array([each.times_chance[name] for each in found])
    kept = np.flatnonzero(np.isfinite(times))
    known = times[kept]

    def values(drawn: Array) -> dict[str, Array]:
        return {name: ratio(drawn @ known, drawn.sum(axis=1))}

    own = None if groups is None else [groups[row] for row in kept]
    estimate = bootstrap(values, (known > 1).astype(float), own)[name]
    return {
        "structure": name, "times_chance": estimate,
        "share": _mean([found[row].share[name] for row in kept]),
        "area": _mean([found[row].area[name] for row in kept]),
        "no_mass": sum(each.mass <= 0 for each in found),
        "no_structure": sum(each.area[name] <= 0 for each in found),
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
