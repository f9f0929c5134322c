from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from fundoscope.errors import ControlError, UsageError
from fundoscope.evaluation import (
    auc,
    compute_metrics,
    fit_temperature,
    lower_bound_with_no_misses,
    max_accuracy,
    target_sensitivity,
    youden,
)
from fundoscope.evaluation.controls import chance_sd, shuffle_verdict


def logits(n, seed=0, temperature=1.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    return temperature * z, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(temperature):
    fitted = fit_temperature(*logits(20_000, temperature=temperature))
    assert fitted.value == pytest.approx(temperature, rel=0.05)
    assert "drawn" not in fitted.text and "20000" in fitted.text


def test_temperature_is_where_the_loss_is_least():
    z, y = logits(300, temperature=2.5)

    def loss(beta):
        return np.sum(np.logaddexp(0, beta * z) - y * beta * z)

    alone = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9})
    pulled = minimize_scalar(lambda b: loss(b) + (b - 1) ** 2 / 2, bounds=(0.05, 20), method="bounded")
    fitted = fit_temperature(z, y)
    assert fitted.unshrunk == pytest.approx(1 / alone.x, rel=1e-4)
    assert fitted.value == pytest.approx(1 / pulled.x, rel=1e-4)


def test_a_dozen_separable_photographs_do_not_drive_the_temperature_to_its_bound():
    fitted = fit_temperature([-3, -2, -2, -1, 1, 2, 2, 3], [0, 0, 0, 0, 1, 1, 1, 1])
    assert fitted.unshrunk == pytest.approx(0.05) and 0.4 < fitted.value < 1
    assert "drawn towards 1" in fitted.text


def test_temperature_never_leaves_its_bounds():
    z, y = logits(400)
    assert fit_temperature(1000 * z, 1 - y).value == pytest.approx(20)
    assert fit_temperature(1e-4 * z, y).unshrunk == pytest.approx(0.05)


def test_temperature_of_two_columns_is_that_of_their_difference():
    z, y = logits(200, temperature=2)
    pair = np.column_stack([np.full(200, 1.7), z + 1.7])
    one, two = fit_temperature(z, y), fit_temperature(pair, y)
    assert one.value == pytest.approx(two.value)
    assert one.probabilities(z) == pytest.approx(two.probabilities(pair)[:, 1])
    assert two.probabilities(pair).sum(axis=1) == pytest.approx(1)


def test_temperature_makes_probabilities_better_but_keeps_their_order():
    z, y = logits(500, temperature=4)
    fitted = fit_temperature(z, y)
    before, after = compute_metrics(y, 1 / (1 + np.exp(-z))), compute_metrics(y, fitted.probabilities(z))
    assert after["brier"] < before["brier"] and after["auc"] == pytest.approx(before["auc"])
    assert after["calibration_slope"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("y", [[], [1, 1, 1]])
def test_temperature_without_two_classes_is_one(y):
    fitted = fit_temperature(np.arange(len(y)), y)
    assert fitted.value == 1 and "tell nothing" in fitted.text


@st.composite
def graded(draw):
    n = draw(st.integers(4, 40))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    y[:2] = 0, 1
    return y, np.array(draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))) / 10


@settings(max_examples=15, deadline=None)
@given(graded(), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_operating_points_are_the_best_of_all_thresholds(data, target):
    y, p = data
    every = [compute_metrics(y, p, t) for t in (-1, *(np.unique(p) - 1e-6), 2)]
    found = compute_metrics(y, p, youden(y, p).threshold)
    assert found["sensitivity"] + found["specificity"] == pytest.approx(
        max(each["sensitivity"] + each["specificity"] for each in every)
    )
    assert compute_metrics(y, p, max_accuracy(y, p).threshold)["accuracy"] == pytest.approx(
        max(e["accuracy"] for e in every)
    )
    point = target_sensitivity(y, p, target)
    chosen = compute_metrics(y, p, point.threshold)
    assert chosen["sensitivity"] >= target - 1e-9
    assert chosen["specificity"] == pytest.approx(
        max(each["specificity"] for each in every if each["sensitivity"] >= target - 1e-9)
    )
    assert (point.sensitivity, point.specificity) == pytest.approx((chosen["sensitivity"], chosen["specificity"]))


@settings(max_examples=15, deadline=None)
@given(graded())
def test_thresholds_keep_away_from_the_scores(data):
    y, p = data
    for point in (youden(y, p), max_accuracy(y, p), target_sensitivity(y, p, 0.9)):
        assert np.abs(p - point.threshold).min() > 0.04 or point.threshold in (0.0,) or point.threshold > 1


def test_a_threshold_lies_midway():
    y, p = [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]
    for point in (youden(y, p), max_accuracy(y, p), target_sensitivity(y, p, 1.0)):
        assert point.threshold == pytest.approx(0.4)
    assert target_sensitivity(y, p, 0.5).threshold == pytest.approx(0.75)


def test_neighbouring_floats_are_still_told_apart():
    low = 0.3
    high = np.nextafter(low, 1)
    assert compute_metrics([0, 1], [low, high], youden([0, 1], [low, high]).threshold)["accuracy"] == 1
    assert compute_metrics([1, 0], [0.0, 1.0], max_accuracy([1, 0, 0], [0.0, 1.0, 1.0]).threshold)["specificity"] == 1


def test_an_operating_point_says_what_its_number_supports():
    y = np.repeat([0, 1], [30, 49])
    point = target_sensitivity(y, np.linspace(0, 1, 79), 0.95)
    assert "cannot prove 0.95" in point.text and f"{lower_bound_with_no_misses(49):.3f}" in point.text
    assert point.n == 79 and point.positives == 49 and point.sensitivity_bound < point.sensitivity
    many = np.repeat([0, 1], [30, 400])
    assert "cannot prove" not in target_sensitivity(many, np.linspace(0, 1, 430), 0.95).text


@pytest.mark.parametrize(
    "call",
    [
        lambda: youden([1, 1], [0.2, 0.3]),
        lambda: youden([0, 1], [-3.0, 4.0]),
        lambda: target_sensitivity([0, 1], [0.2, 0.3], 1.2),
        lambda: fit_temperature([1.0, 2.0], [0]),
        lambda: fit_temperature([1.0, np.inf], [0, 1]),
        lambda: fit_temperature([[1.0, 2.0]], [2]),
        lambda: shuffle_verdict([], 5, 5),
        lambda: shuffle_verdict([0.5, 1.2], 5, 5),
        lambda: shuffle_verdict([0.5], 5, 0),
    ],
)
def test_wrong_calls_are_named(call):
    with pytest.raises(UsageError):
        call()


def blind_aucs(runs, n_pos, n_neg, seed):
    rng = np.random.default_rng(seed)
    y = np.repeat([1, 0], [n_pos, n_neg])
    return [auc(y, rng.random(len(y))) for _ in range(runs)]


def test_chance_scatters_as_the_formula_says():
    assert np.std(blind_aucs(1000, 49, 49, 0)) == pytest.approx(chance_sd(49, 49), rel=0.1)
    assert np.std(blind_aucs(1000, 8, 60, 1)) == pytest.approx(chance_sd(8, 60), rel=0.1)


def test_blind_runs_raise_no_alarm():
    verdicts = [shuffle_verdict(blind_aucs(20, 49, 49, seed), 49, 49) for seed in range(60)]
    assert not any(verdict.alarm for verdict in verdicts)
    assert "as chance would have it" in verdicts[0].text


@pytest.mark.parametrize("leak", [0.65, 0.75, 0.95])
def test_a_planted_leak_raises_the_alarm(leak):
    rng = np.random.default_rng(0)
    verdict = shuffle_verdict(np.clip(rng.normal(leak, 0.06, 20), 0, 1), 49, 49)
    assert verdict.alarm and verdict.text.startswith("ALARM") and verdict.mean == pytest.approx(leak, abs=0.05)


def test_one_run_and_the_pessimism_of_cross_validation():
    assert shuffle_verdict([0.9], 49, 49).alarm and not shuffle_verdict([0.6], 49, 49).alarm
    with pytest.raises(ControlError, match="one class"):
        shuffle_verdict([0.5, float("nan")], 49, 49)
    low = shuffle_verdict([0.40, 0.42, 0.45, 0.38] * 5, 49, 49)
    assert not low.alarm and "Below 0.5" in low.text
