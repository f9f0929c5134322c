"""The rule for eyes of a study, on answers made by hand: what is measured, what ships, and what screening says of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from fundoscope.bundles.card import CardFigure, DecisionThreshold, Stage, describe_doubts
from fundoscope.cohort import Cohort, CohortRow
from fundoscope.evaluation.decisions import EyeViews, choose_eye_rule
from fundoscope.findings import RopFinding, Status
from fundoscope.rop.screening.eyes import ScreenedEyes
from fundoscope.rop.study import units as module
from fundoscope.rop.study.calibrate import CalibratedPredictions
from fundoscope.rop.study.clinic import score_units
from fundoscope.rop.study.questions import ROP, Question
from fundoscope.rop.study.units import card_eye_decision, cohort_eyes, predict_eyes, shipped_eye_rule

INFANTS, VIEWS = 60, 3
POINT = DecisionThreshold(threshold=0.4, rule="by hand", data="photographs", n_positive=9, sensitivity_bound="9 of 9")
STAGE = Stage(name="rop", classes=("normal", "rop"), temperature=1.0, operating_point=POINT)


@pytest.fixture(scope="module")
def study():
    """60 infants, both eyes, three views each, in two folds; every view is a little off, so that their mean is best."""
    rng = np.random.default_rng(3)
    rows, folds = [], []
    for infant in range(INFANTS):
        for eye in ("left", "right"):
            rows += [(infant, eye, ("normal", "rop")[infant % 2])] * VIEWS
    cohort = Cohort(
        [
            CohortRow(n, f"{n}.png", Path(f"{n}.png"), label, infant=f"i{infant}", eye=eye)
            for n, (infant, eye, label) in enumerate(rows)
        ],
        "by hand",
    )
    n, of_fold = len(cohort), np.array([infant % 4 // 2 for infant, *_ in rows])
    log_odds = rng.normal(1.1 * cohort.labels, 1)
    frames = []
    for fold in range(2):
        test, inner = np.flatnonzero(of_fold == fold), np.flatnonzero(of_fold != fold)
        folds.append(SimpleNamespace(test=test.tolist()))
        for part, of_part in (("test", test), ("inner", inner)):
            values = log_odds[of_part]
            frames.append(pd.DataFrame({
                "question": ROP, "arm": "student", "seed": 0, "fold": fold, "part": part, "variant": "plain",
                "precision": "torch", "row": of_part, "logit_0": 0.0, "logit_1": values,
                "probability": 1 / (1 + np.exp(-values)), "threshold": 0.4,
            }))  # fmt: skip
    predictions = CalibratedPredictions(pd.concat(frames, ignore_index=True), 1, n)
    question = Question(ROP, cohort.labels)
    plan = SimpleNamespace(
        cohort=cohort, questions=[question], question=lambda name: question, folds=folds,
        group_numbers=np.array([infant for infant, *_ in rows]),
        recipe=SimpleNamespace(decision=SimpleNamespace(target_sensitivity=0.9)),
    )  # fmt: skip
    graded = rng.random(n) > 0.2
    graded[:VIEWS] = False  # an eye of which nothing was graded
    return plan, predictions, graded


def test_what_the_study_measures_is_what_screening_says(study):
    """Each fold's rule, put on a card, gives the very decisions in eyes.csv on which the study's figures stand."""
    plan, predictions, graded = study
    eyes = cohort_eyes(plan.cohort)
    found = predict_eyes(predictions, "student", plan.question(ROP), plan.folds, eyes, graded, 0.9)
    outer = predictions.out_of_fold(ROP, "student")
    for inner, fold in zip(predictions.inner(ROP, "student"), plan.folds, strict=True):
        own = EyeViews.from_keys(eyes.codes[inner.rows].tolist())
        labels = plan.question(ROP).labels[inner.rows]
        choice = choose_eye_rule(labels, inner.p, graded[inner.rows], own, 0.9, 0.4)
        screened = ScreenedEyes(card_eye_decision(choice, STAGE, "of inner photographs"))
        for row in fold.test:
            record, p = plan.cohort[row], float(outer.p[0, row])
            view = RopFinding(record.image, Status.OK, p_rop=p, rop=p >= 0.4) if graded[row] else None
            view = view or RopFinding(record.image, Status.REJECTED, "blurred")
            screened.add(record.infant, record.eye, record.exam, view.as_row())
        numbers = list(dict.fromkeys(eyes.codes[fold.test].tolist()))
        for number, row in zip(numbers, screened.rows(), strict=True):
            p, threshold = found.p[0, number], found.thresholds[0, number]
            assert row["rop"] == (None if np.isnan(p) else "yes" if p >= threshold else "no")
    assert set(found.rules) != {"any"}


def test_refused_photographs_have_no_part_in_the_measured_rule(study):
    plan, predictions, graded = study
    rows, rules = score_units(plan, predictions, "student", graded)
    found = {row["unit"]: row for row in rows}
    assert found["photograph"]["auc"].n == graded.sum() and found["photograph"]["not decided"] == (~graded).sum()
    assert found["eye"]["auc"].n + found["eye"]["not decided"] == 2 * INFANTS
    assert found["eye"]["not decided"] >= 1 and found["eye, refused views counted too"]["auc"].n == 2 * INFANTS
    assert found["infant"]["auc"].n == INFANTS and " fits" in rules
    assert found["eye"]["auc"].value != found["eye, refused views counted too"]["auc"].value
    nothing, _ = score_units(plan, predictions, "student", np.zeros_like(graded))
    assert [row["auc"].n for row in nothing][:4] == [0, 0, 0, 0]


def test_an_infant_is_suspected_where_one_of_its_eyes_is(study):
    plan, predictions, graded = study
    eyes = predict_eyes(predictions, "student", plan.question(ROP), plan.folds, cohort_eyes(plan.cohort), graded, 0.9)
    infants = eyes.group_by([each.infant for each in plan.cohort])
    by_eye, by_infant = (each.p[0] >= each.thresholds[0] for each in (eyes, infants))
    for number in range(INFANTS):
        assert by_infant[number] == by_eye[2 * number : 2 * number + 2].any()


def test_the_bundle_gets_the_rule_that_the_folds_answers_choose(study, monkeypatch):
    plan, predictions, graded = study
    monkeypatch.setattr(module.CalibratedPredictions, "read", lambda plan: predictions)
    decision = shipped_eye_rule(plan, "student", STAGE, graded)
    assert decision.measured and decision.views != "any" and decision.operating_point.threshold != 0.4
    assert decision.operating_point.n_positive == 59 and "118 eyes" in decision.words
    unknown = [CohortRow(n, f"{n}.png", Path(f"{n}.png"), "rop") for n in range(4)]
    plan = SimpleNamespace(**{**vars(plan), "cohort": Cohort(unknown, "unknown")})
    decision = shipped_eye_rule(plan, "student", STAGE, graded)
    assert (decision.views, decision.operating_point, decision.measured) == ("any", POINT, False)


def figure(name, value, low):
    return CardFigure(name=name, value=value, low=low, high=None if low is None else 1.0, n=90, on="90 photographs")


@pytest.mark.parametrize(
    ("auc", "low", "nuisance", "says"),
    [
        (0.53, 0.41, 0.4, "no better than chance on its own folds: AUC 0.53 (0.41 to 1.00), 90 photographs"),
        (0.9, 0.5, None, "no better than chance on its own folds"),
        (0.9, None, None, "no better than chance on its own folds: AUC 0.90 (no interval)"),
        (0.9, 0.7, 0.7, "no better than the nuisance baseline on its own folds"),
        (0.9, 0.8, 0.7, ""),
    ],
)
def test_a_bundle_worth_nothing_is_known_by_its_figures(auc, low, nuisance, says):
    for question, before in (("rop", ""), ("treatment", "treatment: ")):
        figures = [figure(f"{before}auc", auc, low)]
        figures += [] if nuisance is None else [figure(f"{before}auc of the nuisance baseline", nuisance, 0.6)]
        doubts = describe_doubts(figures)
        assert list(doubts) == ([question] if says else []) and says in doubts.get(question, "")
