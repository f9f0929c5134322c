"""Figures of the evaluation as cells of a report's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fundoscope.evaluation import Difference, Estimate
from fundoscope.reports import EstimateCell


def cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with estimates as the report draws them, and what is undefined left blank."""
    return [{name: _cell(value) for name, value in row.items()} for row in rows]


def _cell(value: Any) -> Any:
    estimate = value.estimate if isinstance(value, Difference) else value
    if not isinstance(estimate, Estimate):
        return round(value, 4) if isinstance(value, float) else value
    ends = (None, None) if np.isnan(estimate.low) else (estimate.low, estimate.high)
    return None if np.isnan(estimate.value) else EstimateCell(estimate.value, *ends, estimate.n)
