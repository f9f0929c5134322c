"""Step 4: every arm predicts the inner and the tested patches of its folds: `predictions.parquet`, one file for the study.

A row is a patch, arm, seed, fold, part, table and variant. `p0` to `p3` are the probabilities of the grades before
calibration. For a network `logit_0` to `logit_3` stand behind them, and `turned_0` to `turned_3`, those of the patch
turned by half a turn; for a rule they are blank, and an ordinal head leaves the fourth one blank.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.nicking.grade_study.batches import network_inputs, study_device
from fundoscope.nicking.grade_study.calibrate import grade_probabilities
from fundoscope.nicking.grade_study.grade_networks import predict_both_ways
from fundoscope.nicking.grade_study.plan import GradePlan, PlannedFit
from fundoscope.nicking.grade_study.prediction_table import (
    DESCRIPTION,
    EXCHANGED,
    LOGITS,
    OWN,
    PREDICTIONS,
    PROBABILITIES,
    TURNED_LOGITS,
    UNPERTURBED,
    VARIANTS,
)
from fundoscope.nicking.grade_study.rivals import nguyen, roy, trivial
from fundoscope.nicking.grade_study.train import WEIGHTS, load_network
from fundoscope.nicking.grade_study.views import MeasuredWidths, measured_widths, table_patches
from fundoscope.nicking.grading.crossing_patches import PATCH_MAPS
from fundoscope.studies import Study
from fundoscope.vessels.grade_rule import GRADES


def predict_fit(fit: PlannedFit, study: Study) -> None:
    """Write the predictions of a trained fit beside its weights, unless they are there."""
    path = study.folder / fit.step / PREDICTIONS
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = predict_rule(fit) if fit.arm.network is None else predict_network(fit, path.parent / WEIGHTS)
        frame.to_parquet(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").replace(path)


def join_predictions(plan: GradePlan) -> None:
    """Write the predictions of all fits of a plan together."""
    parts = [pd.read_parquet(plan.study.folder / fit.step / PREDICTIONS) for fit in plan.fits]
    pd.concat(parts, ignore_index=True).to_parquet(plan.study.folder / PREDICTIONS, index=False)


def predict_network(fit: PlannedFit, weights: Path) -> pd.DataFrame:
    """What a trained network predicts of inner patches, of tested ones in each variant, and of other tables."""
    fold, recipe = fit.fold, fit.fold.recipe
    network = load_network(fit.arm, fold, fit.seed, weights).to(study_device())
    radius = recipe.masked.radius if fit.arm.masked else None
    shown = [("inner", OWN, UNPERTURBED), *(("test", OWN, variant) for variant in VARIANTS)]
    shown += [("test", table, UNPERTURBED) for table in fold.tables.others]
    shown += [("test", OWN, EXCHANGED)]
    parts = []
    for part, table, variant in shown:
        numbers = fold.inner if part == "inner" else fold.tested(table)
        if len(numbers):
            kept = UNPERTURBED if variant == EXCHANGED else variant
            inputs = network_inputs(table_patches(fold, table, kept), numbers, radius)
            inputs = exchange_artery_and_vein(inputs) if variant == EXCHANGED else inputs
            logits = predict_both_ways(network, inputs, recipe.prediction.batch)
            frame = _describe_patches(fit, part, table, variant, numbers)
            frame[PROBABILITIES] = grade_probabilities(logits, temperature=1.0)
            for columns, way in zip((LOGITS, TURNED_LOGITS), logits, strict=True):
                frame[columns[: way.shape[1]]] = way
            parts.append(frame)
    return pd.concat(parts, ignore_index=True).reindex(columns=[*DESCRIPTION, *PROBABILITIES, *LOGITS, *TURNED_LOGITS])


def exchange_artery_and_vein(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inputs (n, 6, s, s) in which the map of arteries stands in the place of that of veins, and the other way round."""
    order = [0, 1, 2, *(3 + PATCH_MAPS.index(kind) for kind in ("vessel", "vein", "artery"))]
    return np.ascontiguousarray(inputs[:, order])


def predict_rule(fit: PlannedFit) -> pd.DataFrame:
    """What a rule predicts that is fitted to training and inner patches together, since it chooses nothing."""
    fold, own = fit.fold, measured_widths(fit.fold, OWN)
    parts = []
    for part, table in (("inner", OWN), *(("test", table) for table in fold.tables.tested_names)):
        numbers = fold.inner if part == "inner" else fold.tested(table)
        frame = _describe_patches(fit, part, table, UNPERTURBED, numbers)
        p = _rule_probabilities(fit, own, measured_widths(fold, table), numbers)
        frame[PROBABILITIES] = p.reshape(-1, GRADES)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def _rule_probabilities(
    fit: PlannedFit, own: MeasuredWidths, tested: MeasuredWidths, numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The probabilities (n, 4) of the patches `numbers` of `tested` by the fit's rule, fitted to patches of `own`."""
    fold = fit.fold
    train = np.concatenate([fold.fold.row_numbers(fold.tables.rows, "train"), fold.inner])
    grades = fold.tables.grades[train]
    if fit.arm.name == "nguyen":
        return nguyen.fit(own.narrowing[train], grades).probabilities(tested.narrowing[numbers])
    if fit.arm.name == "roy":
        forest = roy.fit(own.features[train], grades)
        return forest.probabilities(tested.features[numbers]) if len(numbers) else np.zeros((0, GRADES))
    return trivial.fit(grades).probabilities(len(numbers))


def _describe_patches(fit: PlannedFit, part: str, table: str, variant: str, numbers: NDArray[np.int64]) -> pd.DataFrame:
    """The columns that say which patch a row is, how it was shown, and by whom it is graded; `row` counts in the table."""
    rows = fit.fold.tables.tested(table)
    fit_columns = (fit.arm.name, fit.seed, fit.fold.fold.number, part, table, variant)
    about = [
        (
            *fit_columns,
            int(k),
            row.path.name,
            row.photograph,
            row.grade,
            row.sham,
            row.is_narrowed,
            row.crossing,
            row.vein_px,
        )
        for k, row in ((k, rows[k]) for k in numbers)
    ]
    return pd.DataFrame(about, columns=list(DESCRIPTION)).astype({"grade": "Int64"})
