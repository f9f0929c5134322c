"""From the logits of every fold to calibrated out-of-fold probabilities, with each fold's own operating point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.cohort import Fold
from fundoscope.evaluation.calibration import OperatingPoint, Temperature, fit_temperature, target_sensitivity
from fundoscope.rop.fitting import Task, predictions_of
from fundoscope.rop.recipes import Recipe
from fundoscope.studies import Study


@dataclass(frozen=True)
class OutOfFold:
    """One network's answers on photographs it never saw.

    `p` (seeds, n) are probabilities, calibrated by each fold's inner photographs; `thresholds` (seeds, n) the
    operating point of the fold that tested the photograph; `variant` says what was done to the photographs.
    """

    network: str
    variant: str
    p: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class Settled:
    """What a fold's inner photographs settled: how logits become probabilities, and probabilities a decision."""

    temperature: Temperature
    point: OperatingPoint


def margins(frame: pd.DataFrame, part: str, variant: str = "plain") -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows, and the log-odds that the network gives them."""
    chosen = frame[(frame.part == part) & (frame.variant == variant)]
    return chosen.row.to_numpy(), (chosen.logit_1 - chosen.logit_0).to_numpy()


def settle(frame: pd.DataFrame, labels: NDArray[np.int64], target: float) -> Settled:
    """Temperature and operating point, from the inner photographs of one fit and from nothing else."""
    rows, logits = margins(frame, "inner")
    temperature = fit_temperature(logits, labels[rows])
    return Settled(temperature, target_sensitivity(labels[rows], temperature.probabilities(logits), target))


def out_of_fold(
    study: Study, recipe: Recipe, folds: Sequence[Fold], seeds: int, labels: NDArray[np.int64], variant: str = "plain"
) -> OutOfFold:
    """Every photograph's probability by the fold that held it out, for each seed.

    Temperature and threshold were settled on plain inner photographs, whatever the variant that is scored.
    """
    p, thresholds = np.full((2, seeds, len(labels)), np.nan)
    for seed in range(seeds):
        for fold in folds:
            frame = predictions_of(Task(recipe, seed, fold), study)
            settled = settle(frame, labels, recipe.target_sensitivity)
            rows, logits = margins(frame, "test", variant)
            p[seed, rows] = settled.temperature.probabilities(logits)
            thresholds[seed, rows] = settled.point.threshold
    return OutOfFold(recipe.network, variant, p, thresholds)
