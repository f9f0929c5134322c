"""Thresholds of another place: the bound of sensitivity keeps its word, and infants are counted, not photographs."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from fundoscope.errors import UsageError
from fundoscope.evaluation.decisions import choose_local_point, groups_enough, sensitivity_support
from fundoscope.evaluation.metrics.intervals import clopper_pearson


def cohort(m, seed=0, size=1, shared=0.0, own=1.0):
    """Labels, probabilities and infants: m with ROP around logit 1, m without around -1, `size` photographs each."""
    rng = np.random.default_rng(seed)
    infants = np.repeat(np.arange(2 * m), size)
    y = (infants < m).astype(int)
    logits = 2 * y - 1 + shared * rng.normal(size=2 * m)[infants] + own * rng.normal(size=len(infants))
    return y, 1 / (1 + np.exp(-logits)), infants


@pytest.mark.parametrize(("m", "target"), [(15, 0.95), (22, 0.9), (49, 0.9), (80, 0.99)])
def test_the_bound_is_the_quantile_of_the_order_statistic(m, target):
    support = sensitivity_support(target, m)
    assert support.hits == int(np.ceil(target * m - 1e-9))
    assert support.bound == pytest.approx(beta.ppf(0.025, support.hits, m - support.hits + 1))
    assert support.bound == pytest.approx(clopper_pearson(support.hits, m)[0])


def test_fifteen_of_fifteen_prove_what_the_closed_form_says():
    assert sensitivity_support(0.95, 15).bound == pytest.approx(0.025 ** (1 / 15))


@pytest.mark.parametrize("target", [0.8, 0.85, 0.9, 0.95, 0.99])
def test_enough_is_enough_and_one_fewer_is_not(target):
    enough = groups_enough(target)
    assert all(sensitivity_support(target, n).supported for n in range(max(enough, 10), 150))
    assert enough <= 10 or not sensitivity_support(target, enough - 1).supported


def test_so_few_as_ten_support_no_usual_target():
    assert not any(sensitivity_support(target, 10).supported for target in (0.8, 0.85, 0.9, 0.95, 0.99))
    assert not sensitivity_support(0.5, 9).supported


def test_the_threshold_is_the_highest_that_calls_enough():
    y, p, infants = cohort(30, seed=3, size=4, shared=0.8, own=0.6)
    point = choose_local_point(y, p, infants, 0.9)

    def called(threshold):
        return sum((p[(infants == infant) & (y == 1)] >= threshold).mean() for infant in range(30))

    passing = [each for each in np.unique(p) if called(each) >= 27 - 1e-9]
    assert called(point.threshold) == pytest.approx(point.called) and point.called >= 27 - 1e-9
    assert point.threshold <= max(passing)
    assert not ((p > point.threshold) & (p < max(passing))).any()  # midway to the next score below, and no further


def test_more_photographs_of_the_same_infants_prove_nothing_more():
    y, p, infants = cohort(40, seed=1)
    once = choose_local_point(y, p, infants, 0.9)
    six = choose_local_point(np.repeat(y, 6), np.repeat(p, 6), np.repeat(infants, 6), 0.9)
    assert six.threshold == once.threshold and six.support == once.support
    alone = choose_local_point(np.repeat(y, 6), np.repeat(p, 6), np.arange(6 * len(y)), 0.9)
    assert alone.support.bound > once.support.bound + 0.05


@pytest.mark.parametrize(("size", "shared", "own"), [(1, 0.0, 1.0), (6, 0.95, 0.3122)])
def test_the_bound_holds_in_nineteen_of_twenty_cohorts(size, shared, own):
    kept = []
    for seed in range(200):
        point = choose_local_point(*cohort(20, seed, size, shared, own), 0.9)
        truth = norm.sf(np.log(point.threshold / (1 - point.threshold)), loc=1, scale=1)
        kept.append(truth >= point.support.bound)
    assert np.mean(kept) >= 0.95


def test_what_cannot_be_is_refused_by_name():
    y, p, infants = cohort(12)
    with pytest.raises(UsageError, match="both classes"):
        choose_local_point(np.ones_like(y), p, infants, 0.9)
    with pytest.raises(UsageError, match=r"target sensitivity of 1\.5"):
        sensitivity_support(1.5, 20)
