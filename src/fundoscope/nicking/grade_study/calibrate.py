"""Step 5: each fit is calibrated once, on the inner patches of its fold, and all its predictions with it.

    calibration.csv         a row a fit: temperature, minimum confidence, and its log loss on the inner patches
    calibrated.parquet      the rows of predictions.parquet with calibrated `p0` to `p3`, and `margin`

A patch's confidence is the probability of its likeliest grade. The rule of abstaining: the minimum confidence of a fit is the
one that a given share (the coverage) of the inner patches reach; a patch below it is not graded. Inner patches are few, so
the coverage is given, and not sought where their errors are lowest; calibration.csv has the inner errors at full coverage and
at this one. `margin` is by how much the confidence exceeds the minimum.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from fundoscope.nicking.grade_study.prediction_table import (
    CALIBRATED,
    CALIBRATION,
    LOGITS,
    PROBABILITIES,
    TURNED_LOGITS,
)
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.nicking.recipes.grades import GradeCalibration
from fundoscope.vessels.grade_rule import GRADES

_SMALLEST_P = 1e-6  # a probability is not taken for smaller in a log loss

Floats = NDArray[np.float64]


def calibrate(predictions: Path, settings: GradeCalibration) -> None:
    """Read predictions.parquet, write calibrated.parquet and calibration.csv beside it."""
    frame = pd.read_parquet(predictions)
    found, parts = [], []
    for _, fit in frame.groupby(["arm", "seed", "fold"], sort=False):
        inner = (fit["part"] == "inner").to_numpy()
        grades = fit["grade"].to_numpy()[inner].astype(np.int64)
        logits, temperature, p = logits_of(fit), 1.0, fit[PROBABILITIES].to_numpy()
        if logits is not None:
            temperature = fit_temperature(np.ascontiguousarray(logits[:, inner]), grades, settings)
            p = grade_probabilities(logits, temperature)
        confidence = p.max(axis=1)
        minimum = float(np.quantile(confidence[inner], 1 - settings.coverage))
        columns = dict(zip(PROBABILITIES, p.T, strict=True)) | {"margin": confidence - minimum}
        wrong, covered = median_grades(p[inner]) != grades, confidence[inner] >= minimum
        parts.append(fit.drop(columns=[*LOGITS, *TURNED_LOGITS], errors="ignore").assign(**columns))
        found.append({
            **fit.iloc[0][["arm", "seed", "fold"]], "temperature": temperature, "minimum_confidence": minimum,
            "inner_log_loss": log_loss(p[inner], grades), "inner_patches": int(inner.sum()), "inner_error": float(wrong.mean()),
            "inner_error_covered": float(wrong[covered].mean()),
        })  # fmt: skip
    pd.DataFrame(found).to_csv(predictions.with_name(CALIBRATION), index=False)
    pd.concat(parts, ignore_index=True).to_parquet(predictions.with_name(CALIBRATED), index=False)


def logits_of(fit: pd.DataFrame) -> NDArray[np.float32] | None:
    """The logits (2, n, 4 or 3) of a fit's rows, as they are and turned; None for a rule, which has none."""
    if LOGITS[0] not in fit or fit[LOGITS[0]].isna().any():
        return None
    k = GRADES - int(fit[LOGITS[-1]].isna().any())
    return np.stack([fit[names[:k]].to_numpy(np.float32) for names in (LOGITS, TURNED_LOGITS)])


def grade_probabilities(logits: NDArray[np.float32], temperature: float) -> Floats:
    """Probabilities of grades 0 to 3, (n, 4), the mean of both ways round.

    `logits` (2, n, 4) are of the grades; (2, n, 3), of an ordinal head, of "above 0", "above 1" and "above 2".
    """
    scaled = torch.from_numpy(logits) / temperature
    if logits.shape[2] == GRADES:
        ways = [way.softmax(dim=1) for way in scaled]
    else:
        above = [torch.sigmoid(way) for way in scaled]
        ends = torch.ones_like(above[0][:, :1])
        ways = [torch.cat([ends, each], dim=1) - torch.cat([each, 0 * ends], dim=1) for each in above]
    return torch.stack(ways).mean(dim=0).double().numpy()


def fit_temperature(logits: NDArray[np.float32], grades: NDArray[np.int64], settings: GradeCalibration) -> float:
    """The temperature of the lowest log loss of logits (2, n, k) where grades (n,) are true (Guo 2017, ICML)."""
    bounds = (settings.lowest_log_temperature, settings.highest_log_temperature)
    found = minimize_scalar(
        lambda log: log_loss(grade_probabilities(logits, float(np.exp(log))), grades), bounds=bounds, method="bounded"
    )
    return float(np.exp(found.x))


def log_loss(p: Floats, grades: NDArray[np.int64]) -> float:
    """Mean log loss of probabilities (n, 4) where grades (n,) are true."""
    return float(-np.log(np.maximum(p[np.arange(len(grades)), grades], _SMALLEST_P)).mean())
