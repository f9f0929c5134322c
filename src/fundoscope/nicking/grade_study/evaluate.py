"""Step 7: every figure of a study of grades, from its calibrated predictions. Pure: no network is run, nothing is drawn.

    results.json    every figure with its interval, n and groups, confusion counts, and the points of the curves
    tables/         the same figures as CSV, a file a table, and the out-of-fold grade of every patch

Intervals draw photographs, then their crossings, and seeds (`resampling.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.evaluation.metrics import (
    FALSE_POSITIVE_RATES,
    grade_counts,
    pr_points,
    results_table,
    roc_band,
    roc_points,
)
from fundoscope.nicking.grade_study.activation_tables import change_figures, deletion_figures, pointing_figures
from fundoscope.nicking.grade_study.grade_predictions import GradePredictions, StudiedGrader
from fundoscope.nicking.grade_study.grade_tables import (
    Row,
    coverage_figures,
    exchanged_figures,
    grade_figures,
    kappa_differences,
    perturbed_figures,
    separation_figures,
    sham_figures,
    tell_apart,
    width_figures,
)
from fundoscope.nicking.grade_study.prediction_table import EXPLANATIONS, OWN, PROBABILITIES, RESULTS, TABLES
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.studies import write_json

#: The arms whose curves are drawn, where a study has them: more would hide each other.
DRAWN = ("ours", "published", "baseline", "mdtnet", "nguyen", "roy", "shuffled")
_BANDED = 2  # graders at most for which the ROC gets a band
_SEVERE = 2  # grades from which on the curves count a patch as positive


def evaluate(folder: Path) -> list[str]:
    """Write results.json and tables/ of a study; returns the lines that a person wants to read first."""
    predictions = GradePredictions.read(folder)
    tables = {**_grade_rows(predictions), **_activation_rows(folder)}
    for name, rows in tables.items():
        path = folder / TABLES / f"{name}.csv"
        path.unlink(missing_ok=True)  # of an earlier run with other graders
        if rows:
            results_table(rows, path)
    results_table(list(list_predictions(predictions)), folder / TABLES / "out_of_fold.csv")
    sentences = [tell_apart(tables["differences"], table) for table in predictions.tables]
    write_json(folder / RESULTS, _as_json({**tables, "sentences": sentences, **_drawn_figures(predictions)}))
    return [
        *(f"{row['grader']}: quadratic kappa {row['quadratic_kappa']}, where confident {row['kappa_covered']}" for row in tables["grades"]),
        *(f"{row['table']}: {row['comparison']}: {row['quadratic_kappa']}" for row in tables["differences"]),
        *filter(None, sentences),
    ]  # fmt: skip


def _grade_rows(predictions: GradePredictions) -> dict[str, list[Row]]:
    """The rows of each table of grades."""
    graders = predictions.graders
    own = {grader: predictions.out_of_fold(grader) for grader in graders}
    networks = [grader for grader in graders if grader.arm in predictions.networks]
    log_loss = predictions.fits.groupby("arm")["inner_log_loss"].mean()
    return {
        "grades": [
            {
                "grader": grader.name, "seeds": grader.together or len(grades.p), "inner_log_loss": float(log_loss[grader.arm]),
                **grade_figures(grades), **separation_figures(grades),
            }
            for grader, grades in own.items()
        ],
        "other_tables": [
            {"table": table, "grader": grader.name, **grade_figures(predictions.out_of_fold(grader, table))}
            for table in predictions.tables
            if table != OWN
            for grader in graders
        ],
        "differences": list(kappa_differences(predictions)),
        "coverage": [row for grader in graders for row in coverage_figures(grader, own[grader])],
        "by_width": [row for grader in graders for row in width_figures(grader, own[grader])],
        "shams": [row for grader in graders for row in sham_figures(grader, own[grader])],
        "perturbed": [row for grader in networks for row in perturbed_figures(predictions, grader)],
        "exchanged": [exchanged_figures(predictions, grader) for grader in networks],
    }  # fmt: skip


def _activation_rows(folder: Path) -> dict[str, list[Row]]:
    """The rows of each table of what networks look at."""
    explained = folder / EXPLANATIONS
    return {
        "pointing": list(pointing_figures(explained)),
        "deletion": list(deletion_figures(explained)),
        "activation_changes": list(change_figures(explained)),
    }


def list_predictions(predictions: GradePredictions) -> Iterator[Row]:
    """A row a patch and arm: which patch it is, its grade, the probabilities as their mean over seeds, the grade that is predicted."""
    for arm in predictions.rows["arm"].unique():
        grades = predictions.out_of_fold(StudiedGrader(arm)).together()
        for k, patch in enumerate(grades.patches.to_dict("records")):
            about = {"grader": arm, **{name: patch[name] for name in ("patch", "photograph", "crossing", "sham")}}
            p = {name: round(float(value), 4) for name, value in zip(PROBABILITIES, grades.p[0, k], strict=True)}
            yield {
                **about, "grade": int(patch["grade"]), **p, "predicted_grade": int(grades.predicted[0, k]),
                "confident": bool(grades.confident[0, k]),
            }  # fmt: skip


def _drawn_figures(predictions: GradePredictions) -> Row:
    """What the pages draw of some arms, their seeds together: confusion counts (4, 4), truth by row; points of the ROC and
    precision-recall curves of grade 2 or 3 against 0 or 1, with a band (false-positive rate, low, high) where there are few
    arms; the share of grade 2 or 3.
    """
    arms = predictions.rows["arm"].unique().tolist()
    drawn = [arm for arm in DRAWN if arm in arms] or arms[: len(DRAWN)]
    confusion, curves, share = {}, {}, math.nan
    for arm in drawn:
        grades = predictions.out_of_fold(StudiedGrader(arm)).together()
        y, score = (grades.truth >= _SEVERE).astype(int), grades.p[0, :, _SEVERE:].sum(axis=1)
        share = float(y.mean())
        confusion[arm] = grade_counts(grades.truth, median_grades(grades.p[0]))
        banded = len(drawn) <= _BANDED
        band = [FALSE_POSITIVE_RATES, *roc_band(y, score, grades.patches["photograph"].tolist())] if banded else None
        curves[arm] = {"roc": roc_points(y, score), "precision_recall": pr_points(y, score), "roc_band": band}
    return {"graders": arms, "drawn": drawn, "positive_share": share, "confusion": confusion, "curves": curves}


def _as_json(value: Any) -> Any:
    """Plain values: dataclasses as objects, arrays as lists, nan as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _as_json(asdict(value))
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_as_json(each) for each in value]
    if isinstance(value, np.generic):
        return _as_json(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
