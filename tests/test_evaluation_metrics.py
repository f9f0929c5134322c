from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from fundoscope.errors import UsageError
from fundoscope.evaluation import METRICS, auc, average_precision, compute_metrics
from fundoscope.evaluation.metrics import fit_recalibration, weighted_metrics


@st.composite
def graded(draw, levels=12):
    """Labels of both classes and probabilities with many ties."""
    n = draw(st.integers(4, 60))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    y[:2] = 0, 1
    p = np.array(draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))) / levels
    return y, p


def sample(n=200, seed=0, stretch=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    return y, 1 / (1 + np.exp(-(stretch * z + shift)))


@settings(max_examples=15, deadline=None)
@given(graded(), st.integers(1, 11))
def test_all_agree_with_scikit_learn(data, level):
    y, p = data
    threshold = (level - 0.5) / 12
    called = p >= threshold
    found = compute_metrics(y, p, threshold)
    assert found["auc"] == pytest.approx(reference.roc_auc_score(y, p))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(y, p))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(y, p))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, called))
    assert found["sensitivity"] == pytest.approx(reference.recall_score(y, called))
    assert found["specificity"] == pytest.approx(reference.recall_score(y, called, pos_label=0))
    assert found["f1"] == pytest.approx(reference.f1_score(y, called))
    if called.any():
        assert found["precision"] == pytest.approx(reference.precision_score(y, called))
    else:
        assert math.isnan(found["precision"])


@settings(max_examples=15, deadline=None)
@given(graded(), st.data())
def test_a_weight_is_a_repetition(data, more):
    y, p = data
    times = np.array(more.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    times[:2] = 1
    by_weight = weighted_metrics(y.astype(float), p, np.array([times, np.ones_like(times)], float), 0.4)
    by_hand = compute_metrics(np.repeat(y, times), np.repeat(p, times), 0.4)
    for name in METRICS:
        assert by_weight[name][0] == pytest.approx(by_hand[name], nan_ok=True, rel=1e-4, abs=1e-6), name
        assert by_weight[name][1] == pytest.approx(compute_metrics(y, p, 0.4)[name], nan_ok=True, rel=1e-4, abs=1e-6), (
            name
        )


@settings(max_examples=15, deadline=None)
@given(graded(), st.integers(0, 1000))
def test_the_order_of_photographs_does_not_matter(data, seed):
    y, p = data
    order = np.random.default_rng(seed).permutation(len(y))
    assert compute_metrics(y, p) == pytest.approx(compute_metrics(y[order], p[order]), nan_ok=True, rel=1e-6, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(graded())
def test_auc_is_the_share_of_pairs_in_order(data):
    y, p = data
    pairs = [(a > b) + (a == b) / 2 for a in p[y == 1] for b in p[y == 0]]
    assert auc(y, p) == pytest.approx(np.mean(pairs))
    assert auc(1 - y, p) == pytest.approx(1 - auc(y, p))


def test_auc_takes_any_scores_and_all_ties_are_chance():
    assert auc([0, 1, 0, 1], [-30, 40, -2, 5]) == 1
    assert auc([0, 1, 0, 1], [2, 2, 2, 2]) == 0.5
    assert average_precision([0, 1, 0, 1], [2, 2, 2, 2]) == 0.5


def test_what_cannot_be_known_is_nan_and_the_rest_is_not():
    found = compute_metrics([1, 1, 1], [0.2, 0.7, 0.9])
    unknown = {name for name in METRICS if math.isnan(found[name])}
    calibration = {"calibration_slope", "calibration_intercept", "calibration_in_the_large"}
    assert unknown == {"auc", "average_precision", "specificity"} | calibration
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert math.isnan(compute_metrics([1, 0], [0.1, 0.2])["precision"])
    assert compute_metrics([1, 0], [0.1, 0.2])["f1"] == 0
    assert math.isnan(compute_metrics([0, 0], [0.1, 0.2])["f1"])
    assert all(math.isnan(value) for value in compute_metrics([], []).values())


def test_a_threshold_for_each_photograph():
    assert compute_metrics([1, 0, 1, 0], [0.6, 0.4, 0.3, 0.2], [0.5, 0.5, 0.25, 0.25])["accuracy"] == 1
    assert compute_metrics([1, 0, 1, 0], [0.6, 0.4, 0.3, 0.2])["accuracy"] == 0.75


def test_a_good_prediction_costs_less_than_a_bad_one():
    y, p = sample()
    good, bad = compute_metrics(y, p), compute_metrics(y, 1 - p)
    assert good["brier"] < bad["brier"] and good["ece"] < bad["ece"] and good["auc"] > bad["auc"]
    assert good["brier"] < compute_metrics(y, np.full(len(y), y.mean()))["brier"]


def test_calibration_error_by_hand():
    # ten bins of ten: in bin k the scores are 0.05 + k / 10, and k of ten are positive
    p = np.repeat(0.05 + np.arange(10) / 10, 10)
    y = np.concatenate([np.arange(10) < k for k in range(10)]).astype(int)
    assert compute_metrics(y, p)["ece"] == pytest.approx(0.05)
    assert compute_metrics([0, 1] * 20, [0.5] * 40)["ece"] == pytest.approx(0)


@pytest.mark.parametrize("seed", range(4))
def test_recalibration_agrees_with_an_unpenalised_logistic_regression(seed):
    y, p = sample(seed=seed, stretch=2.0, shift=0.7)
    z = np.log(p / (1 - p))
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(z[:, None], y)
    found = compute_metrics(y, p)
    assert found["calibration_slope"] == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found["calibration_intercept"] == pytest.approx(model.intercept_[0], rel=1e-3, abs=1e-4)
    # with the slope held at 1, expected and observed numbers of positives agree
    shifted = 1 / (1 + np.exp(-(z + found["calibration_in_the_large"])))
    assert shifted.sum() == pytest.approx(y.sum())


def test_recalibration_undoes_what_was_done_to_the_logits():
    y, p = sample(n=20_000, stretch=2.0, shift=0.6)
    found = compute_metrics(y, p)
    assert found["calibration_slope"] == pytest.approx(0.5, abs=0.03)
    assert found["calibration_intercept"] == pytest.approx(-0.3, abs=0.06)


@pytest.mark.parametrize(
    ("positives", "negatives", "reason"),
    [
        ([0, 0, 1], [1, 1, 0], "separate"),
        ([0, 1, 1], [1, 1, 0], "separate"),
        ([1, 1, 0], [0, 0, 1], "separate"),
        ([1, 1, 1], [0, 0, 0], "one class"),
        ([0, 2, 0], [0, 3, 0], "equal"),
        ([1, 1, 1], [1, 1, 1], ""),
    ],
)
def test_where_no_slope_exists_the_reason_is_given(positives, negatives, reason):
    line = fit_recalibration(np.array([0.2, 0.5, 0.8]), np.array([positives], float), np.array([negatives], float))
    assert reason in line.reasons[0] and bool(line.reasons[0]) == bool(reason)
    assert math.isnan(line.slope[0]) == bool(reason)
    assert math.isnan(line.in_the_large[0]) == (reason == "one class")


def test_recalibration_survives_extremes():
    y = np.array([0, 1] * 30)
    p = np.where(np.arange(60) % 7 == 0, 1 - y, y).astype(float)  # exact zeros and ones, some of them wrong
    found = compute_metrics(y, p)
    assert 0 < found["calibration_slope"] < 0.3 and math.isfinite(found["calibration_in_the_large"])


@pytest.mark.parametrize(
    ("y", "p", "says"),
    [
        ([0, 1], [0.5], "match"),
        ([0, 2], [0.5, 0.5], "0 and 1"),
        ([0, 1], [0.5, math.nan], "nan"),
        ([0, 1], [0.5, 1.5], "probabilities"),
    ],
)
def test_wrong_calls_are_named(y, p, says):
    with pytest.raises(UsageError, match=says):
        compute_metrics(y, p)
