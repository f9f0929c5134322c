"""From photographs to eyes, exams and infants, by the rule that ships: `evaluation.decisions.EyeRule`.

Each fit chooses its rule on the eyes among its inner photographs and is measured on the eyes that its fold held out; the
refit chooses the rule of the bundle in the same way on all eyes, out of fold. An exam or an infant is suspected where any
of its eyes is: nobody chooses anything for them. Photographs that screening refuses have no part in a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import EyeDecision, Stage, unmeasured_eyes
from fundoscope.cohort import Cohort, Folds
from fundoscope.evaluation.decisions import EyeRuleChoice, EyeViews, choose_eye_rule
from fundoscope.rop.screening.eyes import eye_key
from fundoscope.rop.study.calibrate import CalibratedPredictions, mean_probabilities
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.questions import ROP, TREATMENT, Question

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


def cohort_eyes(cohort: Cohort) -> EyeViews:
    """Which eye at which exam each photograph shows, as screening takes them together."""
    return EyeViews.from_keys([eye_key(each.infant, each.eye, each.exam, each.image) for each in cohort])


@dataclass(frozen=True)
class UnitPredictions:
    """One arm's predictions on whole units: `p`, nan where no view was graded, and `thresholds`, both (seeds, units).

    `units` says which unit each photograph shows, `rules` which rule each fit chose.
    """

    units: EyeViews
    p: Scores
    thresholds: Scores
    rules: tuple[str, ...]

    @property
    def decided(self) -> Rows:
        """The units with a graded view."""
        return np.flatnonzero(np.isfinite(self.p[0]))

    def group_by(self, keys: Sequence[object]) -> UnitPredictions:
        """The same by larger units, `keys` one a photograph: suspected where any of their eyes is."""
        larger = EyeViews.from_keys([str(key) for key in keys])
        of_eye = EyeViews.from_keys(larger.codes[self.units.first].tolist())  # eyes appear in the order of their units
        p = [of_eye.combine(np.where(np.isfinite(run), run, 0.0), "any") for run in self.p]
        undecided = of_eye.any_positive(np.isfinite(self.p[0])) == 0
        return replace(
            self, units=larger, p=np.where(undecided, np.nan, p), thresholds=of_eye.shared_values(self.thresholds)
        )


def predict_eyes(
    predictions: CalibratedPredictions,
    arm: str,
    question: Question,
    folds: Folds,
    eyes: EyeViews,
    graded: Flags,
    target: float,
) -> UnitPredictions:
    """The probability of ROP of every eye by the fold that held it out, with the rule and threshold of that fold's inner eyes.

    `graded` (n,) says which photographs screening grades, `target` the sensitivity that the thresholds keep.
    """
    p, thresholds = np.full((2, predictions.seeds, eyes.n_units), np.nan)
    outer = predictions.out_of_fold(question.name, arm)
    rules = []
    for inner in predictions.inner(question.name, arm):
        own = EyeViews.from_keys(eyes.codes[inner.rows].tolist())
        labels, seen = question.labels[inner.rows], graded[inner.rows]
        rule = choose_eye_rule(labels, inner.p, seen, own, target, inner.threshold).rule
        rules.append(rule.views)
        test = np.array(folds[inner.fold].test)
        tested = EyeViews.from_keys(eyes.codes[test].tolist())
        numbers = eyes.codes[test][tested.first]
        p[inner.seed, numbers] = rule.probabilities(outer.p[inner.seed, test], graded[test], tested)
        thresholds[inner.seed, numbers] = rule.compared_threshold
    return UnitPredictions(eyes, p, thresholds, tuple(rules))


def predict_treatment(predictions: CalibratedPredictions, arm: str, eyes: EyeViews, graded: Flags) -> Scores:
    """1 where a view of an eye is called ROP and treatment-requiring, else 0: (seeds, eyes).

    So screening decides: whether treatment is required is asked of views in which ROP is suspected, and one is enough.
    """
    first, second = (predictions.out_of_fold(question, arm) for question in (ROP, TREATMENT))
    called = (first.p >= first.thresholds) & (second.p >= second.thresholds) & graded
    return eyes.combine(called.astype(float), "any")


def shipped_eye_rule(plan: StudyPlan, arm: str, stage: Stage, graded: Flags) -> EyeDecision:
    """The rule for eyes of the bundle: chosen as each fold chose its own, on all eyes by what the folds held out.

    `stage` is the bundle's first stage, `graded` (n,) says which photographs screening grades. Where the cohort does not
    know its infants, or shows each eye once, each view decides by itself, and no figure on eyes exists.
    """
    if not plan.cohort.has_infants:
        return unmeasured_eyes(stage)
    pooled, log_odds = CalibratedPredictions.read(plan).pooled_logits(ROP, arm)
    rows, p = mean_probabilities(pooled, stage.probabilities(np.column_stack([np.zeros_like(log_odds), log_odds])))
    eyes, labels = EyeViews.from_keys(cohort_eyes(plan.cohort).codes[rows].tolist()), plan.question(ROP).labels[rows]
    target = plan.recipe.decision.target_sensitivity
    choice = choose_eye_rule(labels, p, graded[rows], eyes, target, stage.operating_point.threshold)
    return card_eye_decision(choice, stage, "of the training photographs, out of fold")


def card_eye_decision(choice: EyeRuleChoice, stage: Stage, data: str) -> EyeDecision:
    """A chosen rule as a card holds it; `data` says which eyes chose it."""
    point = choice.point
    if point is None:
        return unmeasured_eyes(stage)
    bound = f"sensitivity there {point.sensitivity:.2f}, at least {point.sensitivity_bound:.2f} with 95 % confidence"
    return EyeDecision(
        views=cast(Literal["any", "second", "mean"], choice.rule.views), measured=True,
        operating_point=stage.operating_point.model_copy(update={
            "threshold": choice.rule.threshold, "rule": point.rule, "data": f"{point.n} eyes {data}", "n_positive": point.positives,
            "sensitivity_bound": bound,
        }),
    )  # fmt: skip


def describe_rules(rules: Sequence[str]) -> str:
    """How often each rule was chosen, in words."""
    return ", ".join(f"{rule} in {rules.count(rule)} of {len(rules)} fits" for rule in dict.fromkeys(rules))
