"""Figures as rows of a table: of subgroups of the cohort, and every row spread over columns and written as CSV."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics.intervals import Difference, Estimate, broadcast_thresholds, estimates
from fundoscope.evaluation.metrics.scores import check_scores

DIGITS = 3
_ENDS = (("", "value"), ("_low", "low"), ("_high", "high"))
_BASIS = ("n", "positives", "groups")


def results_table(
    rows: Sequence[Mapping[str, Any]], path: Path | None = None, digits: int = DIGITS
) -> list[dict[str, Any]]:
    """The rows with each `Estimate` spread over columns and rounded; also written as CSV where `path` is given.

    A column `auc` that holds an `Estimate` becomes `auc`, `auc_low` and `auc_high`; a `Difference` adds `auc_verdict`, an
    estimate of fewer than ten groups `auc_points`, a note `auc_note`. The last columns `n`, `positives` and `groups` are those
    of the row's first estimate; an estimate with other numbers gets columns of its own (`auc_n`). Undefined values are None,
    in the CSV empty cells.
    """
    table = [_spread_row(row, digits) for row in rows]
    columns = list(dict.fromkeys(column for row in table for column in row))
    last = [column for column in _BASIS if column in columns]
    columns = [column for column in columns if column not in last] + last
    table = [{column: row.get(column) for column in columns} for row in table]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in table)
    return table


def _spread_row(row: Mapping[str, Any], digits: int) -> dict[str, Any]:
    """The row with each estimate spread over columns, and `n`, `positives` and `groups` at its end."""
    estimates_of = {
        name: value.estimate if isinstance(value, Difference) else value
        for name, value in row.items()
        if isinstance(value, Estimate | Difference)
    }
    bases = {name: (each.n, each.positives, each.groups) for name, each in estimates_of.items()}
    first = next(iter(bases.values()), None)
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name not in estimates_of:
            flat[name] = _rounded(value, digits)
            continue
        each = estimates_of[name]
        flat |= {f"{name}{end}": _rounded(getattr(each, attribute), digits) for end, attribute in _ENDS}
        if each.points:
            points = ("-" if math.isnan(point) else f"{point:.{digits}f}" for point in each.points)
            flat[f"{name}_points"] = " ".join(points)
        if each.note:
            flat[f"{name}_note"] = each.note
        if isinstance(value, Difference):
            flat[f"{name}_verdict"] = value.verdict
        if bases[name] != first:
            flat |= dict(zip((f"{name}_n", f"{name}_positives", f"{name}_groups"), bases[name], strict=True))
    return flat | (dict(zip(_BASIS, first, strict=True)) if first else {})


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return round(value, digits) if math.isfinite(value) else None


UNKNOWN = "unknown"

#: Photographs of either class below which a subgroup gets a note: one photograph then moves a share by more than a fifth.
FEWEST = 5

_SUBGROUP_METRICS = ("auc", "sensitivity", "specificity")


def parse_numbers(values: Sequence[object] | NDArray) -> NDArray[np.float64]:
    """Table cells (n,) as numbers, nan where a cell is blank; `UsageError` for any other text."""
    numbers = []
    for value in values:
        try:
            number = math.nan if _blank(value) else float(str(value))
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise UsageError(f"'{value}' is no number. Write one with a decimal point, or leave the cell blank.")
        numbers.append(number)
    return np.array(numbers, float)


def _blank(value: object) -> bool:
    from fundoscope.cohort.sheet import is_blank  # here, since a cohort loads what reads photographs

    return value is None or is_blank(str(value).strip())


def cut_into_bands(values: Sequence[object] | NDArray, cuts: Sequence[float], unit: str) -> list[str]:
    """The band of each value (n,), in words: "under 1000 g", "1000 to under 1500 g", "1500 g or more".

    `cuts` ascend; a value on a cut belongs to the band above. A blank is "unknown".
    """
    edges = np.asarray(cuts, float)
    if not len(edges) or (np.diff(edges) <= 0).any():
        raise UsageError(f"Cuts {list(cuts)} make no bands. Give at least one, in ascending order.")
    named = [f"{cut:g}" for cut in cuts]
    between = [f"{low} to under {high} {unit}" for low, high in pairwise(named)]
    names = [f"under {named[0]} {unit}", *between, f"{named[-1]} {unit} or more"]
    return [UNKNOWN if math.isnan(x) else names[np.searchsorted(edges, x, side="right")] for x in parse_numbers(values)]


def subgroup_rows(
    y: ArrayLike,
    p: ArrayLike,
    threshold: ArrayLike,
    groups: Sequence[object] | NDArray | None,
    column: str,
    values: Sequence[object] | NDArray,
    cameras: Sequence[object] | NDArray | None = None,
) -> list[dict[str, Any]]:
    """A row for each subgroup: `column`, `subgroup`, the `Estimate`s `auc`, `sensitivity` and `specificity`, and `note`.

    `values` (n,) name each photograph's subgroup; blank ones are "unknown", which comes last, and the others are ordered by
    the numbers in their names. The other arguments are as in `estimates`. The note of a subgroup says where it holds fewer
    than `FEWEST` photographs of a class. Raises `UsageError` for shapes that do not match.
    """
    labels, scores = check_scores(y, p)
    if len(values) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise UsageError(f"Values of '{column}', or groups, do not match {len(labels)} photographs. Give one for each.")
    at = broadcast_thresholds(scores, threshold)
    names = [UNKNOWN if _blank(value) else str(value).strip() for value in values]
    rows = []
    for name in sorted(set(names), key=_subgroup_order):
        part = np.flatnonzero([each == name for each in names])
        own = None if groups is None else [groups[row] for row in part]
        found: dict[Any, Estimate] = estimates(
            labels[part], scores[..., part], metrics=_SUBGROUP_METRICS, threshold=at[..., part], groups=own,
            cameras=None if cameras is None else [cameras[row] for row in part],
        )  # fmt: skip
        rows.append({"column": column, "subgroup": name, **found, "note": _few_note(labels[part])})
    return rows


def _subgroup_order(name: str) -> tuple[bool, list[float], str]:
    """Unknown last; the others by the numbers in them, so that 1000 comes before 1500 and after under 1000."""
    return name == UNKNOWN, [float(number) for number in re.findall(r"\d+(?:\.\d+)?", name)], name


def _few_note(y: NDArray[np.float64]) -> str:
    few = [(int((y == label).sum()), word) for label, word in ((1, "positives"), (0, "negatives"))]
    shortages = [f"{count} {word}" for count, word in few if count < FEWEST]
    return f"only {' and '.join(shortages)}: one photograph decides" if shortages else ""
