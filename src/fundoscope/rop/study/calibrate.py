"""From the logits of every fold to calibrated out-of-fold probabilities, with each fold's own operating point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.cohort import Fold
from fundoscope.evaluation.decisions import OperatingPoint, Temperature, fit_temperature, target_sensitivity
from fundoscope.rop.recipes import Arm, Recipe
from fundoscope.rop.study.questions import Question
from fundoscope.rop.study.train import Task, predictions_of
from fundoscope.studies import Study


@dataclass(frozen=True)
class OutOfFold:
    """One arm's answers to one question on photographs it never saw.

    `p` (seeds, n) are probabilities, calibrated by each fold's inner photographs; `thresholds` (seeds, n) the
    operating point of the fold that tested the photograph; `variant` says what was done to the photographs.
    """

    arm: str
    variant: str
    p: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    def of(self, rows: NDArray[np.int64]) -> OutOfFold:
        """The answers on some of the photographs."""
        return OutOfFold(self.arm, self.variant, self.p[:, rows], self.thresholds[:, rows])


@dataclass(frozen=True)
class Settled:
    """What a fold's inner photographs settled: how logits become probabilities, and probabilities a decision."""

    temperature: Temperature
    point: OperatingPoint


@dataclass(frozen=True)
class InnerAnswers:
    """A fit's answers on the inner photographs of its fold: rows, and calibrated probabilities."""

    task: Task
    rows: NDArray[np.int64]
    p: NDArray[np.float64]


@dataclass(frozen=True)
class Fits:
    """The finished fits of a study: its folds and seeds, and where they lie."""

    study: Study
    recipe: Recipe
    folds: Sequence[Fold]
    seeds: int

    def tasks(self, arm: Arm, question: Question) -> Iterator[Task]:
        """Every fit of an arm for a question, seed by seed."""
        for seed in range(self.seeds):
            yield from (Task(self.recipe, arm, question.name, seed, fold) for fold in self.folds)

    def settled(self, task: Task, question: Question) -> Settled:
        """Temperature and operating point of one fit."""
        return settle(predictions_of(task, self.study), question, self.recipe.target_sensitivity)

    def inner(self, arm: Arm, question: Question) -> Iterator[InnerAnswers]:
        """What each fit says of all inner photographs of its fold, calibrated on those whose answer is known."""
        for task in self.tasks(arm, question):
            rows, logits = margins(predictions_of(task, self.study), "inner")
            yield InnerAnswers(task, rows, self.settled(task, question).temperature.probabilities(logits))

    def out_of_fold(self, arm: Arm, question: Question, variant: str = "plain") -> OutOfFold:
        """Every photograph's probability by the fold that held it out, for each seed.

        Temperature and threshold were settled on plain inner photographs, whatever the variant that is scored.
        """
        p, thresholds = np.full((2, self.seeds, len(question.labels)), np.nan)
        for task in self.tasks(arm, question):
            settled = self.settled(task, question)
            rows, logits = margins(predictions_of(task, self.study), "test", variant)
            p[task.seed, rows] = settled.temperature.probabilities(logits)
            thresholds[task.seed, rows] = settled.point.threshold
        return OutOfFold(arm.name, variant, p, thresholds)


def margins(frame: pd.DataFrame, part: str, variant: str = "plain") -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows, and the log-odds that the network gives them."""
    chosen = frame[(frame.part == part) & (frame.variant == variant)]
    return chosen.row.to_numpy(), (chosen.logit_1 - chosen.logit_0).to_numpy()


def settle(frame: pd.DataFrame, question: Question, target: float) -> Settled:
    """Temperature and operating point, from the inner photographs of one fit and from nothing else."""
    rows, logits = margins(frame, "inner")
    known = np.isin(rows, question.known(rows))
    labels, logits = question.labels[rows[known]], logits[known]
    temperature = fit_temperature(logits, labels)
    return Settled(temperature, target_sensitivity(labels, temperature.probabilities(logits), target))
