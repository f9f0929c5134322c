"""Step 9, `results.json` and `tables/`: every figure of the study, each computed once, with its n and interval.

Arrays in, dataclasses out: it reads `calibrated.parquet`, the measures of the photographs, the cohort's table and the folds.
No network runs here and nothing is drawn.
"""

from __future__ import annotations

import csv
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.bundles.card import describe_doubts
from fundoscope.evaluation import auc, results_table
from fundoscope.evaluation.controls import NotMade, make_or_say_why, predict_out_of_fold
from fundoscope.findings import counted
from fundoscope.rop.recipes import STUDENT, TEACHER
from fundoscope.rop.study.calibrate import (
    CALIBRATED,
    CalibratedPredictions,
    FitInnerPredictions,
    OutOfFoldPredictions,
)
from fundoscope.rop.study.cameras import MOVED, score_cameras, score_other_camera, score_renderings, worst_renderings
from fundoscope.rop.study.clinic import (
    AbstentionResult,
    score_abstention,
    score_cascade_by_unit,
    score_operating_points,
    score_units,
)
from fundoscope.rop.study.cohort_evaluation import (
    NOT_MADE,
    CohortEvaluation,
    baseline_predictions,
    camera_flags,
    describe_headline,
    row_of,
    score_baselines,
)
from fundoscope.rop.study.data import VARIANTS, StudyData
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.questions import ROP, Question
from fundoscope.rop.study.results import (
    NETWORKS,
    RESULTS,
    SHUFFLED,
    Row,
    Sample,
    StudyResults,
    as_plain,
    card_figures,
    read_results,
)
from fundoscope.rop.study.sample import check_division, count_infants
from fundoscope.rop.study.scored_question import ScoredQuestion, cameras_of

#: What each variant of the photographs is called in tables.
VARIANT_WORDS = {
    "plain": "as they are",
    "field": "one field mask for all",
    "colour": "one colour distribution for all",
    "encoding": "one encoding for all",
    "all": "field, colour and encoding alike",
}
_CARD_METRICS = ("auc", "sensitivity", "specificity", "accuracy", "brier", "ece")

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


def evaluate_study(plan: StudyPlan, data: StudyData) -> dict[str, Any]:
    """Write `results.json` and `tables/` unless they are there for these options; returns the values of `results.json`."""
    if not _is_done(plan):
        evaluation = Evaluation(plan, data, CalibratedPredictions.read(plan))
        tables = plan.folder / "tables"
        evaluation.write_tables(tables)
        evaluation.results().write(plan.folder / RESULTS)
    return read_results(plan.folder)


def _is_done(plan: StudyPlan) -> bool:
    """Whether results stand there that are not older than what they are made of, for the same prevalences."""
    path, shuffled = plan.folder / RESULTS, plan.folder / SHUFFLED
    sources = [plan.folder / CALIBRATED, *([shuffled] if shuffled.exists() else [])]
    if not path.exists() or any(source.stat().st_mtime_ns > path.stat().st_mtime_ns for source in sources):
        return False
    return read_results(plan.folder)["prevalences"] == list(plan.options.prevalences)


class Evaluation(CohortEvaluation):
    """The figures of a study, each computed once."""

    def __init__(self, plan: StudyPlan, data: StudyData, predictions: CalibratedPredictions) -> None:
        super().__init__(plan.cohort, str(predictions.exported.arm.iloc[0]), plan.options.prevalences)
        self.plan, self.data, self.predictions = plan, data, predictions

    @cached_property
    def graded(self) -> Flags:
        """Which photographs screening grades, (n,)."""
        return self.data.graded()

    @cached_property
    def questions(self) -> list[ScoredQuestion]:
        """Each question with what every arm predicts out of fold."""
        return [self._scored(question) for question in self.plan.questions]

    def _scored(self, question: Question) -> ScoredQuestion:
        rows = question.known_rows
        predictions = {
            arm.name: self.predictions.out_of_fold(question.name, arm.name).select_rows(rows) for arm in self.plan.arms
        }
        reference = STUDENT if STUDENT in predictions else self.exported
        return ScoredQuestion(
            question, rows, question.labels[rows], self.plan.group_numbers[rows], predictions, reference,
            cameras_of(self.cohort, rows),
        )  # fmt: skip

    @cached_property
    def _baselines(self) -> dict[str, dict[str, Scores | NotMade]]:
        """The baselines of every question, by its name."""
        n = len(self.cohort)
        return {
            each.question.name: score_baselines(each, self.plan.fold_rows, self.data.measures, n)
            for each in self.questions
        }

    def baselines(self, scored: ScoredQuestion) -> dict[str, Scores | NotMade]:
        """What must be beaten, on the study's own folds."""
        return self._baselines[scored.question.name]

    @cached_property
    def nuisance(self) -> OutOfFoldPredictions | NotMade:
        """The nuisance baseline on the photographs as they are."""
        return baseline_predictions("nuisance", self.baselines(self.questions[0])["nuisance baseline"])

    @cached_property
    def nuisance_alike(self) -> OutOfFoldPredictions | NotMade:
        """The same on photographs with one field mask, one colour distribution and one encoding."""
        if missing := self.data.not_made.get("all"):
            return missing
        first, table = self.questions[0], self.data.measures("alike")
        if first.cameras is not None:
            table = np.column_stack([table, camera_flags(first.cameras)])
        found = make_or_say_why(
            lambda: predict_out_of_fold(table, first.y, self.plan.fold_rows, self.plan.group_numbers).p
        )
        return baseline_predictions("nuisance on photographs made alike", found)

    def _inner(self, scored: ScoredQuestion) -> list[FitInnerPredictions]:
        """What each fit of the reference knew when it chose."""
        return list(self.predictions.inner(scored.question.name, scored.reference))

    def abstention(self, scored: ScoredQuestion) -> AbstentionResult:
        """What the folds' bands of doubt leave."""
        return score_abstention(scored, self._inner(scored), self.plan.folds, self.plan.recipe.decision.maximum_errors)

    def operating_points(self, scored: ScoredQuestion) -> list[Row]:
        """A row a target sensitivity: the thresholds that inner photographs chose."""
        return score_operating_points(scored, self._inner(scored), self.plan.folds)

    @cached_property
    def controls(self) -> list[Row]:
        """AUC of the student on each variant, and how far it stays above the nuisance baseline; as they are, without one.

        A variant or a baseline that the photographs do not allow has a row that says why.
        """
        first, rows = self.questions[0], []
        against = {"minus nuisance": self.nuisance, "minus nuisance, alike": self.nuisance_alike}
        for each in self.on_variants:
            gaps = {
                name: None if isinstance(nuisance, NotMade) else first.difference(each, nuisance)
                for name, nuisance in against.items()
            }
            rows.append({
                "photographs": VARIANT_WORDS[each.variant], "auc": first.estimates(each.p)["auc"], **gaps,
            })  # fmt: skip
        missing = {VARIANT_WORDS[variant]: found for variant, found in self.data.not_made.items()}
        missing |= {f"({name})": found for name, found in against.items() if isinstance(found, NotMade)}
        return rows + [{"photographs": name, NOT_MADE: found.why} for name, found in missing.items()]

    @cached_property
    def on_variants(self) -> list[OutOfFoldPredictions]:
        """The student's predictions on every variant; only the plain ones where no student was trained."""
        first = self.questions[0]
        variants = self.data.variants if first.reference == STUDENT else VARIANTS[:1]
        return [self.predictions.out_of_fold(ROP, first.reference, variant) for variant in variants]

    @cached_property
    def int8(self) -> list[Row]:
        """INT8 against fp32, fold by fold and in all: AUC of both, and decisions that change."""
        columns = ["row", "fold", "threshold"]
        table = self.predictions.exported.pivot(index=columns, columns="precision", values="probability").reset_index()
        labels = self.questions[0].question.labels
        rows = [_int8_row(f"fold {fold}", part, labels) for fold, part in table.groupby("fold")]
        rows.append(_int8_row("all", table.sort_values("row"), labels))
        return [row | {"network": self.exported, "seed": 0} for row in rows]

    @cached_property
    def inner_log_losses(self) -> list[Row]:
        """By what arms are chosen: their log loss on inner photographs, a row a question and arm."""
        return [
            {
                "question": question.name,
                "network": arm.name,
                "log loss on inner photographs": self.predictions.inner_log_loss(question, arm.name),
            }
            for question in self.plan.questions
            for arm in self.plan.arms
        ]

    @cached_property
    def units(self) -> tuple[list[Row], str]:
        """Stage 1 of the exported network by photograph, eye, exam and infant; and the folds' rules for eyes, in words."""
        return score_units(self.plan, self.predictions, self.exported, self.graded)

    @cached_property
    def cascade(self) -> list[Row]:
        """Both stages in a row, by each unit; empty where one question is asked."""
        return score_cascade_by_unit(self.plan, self.predictions, self.exported, self.graded)

    @cached_property
    def cameras(self) -> list[Row]:
        """Each network and the nuisance baseline by camera; empty where the table tells none apart."""
        beside = {} if isinstance(self.nuisance, NotMade) else {"nuisance baseline": self.nuisance}
        return score_cameras(self.questions[0], beside)

    @cached_property
    def other_camera(self) -> list[Row]:
        """Each network on the camera that it never saw; empty where the table tells none apart."""
        return score_other_camera(self.questions[0], self.predictions, list(self.plan.camera_folds))

    @cached_property
    def renderings(self) -> list[Row]:
        """The exported network on every rendering; empty where the recipe has none."""
        if self.plan.recipe.renderings is None or self.exported == TEACHER:
            return []
        return score_renderings(self.questions[0], self.predictions, self.exported)

    def results(self) -> StudyResults:
        """All figures."""
        plan, shuffled = self.plan, self.plan.folder / SHUFFLED
        rows, rules = self.units
        return StudyResults(
            summary=self.summary(), exported=self.exported, seeds=plan.options.seeds, prevalences=list(plan.options.prevalences),
            sample=self.sample(), networks=read_csv(plan.folder / NETWORKS), questions=self.question_results,
            inner_log_losses=self.inner_log_losses, controls=self.controls, int8=self.int8, units=rows,
            unit_rules=rules, cascade=self.cascade, subgroups=self.subgroups,
            predictive_values=self.predictive_values,
            shuffled_labels=json.loads(shuffled.read_text(encoding="utf-8")) if shuffled.exists() else None,
            card=self.card_figures, doubts=self.doubts, cameras=self.cameras, other_camera=self.other_camera,
            renderings=self.renderings,
        )  # fmt: skip

    def sample(self) -> Sample:
        """Whose photographs these are, and how they were divided."""
        plan = self.plan
        infants = len({record.infant for record in plan.cohort}) if plan.cohort.has_infants else None
        return Sample(
            photographs=len(plan.cohort), rop=int(plan.cohort.labels.sum()), infants=infants, groups=len(plan.groups),
            groups_rule=plan.groups.rule, partition=plan.folds.check_partition(), missing_question=plan.missing_question,
            checks=check_division(plan.folds, plan.group_numbers, self.predictions.tested()),
            folds=plan.folds.table(plan.cohort), histograms=count_infants(plan.cohort),
        )  # fmt: skip

    @cached_property
    def card_figures(self) -> list[Row]:
        """What the bundle's card says of the recipe: name, estimate, and what it was measured on.

        Figures are of the photographs that screening grades, and of the eyes; where screening refuses some, the AUC with
        these stands beside them.
        """
        plan, figures = self.plan, []
        how = f"out of fold ({len(plan.folds)} folds, {counted(plan.options.seeds, 'seed')}, recipe not this very network)"
        how += "; AUC of pairs by one camera" if self.cohort.cameras else ""
        for found in self.question_results:
            before = "" if found.name == ROP else f"{found.name}: "
            row = row_of(found.graders, self.exported)
            decidable = found.refused and np.isfinite(row_of(found.graded, self.exported)["auc"].value)
            rows, gate = (found.graded, " that screening grades") if decidable else (found.graders, "")
            own, on = row_of(rows, self.exported), f"{row_of(rows, self.exported)['auc'].n} photographs{gate}, {how}"
            figures += [{"name": before + metric, "estimate": own[metric], "on": on} for metric in _CARD_METRICS]
            if decidable:
                on_all = f"{row['auc'].n} photographs, those that screening refuses too, {how}"
                figures.append({"name": f"{before}auc with refused ones", "estimate": row["auc"], "on": on_all})
            if found.name == ROP and NOT_MADE not in (nuisance := row_of(rows, "nuisance baseline")):
                figures.append({"name": "auc of the nuisance baseline", "estimate": nuisance["auc"], "on": on})
        for row in self.units[0]:
            if row["unit"] in ("eye", "infant"):
                on = f"{row['auc'].n} {row['unit']}s, {how}"
                figures += [
                    {"name": f"{row['unit']}: {metric}", "estimate": row[metric], "on": on}
                    for metric in ("sensitivity", "specificity") if np.isfinite(row[metric].value)
                ]  # fmt: skip
        return figures + self._camera_figures(how)

    def _camera_figures(self, how: str) -> list[Row]:
        """What the card says of each camera, of cameras that were left out, and of the worst renderings."""
        figures = []
        for row in self.cameras:
            if row["grader"] == self.exported and row["photographs"] in self.cohort.cameras:
                on = f"{row['auc'].n} photographs by {row['photographs']}, {how}"
                figures += [
                    (f"{row['photographs']}: {name}", row[name], on) for name in ("auc", "sensitivity", "specificity")
                ]
        for row in self.other_camera:
            if row["network"] == self.exported:
                on = f"{row['auc'].n} photographs by {row['tested on']}, networks that learnt from {row['learnt from']} alone"
                before = f"{row['tested on']} never seen"
                figures += [(f"{before}: {name}", row[name], on) for name in ("auc", "sensitivity", "specificity")]
        if self.renderings:
            for figure, row in worst_renderings(self.renderings).items():
                on = f"photographs rendered '{row['rendering']}', the worst of {len(self.renderings) - 1} renderings, {how}"
                figures.append((f"worst rendering: {figure}", row[figure], on))
        return [{"name": name, "estimate": each, "on": on} for name, each, on in figures]

    @cached_property
    def doubts(self) -> list[str]:
        """What speaks against using the exported network, a sentence each."""
        return list(describe_doubts(card_figures(as_plain(self.card_figures))).values())

    def summary(self) -> list[str]:
        """The figures that a person waits for, a line each."""
        lines = [line for found in self.question_results for line in describe_headline(found)]
        lines += [f"WARNING: {doubt}" for doubt in self.doubts]
        lines += [
            f"{found.name:<10} {row['grader']:<28} "
            + (f"{NOT_MADE}: {row[NOT_MADE]}" if NOT_MADE in row else f"AUC {row['auc']}")
            for found in self.question_results
            for row in found.graders
        ]
        lines += self._camera_lines()
        last = self.int8[-1]
        for row in self.controls:
            if NOT_MADE in row:
                lines.append(f"{row['photographs']}: {NOT_MADE}: {row[NOT_MADE]}")
            elif row["photographs"] in (VARIANT_WORDS["plain"], VARIANT_WORDS["all"]):
                lines.append(f"{row['photographs']:<27}AUC {row['auc']}")
                lines.append(f"  minus nuisance           {row['minus nuisance']}")
        lines.append(
            f"INT8 of {self.exported}: AUC {last['auc fp32']:.3f} -> {last['auc int8']:.3f}, "
            f"{last['decisions changed']} of {last['n']} decisions change"
        )
        return lines

    def _camera_lines(self) -> list[str]:
        """What is said of cameras and renderings, a line each."""
        lines = [
            f"{row['photographs']:<27}AUC {row['auc']}; sensitivity {row['sensitivity'].value:.3f}, "
            f"specificity {row['specificity'].value:.3f}"
            for row in self.cameras if row["grader"] == self.exported
        ]  # fmt: skip
        lines += [
            f"{row['network']} learnt from {row['learnt from']} alone, on {row['tested on']}: AUC {row['auc']}; sensitivity "
            f"{row['sensitivity'].value:.3f}, specificity {row['specificity'].value:.3f}"
            for row in self.other_camera
        ]
        if self.renderings:
            worst = worst_renderings(self.renderings)
            low, most = worst["auc"], worst[MOVED]
            lines.append(
                f"worst of {len(self.renderings) - 1} renderings: '{low['rendering']}' AUC {low['auc'].value:.3f} (as they are "
                f"{self.renderings[0]['auc'].value:.3f}); '{most['rendering']}' changes {most[MOVED].value:.1%} of decisions"
            )
        return lines

    def write_tables(self, tables: Path) -> None:
        """Write every table as CSV into the folder `tables`, the points of curves and the out-of-fold predictions among them."""
        self.write_question_tables(tables)
        named = {
            "inner": self.inner_log_losses, "controls": self.controls, "int8": self.int8, "units_rop": self.units[0],
            "folds": self.plan.folds.table(self.plan.cohort), "cascade": self.cascade, "subgroups": self.subgroups,
            "predictive_values": self.predictive_values, "cameras": self.cameras, "other_camera": self.other_camera,
            "renderings": self.renderings,
        }  # fmt: skip
        for name, rows in named.items():
            if rows:
                results_table(rows, tables / f"{name}.csv")
        self.out_of_fold_table().to_csv(tables / "out_of_fold.csv", index=False)

    def out_of_fold_table(self) -> pd.DataFrame:
        """Every photograph's probability by every arm and seed for every question, and the student's on every variant."""
        frames = []
        for question in self.plan.questions:
            for arm in self.plan.arms:
                frames += self._frames(question, self.predictions.out_of_fold(question.name, arm.name))
        for each in self.on_variants[1:]:
            frames += self._frames(self.plan.questions[0], each)
        return pd.concat(frames, ignore_index=True)

    def _frames(self, question: Question, predictions: OutOfFoldPredictions) -> list[pd.DataFrame]:
        images = [record.image for record in self.plan.cohort]
        known = {
            "question": question.name, "network": predictions.arm, "variant": predictions.variant, "image": images,
            "label": question.labels, "group": self.plan.group_numbers,
        }  # fmt: skip
        return [
            pd.DataFrame(known | {"seed": seed, "p": p.round(6), "threshold": thresholds.round(6)})
            for seed, (p, thresholds) in enumerate(zip(predictions.p, predictions.thresholds, strict=True))
        ]


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV table, numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell


def _int8_row(name: str, table: pd.DataFrame, labels: Rows) -> Row:
    y = labels[table.row.to_numpy()]
    flips = (table.fp32 >= table.threshold) != (table.int8 >= table.threshold)
    return {
        "part": name, "n": len(table), "auc fp32": auc(y, table.fp32), "auc int8": auc(y, table.int8),
        "decisions changed": int(flips.sum()), "largest change of p": float((table.fp32 - table.int8).abs().max()),
    }  # fmt: skip
