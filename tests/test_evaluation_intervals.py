from __future__ import annotations

import csv
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fundoscope.errors import UsageError
from fundoscope.evaluation import (
    METRICS,
    Estimate,
    clopper_pearson,
    compute_metrics,
    difference,
    estimate,
    estimates,
    lower_bound_with_no_misses,
    results_table,
    wilson,
)
from fundoscope.evaluation.metrics import resample_weights


def scored(n=98, seed=0, distance=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, 1 / (1 + np.exp(-(rng.normal(0, 1, n) + distance * (y - 0.5))))


def test_values_are_those_of_measure_and_intervals_hold_them():
    y, p = scored()
    found = estimates(y, p)
    assert list(found) == list(METRICS)
    for name, value in compute_metrics(y, p).items():
        each = found[name]
        assert each.value == pytest.approx(value)
        assert each.low < each.value < each.high or name == "ece"  # resampling biases the ECE upwards
        assert (each.n, each.positives, each.groups, each.points) == (98, 49, 98, ())


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    y, p = scored()
    assert estimate(y, p, seed=3) == estimate(y, p, seed=3)
    assert estimate(y, p, seed=3) != estimate(y, p, seed=4)


def test_resampling_draws_whole_groups_as_often_as_there_are_groups():
    codes = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(resample_weights(codes, 0, 500)))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights.mean() == pytest.approx(1, abs=0.05)


def test_the_interval_of_a_mean_is_that_of_theory():
    rng = np.random.default_rng(1)
    y = (rng.random(400) < 0.3).astype(int)
    found = estimate(y, np.full(400, 0.0), "accuracy", threshold=0.5)
    half = 1.96 * math.sqrt(found.value * (1 - found.value) / 400)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_coverage_of_the_true_auc():
    # distance d between unit normals: AUC = Phi(d / sqrt 2)
    truth = stats.norm.cdf(1.5 / math.sqrt(2))
    hits = 0
    for seed in range(100):
        y, p = scored(100, seed, 1.5)
        found = estimate(y, p, seed=seed, replicates=500)
        hits += found.low <= truth <= found.high
    assert 86 <= hits <= 99


def test_repeated_photographs_of_one_infant_do_not_narrow_the_interval():
    y, p = scored(60)
    once = estimate(y, p)
    five = np.repeat(np.arange(60), 5)
    grouped = estimate(y[five], p[five], groups=[f"infant {i}" for i in five])
    ungrouped = estimate(y[five], p[five])
    assert (grouped.value, grouped.n, grouped.groups) == (pytest.approx(once.value), 300, 60)
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.01)
    assert ungrouped.high - ungrouped.low < 0.6 * (once.high - once.low)


def test_few_groups_give_points_instead_of_an_interval():
    y, p = scored(36)
    found = estimate(y, p, "accuracy", groups=np.arange(36) // 4)
    assert math.isnan(found.low) and math.isnan(found.high) and found.groups == 9
    assert found.points == tuple(compute_metrics(y[k : k + 4], p[k : k + 4])["accuracy"] for k in range(0, 36, 4))
    assert "too few" in str(found) and "9 groups" in str(found)


def test_several_seeds_give_the_mean_of_their_figures():
    y, p = scored()
    runs = np.array([p, scored(seed=1)[1], scored(seed=2)[1]])
    found = estimate(y, runs)
    each = [compute_metrics(y, run)["auc"] for run in runs]
    assert found.value == pytest.approx(np.mean(each))
    assert found.high - found.low < max(e.high - e.low for e in (estimate(y, run) for run in runs))
    assert estimate(y, np.array([p, p])) == estimate(y, p)


def test_any_function_of_labels_and_scores_will_do():
    y, p = scored()

    def brier(labels, scores):
        return float(np.mean((labels - scores) ** 2))

    assert estimate(y, p, brier, replicates=300).low == pytest.approx(estimate(y, p, "brier", replicates=300).low)


def test_a_difference_is_paired():
    y, p = scored()
    shifted = np.clip(p - 0.02 * y, 0, 1)  # hardly worse, but always so
    found = difference(y, p, shifted, "brier", names=("ours", "theirs"))
    assert found.estimate.value == pytest.approx(compute_metrics(y, p)["brier"] - compute_metrics(y, shifted)["brier"])
    alone = estimate(y, p, "brier")
    assert found.estimate.high - found.estimate.low < 0.2 * (alone.high - alone.low)
    assert found.verdict == "ours has the lower brier"
    other_way = difference(y, shifted, p, "brier", names=("theirs", "ours"))
    assert other_way.verdict == found.verdict
    assert other_way.estimate.low == pytest.approx(-found.estimate.high)


def test_a_difference_that_holds_nothing_says_so():
    y, p = scored()
    same = difference(y, p, p)
    assert same.estimate.value == 0 and "cannot tell them apart" in str(same)
    other = difference(y, p, scored(seed=5)[1])
    assert not other.differs and "cannot tell them apart" in other.verdict


def test_a_better_grader_is_told_from_a_worse():
    y, good = scored(distance=3.0)
    found = difference(y, np.array([good, good]), scored(seed=9, distance=0.3)[1], names=("ours", "nuisance"))
    assert found.differs and found.verdict == "ours has the higher auc"


def test_how_an_estimate_reads():
    assert str(Estimate(0.9468, 0.9, 0.981, 98, 49, 98)) == "0.947 (0.90 to 0.98; n=98, 49 positive, 98 groups)"
    assert str(Estimate(math.nan, math.nan, math.nan, 3, 3, 3)).startswith("undefined (no interval; n=3")


def test_perfection_carries_the_bound_that_its_number_supports():
    y = np.arange(98) % 2
    found = estimate(y, y.astype(float), "sensitivity")
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert "49 groups" in found.note and f"{0.05 ** (1 / 49):.3f}" in found.note
    assert "bootstrap tells nothing" in str(estimate(y, y.astype(float), "auc"))


def test_a_figure_that_often_does_not_exist_has_no_interval():
    y, p = np.array([1] + [0] * 19), np.linspace(0, 1, 20)
    found = estimate(y, p, "sensitivity")  # a resample lacks the one positive in 36 of 100 cases
    assert math.isnan(found.low) and "undefined in 3" in found.note


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.data())
def test_exact_and_score_intervals_agree_with_scipy(n, data):
    hits = data.draw(st.integers(0, n))
    result = stats.binomtest(hits, n)
    exact, score = result.proportion_ci(method="exact"), result.proportion_ci(method="wilson")
    assert clopper_pearson(hits, n) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert wilson(hits, n) == pytest.approx((score.low, score.high), abs=1e-9)


def test_the_rule_of_three():
    assert lower_bound_with_no_misses(49) == pytest.approx(0.05 ** (1 / 49))
    assert 1 - lower_bound_with_no_misses(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert lower_bound_with_no_misses(0) == 0
    assert clopper_pearson(0, 0) == wilson(0, 0) == (0, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda y, p: estimate(y, p, "aucc"), "did you mean 'auc'"),
        (lambda y, p: estimate(y, p, groups=[1, 2]), "one group a photograph"),
        (lambda y, p: estimate(y, p, "accuracy", threshold=[0.1, 0.2]), "do not fit"),
        (lambda y, p: estimate(y, p[:-1]), "match"),
        (lambda y, p: wilson(5, 4), "cannot be"),
    ],
)
def test_wrong_calls_are_named(call, says):
    with pytest.raises(UsageError, match=says):
        call(*scored())


def test_all_figures_of_two_thousand_resamples_take_no_time():
    y, p = scored()
    start = time.process_time()
    estimates(y, p)
    assert time.process_time() - start < 5


def test_results_table_spreads_and_rounds(tmp_path):
    y, p = scored()
    rows = [
        {"model": "ours", "auc": estimate(y, p), "margin": difference(y, p, p)},
        {"model": "few", "auc": estimate(y, p, "accuracy", groups=np.arange(98) // 20), "seconds": 1.23456},
        {"model": "none", "auc": Estimate(math.nan, math.nan, math.nan, 4, 4, 4)},
    ]
    table = results_table(rows, tmp_path / "deep" / "results.csv")
    assert table[0]["auc"] == round(compute_metrics(y, p)["auc"], 3) and table[0]["auc_low"] < table[0]["auc_high"]
    assert "cannot tell" in table[0]["margin_verdict"] and table[0]["n"] == 98
    assert len(table[1]["auc_points"].split()) == 5 and table[1]["seconds"] == 1.235
    assert table[2]["auc"] is None
    assert next(iter(table[0])) == "model" and list(table[0])[-3:] == ["n", "positives", "groups"]
    with (tmp_path / "deep" / "results.csv").open() as file:
        back = list(csv.DictReader(file))
    assert [row["auc"] for row in back] == [str(table[0]["auc"]), str(table[1]["auc"]), ""]
    assert list(back[0]) == list(table[0])


def test_results_table_tells_where_figures_differ_in_basis():
    y, p = scored()
    table = results_table([{"auc": estimate(y, p), "inner": estimate(y[:50], p[:50])}])
    assert (table[0]["n"], table[0]["inner_n"]) == (98, 50) and "auc_n" not in table[0]
