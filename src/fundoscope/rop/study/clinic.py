"""The figures that paper 000 lacks: whole infants, the two stages in a row, thresholds, abstention, subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fundoscope.cohort import Cohort, Folds
from fundoscope.cohort.sheet import is_blank
from fundoscope.evaluation import estimates
from fundoscope.evaluation.decisions import (
    Cascade,
    InnerPredictions,
    choose_band,
    coverage_risk,
    operating_rows,
    score_cascade,
)
from fundoscope.evaluation.metrics import cut_into_bands, subgroup_rows
from fundoscope.rop.study.calibrate import CalibratedPredictions, FitInnerPredictions
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.results import Row
from fundoscope.rop.study.scored_question import ScoredQuestion
from fundoscope.rop.study.units import cohort_units, describe_rules, predict_units

#: Columns that make subgroups, cut as neonatologists do (paper 000 names none).
_CUTS = {"birth_weight": ((1000, 1500), "g"), "gestational_age": ((28, 32), "weeks")}
_NAMED = ("camera", "site", "device", "sex", "ethnicity")


def score_units(
    plan: StudyPlan, predictions: CalibratedPredictions, scored: ScoredQuestion
) -> tuple[list[Row], list[str]]:
    """Every metric of the reference by photograph, eye, exam and infant; and the rules that the folds chose, in words."""
    question, target = scored.question, plan.recipe.decision.target_sensitivity
    rows, rules = [], []
    for name, views in cohort_units(plan.cohort).items():
        found = predict_units(predictions, scored.reference, question, views, plan.folds, target)
        y, groups = views.any_positive(question.labels), plan.group_numbers[views.first]
        rows.append({"unit": name, **estimates(y, found.p, threshold=found.thresholds, groups=groups)})
        rules.append(f"{name}: {describe_rules(found.rules)}")
    return rows, rules


def score_cascade_by_unit(
    plan: StudyPlan, predictions: CalibratedPredictions, questions: Sequence[ScoredQuestion]
) -> list[Row]:
    """Both stages of the reference as one grader, by each unit; empty where one question is asked."""
    if len(questions) < 2:
        return []
    reference, target = questions[0].reference, plan.recipe.decision.target_sensitivity
    rop, treatment = (scored.question for scored in questions)
    rows = []
    for name, views in cohort_units(plan.cohort).items():
        one, two = (
            predict_units(predictions, reference, question, views, plan.folds, target) for question in (rop, treatment)
        )
        cascade = Cascade(one.p, two.p, one.thresholds, two.thresholds)
        truth = views.any_positive(treatment.labels == 1), views.any_positive(rop.labels)
        rows += [{"unit": name, **row} for row in score_cascade(*truth, cascade, plan.group_numbers[views.first])]
    return rows


def score_operating_points(scored: ScoredQuestion, inner: Sequence[FitInnerPredictions], folds: Folds) -> list[Row]:
    """A row a target sensitivity: the thresholds that inner photographs chose, and what they reach outside."""
    return operating_rows(_inner_data(scored, inner, folds), scored.y, scored.reference_predictions.p, scored.groups)


@dataclass(frozen=True)
class AbstentionResult:
    """What abstaining leaves: in words, the area under the error-coverage curve, and the error of answering everything."""

    text: str
    coverage_area: float
    error_of_all: float


def score_abstention(
    scored: ScoredQuestion, inner: Sequence[FitInnerPredictions], folds: Folds, maximum_errors: float
) -> AbstentionResult:
    """How many photographs the folds' bands of doubt leave, and how many of these are wrong.

    A fit's band is the narrowest around its threshold that leaves at most the share `maximum_errors` wrong among its inner
    photographs.
    """
    reference = scored.reference_predictions
    answered = wrong = total = 0
    for fit in _inner_data(scored, inner, folds):
        rows = np.asarray(fit.rows, np.int64)
        p, threshold = reference.p[fit.run, rows], float(reference.thresholds[fit.run, rows[0]])
        band = choose_band(fit.y, fit.p, min(max(threshold, 1e-6), 1 - 1e-6), maximum_errors)
        answered_here = ~band.abstains(p)
        total, answered = total + len(rows), answered + int(answered_here.sum())
        wrong += int(((p >= threshold) != scored.y[rows])[answered_here].sum())
    curve = coverage_risk(scored.y, reference.p.mean(axis=0), reference.thresholds.mean(axis=0))
    text = f"{answered} of {total} answered (all seeds), {wrong} of these wrong"
    return AbstentionResult(text, curve.aurc, float(curve.error[-1]))


def _inner_data(scored: ScoredQuestion, inner: Sequence[FitInnerPredictions], folds: Folds) -> list[InnerPredictions]:
    """What each fit knew when it chose its threshold, on the question's own photographs."""
    place = np.full(len(scored.question.labels), -1)
    place[scored.rows] = np.arange(len(scored.rows))
    known = []
    for fit in inner:
        is_known = place[fit.rows] >= 0
        tested = place[np.array(folds[fit.fold].test)]
        known.append(
            InnerPredictions(scored.question.labels[fit.rows[is_known]], fit.p[is_known], tested[tested >= 0], fit.seed)
        )
    return known


def score_subgroups(cohort: Cohort, scored: ScoredQuestion) -> list[Row]:
    """AUC, sensitivity and specificity of the reference in each subgroup that the cohort's table tells apart."""
    reference, rows = scored.reference_predictions, []
    for column in (*_CUTS, *_NAMED):
        values = [record.extra.get(column, "") for record in cohort]
        if any(not is_blank(value) for value in values):
            if column in _CUTS:
                values = cut_into_bands([record.measure(column) for record in cohort], *_CUTS[column])
            rows += subgroup_rows(scored.y, reference.p, reference.thresholds, scored.groups, column, values)
    return rows
