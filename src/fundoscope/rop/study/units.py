"""From photographs to eyes, exams and infants: several views to one decision, by a rule that inner data chose."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, CohortRow
from fundoscope.evaluation.decisions import EyeViews, choose_rule, target_sensitivity
from fundoscope.rop.recipes import Arm
from fundoscope.rop.study.calibrate import Fits
from fundoscope.rop.study.questions import Question


@dataclass(frozen=True)
class UnitAnswers:
    """One arm's answers about whole units: `p` and `thresholds` (seeds, units), and the `rules` that folds chose."""

    p: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    rules: tuple[str, ...]


def units_of(cohort: Cohort) -> dict[str, EyeViews]:
    """Photographs, and as far as the table tells them apart, eyes (at one exam), exams and infants."""
    units = {"photograph": EyeViews.from_keys(list(range(len(cohort))))}
    if not cohort.has_infants:
        return units
    keys = {"eye": _eye, "exam": _exam, "infant": _infant}
    return units | {name: EyeViews.from_keys([key(record) for record in cohort]) for name, key in keys.items()}


def _eye(record: CohortRow) -> Hashable:
    return record.infant, record.exam, record.eye


def _exam(record: CohortRow) -> Hashable:
    return record.infant, record.exam


def _infant(record: CohortRow) -> Hashable:
    return record.infant


def answers_by_unit(fits: Fits, arm: Arm, question: Question, views: EyeViews) -> UnitAnswers:
    """The units' probabilities by the fold that held them out.

    Each fit's rule and threshold come from the units among its own inner photographs; a unit is positive if any of its
    views is. For the second question only units with a known answer choose. Where too few infants leave units of one
    kind only, the threshold of the photographs stands.
    """
    p, thresholds = np.full((2, fits.seeds, views.n_units), np.nan)
    outer = fits.out_of_fold(arm, question)
    rules = []
    for inner in fits.inner(arm, question):
        seed, fold = inner.task.seed, inner.task.fold
        known = np.isin(inner.rows, question.known(inner.rows))
        chosen = _of(views, inner.rows[known])
        y = chosen.any_positive(question.labels[inner.rows[known]])
        rule = choose_rule(y, inner.p[known], chosen).rule
        rules.append(rule)
        if 0 < y.sum() < len(y):
            point = target_sensitivity(y, chosen.combine(inner.p[known], rule), fits.recipe.target_sensitivity)
        else:
            point = fits.settled(inner.task, question).point
        test = np.array(fold.test)
        tested = _of(views, test)
        units = views.codes[test][tested.first]
        p[seed, units] = tested.combine(outer.p[seed, test], rule)
        thresholds[seed, units] = point.threshold
    return UnitAnswers(p, thresholds, tuple(rules))


def _of(views: EyeViews, rows: NDArray[np.int64]) -> EyeViews:
    return EyeViews.from_keys(views.codes[rows].tolist())


def told(rules: Sequence[str]) -> str:
    """How often each rule was chosen."""
    return ", ".join(f"{rule} in {rules.count(rule)} of {len(rules)} fits" for rule in dict.fromkeys(rules))
