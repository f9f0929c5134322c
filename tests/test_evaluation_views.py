from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.errors import UsageError
from fundoscope.evaluation import auc
from fundoscope.evaluation.decisions import VIEW_RULES, EyeViews, choose_rule


@st.composite
def seen(draw):
    """Keys of up to five units, and a probability a photograph."""
    keys = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=20))
    return keys, np.array(draw(st.lists(st.integers(0, 20), min_size=len(keys), max_size=len(keys)))) / 20


def by_hand(p, rule):
    if rule == "mean":
        q = np.clip(p, 1e-7, 1 - 1e-7)
        odds = np.exp(np.mean(np.log(q / (1 - q))))
        return odds / (1 + odds)
    return sorted(p)[-2] if rule == "second" and len(p) > 1 else max(p)


@settings(max_examples=20, deadline=None)
@given(seen(), st.sampled_from(VIEW_RULES))
def test_units_are_combined_as_by_hand(data, rule):
    keys, p = data
    views = EyeViews.from_keys(keys)
    names = list(dict.fromkeys(keys))
    assert views.n_units == len(names) and [keys[row] for row in views.first] == names
    assert views.counts.tolist() == [keys.count(name) for name in names]
    expected = [by_hand([x for key, x in zip(keys, p, strict=True) if key == name], rule) for name in names]
    assert views.combine(p, rule) == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(views.combine(np.array([p, 1 - p]), rule)[1], views.combine(1 - p, rule))


@settings(max_examples=30, deadline=None)
@given(seen(), st.floats(0.01, 0.99))
def test_any_calls_a_unit_exactly_where_a_view_is_called(data, threshold):
    keys, p = data
    views = EyeViews.from_keys(keys)
    assert np.array_equal(views.combine(p, "any") >= threshold, views.any_positive(p >= threshold) == 1)


def test_an_only_view_is_left_as_it_is():
    p = np.random.default_rng(0).random(50)
    views = EyeViews.from_keys([("infant", k) for k in range(50)])
    for rule in VIEW_RULES:
        assert np.array_equal(views.combine(p, rule), p)


def test_what_views_share_is_carried_over_and_what_they_do_not_is_refused():
    views = EyeViews.from_keys(["left", "right", "left"])
    assert views.shared_values(["i1", "i2", "i1"]).tolist() == ["i1", "i2"]
    assert views.shared_values([[0.1, 0.2, 0.1], [0.3, 0.4, 0.3]]).tolist() == [[0.1, 0.2], [0.3, 0.4]]
    with pytest.raises(UsageError, match="whole units"):
        views.shared_values([0.1, 0.2, 0.3])


def cohort(noise, units=60, each=5, seed=0):
    """Views of sick and healthy eyes; `noise(rng, sick, shape)` gives log-odds."""
    rng = np.random.default_rng(seed)
    sick = np.arange(units) % 2
    z = noise(rng, sick[:, None], (units, each))
    return sick, (1 / (1 + np.exp(-z))).ravel(), EyeViews.from_keys(np.repeat(np.arange(units), each).tolist())


def test_the_rule_follows_how_disease_shows():
    # every view a little off: their mean is best
    sick, p, views = cohort(lambda rng, sick, shape: rng.normal(0.5 * sick, 1, shape), units=400)
    assert choose_rule(sick, p, views).rule == "mean"
    # one view in five shows the disease, clearly: the highest is best
    one = np.arange(5) == 2
    sick, p, views = cohort(lambda rng, sick, shape: rng.normal(0, 0.3, shape) + 3 * sick * one)
    choice = choose_rule(sick, p, views)
    assert choice.rule == "any" and "60 inner units of 300 views" in choice.text and "mean 0." in choice.text
    # as before in two views, but any eye may have one false alarm: the second highest is best
    two = np.arange(5) < 2
    alarm = np.arange(5) == 4

    def alarming(rng, sick, shape):
        return rng.normal(0, 0.3, shape) + 3 * sick * two + rng.choice([0, 9], shape[0])[:, None] * alarm

    sick, p, views = cohort(alarming)
    choice = choose_rule(sick, p, views)
    assert choice.rule == "second"
    assert f"AUC {auc(sick, views.combine(p, 'second')):.3f}" in choice.text


def test_seeds_choose_together():
    def unsure(rng, sick, shape):
        return rng.normal(0.5 * sick, 1, shape)

    sick, p, views = cohort(unsure, units=400)
    _, q, _ = cohort(unsure, units=400, seed=1)
    mean = np.mean([auc(sick, views.combine(run, "mean")) for run in (p, q)])
    choice = choose_rule(sick, np.array([p, q]), views)
    assert choice.rule == "mean" and f"AUC {mean:.3f}" in choice.text


def test_where_nothing_speaks_for_another_rule_it_is_any():
    single = EyeViews.from_keys(list(range(4)))
    assert choose_rule([0, 1, 0, 1], [0.4, 0.3, 0.2, 0.1], single).rule == "any"
    double = EyeViews.from_keys([0, 0, 1, 1])
    tie = choose_rule([0, 1], [0.1, 0.2, 0.8, 0.9], double)
    assert tie.rule == "any" and "second 1.000" in tie.text
    assert "one class" in choose_rule([1, 1], [0.1, 0.2, 0.8, 0.9], double).text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda views: views.combine([0.1, 0.2, 0.3], "secnd"), "did you mean 'second'"),
        (lambda views: views.combine([0.1, 0.2], "any"), "match"),
        (lambda views: views.combine([0.1, 1.2, 0.3], "mean"), "0 to 1"),
        (lambda views: views.any_positive([0, 1, 2]), "0 and 1"),
    ],
)
def test_wrong_calls_are_named(call, says):
    with pytest.raises(UsageError, match=says):
        call(EyeViews.from_keys("aab"))
