"""The same figures in parts of the cohort: by birth weight, gestational age, clinic, camera."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import Estimate, estimates, thresholds_for
from fundoscope.evaluation.metrics.scores import checked

UNKNOWN = "unknown"

#: Of either class; below, a figure moves by more than a fifth when one photograph is called otherwise.
FEWEST = 5

_BLANKS = ("", "nan", "<na>")  # how an empty cell reads, straight from a CSV or by way of pandas
_FIGURES = ("auc", "sensitivity", "specificity")


def numbers(values: Sequence[object] | NDArray) -> NDArray[np.float64]:
    """Table cells (n,) as numbers, nan where a cell is blank; `UsageError` for any other text."""
    return np.array([_number(value) for value in values], float)


def _number(value: Any) -> float:
    if _blank(value):
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.inf
    if not math.isfinite(found):
        raise UsageError(f"'{value}' is no number. Write one with a decimal point, or leave the cell blank.")
    return found


def _blank(value: object) -> bool:
    return value is None or str(value).strip().casefold() in _BLANKS


def bands(values: Sequence[object] | NDArray, cuts: Sequence[float], unit: str) -> list[str]:
    """Of each value (n,) the band it falls in: "under 1000 g", "1000 to under 1500 g", "1500 g or more".

    `cuts` ascend; a value on a cut belongs to the band above. A blank is "unknown".
    """
    edges = np.asarray(cuts, float)
    if not len(edges) or (np.diff(edges) <= 0).any():
        raise UsageError(f"Cuts {list(cuts)} make no bands. Give at least one, in ascending order.")
    named = [f"{cut:g}" for cut in cuts]
    between = [f"{low} to under {high} {unit}" for low, high in pairwise(named)]
    names = [f"under {named[0]} {unit}", *between, f"{named[-1]} {unit} or more"]
    return [UNKNOWN if math.isnan(x) else names[np.searchsorted(edges, x, side="right")] for x in numbers(values)]


def subgroup_rows(
    y: ArrayLike,
    p: ArrayLike,
    threshold: ArrayLike,
    groups: Sequence[object] | NDArray | None,
    column: str,
    values: Sequence[object] | NDArray,
) -> list[dict[str, Any]]:
    """A row a subgroup: `column`, `subgroup`, `auc`, `sensitivity`, `specificity` as `Estimate`s, `note`.

    `values` (n,) name each photograph's subgroup, blank ones "unknown", which comes last; the others stand in
    the order of the numbers in their names. The rest is as in `intervals.estimate`. A subgroup with fewer than
    `FEWEST` of either class keeps its row, and a note says so. Raises `UsageError` for shapes that do not match.
    """
    labels, scores = checked(y, p)
    if len(values) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise UsageError(f"Values of '{column}', or groups, do not match {len(labels)} photographs. Give one for each.")
    at = thresholds_for(scores, threshold)
    names = [UNKNOWN if _blank(value) else str(value).strip() for value in values]
    rows = []
    for name in sorted(set(names), key=_place):
        part = np.flatnonzero([each == name for each in names])
        own = None if groups is None else [groups[row] for row in part]
        found: dict[Any, Estimate] = estimates(
            labels[part], scores[..., part], metrics=_FIGURES, threshold=at[..., part], groups=own
        )
        rows.append({"column": column, "subgroup": name, **found, "note": _note(labels[part])})
    return rows


def _place(name: str) -> tuple[bool, list[float], str]:
    """Unknown last; the others by the numbers in them, so that 1000 comes before 1500 and after under 1000."""
    return name == UNKNOWN, [float(number) for number in re.findall(r"\d+(?:\.\d+)?", name)], name


def _note(y: NDArray[np.float64]) -> str:
    few = [(int((y == label).sum()), word) for label, word in ((1, "positives"), (0, "negatives"))]
    told = [f"{count} {word}" for count, word in few if count < FEWEST]
    return f"only {' and '.join(told)}: one photograph decides" if told else ""
