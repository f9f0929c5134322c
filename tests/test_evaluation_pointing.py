from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.errors import UsageError
from fundoscope.evaluation.detection import Pointing, pointing, pointing_summary

INSIDE = np.ones((80, 100), bool)
LEFT = np.zeros((80, 100), bool)
LEFT[:, :25] = True


def test_an_even_map_points_by_chance():
    found = pointing(np.full((4, 5), 1.5), {"left": LEFT, "none": np.zeros_like(LEFT)}, INSIDE)
    assert found.share["left"] == pytest.approx(0.25) and found.area["left"] == 0.25
    assert found.times_chance["left"] == pytest.approx(1) and math.isnan(found.times_chance["none"])
    assert found.mass == pytest.approx(1.5 * 8000)


def test_only_positive_evidence_inside_the_field_counts():
    activation = np.full((4, 5), -3.0)
    activation[:, 0] = 2
    half = INSIDE.copy()
    half[40:] = False
    found = pointing(activation, {"left": LEFT}, half)
    # along a row 10 pixels of 2, then 20 falling to 0, the last 5 of which (together 1.25 of 40) lie beyond
    assert found.share["left"] == pytest.approx(1 - 1.25 / 40) and found.area["left"] == 0.25
    assert found.times_chance["left"] == pytest.approx(4 * (1 - 1.25 / 40))
    # outside the field nothing counts, however strong
    loud = activation.copy()
    loud[3] = 100
    assert pointing(loud, {"left": LEFT}, half).share["left"] < 1
    half[21:] = False
    assert pointing(loud, {"left": LEFT}, half).share == pointing(activation, {"left": LEFT}, half).share


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_shares_agree_with_bilinear_interpolation_by_hand_and_add_up(seed):
    rng = np.random.default_rng(seed)
    activation, inside = rng.normal(size=(3, 4)), rng.random((12, 12)) < 0.7
    mask = rng.random((12, 12)) < 0.3
    found = pointing(activation, {"it": mask, "rest": ~mask}, inside)
    positive = np.maximum(activation, 0)
    # pixel centres of the large grid in the small one's coordinates, held at the border
    rows, columns = (np.clip((np.arange(12) + 0.5) * size / 12 - 0.5, 0, size - 1) for size in (3, 4))
    along = np.array([np.interp(columns, np.arange(4), row) for row in positive])
    large = np.array([np.interp(rows, np.arange(3), column) for column in along.T]).T
    assert found.share["it"] == pytest.approx(large[mask & inside].sum() / large[inside].sum(), rel=1e-4)
    assert sum(found.share.values()) == pytest.approx(1) and sum(found.area.values()) == pytest.approx(1)


def test_a_map_without_evidence_is_reported_and_not_hidden():
    found = pointing(np.full((4, 5), -1.0), {"left": LEFT}, INSIDE)
    assert found.mass == 0 and math.isnan(found.share["left"]) and math.isnan(found.times_chance["left"])
    row = pointing_summary([found, pointing(np.ones((4, 5)), {"left": LEFT}, INSIDE)])[0]
    assert row["no_mass"] == 1 and row["times_chance"].n == 1 and row["share"] == pytest.approx(0.25)


def made(share, area=0.2):
    return Pointing(1.0, {"ridge": share}, {"ridge": area})


def test_a_summary_is_a_mean_with_the_interval_of_theory():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.1, 0.7, 200)
    row = pointing_summary([made(share) for share in shares])[0]
    times, found = shares / 0.2, row["times_chance"]
    assert found.value == pytest.approx(times.mean()) and found.positives == (times > 1).sum()
    assert found.high - found.low == pytest.approx(2 * 1.96 * times.std() / math.sqrt(200), rel=0.1)
    assert (row["structure"], row["share"], row["area"]) == ("ridge", pytest.approx(shares.mean()), pytest.approx(0.2))


def test_photographs_of_one_infant_do_not_narrow_the_interval():
    shares = np.random.default_rng(0).uniform(0.1, 0.7, 30)
    once = pointing_summary([made(share) for share in shares])[0]["times_chance"]
    again = [made(share) for share in np.repeat(shares, 3)]
    grouped = pointing_summary(again, np.repeat(np.arange(30), 3))[0]["times_chance"]
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high)) and grouped.groups == 30


def test_photographs_left_out_are_counted():
    silent = Pointing(0.0, {"ridge": math.nan}, {"ridge": 0.2})
    found = [made(0.4), silent, made(0.0, area=0.0), Pointing(0.0, {"ridge": math.nan}, {"ridge": 0.0})]
    row = pointing_summary(found, ["a", "b", "c", "d"])[0]
    assert (row["no_mass"], row["no_structure"], row["times_chance"].n) == (2, 2, 1)
    nothing = pointing_summary([silent])[0]
    assert math.isnan(nothing["times_chance"].value) and math.isnan(nothing["share"])
    assert pointing_summary([]) == []


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pointing(np.ones(4), {}, INSIDE), "finite"),
        (lambda: pointing(np.full((4, 5), np.inf), {}, INSIDE), "finite"),
        (lambda: pointing(np.ones((4, 5)), {}, ~INSIDE), "empty"),
        (lambda: pointing(np.ones((4, 5)), {"left": LEFT.T}, INSIDE), "Mask 'left'"),
        (lambda: pointing_summary([made(0.1), Pointing(1.0, {}, {})]), "different structures"),
        (lambda: pointing_summary([made(0.1)], [1, 2]), "one group a photograph"),
    ],
)
def test_wrong_calls_are_named(call, says):
    with pytest.raises(UsageError, match=says):
        call()
