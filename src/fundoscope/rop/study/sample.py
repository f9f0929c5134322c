"""Who the infants are: columns of the cohort's table, counted by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from fundoscope.cohort import Cohort, CohortRow

#: Columns that are counted where the table has them, and their units (paper 000, figure 6).
_MEASURED = {"gestational_age": "weeks", "birth_weight": "g"}
_BINS = 12


def count_infants(cohort: Cohort) -> dict[str, dict[str, Any]]:
    """Histograms by column: `unit`, `edges` (13,), how many are `unknown`, and of each class `n`, `median` and `counts` (12,).

    Classes stand in the order in which the table shows them first; a photograph counts once.
    """
    classes = np.array([_class_of(record) for record in cohort])
    histograms = {}
    for name, unit in _MEASURED.items():
        values = np.array([record.measure(name) for record in cohort])
        known = np.isfinite(values)
        if not known.any():
            continue
        edges = np.histogram_bin_edges(values[known], _BINS)
        by_class = {}
        for label in dict.fromkeys(classes.tolist()):
            own = values[known & (classes == label)]
            median = float(np.median(own)) if own.size else None
            by_class[label] = {"n": int(own.size), "median": median, "counts": np.histogram(own, edges)[0].tolist()}
        histograms[name.replace("_", " ")] = {
            "unit": unit, "edges": edges.tolist(), "unknown": int((~known).sum()), "classes": by_class,
        }  # fmt: skip
    return histograms


def _class_of(record: CohortRow) -> str:
    if record.treatment_requiring is None or record.label == "normal":
        return record.label
    return "ROP, treatment" if record.treatment_requiring else "ROP, no treatment"
