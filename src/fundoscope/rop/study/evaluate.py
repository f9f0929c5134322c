"""What a study found, figure by figure: each worked out once, for the report, the tables and the bundle's card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.bundles.card import CardFigure as CardFigure
from fundoscope.evaluation import Difference, Estimate, auc, difference, estimates, results_table
from fundoscope.evaluation.controls import (
    majority_baseline,
    mean_colour_baseline,
    nuisance_baseline,
    nuisance_table,
    vessel_baseline,
    vessel_table,
)
from fundoscope.imaging import Photograph
from fundoscope.rop.recipes import STUDENT, Arm
from fundoscope.rop.study.calibrate import Fits, OutOfFold
from fundoscope.rop.study.data import VARIANTS, Material
from fundoscope.rop.study.export import card_figure, inner_log_loss, int8_answers
from fundoscope.rop.study.questions import ROP, Question

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """One question as it is scored: the `rows` whose answer is known, their labels `y`, their `groups`, and the arms'
    answers on just these.
    """

    question: Question
    rows: Rows
    y: Rows
    groups: Rows
    answers: dict[str, OutOfFold]
    reference: str

    @property
    def ours(self) -> OutOfFold:
        """The arm against which all others are set: the student, where there is one."""
        return self.answers[self.reference]

    def estimates(self, p: Scores, threshold: Any = 0.5) -> dict[Any, Estimate]:
        """Every metric with its interval."""
        return estimates(self.y, p, threshold=threshold, groups=self.groups)

    def minus(self, first: OutOfFold, second: OutOfFold, metric: str = "auc") -> Difference:
        """First less second, paired, each at its own thresholds."""
        return difference(
            self.y, first.p, second.p, metric, thresholds=(first.thresholds, second.thresholds), groups=self.groups,
            names=(first.arm, second.arm),
        )  # fmt: skip


class Assessment:
    """The figures of a finished study, each computed once.

    `exported` is the arm that inner data chose to leave in a bundle.
    """

    def __init__(
        self, fits: Fits, material: Material, arms: Sequence[Arm], exported: Arm,
        prevalences: Sequence[float] = (), shuffles: int = 0,
    ) -> None:  # fmt: skip
        self.fits, self.material, self.arms, self.exported = fits, material, arms, exported
        self.prevalences, self.shuffles = prevalences, shuffles
        self.groups = np.array(material.groups.numbers)
        self.pairs = [(np.array([*fold.train, *fold.inner]), np.array(fold.test)) for fold in fits.folds]

    @cached_property
    def asked(self) -> list[Asked]:
        """Each question with what every arm answered out of fold."""
        return [self._asked(question) for question in self.material.questions]

    def _asked(self, question: Question) -> Asked:
        rows = question.known(tuple(range(len(question.labels))))
        answers = {arm.name: self.fits.out_of_fold(arm, question).of(rows) for arm in self.arms}
        reference = STUDENT if STUDENT in answers else self.exported.name
        return Asked(question, rows, question.labels[rows], self.groups[rows], answers, reference)

    @property
    def first(self) -> Asked:
        """Normal or ROP."""
        return self.asked[0]

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    @cached_property
    def nuisance(self) -> OutOfFold:
        """The nuisance baseline on the photographs as they are."""
        return self._nuisance(self.material.photographs, "nuisance")

    @cached_property
    def nuisance_alike(self) -> OutOfFold:
        """The same on photographs with one field mask, one colour distribution and one encoding."""
        alike = [Photograph(pixels, "alike", 0, "array") for pixels in self.material.variants["all"].pixels]
        return self._nuisance(alike, "nuisance on photographs made alike")

    def _nuisance(self, photographs: Sequence[Photograph], name: str) -> OutOfFold:
        p = nuisance_baseline(nuisance_table(photographs), self.first.y, self.pairs, self.groups).p
        return OutOfFold(name, "plain", p[None], np.full((1, len(p)), 0.5))

    def results(self, asked: Asked) -> list[dict[str, Any]]:
        """A row an arm and a baseline, with every metric and its interval."""
        rows = [{"grader": name, **asked.estimates(a.p, a.thresholds)} for name, a in asked.answers.items()]
        return rows + [{"grader": name, **asked.estimates(p)} for name, p in self.baselines(asked).items()]

    def baselines(self, asked: Asked) -> dict[str, Scores]:
        """What must be beaten, out of fold: probabilities on the question's own photographs."""
        inside = np.full(len(self.groups), -1)
        inside[asked.rows] = np.arange(len(asked.rows))
        pairs = [tuple(inside[part][inside[part] >= 0] for part in pair) for pair in self.pairs]
        constant = {"majority class": majority_baseline(asked.y, pairs).p}
        photographs = [self.material.photographs[row] for row in asked.rows.tolist()]
        if asked.question.name != ROP:
            vessels = vessel_baseline(vessel_table(photographs), asked.y, pairs, asked.groups).p
            return {"vessel width and tortuosity": vessels, **constant}
        colour = mean_colour_baseline(photographs, asked.y, pairs, asked.groups).p
        return {"nuisance baseline": self.nuisance.p[0], "mean colour": colour, **constant}

    def differences(self, asked: Asked) -> list[dict[str, Any]]:
        """Each other arm less the reference, paired on the same photographs."""
        named = ("auc", "accuracy", "sensitivity", "specificity")
        return [
            {"grader": name, **{f"{m} minus {asked.reference}": asked.minus(answers, asked.ours, m) for m in named}}
            for name, answers in asked.answers.items()
            if name != asked.reference
        ]

    @cached_property
    def controls(self) -> dict[str, OutOfFold]:
        """The student's answers on every variant; only the plain ones where no student was trained."""
        question, name = self.first.question, self.first.reference
        variants = VARIANTS if name == STUDENT else VARIANTS[:1]
        return {variant: self.fits.out_of_fold(self.arm(name), question, variant) for variant in variants}

    @cached_property
    def under_controls(self) -> list[dict[str, Any]]:
        """AUC on each variant, and how far it stays above the nuisance baseline on the photographs as they are."""
        return [
            {
                "photographs": _VARIANT_WORDS[variant],
                "auc": self.first.estimates(answers.p)["auc"],
                "minus nuisance": self.first.minus(answers, self.nuisance),
                "minus nuisance, alike": self.first.minus(answers, self.nuisance_alike),
            }
            for variant, answers in self.controls.items()
        ]

    @cached_property
    def int8_rows(self) -> list[dict[str, Any]]:
        """INT8 against fp32, fold by fold and in all: AUC of both, and decisions that change."""
        frame, labels = int8_answers(self.fits), self.first.question.labels
        rows = [_int8_row(f"fold {fold}", part, labels) for fold, part in frame.groupby("fold")]
        return [*rows, _int8_row("all", frame, labels)]

    def card_figures(self) -> list[CardFigure]:
        """What the bundle's card says of the recipe."""
        figures = []
        for asked in self.asked:
            answers = asked.answers[self.exported.name]
            found = asked.estimates(answers.p, answers.thresholds)
            on = (
                f"{len(asked.y)} photographs, out of fold ({len(self.fits.folds)} folds, {self.fits.seeds} seeds, "
                "recipe not this very network)"
            )
            before = "" if asked.question.name == ROP else f"{asked.question.name}: "
            names = ("auc", "sensitivity", "specificity", "accuracy", "brier", "ece")
            figures += [card_figure(before + name, found[name], on) for name in names]
            if asked.question.name == ROP:
                figures.append(
                    card_figure("auc of the nuisance baseline", asked.estimates(self.nuisance.p[0])["auc"], on)
                )
        return figures

    def lines(self) -> list[str]:
        """The figures that a person waits for."""
        told = []
        for asked in self.asked:
            told += [f"{asked.question.name:<10} {row['grader']:<28} AUC {row['auc']}" for row in self.results(asked)]
        alike, last = self.controls.get("all"), self.int8_rows[-1]
        told.append(f"minus nuisance             {self.first.minus(self.first.ours, self.nuisance)}")
        if alike is not None:
            told.append(f"photographs made alike     AUC {self.first.estimates(alike.p)['auc']}")
            told.append(f"  minus nuisance           {self.first.minus(alike, self.nuisance)}")
        told.append(
            f"INT8 of {self.exported.name}: AUC {last['auc fp32']:.3f} -> {last['auc int8']:.3f}, "
            f"{last['decisions changed']} of {last['n']} decisions change"
        )
        return told

    @property
    def inner_losses(self) -> list[dict[str, object]]:
        """By what arms are chosen: their log loss on inner photographs, a row a question and arm."""
        return [
            {
                "question": q.name,
                "network": arm.name,
                "log loss on inner photographs": inner_log_loss(self.fits, arm, q),
            }
            for q in self.material.questions
            for arm in self.arms
        ]

    def write_tables(self, tables: Path) -> None:
        """Write every table as CSV into the folder `tables`, the out-of-fold answers among them."""
        for asked in self.asked:
            name = asked.question.name
            results_table(self.results(asked), tables / f"results_{name}.csv")
            if len(asked.answers) > 1:
                results_table(self.differences(asked), tables / f"differences_{name}.csv")
        results_table(self.inner_losses, tables / "inner.csv")
        results_table(self.under_controls, tables / "controls.csv")
        results_table(self.int8_rows, tables / "int8.csv")
        results_table(self.material.folds.table(self.material.cohort), tables / "folds.csv")
        self.out_of_fold_table().to_csv(tables / "out_of_fold.csv", index=False)

    def out_of_fold_table(self) -> pd.DataFrame:
        """Every photograph's answer by every arm and seed to every question, and the student's on every variant."""
        frames = []
        for question in self.material.questions:
            for arm in self.arms:
                frames += self._frames(question, self.fits.out_of_fold(arm, question))
        for variant, answers in self.controls.items():
            if variant != "plain":
                frames += self._frames(self.first.question, answers)
        return pd.concat(frames, ignore_index=True)

    def _frames(self, question: Question, answers: OutOfFold) -> list[pd.DataFrame]:
        images = [record.image for record in self.material.cohort]
        known = {
            "question": question.name, "network": answers.arm, "variant": answers.variant, "image": images,
            "label": question.labels, "group": self.groups,
        }  # fmt: skip
        return [
            pd.DataFrame(known | {"seed": seed, "p": p.round(6), "threshold": thresholds.round(6)})
            for seed, (p, thresholds) in enumerate(zip(answers.p, answers.thresholds, strict=True))
        ]


_VARIANT_WORDS = {
    "plain": "as they are",
    "field": "one field mask for all",
    "colour": "one colour distribution for all",
    "encoding": "one encoding for all",
    "all": "field, colour and encoding alike",
}


def _int8_row(name: str, frame: pd.DataFrame, labels: Rows) -> dict[str, Any]:
    y = labels[frame.row.to_numpy()]
    flips = (frame.fp32 >= frame.threshold) != (frame.int8 >= frame.threshold)
    return {
        "part": name, "n": len(frame), "auc fp32": auc(y, frame.fp32), "auc int8": auc(y, frame.int8),
        "decisions changed": int(flips.sum()), "largest change of p": float((frame.fp32 - frame.int8).abs().max()),
    }  # fmt: skip
