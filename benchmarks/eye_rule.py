"""What the rule for eyes does to whole infants, on the answers that the simulated study kept.

    python benchmarks/eye_rule.py

Reads docs/results/simulated_study/out_of_fold.csv (the student's answers) and scores two rules by eye and by infant: any view
at the photograph's own threshold, by which a bundle without a rule for eyes decides, and the rule that a study chooses on
eyes, measures and leaves on the card. An infant is suspected where one of its eyes is. Writes docs/results/eye_rule.csv, and
units_rop.csv and cascade.csv of the simulated study anew, by the study's own functions.

The file holds no inner answers, so each fold's rule is chosen here on what the other folds held out, as the rule of a bundle
is chosen on all of them; and it does not say which photographs screening would refuse, so all of them count. SIMULATED:
figures on the eyes of real infants do not exist, since the public photographs do not tell infants apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from fundoscope.cohort import Cohort, CohortRow
from fundoscope.evaluation import estimates, results_table
from fundoscope.evaluation.decisions import EyeRule
from fundoscope.rop.study.calibrate import FitInnerPredictions, OutOfFoldPredictions
from fundoscope.rop.study.clinic import score_cascade_by_unit, score_units
from fundoscope.rop.study.questions import ROP, TREATMENT, Question
from fundoscope.rop.study.units import UnitPredictions, cohort_eyes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
STUDY = RESULTS / "simulated_study"
ARM = "student"
TARGET = 0.9  # the sensitivity that the recipe `lite` asks for


@dataclass(frozen=True)
class KeptAnswers:
    """The student's answers to both questions, as `CalibratedPredictions` gives them; each fold has its own threshold."""

    tables: dict[str, pd.DataFrame]
    seeds: int = 1

    @classmethod
    def read(cls, path: Path) -> KeptAnswers:
        """The answers of an `out_of_fold.csv` of one seed."""
        table = pd.read_csv(path).query(f"network == '{ARM}' and variant == 'plain'")
        return cls({str(question): part.reset_index(drop=True) for question, part in table.groupby("question")})

    @property
    def tests(self) -> list[np.ndarray]:
        """The rows that each fold tested."""
        thresholds = self.tables[ROP].threshold.to_numpy()
        return [np.flatnonzero(thresholds == each) for each in np.unique(thresholds)]

    def out_of_fold(self, question: str, arm: str) -> OutOfFoldPredictions:
        """Every photograph's probability and threshold by the fold that held it out."""
        table = self.tables[question]
        return OutOfFoldPredictions(arm, "plain", table.p.to_numpy()[None], table.threshold.to_numpy()[None])

    def inner(self, question: str, arm: str) -> Iterator[FitInnerPredictions]:
        """What a fold's rule is chosen on: the answers that the other folds held out."""
        table = self.tables[question]
        for fold, test in enumerate(self.tests):
            rest = np.setdiff1d(np.arange(len(table)), test)
            yield FitInnerPredictions(0, fold, rest, table.p.to_numpy()[rest], float(table.threshold[test[0]]))


def study_of(answers: KeptAnswers) -> Any:
    """What the study's functions ask of a plan."""
    table = answers.tables[ROP]
    shown = [Path(name).stem.split("_")[:2] for name in table.image]
    rows = [
        CohortRow(row, name, Path(name), "rop" if label else "normal", infant=infant, eye=eye)
        for row, (name, label, (infant, eye)) in enumerate(zip(table.image, table.label, shown, strict=True))
    ]
    questions = [Question(name, answers.tables[name].label.to_numpy()) for name in (ROP, TREATMENT)]
    decision = SimpleNamespace(target_sensitivity=TARGET)
    return SimpleNamespace(
        cohort=Cohort(rows, "simulated_study"), questions=questions, group_numbers=table.group.to_numpy(),
        question=lambda name: next(each for each in questions if each.name == name),
        folds=[SimpleNamespace(test=test) for test in answers.tests], recipe=SimpleNamespace(decision=decision),
    )  # fmt: skip


def score_any_view(plan: Any, answers: KeptAnswers) -> list[dict[str, Any]]:
    """The figures by eye and by infant where any view decides at the photograph's threshold."""
    found, eyes = answers.out_of_fold(ROP, ARM), cohort_eyes(plan.cohort)
    thresholds = eyes.shared_values(found.thresholds).round(4)
    p = EyeRule("any", 0.5).probabilities(found.p, np.ones(len(plan.cohort), bool), eyes)
    by_eye = UnitPredictions(eyes, p, thresholds, ())
    rows = []
    for unit, each in {"eye": by_eye, "infant": by_eye.group_by([row.infant for row in plan.cohort])}.items():
        y, groups = each.units.any_positive(plan.question(ROP).labels), plan.group_numbers[each.units.first]
        rows.append({"unit": unit, **estimates(y, each.p, threshold=each.thresholds, groups=groups)})
    return rows


def main() -> None:
    answers = KeptAnswers.read(STUDY / "out_of_fold.csv")
    plan, everything = study_of(answers), np.ones(len(answers.tables[ROP]), bool)
    units, rules = score_units(plan, answers, ARM, everything)
    results_table(units, STUDY / "units_rop.csv")
    results_table(score_cascade_by_unit(plan, answers, ARM, everything), STUDY / "cascade.csv")
    named = [("any view at the photograph's threshold", row) for row in score_any_view(plan, answers)]
    named += [(f"measured and shipped: {rules.rpartition('rule ')[2]}", row) for row in units]
    columns = ("sensitivity", "specificity", "auc")
    rows = [{"rule": rule, "unit": row["unit"], **{name: row[name] for name in columns}} for rule, row in named]
    results_table(rows, RESULTS / "eye_rule.csv")
    for row in rows:
        print(f"{row['rule']:<45} {row['unit']:<11} sensitivity {row['sensitivity']}")
        print(f"{'':<45} {'':<11} specificity {row['specificity']}")


if __name__ == "__main__":
    main()
