"""The figures that paper 000 lacks: whole infants, the two stages in a row, thresholds, abstention, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from fundoscope.rop.study.calibrate import CalibratedPredictions, FitInnerPredictions, OutOfFoldPredictions
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.questions import ROP, Question
from fundoscope.rop.study.results import Row
from fundoscope.rop.study.scored_question import Names, ScoredQuestion
from fundoscope.rop.study.units import UnitPredictions, cohort_eyes, describe_rules, predict_eyes, predict_treatment

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Columns that make subgroups, cut as neonatologists do (paper 000 names none).
_CUTS = {"birth_weight": ((1000, 1500), "g"), "gestational_age": ((28, 32), "weeks")}
_NAMED = ("camera", "site", "device", "sex", "ethnicity")

#: The row of eyes in which screening's refusals count for nothing, and why a cohort has no rows of eyes.
ALL_VIEWS = "eye, refused views counted too"
NO_EYES = "the table does not tell infants apart, so that no eye of several views was measured"


def score_units(plan: StudyPlan, predictions: CalibratedPredictions, arm: str, graded: Flags) -> tuple[list[Row], str]:
    """`unit_rows` of one arm out of fold, its eyes by the rule that each fold chose; and these rules in words."""
    question, by_photograph = plan.question(ROP), predictions.out_of_fold(ROP, arm)
    eyes = {}
    if plan.cohort.has_infants:
        target, views = plan.recipe.decision.target_sensitivity, cohort_eyes(plan.cohort)
        every = np.ones_like(graded)
        eyes = {
            name: predict_eyes(predictions, arm, question, plan.folds, views, kept, target)
            for name, kept in (("eye", graded), *([] if graded.all() else [(ALL_VIEWS, every)]))
        }
    rows = unit_rows(plan.cohort, question, by_photograph, plan.group_numbers, graded, eyes)
    if not eyes:
        return rows, NO_EYES
    return rows, f"{arm}; eyes by the rule {describe_rules(eyes['eye'].rules)}"


def unit_rows(
    cohort: Cohort,
    question: Question,
    by_photograph: OutOfFoldPredictions,
    groups: Rows,
    graded: Flags,
    eyes: Mapping[str, UnitPredictions],
) -> list[Row]:
    """Every metric of a grader's stage 1 by photograph, eye, exam and infant, as screening decides them.

    `graded` (n,) are the photographs that screening grades: the others have no part in it, and `not decided` counts the
    units of which no photograph was graded. `eyes` holds the eyes under the name `eye`, and by other names more rows of
    eyes; without any, only photographs are scored. An exam or an infant is suspected where one of its eyes is.
    """
    cameras = np.array(cohort.cameras) if cohort.cameras else None
    of_photographs = (by_photograph.p, by_photograph.thresholds, groups, graded, cameras)
    rows = [_unit_row("photograph", question.labels, *of_photographs)]
    if not eyes:
        return rows
    found = {"eye": eyes["eye"], **_larger_units(cohort, eyes["eye"]), **eyes}
    for name, each in found.items():
        y, first = each.units.any_positive(question.labels), each.units.first
        own = None if cameras is None else cameras[first]
        rows.append(_unit_row(name, y, each.p, each.thresholds, groups[first], np.isfinite(each.p[0]), own))
    return rows


def _larger_units(cohort: Cohort, eyes: UnitPredictions) -> dict[str, UnitPredictions]:
    """The predictions by exam and by infant; a photograph of an unknown infant stands for itself."""
    infants = [each.infant or f"(unknown: {each.image})" for each in cohort]
    exams = [(infant, each.exam) for infant, each in zip(infants, cohort, strict=True)]
    return {"exam": eyes.group_by(exams), "infant": eyes.group_by(infants)}


def _unit_row(
    name: str, y: Rows, p: Scores, thresholds: Scores, groups: Rows, decided: Flags, cameras: Names | None
) -> Row:
    found: dict[Any, Any] = estimates(
        y[decided], p[:, decided], threshold=thresholds[:, decided], groups=groups[decided],
        cameras=None if cameras is None else cameras[decided],
    )  # fmt: skip
    return {"unit": name, **found, "not decided": int((~decided).sum())}


def score_cascade_by_unit(plan: StudyPlan, predictions: CalibratedPredictions, arm: str, graded: Flags) -> list[Row]:
    """`cascade_rows` of one arm out of fold; empty where one question is asked."""
    if len(plan.questions) < 2:
        return []
    eyes = None
    if plan.cohort.has_infants:
        target, views = plan.recipe.decision.target_sensitivity, cohort_eyes(plan.cohort)
        eyes = predict_eyes(predictions, arm, plan.question(ROP), plan.folds, views, graded, target)
    return cascade_rows(plan.cohort, plan.questions, predictions, arm, plan.group_numbers, graded, eyes)


def cascade_rows(
    cohort: Cohort,
    questions: Sequence[Question],
    predictions: CalibratedPredictions,
    arm: str,
    groups: Rows,
    graded: Flags,
    eyes: UnitPredictions | None,
) -> list[Row]:
    """Both stages of a grader as one, by each unit; by photograph alone where no `eyes` are told apart.

    By photograph both stages answer for all that screening grades, so that each can be judged alone; an eye requires
    treatment where it is suspected and one of its suspected views does, as screening says it.
    """
    rop, treatment = questions
    first, second = (predictions.out_of_fold(each.name, arm) for each in (rop, treatment))
    needs, has_rop = treatment.labels == 1, rop.labels
    cascade = Cascade(*(each[:, graded] for each in (first.p, second.p, first.thresholds, second.thresholds)))
    rows = [
        {"unit": "photograph", **row} for row in score_cascade(needs[graded], has_rop[graded], cascade, groups[graded])
    ]
    if eyes is None:
        return rows
    called = predict_treatment(predictions, arm, eyes.units, graded) * (eyes.p >= eyes.thresholds)
    requiring = replace(eyes, p=np.where(np.isfinite(eyes.p), called, np.nan))
    larger = _larger_units(cohort, requiring)
    for name, found in {"eye": eyes, **_larger_units(cohort, eyes)}.items():
        units, decided = found.units, found.decided
        need = requiring if name == "eye" else larger[name]
        cascade = Cascade(found.p[:, decided], need.p[:, decided], found.thresholds[:, decided])
        unit_needs, unit_has_rop = (units.any_positive(each)[decided] for each in (needs, has_rop))
        unit_groups = groups[units.first][decided]
        scored = score_cascade(unit_needs, unit_has_rop, cascade, unit_groups, stages_alone=False)
        rows += [{"unit": name, **row} for row in scored]
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
    records = [cohort[row] for row in scored.rows.tolist()]
    for column in (*_CUTS, *_NAMED):
        values = [record.extra.get(column, "") for record in records]
        if any(not is_blank(value) for value in values):
            if column in _CUTS:
                values = cut_into_bands([record.measure(column) for record in records], *_CUTS[column])
            rows += subgroup_rows(
                scored.y, reference.p, reference.thresholds, scored.groups, column, values, scored.cameras
            )
    return rows
