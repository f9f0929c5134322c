"""Agreement of two graders, against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics import Readings, agreement_estimates, class_counts, settle


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.tuples(*[st.integers(0, k - 1)] * 2), min_size=1, max_size=60))))  # fmt: skip
def test_kappas_are_those_of_scikit_learn(drawn):
    classes, pairs = drawn
    first, second = map(list, zip(*pairs, strict=True))
    found = agreement_estimates(first, second, [0] * len(pairs), classes)
    for name, weights in (("kappa", None), ("quadratic_kappa", "quadratic")):
        if len({*first, *second}) == 1:
            assert np.isnan(found[name].value), "scikit-learn divides 0 by 0"
        else:
            right = cohen_kappa_score(first, second, labels=list(range(classes)), weights=weights)
            assert found[name].value == pytest.approx(right, abs=1e-12), name
    for k in range(classes):
        said = first.count(k) + second.count(k)
        both = 2 * sum(pair == (k, k) for pair in pairs)
        assert np.isnan(found[f"agreement_{k}"].value) if not said else found[f"agreement_{k}"].value == pytest.approx(both / said)  # fmt: skip


def _readings(first, second, groups=None):
    groups = list(range(len(first))) if groups is None else groups
    return Readings(("0", "1", "2", "3"), list(map(str, groups)), {"reader_1": first, "reader_2": second})


def test_what_one_of_two_left_blank_counts_in_coverage_alone():
    found = _readings([0, 1, 2, None, 3, None] * 4, [0, 1, None, 2, 2, None] * 4).measure("reader_1", "reader_2")
    assert (found.listed, found.coverage.value, found.same_class.n) == (24, 0.5, 12)
    assert found.counts.tolist() == [[4, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 4, 0]]
    assert found.same_class.value == pytest.approx(8 / 12) and found.same_class.low < 8 / 12 < found.same_class.high
    assert {"reader_2 left 4 blank that reader_1 graded: they count in no kappa",
            "reader_1 left 4 blank that reader_2 graded: they count in no kappa"} <= set(found.notes)  # fmt: skip
    assert _readings([0, None], [None, 1]).measure("reader_1", "reader_2") is None


def test_a_reader_who_used_one_grade_only_is_told():
    alone = _readings([1] * 12, [0, 1, 2] * 4).measure("reader_1", "reader_2")
    assert alone.kappa.value == pytest.approx(0) and alone.quadratic_kappa.value == pytest.approx(0)
    assert any("reader_1 gave 1 alone, so kappa is 0" in note for note in alone.notes)
    both = _readings([1] * 12, [1] * 12).measure("reader_1", "reader_2")
    assert np.isnan(both.kappa.value) and both.same_class.value == 1
    assert any("both gave 1 to all 12" in note and "no kappa is defined" in note for note in both.notes)


def test_intervals_resample_groups_and_few_groups_get_none():
    first, second = [0, 1, 2, 3] * 12, [1, 2, 3, 2] * 3 + [0, 1, 2, 3] * 9
    alone = _readings(first, second).measure("reader_1", "reader_2").same_class
    grouped = _readings(first, second, [k // 4 for k in range(48)]).measure("reader_1", "reader_2")
    assert grouped.same_class.value == alone.value and grouped.same_class.groups == 12
    assert grouped.same_class.high - grouped.same_class.low > 1.2 * (alone.high - alone.low), (
        "what differs lies together"
    )
    few = _readings(first, second, [k % 3 for k in range(48)]).measure("reader_1", "reader_2")
    assert np.isnan(few.kappa.low) and any("too few for an interval" in note for note in few.notes)


def test_disagreements_come_from_the_farthest_on_and_ties_in_the_order_of_the_table():
    readings = _readings([0, 0, 3, None, 1, 2], [1, 3, 0, 3, 1, 1])
    assert readings.rank_disagreements("reader_1", "reader_2") == [1, 2, 0, 5]
    swapped = _readings([1, 3, 0, 3, 1, 1], [0, 0, 3, None, 1, 2])
    assert swapped.rank_disagreements("reader_1", "reader_2") == [1, 2, 0, 5]


def test_a_settled_grade_stands_before_equal_readers():
    assert [settle(*each) for each in ((1, 1), (1, 2), (1, 2, 3), (1, 1, 2), (None, None), (1, None), (None, 0, 0))] == [
        1, None, 3, 2, None, None, 0,
    ]  # fmt: skip


def test_other_classes_and_other_lengths_are_refused():
    assert class_counts([0, 1], [1, 1], 2).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(UsageError, match="0 to 1"):
        class_counts([0, 2], [1, 1], 2)
    with pytest.raises(UsageError, match="stand beside"):
        class_counts([0, 1], [1], 2)
