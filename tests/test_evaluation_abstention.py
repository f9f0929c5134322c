from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.errors import UsageError
from fundoscope.evaluation import compute_metrics
from fundoscope.evaluation.decisions import choose_band, coverage_risk, decision_confidence


def scored(n=98, seed=0, distance=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, 1 / (1 + np.exp(-(rng.normal(0, 1, n) + distance * (y - 0.5))))


@st.composite
def graded(draw):
    n = draw(st.integers(1, 30))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    return y, np.array(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))) / 20


def test_confidence_is_the_distance_in_log_odds():
    assert decision_confidence([0.5, 0.9, 0.1], 0.5) == pytest.approx([0, np.log(9), np.log(9)])
    assert decision_confidence([0.5, 0.9], [0.9, 0.5]) == pytest.approx([np.log(9)] * 2)


def test_risk_of_the_surest_by_hand():
    y, p = scored()
    found = coverage_risk(y, p, 0.4)
    order = np.argsort(-np.abs(np.log(p / (1 - p)) - np.log(0.4 / 0.6)))
    for k in (1, 7, 40, 98):
        kept = order[:k]
        by_hand = compute_metrics(y[kept], p[kept], 0.4)
        assert found.coverage[k - 1] == k / 98 and found.error[k - 1] == pytest.approx(1 - by_hand["accuracy"])
        assert found.sensitivity[k - 1] == pytest.approx(by_hand["sensitivity"], nan_ok=True)
    assert found.aurc == pytest.approx(found.error.mean())


def test_equally_sure_photographs_are_kept_in_any_order_alike():
    y, p = np.array([1, 0, 1, 0, 1]), np.array([0.8, 0.8, 0.2, 0.6, 0.9])
    found = coverage_risk(y, p)
    ties = [0, 1, 2]
    errors = [np.cumsum([0, *(((p >= 0.5) != y)[ties][list(order)]), 1]) for order in permutations(range(3))]
    assert found.error == pytest.approx(np.mean(errors, axis=0) / np.arange(1, 6))


def test_the_area_of_the_perfect_the_blind_and_the_wrongly_sure():
    y, p = scored(400)
    assert coverage_risk(y, y).aurc == 0
    blind = coverage_risk(y, np.full(400, 0.7))
    assert blind.error == pytest.approx(0.5) and blind.sensitivity == pytest.approx(1)
    found = coverage_risk(y, p)
    assert found.aurc < 0.7 * found.error[-1]
    wrong = p >= 0.5
    upside_down = np.where(wrong == y, 0.5 + 0.01 * (p - 0.5), p)  # unsure where right
    assert coverage_risk(y, upside_down).aurc > found.error[-1]


def test_seeds_are_averaged():
    y, p = scored()
    q = scored(seed=1)[1]
    both = coverage_risk(y, [p, q], [np.full(98, 0.3), np.full(98, 0.6)])
    assert both.error == pytest.approx((coverage_risk(y, p, 0.3).error + coverage_risk(y, q, 0.6).error) / 2)


@settings(max_examples=30, deadline=None)
@given(graded(), st.sampled_from([0.3, 0.5, 0.72]), st.sampled_from([0.0, 0.05, 0.2]))
def test_the_band_is_the_narrowest_that_keeps_its_promise(data, threshold, most):
    y, p = data
    band = choose_band(y, p, threshold, most)
    wrong, sureness = (p >= threshold) != y, np.round(decision_confidence(p, threshold), 8)
    out = band.abstains(p)
    # whoever is surer than someone kept is kept
    assert out.all() or not out.any() or sureness[out].max() < sureness[~out].min()
    assert out.all() or wrong[~out].mean() <= most + 1e-12
    for half in np.unique(sureness[out]):  # each narrower band abstains from less, and breaks the promise
        assert wrong[sureness >= half].mean() > most
    assert (band.low < threshold < band.high) == bool(out.any()) or not out.any()


def test_a_band_that_nobody_needs_and_one_that_nobody_can_give():
    y, p = scored()
    none = choose_band(y, y.astype(float), 0.5)
    assert none.low == none.high == 0.5 and not none.abstains([0.0, 0.5, 1.0]).any()
    assert "abstains from nothing" in none.text and "up to 0.04" in none.text  # 1 - 0.025^(1/98) is .037
    all_of_it = choose_band(y, 1 - y.astype(float), 0.5)
    assert all_of_it.abstains([0.0, 0.5, 1.0]).all() and "everything" in all_of_it.text
    some = choose_band(y, p, 0.5)
    assert f"{some.abstains(p).sum()} of 98" in some.text
    assert choose_band(y, p, 0.5, 0.01).high > some.high > 0.5 > some.low


def test_a_band_beyond_clipped_log_odds_holds_the_end():
    # 0.9 is 2.2 in log-odds, so 0 is surer than 1, and the promise keeps 0 alone
    band = choose_band([0, 0], [0.0, 1.0], 0.9, 0.0)
    assert band.abstains([0.0, 1.0]).tolist() == [False, True]


@pytest.mark.parametrize(
    "call",
    [
        lambda: coverage_risk([0, 1], [0.1, 1.2]),
        lambda: coverage_risk([], []),
        lambda: coverage_risk([0, 1], [0.1, 0.2], [0.1, 0.2, 0.3]),
        lambda: choose_band([0, 1], [[0.1, 0.2]], 0.5),
        lambda: choose_band([0, 1], [0.1, 0.2], 0.5, 1.0),
    ],
)
def test_wrong_calls_are_named(call):
    with pytest.raises(UsageError):
        call()
