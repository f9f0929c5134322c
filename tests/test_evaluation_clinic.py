"""Weights, the cascade, predictive values, decision curves, subgroups and operating points."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fundoscope
from fundoscope.errors import UsageError
from fundoscope.evaluation import (
    METRICS,
    compute_metrics,
    difference,
    estimate,
    estimates,
    results_table,
    target_sensitivity,
)
from fundoscope.evaluation.decisions import (
    Cascade,
    InnerPredictions,
    class_weights,
    decision_curve,
    operating_rows,
    predictive_values,
    score_cascade,
)
from fundoscope.evaluation.metrics import cut_into_bands, parse_numbers, resample_weights, subgroup_rows


def scored(n=98, seed=0, distance=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, 1 / (1 + np.exp(-(rng.normal(0, 1, n) + distance * (y - 0.5))))


# weights and class mixes


def test_a_weight_is_a_repetition_within_the_group():
    y, p = scored(40)
    times = np.random.default_rng(1).integers(1, 4, 40)
    again = np.repeat(np.arange(40), times)
    weighted = estimates(y, p, groups=np.arange(40), weights=times)
    repeated = estimates(y[again], p[again], groups=again)
    for name in METRICS:
        ends = [(each.value, each.low, each.high) for each in (weighted[name], repeated[name])]
        assert ends[0] == pytest.approx(ends[1], rel=1e-4, abs=1e-6, nan_ok=True), name
    assert (weighted["auc"].n, weighted["auc"].positives) == (40, 20)  # what there is, not what it stands for


def test_equal_weights_change_nothing_and_a_difference_is_weighted_too():
    y, p = scored()
    q = scored(seed=4)[1]
    assert estimate(y, p, weights=np.ones(98)) == estimate(y, p)
    assert estimate(y, p, weights=np.full(98, 2.0)) == estimate(y, p)
    weights = np.random.default_rng(0).uniform(0.5, 2, 98)
    found = difference(y, p, q, "brier", weights=weights)
    assert found.first == pytest.approx(np.average((y - p) ** 2, weights=weights))
    assert found.estimate.value == pytest.approx(found.first - found.second)


def test_few_groups_are_weighted_within_themselves():
    y, p = scored(20)
    weights = np.random.default_rng(0).uniform(0.5, 2, 20)
    found = estimate(y, p, "brier", groups=np.arange(20) // 5, weights=weights)
    each = [np.average((y[k : k + 5] - p[k : k + 5]) ** 2, weights=weights[k : k + 5]) for k in range(0, 20, 5)]
    assert found.points == pytest.approx(each)


def test_class_weights_bring_the_shares_that_are_wanted():
    classes = np.repeat([0, 1, 2], [10, 30, 60])
    weights = class_weights(classes, {0: 80, 1: 15, 2: 5})
    assert weights.mean() == pytest.approx(1)
    assert [weights[classes == k].sum() / 100 for k in range(3)] == pytest.approx([0.80, 0.15, 0.05])
    # a specificity among healthy and mildly sick is the mix of the two
    called = np.random.default_rng(0).random(100) < 0.4
    found = estimate(classes == 2, called, "specificity", weights=weights).value
    assert found == pytest.approx((0.80 * (~called[:10]).mean() + 0.15 * (~called[10:40]).mean()) / 0.95)


@pytest.mark.parametrize("wanted", [{0: 1, 1: 1, 2: 1}, {0: 1}, {0: 1, 1: 0}])
def test_a_mix_that_cannot_be_is_refused(wanted):
    with pytest.raises(UsageError):
        class_weights([0, 1, 1], wanted)


@pytest.mark.parametrize("weights", [[1.0], np.zeros(98), np.full(98, np.nan)])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(UsageError, match="above 0"):
        estimate(*scored(), weights=weights)


def test_a_function_takes_no_weights():
    with pytest.raises(UsageError, match="function"):
        estimate(*scored(), lambda y, p: 0.0, weights=np.ones(98))


# the cascade


def rows_of(*arguments, **more):
    return {row["figure"]: row for row in score_cascade(*arguments, **more)}


SENSITIVITY, SPECIFICITY = "sensitivity for treatment-requiring, end to end", "specificity, all others"
PRODUCT, BEYOND = "product of the two, if independent", "end to end minus product"


def test_a_cascade_by_hand():
    tr = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    rop = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    p_rop = np.array([0.9, 0.8, 0.1, 0.7, 0.9, 0.9, 0.2, 0.9, 0.1, 0.1])
    p_tr = np.array([0.9, 0.3, 0.9, 0.8, 0.7, 0.1, 0.9, 0.6, 0.1, 0.2])
    cascade = Cascade(p_rop, p_tr, 0.5, 0.5)
    assert np.flatnonzero(cascade.called).tolist() == [0, 3, 4, 7]
    found = rows_of(tr, rop, cascade)
    values = {name: (row["share"].value, row["count"], row["of"]) for name, row in found.items()}
    assert values[SENSITIVITY] == (0.5, 2, 4)
    assert values[SPECIFICITY] == (pytest.approx(4 / 6), 4, 6)
    assert values["missed: lost in stage 1"] == values["missed: lost in stage 2"] == (0.25, 1, 4)
    assert values["false alarms among normal"] == (0.25, 1, 4)
    assert values["false alarms among ROP that needs no treatment"] == (0.5, 1, 2)
    assert values[PRODUCT] == (0.75 * 0.75, None, None)
    table = results_table(list(found.values()))
    assert table[0]["share"] == 0.5 and table[0]["positives"] == 4


def test_stages_that_miss_independently_give_the_product():
    one, two = (grid.ravel() for grid in np.meshgrid(np.arange(20) >= 1, np.arange(25) >= 1))
    ill = np.ones(500)
    found = rows_of(ill, ill, Cascade(one, two))
    assert found[SENSITIVITY]["share"].value == pytest.approx(0.95 * 0.96)
    assert found[PRODUCT]["share"].value == pytest.approx(0.95 * 0.96)
    assert found[BEYOND]["share"].low < 0 < found[BEYOND]["share"].high
    assert math.isnan(found[SPECIFICITY]["share"].value)


def test_stages_that_miss_the_same_infants_lose_fewer():
    missed = np.arange(200) < 20
    ill = np.ones(200)
    found = rows_of(ill, ill, Cascade(~missed, ~missed))
    assert found[SENSITIVITY]["share"].value == pytest.approx(0.9)
    assert found[PRODUCT]["share"].value == pytest.approx(0.81)
    assert found[BEYOND]["share"].low > 0


def test_the_papers_stages_in_a_row_leave_nine_tenths():
    tables = Path(fundoscope.__file__).parent / "rop" / "paper"
    found = []
    for number, name in ((4, "MN-ROP"), (6, "MN-TR-ROP")):
        with (tables / f"table_{number}.csv").open() as file:
            found += [float(row["sensitivity"]) for row in csv.DictReader(file) if row["name"] == name]
    assert found == [0.9456, 0.9516] and round(found[0] * found[1], 3) == 0.900


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_cascade_agrees_with_its_calls_and_adds_up(seed):
    rng = np.random.default_rng(seed)
    rop = rng.integers(0, 2, 60)
    tr = rop * rng.integers(0, 2, 60)
    tr[:2] = rop[:2] = 1, 0
    cascade = Cascade(rng.random((2, 60)), rng.random((2, 60)), rng.random(60), 0.4)
    groups, weights = np.arange(60) // 3, rng.uniform(0.5, 2, 60)
    found = rows_of(tr, rop, cascade, groups, weights)
    alone = estimates(
        tr, cascade.called.astype(float), metrics=("sensitivity", "specificity"), groups=groups, weights=weights
    )
    for name, figure in ((SENSITIVITY, "sensitivity"), (SPECIFICITY, "specificity")):
        for end in ("value", "low", "high"):
            assert getattr(found[name]["share"], end) == pytest.approx(getattr(alone[figure], end), nan_ok=True)
    lost = [found[f"missed: lost in stage {k}"] for k in (1, 2)]
    assert found[SENSITIVITY]["share"].value + sum(row["share"].value for row in lost) == pytest.approx(1)
    assert found[SENSITIVITY]["count"] + sum(row["count"] for row in lost) == pytest.approx(tr.sum())
    first = found["sensitivity of stage 1 alone, among treatment-requiring"]["share"].value
    assert found[SENSITIVITY]["share"].value <= first == pytest.approx(1 - lost[0]["share"].value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Cascade([0.1, 0.2], [0.1]), "same photographs"),
        (lambda: Cascade([0.1, np.nan], [0.1, 0.2]), "both stages answer"),
        (lambda: Cascade([0.1, 0.2], [0.1, 0.2], [0.1, 0.2, 0.3]), "do not fit"),
        (lambda: score_cascade([1, 0], [0, 0], Cascade([0.1, 0.2], [0.1, 0.2])), "without ROP"),
        (lambda: score_cascade([1], [1], Cascade([0.1, 0.2], [0.1, 0.2])), "match"),
    ],
)
def test_cascades_that_cannot_be_are_named(call, says):
    with pytest.raises(UsageError, match=says):
        call()


# predictive values


def test_predictive_values_at_the_cohorts_own_prevalence_are_precision_and_its_counterpart():
    y, p = scored(90)
    y = np.where(np.arange(90) % 3 == 0, y, 0)
    row = predictive_values(y, p, 0.6, [y.mean()])[0]
    assert row["ppv"].value == pytest.approx(compute_metrics(y, p, 0.6)["precision"])
    assert row["npv"].value == pytest.approx((y[p < 0.6] == 0).mean())


def test_predictive_values_by_bayes_and_their_interval_resample_by_resample():
    y, p = scored()
    groups = np.arange(98) // 2
    row = predictive_values(y, p, 0.5, [0.05, 0.3], groups)[0]
    found = compute_metrics(y, p)
    hits, alarms = 0.05 * found["sensitivity"], 0.95 * (1 - found["specificity"])
    assert row["prevalence"] == 0.05 and row["ppv"].value == pytest.approx(hits / (hits + alarms))
    drawn = []
    for weights in np.concatenate(list(resample_weights(groups, 0))):
        sensitivity = np.average(p[y == 1] >= 0.5, weights=weights[y == 1])
        specificity = np.average(p[y == 0] < 0.5, weights=weights[y == 0])
        drawn.append(0.05 * sensitivity / (0.05 * sensitivity + 0.95 * (1 - specificity)))
    assert (row["ppv"].low, row["ppv"].high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_a_positive_call_is_worth_more_where_disease_is_common():
    y, p = scored()
    rows = predictive_values(y, np.array([p, scored(seed=1)[1]]), 0.5, [0.01, 0.1, 0.5])
    ppv, npv = ([row[name].value for row in rows] for name in ("ppv", "npv"))
    assert ppv == sorted(ppv) and npv == sorted(npv, reverse=True)
    assert math.isnan(predictive_values(y, p, 2.0, [0.1])[0]["ppv"].value)
    with pytest.raises(UsageError, match="between 0 and 1"):
        predictive_values(y, p, 0.5, [10])


# decision curves


def test_net_benefit_by_hand():
    # at 0.2 a false alarm costs a quarter of what a hit gains: of ten, 3 hits and 2 alarms
    y = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    p = [0.9, 0.8, 0.3, 0.1, 0.6, 0.2, 0.1, 0.1, 0.0, 0.0]
    curve = decision_curve(y, p, [0.0, 0.2])
    assert curve.model == pytest.approx([0.4, 3 / 10 - 2 / 10 / 4])
    assert curve.treat_all == pytest.approx([0.4, 0.4 - 0.6 / 4]) and curve.treat_none.tolist() == [0, 0]


def test_net_benefit_of_the_perfect_the_blind_and_the_certain():
    y, p = scored()
    assert decision_curve(y, y).model == pytest.approx(0.5)
    flat = decision_curve(y, np.full(98, 0.5))
    below = flat.thresholds <= 0.5
    assert flat.model == pytest.approx(np.where(below, flat.treat_all, 0))
    runs = decision_curve(y, np.array([p, y]))
    assert runs.model == pytest.approx((decision_curve(y, p).model + 0.5) / 2)


def test_net_benefit_at_another_prevalence():
    y, p = scored()
    curve = decision_curve(y, p, weights=class_weights(y, {0: 9, 1: 1}))
    assert curve.prevalence == pytest.approx(0.1)
    for t, found in zip(curve.thresholds[::20], curve.model[::20], strict=True):
        rates = compute_metrics(y, p, t)
        assert found == pytest.approx(0.1 * rates["sensitivity"] - 0.9 * (1 - rates["specificity"]) * t / (1 - t))


@pytest.mark.parametrize(
    "call",
    [
        lambda: decision_curve([0, 1], [0.1, 1.2]),
        lambda: decision_curve([], []),
        lambda: decision_curve([0, 1], [0.1, 0.2], [0.5, 1.0]),
        lambda: decision_curve([0, 1], [0.1, 0.2], weights=[1.0]),
    ],
)
def test_decision_curves_that_cannot_be_are_refused(call):
    with pytest.raises(UsageError):
        call()


# subgroups


def test_bands_hold_their_lower_end_and_blanks_are_unknown():
    found = cut_into_bands(["900", 1000, 1499.5, "1500", None, "", math.nan, np.float32("nan")], [1000, 1500], "g")
    assert found == ["under 1000 g", *["1000 to under 1500 g"] * 2, "1500 g or more", *["unknown"] * 4]
    assert cut_into_bands([27.9, 32], [28], "weeks") == ["under 28 weeks", "28 weeks or more"]
    assert parse_numbers(["26.5", ""])[0] == 26.5
    with pytest.raises(UsageError, match=r"28\+3"):
        cut_into_bands(["28+3"], [28], "weeks")
    with pytest.raises(UsageError, match="ascending"):
        cut_into_bands([1], [1500, 1000], "g")


def test_subgroups_are_scored_alone_in_order_and_small_ones_stay():
    y, p = scored(98)
    runs = np.array([p, scored(seed=1)[1]])
    at, groups = np.random.default_rng(0).random((2, 98)), [f"infant {k // 2}" for k in range(98)]
    grams = np.full(98, 1200.0)
    grams[:40], grams[40:46], grams[46:50] = 1700, 900, np.nan
    rows = subgroup_rows(y, runs, at, groups, "birth weight", cut_into_bands(grams, [1000, 1500], "g"))
    assert [row["subgroup"] for row in rows] == ["under 1000 g", "1000 to under 1500 g", "1500 g or more", "unknown"]
    assert all(row["column"] == "birth weight" for row in rows) and sum(row["auc"].n for row in rows) == 98
    for name, first, last in (("1500 g or more", 0, 40), ("1000 to under 1500 g", 50, 98)):
        row = next(row for row in rows if row["subgroup"] == name)
        part = slice(first, last)
        for figure in ("auc", "sensitivity", "specificity"):
            alone = estimate(y[part], runs[:, part], figure, threshold=at[:, part], groups=groups[part])
            assert row[figure] == alone
        assert row["note"] == ""
    assert rows[0]["note"].startswith("only 3 positives and 3 negatives") and rows[0]["auc"].value >= 0


def test_a_subgroup_of_one_class_has_what_can_be_known():
    row = subgroup_rows([1, 1, 0], [0.9, 0.2, 0.3], 0.5, None, "clinic", ["a", "a", ""])[0]
    assert row["sensitivity"].value == 0.5 and math.isnan(row["auc"].value) and "0 negatives" in row["note"]
    with pytest.raises(UsageError, match="clinic"):
        subgroup_rows([1, 0], [0.9, 0.2], 0.5, None, "clinic", ["a"])


def test_numbered_subgroups_come_in_the_order_of_their_numbers():
    values = ["clinic 10", "clinic 2", " ", "clinic 2"]
    rows = subgroup_rows([1, 0, 1, 1], [0.9, 0.2, 0.1, 0.3], 0.5, None, "clinic", values)
    assert [row["subgroup"] for row in rows] == ["clinic 2", "clinic 10", "unknown"]


# operating points


def test_operating_points_are_chosen_within_and_scored_without():
    y, p = scored(98)
    q = scored(seed=1)[1]
    folds = [np.arange(0, 50), np.arange(50, 98)]
    inner = [InnerPredictions(*scored(200, seed=10 + 2 * run + k), folds[k], run) for run in (0, 1) for k in (0, 1)]
    rows = operating_rows(inner, y, np.array([p, q]), np.arange(98) // 2)
    assert [row["target"] for row in rows] == [0.85, 0.9, 0.95, 0.99]
    assert [row["sensitivity"].value for row in rows] == sorted(row["sensitivity"].value for row in rows)
    chosen = [target_sensitivity(fit.y, fit.p, 0.9).threshold for fit in inner]
    at = np.array([np.repeat(chosen[:2], [50, 48]), np.repeat(chosen[2:], [50, 48])])
    for figure in ("sensitivity", "specificity"):
        assert rows[1][figure] == estimate(y, [p, q], figure, threshold=at, groups=np.arange(98) // 2)
    assert rows[1]["threshold_lowest"] == min(chosen) and rows[1]["threshold"] == np.median(chosen)


def test_operating_points_say_what_the_infants_can_prove():
    y, p = scored(98)
    fit = [InnerPredictions(y, p, range(98))]
    rows = operating_rows(fit, y, p, [(label, k // 4) for k, label in enumerate(y)])  # 50 infants, 25 of them ill
    assert rows[0]["support"] == f"49 positives of 25 groups: no miss at all would prove {0.05 ** (1 / 25):.3f}"
    assert rows[2]["support"].endswith("so 0.95 cannot be proved here")
    assert rows[2]["sensitivity"].value >= 0.95  # on the very photographs that chose it


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([(range(50), 0)], "tested by no fit"),
        ([(range(98), 0), (range(1), 0)], "by several"),
        ([(range(99), 0)], "Count from 0"),
        ([(range(98), 1)], "Count from 0"),
    ],
)
def test_every_photograph_is_tested_once(parts, says):
    y, p = scored(98)
    with pytest.raises(UsageError, match=says):
        operating_rows([InnerPredictions(y, p, rows, run) for rows, run in parts], y, p)
