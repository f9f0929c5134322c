"""What a vessel map gets right in one photograph, as counts that can be summed over photographs. Pure: maps and truth in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fundoscope.learning.vessel_crops import vessel_widths

#: Probabilities from which on a pixel may be taken for a vessel.
VESSEL_THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
#: Pixels: a vessel under this width is thin.
THIN = 3.0

_ON = 127  # a plane above it is on

Planes = NDArray[np.uint8]
Maps = NDArray[np.float32]


def choose_threshold(photographs: Iterable[tuple[Maps, Planes]], thresholds: Sequence[float]) -> float:
    """The threshold of the best mean Dice; each photograph is a vessel map (rows, columns) with its true planes."""
    scores = [[dice(*count_overlap(vessel, planes, t)) for t in thresholds] for vessel, planes in photographs]
    return float(thresholds[int(np.mean(scores, axis=0).argmax())]) if scores else 0.5


def count_overlap(vessel: Maps, planes: Planes, threshold: float) -> tuple[int, int, int]:
    """Pixels of the field that are found and true, found, and true."""
    inside = planes[..., 3] > _ON
    found, true = (vessel >= threshold) & inside, (planes[..., 0] > _ON) & inside
    return int((found & true).sum()), int(found.sum()), int(true.sum())


def dice(both: float, found: float, true: float) -> float:
    """Dice of found and true pixels (Dice 1945), 0 to 1."""
    return 2 * both / max(1.0, found + true)


def count_maps(maps: Maps, planes: Planes, known: tuple[bool, bool], threshold: float) -> dict[str, float | int | str]:
    """The counts of one photograph's maps (4, rows, columns) against its planes (rows, columns, 4); "" where nothing is known.

    `both`, `found`, `true`: vessel pixels. `right` of `kinds`: pixels that are artery or vein, and not both, by the higher
    probability; `thin_right` of `thin` those of vessels under `THIN` pixels. `beyond_mean`, `beyond_most`: the vessel map
    beyond the field, where the tool shows nothing.
    """
    inside, artery, vein = (planes[..., k] > _ON for k in (3, 1, 2))
    outside = maps[0][~inside]
    counts: dict[str, float | int | str] = dict.fromkeys(
        ("both", "found", "true", "right", "kinds", "thin_right", "thin"), ""
    )
    if known[0]:
        counts.update(zip(("both", "found", "true"), count_overlap(maps[0], planes, threshold), strict=True))
    if known[1]:
        counted = (artery ^ vein) & inside
        right = ((maps[1] > maps[2]) == artery) & counted
        thin = counted & (vessel_widths((artery | vein).astype(np.float32)) < THIN)
        counts |= {"right": int(right.sum()), "kinds": int(counted.sum())}
        counts |= {"thin_right": int((right & thin).sum()), "thin": int(thin.sum())}
    counts["beyond_mean"] = round(float(outside.mean()), 5) if outside.size else ""
    counts["beyond_most"] = round(float(outside.max()), 5) if outside.size else ""
    return counts
