import warnings

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sklearn")
from sklearn.metrics import cohen_kappa_score, confusion_matrix, recall_score

from fundoscope.errors import UsageError
from fundoscope.evaluation.metrics import (
    GRADE_METRICS,
    PAPER_MIX,
    grade_counts,
    grade_difference,
    grade_estimates,
    paper_weights,
    quadratic_kappa,
    quadratic_kappas,
)
from fundoscope.vessels import grade_rule

GRADES = range(grade_rule.GRADES)


def told(seed=0, n=120, error=0.4):
    """Grades, what they are told as (now and then a grade or two off), and 30 photographs."""
    rng = np.random.default_rng(seed)
    y = rng.choice(4, n, p=(0.5, 0.2, 0.2, 0.1))
    off = rng.choice((-2, -1, 1, 2), n) * (rng.random(n) < error)
    return y, np.clip(y + off, 0, 3), [f"p{k % 30}" for k in range(n)]


@pytest.mark.parametrize("weighed", [False, True])
def test_every_figure_is_that_of_scikit_learn(weighed):
    y, called, groups = told()
    weights = paper_weights(y) if weighed else None
    found = grade_estimates(y, called, groups, weights)
    assert tuple(found) == GRADE_METRICS
    same = {"sample_weight": weights, "labels": list(GRADES)}
    recall = recall_score(y, called, average=None, **same)
    high = recall_score(y >= 2, called >= 2, average=None, sample_weight=weights)
    true = {
        "quadratic_kappa": cohen_kappa_score(y, called, weights="quadratic", **same),
        "kappa": cohen_kappa_score(y, called, **same),
        "accuracy": np.average(y == called, weights=weights),
        **{f"recall_{grade}": recall[grade] for grade in GRADES},
        "specificity_2_or_3": high[0], "recall_2_or_3": high[1],
    }  # fmt: skip
    for name, value in true.items():
        assert found[name].value == pytest.approx(value), name
        assert found[name].low <= found[name].value <= found[name].high and found[name].groups == 30
    assert found["kappa"].n == 120 and found["kappa"].positives == (y > 0).sum()


def test_the_one_figure_and_the_table_agree_with_scikit_learn():
    y, called, _ = told(3)
    assert quadratic_kappa(y, called) == pytest.approx(cohen_kappa_score(y, called, weights="quadratic"))
    np.testing.assert_array_equal(grade_counts(y, called), confusion_matrix(y, called, labels=list(GRADES)))


def test_kappas_of_many_tables_are_those_of_each_and_unknown_where_chance_cannot_err():
    rng = np.random.default_rng(3)
    given, true = rng.integers(0, 4, (2, 50))
    tables = np.stack([grade_counts(true, given), np.diag([1, 2, 3, 4]), np.diag([5, 0, 0, 0])]).astype(float)
    other = cohen_kappa_score(given, true, weights="quadratic")
    np.testing.assert_allclose(quadratic_kappas(tables), [other, 1, np.nan])


def test_far_errors_cost_more_than_near_ones_and_one_grade_for_all_is_worth_nothing():
    y = np.repeat(GRADES, 10)
    near, far = y.copy(), y.copy()
    near[:5], far[:5] = 1, 3
    assert quadratic_kappa(y, y) == 1 > quadratic_kappa(y, near) > quadratic_kappa(y, far) > 0
    assert quadratic_kappa(y, np.full(40, 1)) == 0
    found = grade_estimates(y, near, range(40)), grade_estimates(y, far, range(40))
    assert found[0]["kappa"].value == pytest.approx(found[1]["kappa"].value, abs=0.02)


def test_kappa_is_undefined_where_there_is_one_grade_and_it_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = grade_estimates([1] * 12, [1] * 12, range(12))
    assert np.isnan(found["kappa"].value) and np.isnan(found["recall_0"].value)
    assert found["accuracy"].value == 1 == found["recall_1"].value


def test_the_interval_is_of_photographs_not_of_patches():
    y, called, _ = told(1, 40)
    apart = grade_estimates(np.tile(y, 4), np.tile(called, 4), range(160))["accuracy"]
    together = grade_estimates(np.tile(y, 4), np.tile(called, 4), np.tile(range(40), 4))["accuracy"]
    alone = grade_estimates(y, called, range(40))["accuracy"]
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert together.high - together.low > 1.6 * (apart.high - apart.low)


def test_a_difference_is_paired_and_says_who_is_better():
    y, good, groups = told(2, 300, 0.1)
    poor = np.where(np.random.default_rng(4).random(300) < 0.5, 3 - y, good)
    found = grade_difference(y, good, poor, groups, ("good", "poor"))
    assert found.estimate.value == pytest.approx(quadratic_kappa(y, good) - quadratic_kappa(y, poor))
    assert (found.first, found.second) == (
        pytest.approx(quadratic_kappa(y, good)),
        pytest.approx(quadratic_kappa(y, poor)),
    )
    assert found.differs and found.verdict == "good has the higher quadratic_kappa"
    same = grade_difference(y, good, good, groups, ("one", "two"))
    assert (same.estimate.value, same.estimate.low, same.estimate.high) == (0, 0, 0) and not same.differs


def test_the_papers_weights_give_its_shares():
    y = np.repeat(GRADES, (10, 30, 5, 55))
    weights = paper_weights(y)
    assert weights.mean() == pytest.approx(1)
    shares = [weights[y == grade].sum() / weights.sum() for grade in GRADES]
    assert shares == pytest.approx([n / 90 for n in PAPER_MIX])
    assert sum(PAPER_MIX) == 90
    missing = paper_weights([0, 0, 1])
    assert missing == pytest.approx(np.array([24, 24, 16]) * 3 / 64)


@pytest.mark.parametrize(
    ("y", "called", "words"),
    [
        ([0, 1], [0], r"\(1,\) predictions stand beside \(2,\) grades. Give one prediction a patch"),
        ([[0, 1]], [[0, 1]], "Give one prediction a patch"),
        ([0, 4], [0, 1], "other than 0 to 3. Leave patches that are not graded out"),
        ([0, 1], [0, -1], "other than 0 to 3"),
    ],
)
def test_what_is_no_grade_is_refused(y, called, words):
    for asked in (lambda: grade_counts(y, called), lambda: quadratic_kappa(y, called)):
        with pytest.raises(UsageError, match=words):
            asked()


def test_the_confusion_of_grades_is_drawn_darkest_where_most_are(tmp_path):
    pytest.importorskip("matplotlib")
    from fundoscope.reports.plots import grade_confusion

    right, wrong = (
        np.asarray(Image.open(grade_confusion(tmp_path / f"{k}.png", cells, "four")).convert("L"), float)
        for k, cells in enumerate((10 * np.eye(4, dtype=int), 10 * np.eye(4, dtype=int)[::-1]))
    )
    assert right.shape == wrong.shape and min(right.shape) > 300
    assert np.corrcoef(*np.nonzero(right < 110))[0, 1] > 0.7  # along the diagonal
    assert np.corrcoef(*np.nonzero(wrong < 110))[0, 1] < -0.7
