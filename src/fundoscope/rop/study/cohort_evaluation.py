"""The figures of graders on a labelled cohort, each computed once with its n and interval, whoever answered.

A study's own networks, out of fold, and a bundle on photographs of another hospital are scored by the same code: predictions in,
dataclasses out. No network runs here and nothing is drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort
from fundoscope.evaluation import results_table
from fundoscope.evaluation.controls import (
    FoldRows,
    NotMade,
    majority_baseline,
    make_or_say_why,
    predict_out_of_fold,
)
from fundoscope.evaluation.decisions import predictive_values
from fundoscope.findings import counted
from fundoscope.rop.recipes import STUDENT, UNDISTILLED
from fundoscope.rop.study.calibrate import OutOfFoldPredictions
from fundoscope.rop.study.clinic import AbstentionResult, score_subgroups
from fundoscope.rop.study.curves import write_curves
from fundoscope.rop.study.questions import ROP
from fundoscope.rop.study.results import CURVES, Headline, QuestionResults, Row
from fundoscope.rop.study.scored_question import Names, ScoredQuestion

#: The column that says why a control or a baseline has no figures.
NOT_MADE = "could not be made"

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
Baselines = dict[str, OutOfFoldPredictions | NotMade]


class CohortEvaluation(ABC):
    """The figures that every evaluation of a cohort has; its `exported` grader is the one that decisions rest on.

    `prevalences` are the shares of ill eyes for which predictive values are computed.
    """

    def __init__(self, cohort: Cohort, exported: str, prevalences: Sequence[float]) -> None:
        self.cohort, self.exported, self.prevalences = cohort, exported, prevalences

    @cached_property
    @abstractmethod
    def graded(self) -> Flags:
        """Which photographs screening grades, (n,): the quality gate belongs to the rule that is measured."""

    @cached_property
    @abstractmethod
    def questions(self) -> list[ScoredQuestion]:
        """Each question with what every grader predicts."""

    @abstractmethod
    def baselines(self, scored: ScoredQuestion) -> dict[str, Scores | NotMade]:
        """What must be beaten, out of fold: probabilities of the question's own photographs, or why there are none."""

    @abstractmethod
    def abstention(self, scored: ScoredQuestion) -> AbstentionResult:
        """What not answering in doubt leaves."""

    @abstractmethod
    def operating_points(self, scored: ScoredQuestion) -> list[Row]:
        """A row for each threshold that was chosen elsewhere, with what it reaches here."""

    @cached_property
    def question_results(self) -> list[QuestionResults]:
        """The figures of each question."""
        return [self._question_results(scored) for scored in self.questions]

    def _made_baselines(self, scored: ScoredQuestion) -> dict[str, Scores]:
        return {name: p for name, p in self.baselines(scored).items() if not isinstance(p, NotMade)}

    def _question_results(self, scored: ScoredQuestion) -> QuestionResults:
        baselines = {name: baseline_predictions(name, p) for name, p in self.baselines(scored).items()}
        kept = np.flatnonzero(self.graded[scored.rows])  # of these photographs, those that screening grades
        gated, gated_baselines = scored.select(kept), _select(baselines, kept)
        graders = score_graders(scored, baselines)
        name, reference = scored.question.name, scored.reference
        differences = [
            {
                "grader": arm,
                **{
                    f"{metric} minus {reference}": scored.difference(each, scored.reference_predictions, metric)
                    for metric in ("auc", "accuracy", "sensitivity", "specificity")
                },
            }
            for arm, each in scored.predictions.items()
            if arm != reference
        ]
        abstention = self.abstention(scored)
        pair = [arm for arm in (STUDENT, UNDISTILLED) if arm in scored.predictions] or [reference]
        return QuestionResults(
            name=name, classes=scored.question.classes, reference=reference, n=len(scored.y), positives=int(scored.y.sum()),
            groups=len(np.unique(scored.groups)), networks=list(scored.predictions),
            headline=self._headline(scored, baselines, kept), refused=len(scored.y) - len(kept), graders=graders,
            graded=graders if len(kept) == len(scored.y) else score_graders(gated, gated_baselines), differences=differences,
            confusions={arm: confusion_counts(scored.y, scored.predictions[arm]) for arm in pair},
            operating_points=self.operating_points(scored),
            calibration=scored.estimates_of_mean(),
            abstention=abstention.text, coverage_area=abstention.coverage_area, error_of_all=abstention.error_of_all,
        )  # fmt: skip

    def _headline(self, scored: ScoredQuestion, baselines: Baselines, kept: Rows) -> Headline:
        """How good the exported network is, how sure that is, and how far it stands above the first baseline.

        `kept` are the photographs that screening grades; where they are of one class, all are taken.
        """
        basis = f"{len(kept)} of {len(scored.y)} photographs, those that screening grades"
        if len(np.unique(scored.y[kept])) < 2:
            basis = f"{counted(len(scored.y), 'photograph')}, of which screening grades only {len(kept)}"
            kept = np.arange(len(scored.y))
        part, (name, baseline) = scored.select(kept), next(iter(_select(baselines, kept).items()))
        ours = part.predictions[self.exported]
        found = part.estimates(ours.p, ours.thresholds)
        if isinstance(baseline, NotMade):
            least, difference, verdict = None, None, f"not compared: {baseline.why}"
        else:
            least, difference = part.estimates(baseline.p)["auc"], part.difference(ours, baseline)
            verdict = "above" if difference.estimate.low > 0 else "not shown to be above"
            verdict = "below" if found["auc"].value < least.value else verdict
        return Headline(
            network=self.exported, basis=basis, auc=found["auc"], sensitivity=found["sensitivity"],
            specificity=found["specificity"], baseline=name, baseline_auc=least, difference=difference, verdict=verdict,
        )  # fmt: skip

    @cached_property
    def subgroups(self) -> list[Row]:
        """Stage 1 by birth weight, gestational age, camera and site, as far as the table has them."""
        return score_subgroups(self.cohort, self.questions[0])

    @cached_property
    def predictive_values(self) -> list[Row]:
        """What an answer is worth at the prevalences that were asked for."""
        first = self.questions[0]
        if not self.prevalences:
            return []
        reference = first.reference_predictions
        return predictive_values(first.y, reference.p, reference.thresholds, self.prevalences, first.groups)

    def write_question_tables(self, tables: Path) -> None:
        """Write the tables of each question as CSV into the folder `tables`, and the points of all curves."""
        for found in self.question_results:
            results_table(found.graders, tables / f"results_{found.name}.csv")
            results_table(found.operating_points, tables / f"operating_points_{found.name}.csv")
            results_table(
                [{"photographs": each, **row} for each, rows in (("all", found.graders), ("that screening grades", found.graded))
                 for row in rows],
                tables / f"quality_gate_{found.name}.csv",
            )  # fmt: skip
            if found.differences:
                results_table(found.differences, tables / f"differences_{found.name}.csv")
        write_curves(
            self.questions, {each.question.name: self._made_baselines(each) for each in self.questions}, tables / CURVES
        )


def score_baselines(
    scored: ScoredQuestion, fold_rows: FoldRows, measures: Callable[[str], NDArray[np.float64]], n: int
) -> dict[str, Scores | NotMade]:
    """The baselines of a question out of fold, the one that counts first; `measures(name)` are those of all `n` photographs.

    Where the table tells cameras apart, the camera is one of the nuisances.

    `fold_rows` has of each fold the rows that are not tested and those that are.
    """
    place = np.full(n, -1)
    place[scored.rows] = np.arange(len(scored.rows))
    folds = [(_known(place[np.asarray(rest)]), _known(place[np.asarray(test)])) for rest, test in fold_rows]

    def predict(name: str) -> Scores | NotMade:
        return make_or_say_why(
            lambda: predict_out_of_fold(measures(name)[scored.rows], scored.y, folds, scored.groups).p
        )

    def predict_nuisance() -> Scores | NotMade:
        if scored.cameras is None:
            return predict("nuisance")
        known = np.column_stack([measures("nuisance")[scored.rows], camera_flags(scored.cameras)])
        return make_or_say_why(lambda: predict_out_of_fold(known, scored.y, folds, scored.groups).p)

    constant = {"majority class": majority_baseline(scored.y, folds).p}
    if scored.question.name != ROP:
        return {"vessel width and tortuosity": predict("vessel"), **constant}
    return {"nuisance baseline": predict_nuisance(), "mean colour": predict("colour"), **constant}


def camera_flags(cameras: Names) -> Scores:
    """Which camera took each photograph, (n, cameras): 1 in its column, else 0."""
    return (cameras[:, None] == np.unique(cameras)).astype(float)


def score_graders(scored: ScoredQuestion, baselines: Baselines) -> list[Row]:
    """A row a network and a baseline, with every metric; of a baseline that could not be made, why."""
    return [
        {
            "grader": name,
            **({NOT_MADE: each.why} if isinstance(each, NotMade) else scored.estimates(each.p, each.thresholds)),
        }
        for name, each in {**scored.predictions, **baselines}.items()
    ]


def describe_headline(found: QuestionResults) -> list[str]:
    """What is said first of a question: how good, how sure, against which baseline, and whether screening refuses some."""
    first = found.headline
    words = {"below": "BELOW", "above": "above"}.get(first.verdict, first.verdict)
    lines = [f"{found.name:<10} {first.network}: AUC {first.auc}"]
    if first.baseline_auc is None or first.difference is None:
        lines.append(f"           {first.baseline}: {first.verdict}")
    else:
        gap = f"difference {first.difference.estimate}"
        lines.append(f"           {words} the {first.baseline}, AUC {first.baseline_auc.value:.3f}: {gap}")
    if found.refused:
        own = row_of(found.graders, first.network)["auc"]
        lines.append(
            f"           screening would refuse {found.refused} of {found.n} photographs; with these AUC {own}"
        )
    return lines


def row_of(rows: list[Row], grader: str) -> Row:
    return next(row for row in rows if row["grader"] == grader)


def _select(baselines: Baselines, rows: Rows) -> Baselines:
    return {name: each if isinstance(each, NotMade) else each.select_rows(rows) for name, each in baselines.items()}


def baseline_predictions(name: str, p: Scores | NotMade) -> OutOfFoldPredictions | NotMade:
    """The probabilities (n,) of a baseline, which decides at 0.5."""
    return p if isinstance(p, NotMade) else OutOfFoldPredictions(name, "plain", p[None], np.full((1, len(p)), 0.5))


def _known(places: Rows) -> Rows:
    """Those places that are not -1."""
    return places[places >= 0]


def confusion_counts(y: Rows, predictions: OutOfFoldPredictions) -> list[list[int]]:
    """Counts (2, 2) of truth by decision, of the first seed at each fold's own operating point."""
    called = predictions.p[0] >= predictions.thresholds[0]
    return np.bincount(2 * y + called, minlength=4).reshape(2, 2).tolist()
