from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as reference

from fundoscope.evaluation import compute_metrics
from fundoscope.evaluation.metrics import FALSE_POSITIVE_RATES, pr_points, reliability_bins, roc_band, roc_points


def scored(n=98, seed=0, distance=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, np.round(1 / (1 + np.exp(-(rng.normal(0, 1, n) + distance * (y - 0.5)))), 2)


def test_roc_points_agree_with_scikit_learn():
    y, p = scored()
    fpr, tpr, _ = reference.roc_curve(y, p, drop_intermediate=False)
    found = roc_points(y, p)
    assert found[0] == pytest.approx(fpr) and found[1] == pytest.approx(tpr)
    assert np.trapezoid(found[1], found[0]) == pytest.approx(compute_metrics(y, p)["auc"])


def test_pr_points_agree_with_scikit_learn():
    y, p = scored()
    precision, recall, _ = reference.precision_recall_curve(y, p)
    found = pr_points(y, p)
    assert found[0] == pytest.approx(recall[:-1][::-1]) and found[1] == pytest.approx(precision[:-1][::-1])
    assert np.sum(np.diff(found[0], prepend=0) * found[1]) == pytest.approx(compute_metrics(y, p)["average_precision"])


def test_a_band_holds_its_curve_and_narrows_with_numbers():
    y, p = scored()
    low, high = roc_band(y, p)
    middle = np.interp(FALSE_POSITIVE_RATES, *roc_points(y, p))
    assert np.mean((low <= middle + 1e-9) & (middle <= high + 1e-9)) > 0.97
    wide = (high - low).mean()
    low, high = roc_band(*scored(1000))
    assert (high - low).mean() < 0.5 * wide


def test_reliability_bins_add_up_to_the_calibration_error():
    y, p = scored(500)
    bins = reliability_bins(y, p)
    assert len(bins) == 10 and sum(b.n for b in bins) == 500
    assert all(b.low <= b.share <= b.high for b in bins)
    assert sum(b.n * abs(b.score - b.share) for b in bins) / 500 == pytest.approx(compute_metrics(y, p)["ece"])
    assert sum(b.n for b in reliability_bins([0, 1, 1], [0.5, 0.5, 0.5])) == 3


def test_importing_evaluation_loads_nothing_heavy():
    heavy = ("torch", "timm", "lightning", "sklearn", "matplotlib", "pandas", "scipy", "cv2")
    code = f"import sys, fundoscope.evaluation; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = (
        f"import sys; from fundoscope.evaluation import controls, decisions, detection, forensics;"
        f"print([name for name in {heavy[:6]} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
