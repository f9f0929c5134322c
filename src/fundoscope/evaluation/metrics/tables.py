"""Results as a table: a row a model or a condition, each figure with its interval and its basis."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fundoscope.evaluation.metrics.intervals import Difference, Estimate

DIGITS = 3


def results_table(
    rows: Sequence[Mapping[str, Any]], path: Path | None = None, digits: int = DIGITS
) -> list[dict[str, Any]]:
    """The rows with each `Estimate` spread over columns, rounded; written as CSV too when `path` is given.

    A column `auc` holding an `Estimate` becomes `auc`, `auc_low`, `auc_high`; a `Difference` gives `_verdict`
    as well; what is below ten groups gives `auc_points`, a note `auc_note`. The last columns `n`, `positives`
    and `groups` come from the first estimate of the row, and are said for each figure where they are not the
    same for all. What is undefined is None, in the CSV an empty cell.
    """
    table = [_spread(row, digits) for row in rows]
    columns = list(dict.fromkeys(column for row in table for column in row))
    last = [column for column in ("n", "positives", "groups") if column in columns]
    columns = [column for column in columns if column not in last] + last
    table = [{column: row.get(column) for column in columns} for row in table]
    if path is not None:
        _write(table, columns, path)
    return table


def _spread(row: Mapping[str, Any], digits: int) -> dict[str, Any]:
    found = {name: _estimate(value) for name, value in row.items() if isinstance(value, Estimate | Difference)}
    bases = {name: (value.n, value.positives, value.groups) for name, value in found.items()}
    first = next(iter(bases.values()), None)
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _columns(name, value, digits)
        if name in bases and bases[name] != first:
            flat |= dict(zip((f"{name}_n", f"{name}_positives", f"{name}_groups"), bases[name], strict=True))
    return flat | (dict(zip(("n", "positives", "groups"), first, strict=True)) if first else {})


def _estimate(value: Estimate | Difference) -> Estimate:
    return value.estimate if isinstance(value, Difference) else value


def _columns(name: str, value: Any, digits: int) -> dict[str, Any]:
    if not isinstance(value, Estimate | Difference):
        return {name: _rounded(value, digits)}
    estimate = _estimate(value)
    ends = {f"{name}{end}": _rounded(getattr(estimate, field), digits) for end, field in _ENDS}
    if estimate.points:
        ends[f"{name}_points"] = " ".join(
            "-" if math.isnan(point) else f"{point:.{digits}f}" for point in estimate.points
        )
    if estimate.note:
        ends[f"{name}_note"] = estimate.note
    return ends | ({f"{name}_verdict": value.verdict} if isinstance(value, Difference) else {})


_ENDS = (("", "value"), ("_low", "low"), ("_high", "high"))


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return round(value, digits) if math.isfinite(value) else None


def _write(table: list[dict[str, Any]], columns: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in table)
