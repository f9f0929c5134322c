"""Step 2, `results.json` and `tables/`: the figures of a study for a bundle that never saw these photographs.

Tables in, dataclasses out: no network runs here and nothing is drawn. What a study measures is measured by the study's own
code (`CohortEvaluation`); here stand what only an external validation has: refusals by class, overlap with the training
photographs, and what the card promised beside what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.bundles.card import Card, EyeDecision
from fundoscope.cohort import Audit, Folds, Groups
from fundoscope.cohort.fingerprints import TURNS
from fundoscope.errors import CohortError, counted
from fundoscope.evaluation import Estimate, estimates, results_table
from fundoscope.evaluation.controls import FoldRows, NotMade
from fundoscope.evaluation.decisions import EyeRule, coverage_risk
from fundoscope.evaluation.metrics import lower_bound_with_no_misses
from fundoscope.evaluation.metrics.scores import LOWER_IS_BETTER
from fundoscope.rop.external.predict import PHOTOGRAPHS, PREDICTIONS
from fundoscope.rop.external.results import ExternalResults, ExternalSample, TrainingOverlap
from fundoscope.rop.study.calibrate import CalibratedPredictions, OutOfFoldPredictions
from fundoscope.rop.study.clinic import ALL_VIEWS, NO_EYES, AbstentionResult, cascade_rows, unit_rows
from fundoscope.rop.study.cohort_evaluation import (
    CohortEvaluation,
    describe_headline,
    row_of,
    score_baselines,
)
from fundoscope.rop.study.data import StudyData
from fundoscope.rop.study.questions import ROP, Question
from fundoscope.rop.study.results import Headline, Row
from fundoscope.rop.study.sample import count_infants
from fundoscope.rop.study.scored_question import ScoredQuestion, cameras_of
from fundoscope.rop.study.units import UnitPredictions, cohort_eyes

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]

_METRICS = ("auc", "sensitivity", "specificity", "brier", "ece")
_FOLDS = 5  # in which the baselines are fitted and tested on the cohort itself
_MAXIMUM_ERRORS = 0.05  # of what not answering in doubt leaves: as the recipes have it


@dataclass(frozen=True)
class GradedCohort:
    """A cohort whose photographs a bundle has answered: its audit and groups, the questions asked, the bundle's card.

    `photographs` and `predictions` are the tables of `predict`, `data` holds the measures; all count rows of the cohort.
    """

    audit: Audit
    groups: Groups
    questions: list[Question]
    card: Card
    photographs: pd.DataFrame
    predictions: CalibratedPredictions
    data: StudyData

    @classmethod
    def read(
        cls, audit: Audit, groups: Groups, questions: list[Question], card: Card, folder: Path, precision: str
    ) -> GradedCohort:
        """The cohort with the tables that lie in `folder`."""
        table = pd.read_parquet(folder / PREDICTIONS)
        predictions = CalibratedPredictions(table, int(table.seed.max()) + 1, len(audit.cohort), precision)
        photographs = pd.read_parquet(folder / PHOTOGRAPHS)
        return cls(audit, groups, questions, card, photographs, predictions, StudyData(folder, card.standard))


class ExternalEvaluation(CohortEvaluation):
    """The figures of a bundle on a cohort, each computed once.

    `training_photographs` is how many photographs the bundle remembers, None where it carries no hashes.
    """

    def __init__(
        self, given: GradedCohort, prevalences: Sequence[float] = (), training_photographs: int | None = None
    ) -> None:
        super().__init__(given.audit.cohort, given.card.name, prevalences)
        self.given, self.card, self.training_photographs = given, given.card, training_photographs
        self.group_numbers = given.groups.numbers

    @cached_property
    def readable(self) -> Flags:
        """Which photographs have an answer, (n,): those that could be read."""
        return np.isfinite(self.by_photograph.p[0])

    @cached_property
    def graded(self) -> Flags:
        """Which photographs screening grades, (n,)."""
        return self.given.data.graded() & self.readable

    @cached_property
    def by_photograph(self) -> OutOfFoldPredictions:
        """The answers on ROP, nan where a photograph could not be read."""
        return self.given.predictions.out_of_fold(ROP, self.exported)

    @cached_property
    def questions(self) -> list[ScoredQuestion]:
        """Each question on the photographs that could be read and whose answer is known."""
        return [self._scored(question) for question in self.given.questions]

    def _scored(self, question: Question) -> ScoredQuestion:
        rows = question.known_rows[self.readable[question.known_rows]]
        found = self.given.predictions.out_of_fold(question.name, self.exported).select_rows(rows)
        labels, groups = question.labels[rows], self.group_numbers[rows]
        return ScoredQuestion(
            question, rows, labels, groups, {self.exported: found}, self.exported, cameras_of(self.cohort, rows)
        )

    @cached_property
    def fold_rows(self) -> FoldRows | NotMade:
        """Folds of the cohort by group, in which the baselines are fitted and tested, or why there are none."""
        try:
            folds = Folds.make(self.cohort, self.given.groups, _FOLDS)
        except CohortError as error:
            return NotMade(str(error))
        return [(np.array([*fold.train, *fold.inner]), np.array(fold.test)) for fold in folds]

    def baselines(self, scored: ScoredQuestion) -> dict[str, Scores | NotMade]:
        """What must be beaten, fitted and tested on this very cohort in folds by group: more than the bundle was given."""
        if isinstance(self.fold_rows, NotMade):
            return {"nuisance baseline": self.fold_rows} if scored.question.name == ROP else {
                "vessel width and tortuosity": self.fold_rows
            }  # fmt: skip
        return score_baselines(scored, self.fold_rows, self.given.data.measures, len(self.cohort))

    def abstention(self, scored: ScoredQuestion) -> AbstentionResult:
        """How many of the least certain photographs would have to be left out; a bundle has no band of doubt of its own."""
        found = scored.reference_predictions
        curve = coverage_risk(scored.y, found.p, found.thresholds)
        good = np.flatnonzero(curve.error <= _MAXIMUM_ERRORS)
        kept = int(good.max()) + 1 if good.size else 0
        text = f"at most {_MAXIMUM_ERRORS:.0%} of the answers are wrong if the most certain {kept} of {len(scored.y)} are kept"
        return AbstentionResult(text, curve.aurc, float(curve.error[-1]))

    def operating_points(self, scored: ScoredQuestion) -> list[Row]:
        """What the bundle's threshold reaches here, and what so many positives can prove."""
        found = scored.reference_predictions
        reached: dict[Any, Any] = estimates(
            scored.y, found.p, metrics=("sensitivity", "specificity"), threshold=found.thresholds, groups=scored.groups
        )
        groups = len(np.unique(scored.groups[scored.y == 1]))
        bound = lower_bound_with_no_misses(groups)
        support = f"{int(scored.y.sum())} positives of {groups} groups: no miss at all would prove {bound:.3f}"
        return [{"threshold": float(np.median(found.thresholds)), **reached, "support": support}]

    @cached_property
    def _eyes(self) -> dict[str, UnitPredictions]:
        """The eyes by the card's rule, with and without screening's refusals; none where infants are unknown."""
        if not self.cohort.has_infants:
            return {}
        kept = {"eye": self.graded, **({} if self.graded.all() else {ALL_VIEWS: self.readable})}
        rule, views = self.card.eye_decision, cohort_eyes(self.cohort)
        decided = EyeRule(rule.views, rule.operating_point.threshold)
        found = {}
        for name, flags in kept.items():
            p = decided.probabilities(self.by_photograph.p, flags, views)
            found[name] = UnitPredictions(views, p, np.full_like(p, decided.compared_threshold), (rule.views,))
        return found

    @cached_property
    def units(self) -> tuple[list[Row], str]:
        """Stage 1 by photograph, eye, exam and infant, as screening decides; and the card's rule for eyes, in words."""
        (question,) = (each for each in self.given.questions if each.name == ROP)
        rows = unit_rows(self.cohort, question, self.by_photograph, self.group_numbers, self.graded, self._eyes)
        return rows, f"the bundle's rule: {self.card.eye_decision.words}" if self._eyes else NO_EYES

    @cached_property
    def cascade(self) -> list[Row]:
        """Both stages in a row, by each unit; empty where one question is asked."""
        if len(self.given.questions) < 2:
            return []
        return cascade_rows(
            self.cohort, self.given.questions, self.given.predictions, self.exported, self.group_numbers, self.graded,
            self._eyes.get("eye"),
        )  # fmt: skip

    @cached_property
    def refusals(self) -> list[Row]:
        """What became of the photographs of each class: called, not called, refused, failed."""
        p, thresholds = self.by_photograph.p[0], self.by_photograph.thresholds[0]
        called, labels, rows = (p >= thresholds) & self.graded, self.cohort.labels, []
        for name, own in (("rop", labels == 1), ("normal", labels == 0), ("all", labels >= 0)):
            counts = {
                "photographs": own, "called ROP": called & own, "not called": self.graded & ~called & own,
                "refused": self.readable & ~self.graded & own, "could not be read": ~self.readable & own,
            }  # fmt: skip
            rows.append({"class": name, **{what: int(flags.sum()) for what, flags in counts.items()}})
        return rows

    @cached_property
    def refusal_figures(self) -> list[Row]:
        """Sensitivity and specificity with the photographs without an answer left out, sent on, or sent home."""
        p, labels = self.by_photograph.p, self.cohort.labels
        thresholds, rows = np.where(self.readable, self.by_photograph.thresholds, 0.5), []
        cases = (("left out", None), ("all examined by a person", 1.0), ("all taken for normal", 0.0))
        for name, taken in cases:
            kept = self.graded if taken is None else np.ones_like(self.graded)
            scores = p if taken is None else np.where(self.graded, p, taken)
            found: dict[Any, Any] = estimates(
                labels[kept], scores[:, kept], metrics=("sensitivity", "specificity"), threshold=thresholds[:, kept],
                groups=self.group_numbers[kept],
            )  # fmt: skip
            rows.append({"refused and unreadable photographs": name, **found})
        return rows

    @cached_property
    def seen_before(self) -> Flags:
        """Which photographs the bundle learnt from, (n,), as far as its hashes tell."""
        table = self.given.photographs
        found = table.set_index("row").get("seen_before", pd.Series(dtype=object)).reindex(range(len(self.cohort)))
        return found.eq(True).to_numpy()

    @cached_property
    def overlap(self) -> TrainingOverlap:
        """The photographs that the bundle learnt from, and the figures with and without them."""
        rows = [
            {
                "image": each["image"], "label": self.cohort[int(each["row"])].label, "similarity": float(each["seen_similarity"]),
                "turned": TURNS[int(each["seen_turn"])], "training photograph": int(each["seen_number"]),
            }
            for each in self.given.photographs.to_dict("records") if self.seen_before[int(each["row"])]
        ]  # fmt: skip
        return TrainingOverlap(self.training_photographs, rows, self._overlap_figures() if rows else [])

    def _overlap_figures(self) -> list[Row]:
        groups = np.isin(self.group_numbers, self.group_numbers[self.seen_before])
        kept = {"all": np.ones_like(groups), "without those it learnt from": ~self.seen_before}
        if (groups != self.seen_before).any():
            kept["without all photographs of their groups"] = ~groups
        first, rows = self.questions[0], []
        for name, flags in kept.items():
            part = first.select(np.flatnonzero((flags & self.graded)[first.rows]))
            found = part.reference_predictions
            rows.append({"photographs": name, **part.estimates(found.p, found.thresholds)})
        return rows

    @cached_property
    def promised(self) -> list[Row]:
        """The figures of the bundle's card beside those found here on photographs that screening grades."""
        known = {figure.name: figure for figure in self.card.figures}
        rows = []
        for found, scored in zip(self.question_results, self.questions, strict=True):
            before = "" if found.name == ROP else f"{found.name}: "
            decidable = np.isfinite(row_of(found.graded, self.exported)["auc"].value)
            here = row_of(found.graded if decidable else found.graders, self.exported)
            for metric in _METRICS:
                figure = known.get(before + metric)
                if figure is not None:
                    rows.append({
                        "figure": before + metric, "here": here[metric], "promised": figure.value,
                        "promised_low": figure.low, "promised_high": figure.high, "promised_n": figure.n,
                        "verdict": _compare(metric, _ends(metric, here[metric], scored), figure.value),
                        "promised on": figure.on,
                    })  # fmt: skip
        return rows

    @cached_property
    def doubts(self) -> list[str]:
        """What speaks against using the bundle here, a sentence each."""
        doubts = [sentence for found in self.question_results for sentence in _doubts_of(found.name, found.headline)]
        doubts += [
            f"the card promises {row['figure']} {row['promised']:.2f}; here it is {row['here'].value:.2f} "
            f"({row['here'].low:.2f} to {row['here'].high:.2f}): what was promised does not hold here"
            for row in self.promised if row["verdict"] == "worse than promised" and row["figure"].split()[-1] in _DECIDING
        ]  # fmt: skip
        if self.overlap.known_photographs is None:
            doubts.append(
                "the bundle carries no hashes of its training photographs: whether it learnt from some of these is unknown"
            )
        elif self.overlap.photographs:
            n = len(self.overlap.photographs)
            names = ", ".join(row["image"] for row in self.overlap.photographs[:5]) + (" and more" if n > 5 else "")
            doubts.append(
                f"the bundle learnt from {n} of these {counted(len(self.cohort), 'photograph')} ({names}): look at the figures "
                "without them"
            )
        return doubts + [f"its card says: {doubt}" for doubt in self.card.doubts.values()]

    def results(self) -> ExternalResults:
        """All figures."""
        rows, rules = self.units
        return ExternalResults(
            summary=self.summary(), exported=self.exported, bundle=describe_bundle(self.card),
            prevalences=list(self.prevalences), sample=self.sample(), overlap=self.overlap, promised=self.promised,
            refusals=self.refusals, refusal_figures=self.refusal_figures, questions=self.question_results, units=rows,
            unit_rules=rules, cascade=self.cascade, subgroups=self.subgroups, predictive_values=self.predictive_values,
            doubts=self.doubts,
        )  # fmt: skip

    def sample(self) -> ExternalSample:
        """Whose photographs these are, and what the audit found."""
        cohort, audit = self.cohort, self.given.audit
        infants = len({record.infant for record in cohort}) if cohort.has_infants else None
        return ExternalSample(
            photographs=len(cohort), rop=int(cohort.labels.sum()), failed=int((~self.readable).sum()), infants=infants,
            groups=len(self.given.groups), groups_rule=self.given.groups.rule, cohort_sha256=cohort.sha256,
            audit={kind.value: n for kind, n in audit.counts.items()}, histograms=count_infants(cohort),
        )  # fmt: skip

    def summary(self) -> list[str]:
        """The figures that a person waits for, a line each."""
        lines = [line for found in self.question_results for line in describe_headline(found)]
        first = self.question_results[0].headline
        lines.append(f"           sensitivity {first.sensitivity}; specificity {first.specificity}")
        failed = int((~self.readable).sum())
        lines += [f"{counted(failed, 'photograph')} could not be read"] if failed else []
        return lines + [f"WARNING: {doubt}" for doubt in self.doubts]

    def write_tables(self, tables: Path) -> None:
        """Write every table as CSV into the folder `tables`."""
        self.write_question_tables(tables)
        named = {
            "promised": self.promised, "refusals": self.refusals, "refusal_figures": self.refusal_figures,
            "overlap": self.overlap.photographs, "without_overlap": self.overlap.figures, "units_rop": self.units[0],
            "cascade": self.cascade, "subgroups": self.subgroups, "predictive_values": self.predictive_values,
        }  # fmt: skip
        for name, rows in named.items():
            if rows:
                results_table(rows, tables / f"{name}.csv")
        self.photograph_table().to_csv(tables / "photographs.csv", index=False)

    def photograph_table(self) -> pd.DataFrame:
        """A row a photograph: its label and group, what became of it, every answer, and whether it was wrong."""
        names = ["row", "status", "reason", "quality", "seen_before"]
        table = self.given.photographs.reindex(columns=names).sort_values("row")
        known = {"image": [each.image for each in self.cohort], "label": [each.label for each in self.cohort]}
        table = pd.DataFrame(known | {"group": self.group_numbers}).join(table.set_index("row"))
        for question in self.given.questions:
            found = self.given.predictions.out_of_fold(question.name, self.exported)
            p, at = found.p[0], found.thresholds[0]
            table[f"p_{question.name}"], table[f"threshold_{question.name}"] = p.round(6), at.round(6)
            decided = np.isfinite(p) & (question.labels >= 0)
            wrong = ((p >= at) != (question.labels == 1)).astype(object)
            table[f"wrong_{question.name}"] = np.where(decided, np.where(wrong, "yes", "no"), "")
        return table


#: Figures whose failure is a warning; the others stand in the table.
_DECIDING = ("auc", "sensitivity", "specificity")


def _ends(metric: str, here: Estimate, scored: ScoredQuestion) -> tuple[float, float]:
    """The interval of a figure; the exact one, by groups of its class, where the bootstrap's is a point at 0 or 1."""
    if here.low < here.high or here.value not in (0.0, 1.0):
        return here.low, here.high
    of_class = {"sensitivity": scored.y == 1, "specificity": scored.y == 0}.get(metric, scored.y >= 0)
    bound = lower_bound_with_no_misses(len(np.unique(scored.groups[of_class])))
    return (bound, 1.0) if here.value else (0.0, 1 - bound)


def _compare(metric: str, ends: tuple[float, float], promised: float) -> str:
    """Whether the interval found here lies on the bad side of the promised value."""
    low, high = ends
    if not np.isfinite(low):
        return "no interval here"
    if low <= promised <= high:
        return "not told apart"
    better = (low > promised) != (metric in LOWER_IS_BETTER)
    return "better than promised" if better else "worse than promised"


def _doubts_of(question: str, first: Headline) -> list[str]:
    """What speaks against a grader by its headline."""
    auc = first.auc
    if not np.isfinite(auc.low):
        return [f"{question}: AUC {auc.value:.2f} has no interval: {auc.groups} groups are too few"]
    if auc.low <= 0.5:
        return [f"{question}: no better than chance here, AUC {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})"]
    if first.difference is not None and first.verdict != "above":
        return [
            f"{question}: {first.verdict} the {first.baseline}, which these photographs alone teach: difference "
            f"{first.difference.estimate.value:.2f} ({first.difference.estimate.low:.2f} to "
            f"{first.difference.estimate.high:.2f})"
        ]
    return []


def describe_bundle(card: Card) -> dict[str, Any]:
    """Who answered: name, making, training data, thresholds and the rule for eyes of a bundle."""
    rule: EyeDecision = card.eye_decision
    return {
        "name": card.name, "made": card.created.isoformat(), "recipe": card.recipe, "fundoscope": card.fundoscope,
        "trained_on": list(card.trained_on), "never_tested_on": list(card.never_tested_on), "stage2": card.stage2,
        "thresholds": {stage.name: stage.operating_point.threshold for stage in card.stages},
        "files": {name: file.sha256 for name, file in card.files.items()}, "eyes": rule.words,
    }  # fmt: skip
