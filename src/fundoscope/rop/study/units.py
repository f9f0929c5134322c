"""From photographs to eyes, exams and infants: several views to one decision, by a rule that inner data chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, Folds
from fundoscope.evaluation.decisions import EyeViews, choose_rule, target_sensitivity
from fundoscope.rop.study.calibrate import CalibratedPredictions
from fundoscope.rop.study.questions import Question


@dataclass(frozen=True)
class UnitPredictions:
    """One arm's predictions on whole units: `p` and `thresholds` (seeds, units), and the `rules` that the fits chose."""

    p: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    rules: tuple[str, ...]


def cohort_units(cohort: Cohort) -> dict[str, EyeViews]:
    """Photographs, and as far as the table tells them apart, eyes (at one exam), exams and infants."""
    units = {"photograph": EyeViews.from_keys(list(range(len(cohort))))}
    if not cohort.has_infants:
        return units
    return units | {
        "eye": EyeViews.from_keys([(record.infant, record.exam, record.eye) for record in cohort]),
        "exam": EyeViews.from_keys([(record.infant, record.exam) for record in cohort]),
        "infant": EyeViews.from_keys([record.infant for record in cohort]),
    }


def predict_units(
    predictions: CalibratedPredictions, arm: str, question: Question, views: EyeViews, folds: Folds, target: float
) -> UnitPredictions:
    """The units' probabilities by the fold that held them out.

    Each fit's rule and threshold (for the sensitivity `target`) come from the units among its own inner photographs; a unit
    is positive if any of its views is. For the second question only units with a known answer choose. Where too few infants
    leave units of one kind only, the threshold of the photographs stands.
    """
    p, thresholds = np.full((2, predictions.seeds, views.n_units), np.nan)
    outer = predictions.out_of_fold(question.name, arm)
    rules = []
    for inner in predictions.inner(question.name, arm):
        known = np.isin(inner.rows, question.known_rows)
        units = _views_of_rows(views, inner.rows[known])
        y = units.any_positive(question.labels[inner.rows[known]])
        rule = choose_rule(y, inner.p[known], units).rule
        rules.append(rule)
        threshold = inner.threshold
        if 0 < y.sum() < len(y):
            threshold = target_sensitivity(y, units.combine(inner.p[known], rule), target).threshold
        test = np.array(folds[inner.fold].test)
        tested = _views_of_rows(views, test)
        numbers = views.codes[test][tested.first]
        p[inner.seed, numbers] = tested.combine(outer.p[inner.seed, test], rule)
        thresholds[inner.seed, numbers] = threshold
    return UnitPredictions(p, thresholds, tuple(rules))


def _views_of_rows(views: EyeViews, rows: NDArray[np.int64]) -> EyeViews:
    return EyeViews.from_keys(views.codes[rows].tolist())


def describe_rules(rules: Sequence[str]) -> str:
    """How often each rule was chosen, in words."""
    return ", ".join(f"{rule} in {rules.count(rule)} of {len(rules)} fits" for rule in dict.fromkeys(rules))
