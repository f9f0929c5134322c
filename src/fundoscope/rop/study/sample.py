"""Who the infants are, counted by class; and whether they were divided as the study says, looked up in what it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, CohortRow, Fold, Folds
from fundoscope.errors import counted

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


def check_division(
    folds: Folds | Sequence[Fold], groups: NDArray[np.int64], tested: Iterable[tuple[str, pd.DataFrame]]
) -> list[dict[str, Any]]:
    """Two checks, each with `what`, `passed` and `detail`: of the answers that were given, and of the folds behind them.

    `groups` (n,) numbers each photograph's group; `tested` is as `CalibratedPredictions.tested` has it. A fault is named by
    its network and photograph, or by its fold and photograph; rows count from 0.
    """
    wrong, networks = [], 0
    for name, answers in tested:
        networks += 1
        times = np.bincount(answers.row, minlength=len(groups))
        wrong += [f"{name}: photograph {row} {times[row]} times" for row in np.flatnonzero(times != 1)]
        for number in np.unique(answers.fold).tolist():
            fold = folds[number]
            learnt = set(groups[[*fold.train, *fold.inner]].tolist())
            seen = [row for row in answers.row[answers.fold == number].tolist() if groups[row] in learnt]
            wrong += [f"{name}: photograph {row}, whose group fold {number} learnt from" for row in seen]
    parted = []
    for fold in folds:
        parts = [set(groups[list(fold.rows(part))].tolist()) for part in ("train", "inner", "test")]
        shared = (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])
        parted += [f"fold {fold.number}: photograph {np.flatnonzero(groups == group)[0]}" for group in sorted(shared)]
    return [
        {
            "what": "every network tested each photograph once, and none of whose group it had learnt",
            "passed": not wrong and networks > 0,
            "detail": "; ".join(wrong[:3])
            or f"{counted(len(groups), 'photograph')}, {counted(networks, 'network')} and seeds",
        },
        {
            "what": "no group stands in two parts of a fold",
            "passed": not parted,
            "detail": "; ".join(parted[:3])
            or f"{counted(len(np.unique(groups)), 'group')}, {counted(len(folds), 'fold')}",
        },
    ]


def _class_of(record: CohortRow) -> str:
    if record.treatment_requiring is None or record.label == "normal":
        return record.label
    return "ROP, treatment" if record.treatment_requiring else "ROP, no treatment"
