"""Step 7, `calibrated.parquet`: the logits of all fits, read once, with each fold's temperature and threshold applied.

    question, arm, seed, fold, part, variant, precision, row, logit_0, logit_1, probability, threshold

`part` is test, inner, or `OTHER_CAMERA`: tested by the fit that never saw the photograph's camera; `variant` what was done to the photographs; `precision` torch, or what the exported bundle of the
fold answered in fp32 and int8. `row` counts the photographs of the cohort from 0. Whatever is scored or drawn later comes
from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.evaluation.decisions import OperatingPoint, Temperature, fit_temperature, worst_target_sensitivity
from fundoscope.imaging.renderings import RENDERINGS
from fundoscope.rop.recipes import RopRecipe
from fundoscope.rop.study.plan import FitTask, StudyPlan
from fundoscope.rop.study.questions import ROP, Question
from fundoscope.studies import write_json

PREDICTIONS, CALIBRATION, CALIBRATED = "predictions.parquet", "calibration.json", "calibrated.parquet"

#: The part of photographs by a camera that a fit never saw.
OTHER_CAMERA = "other camera"

#: Folder of what a fold's exported bundle answers, within the study's; its arm is in the predictions.
INT8_STEP = "int8/fold-{}"

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class FoldCalibration:
    """How the logits of one fit become probabilities, and probabilities a decision."""

    temperature: Temperature
    point: OperatingPoint

    @classmethod
    def read(cls, path: Path) -> FoldCalibration:
        """The calibration that `write` kept."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(Temperature(**values["temperature"]), OperatingPoint(**values["operating_point"]))

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        write_json(path, {"temperature": asdict(self.temperature), "operating_point": asdict(self.point)})


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """One arm's predictions on photographs that it never saw.

    `p` (seeds, n) are probabilities, calibrated by each fold's inner photographs; `thresholds` (seeds, n) the operating
    point of the fold that tested the photograph; `variant` says what was done to the photographs.
    """

    arm: str
    variant: str
    p: Scores
    thresholds: Scores

    def select_rows(self, rows: Rows) -> OutOfFoldPredictions:
        """The predictions on some of the photographs."""
        return OutOfFoldPredictions(self.arm, self.variant, self.p[:, rows], self.thresholds[:, rows])


@dataclass(frozen=True)
class FitInnerPredictions:
    """One fit's calibrated probabilities `p` of the inner photographs `rows` of its fold, and its threshold."""

    seed: int
    fold: int
    rows: Rows
    p: Scores
    threshold: float


def calibrate_fold(
    predictions: pd.DataFrame, question: Question, target: float, variants: Sequence[str] = ("plain",)
) -> FoldCalibration:
    """Temperature and operating point of one fit, from its known inner photographs and from nothing else.

    `predictions` has the columns row, part, variant, logit_0, logit_1; `target` is the sensitivity to reach. The temperature is
    that of the first of the `variants`, the photographs as they are; the point keeps the target on the worst of them.
    """
    inner = predictions[(predictions.part == "inner") & predictions.row.isin(question.known_rows)]
    by_variant = {}
    for variant in variants:
        own = inner[inner.variant == variant]
        by_variant[variant] = (question.labels[own.row.to_numpy()], (own.logit_1 - own.logit_0).to_numpy())
    labels, log_odds = by_variant[variants[0]]
    temperature = fit_temperature(log_odds, labels)
    scored = {name: (y, temperature.probabilities(odds)) for name, (y, odds) in by_variant.items()}
    return FoldCalibration(temperature, worst_target_sensitivity(scored, target))


def rendered_variant(name: str) -> str:
    """What a rendering's predictions are called in the column `variant`."""
    return f"rendered: {name}"


def deciding_variants(recipe: RopRecipe) -> tuple[str, ...]:
    """On which variants of inner photographs thresholds are chosen: as they are, and rendered where the recipe says so."""
    chosen = recipe.renderings is not None and recipe.renderings.worst_operating_point
    return ("plain", *(rendered_variant(name) for name in (RENDERINGS if chosen else ())))


def calibrated_predictions(plan: StudyPlan, task: FitTask) -> pd.DataFrame:
    """The predictions of one fit with their probabilities and its threshold."""
    folder = plan.study.result(task.step)
    calibration = FoldCalibration.read(folder / CALIBRATION)
    frame = pd.read_parquet(folder / PREDICTIONS)
    probability = calibration.temperature.probabilities((frame.logit_1 - frame.logit_0).to_numpy())
    return frame.assign(
        question=task.question, arm=task.arm.name, seed=task.seed, fold=task.fold.number, precision="torch",
        probability=probability, threshold=calibration.point.threshold,
    )  # fmt: skip


def calibrate_all(plan: StudyPlan) -> Path:
    """Write `calibrated.parquet` from the predictions of all fits and of the exported folds; returns its path."""
    path = plan.folder / CALIBRATED
    if path.exists():
        return path
    frames = [calibrated_predictions(plan, task) for task in plan.tasks()]
    for (
        task
    ) in plan.camera_tasks():  # their inner photographs are tested by other fits: only the left-out camera counts
        found = calibrated_predictions(plan, task)
        frames.append(found[found.part == "test"].assign(part=OTHER_CAMERA))
    for fold in plan.folds:
        exported = pd.read_parquet(plan.study.result(INT8_STEP.format(fold.number)) / PREDICTIONS)
        frames.append(exported.assign(question=ROP, seed=0, fold=fold.number, part="test", variant="plain"))
    columns = ["question", "arm", "seed", "fold", "part", "variant", "precision", "row"]
    table = pd.concat(frames, ignore_index=True)[[*columns, "logit_0", "logit_1", "probability", "threshold"]]
    beside = path.with_name(path.name + ".part")
    table.to_parquet(beside, index=False)
    beside.replace(path)
    return path


class CalibratedPredictions:
    """The rows of `calibrated.parquet`, as the arrays that evaluation takes.

    `precision` says whose answers are scored: the networks as they were trained, or a bundle's in fp32 or int8; `exported`
    are the others.
    """

    def __init__(self, table: pd.DataFrame, seeds: int, n: int, precision: str = "torch") -> None:
        self.seeds, self.n = seeds, n
        self.exported = table[table.precision != precision]
        fitted = table[table.precision == precision]
        self._tables = dict(iter(fitted.groupby(["question", "arm", "part", "variant"], sort=False)))

    @classmethod
    def read(cls, plan: StudyPlan) -> CalibratedPredictions:
        """The predictions of a study whose calibration is done."""
        return cls(pd.read_parquet(plan.folder / CALIBRATED), plan.options.seeds, len(plan.cohort))

    def out_of_fold(self, question: str, arm: str, variant: str = "plain", part: str = "test") -> OutOfFoldPredictions:
        """Every photograph's probability by the fold that held it out, for each seed; as part `OTHER_CAMERA` by the fit that
        left out its camera, nan where there is none.

        Temperature and threshold come from inner photographs, whatever the variant that is scored.
        """
        table = self._tables[question, arm, part, variant]
        p, thresholds = np.full((2, self.seeds, self.n), np.nan)
        p[table.seed, table.row], thresholds[table.seed, table.row] = table.probability, table.threshold
        return OutOfFoldPredictions(arm, variant, p, thresholds)

    def tested(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Of every network of one seed its name, and what it tested as it is: `row` and `fold`, a row an answer."""
        for (question, arm, part, variant), table in self._tables.items():
            if (part, variant) == ("test", "plain"):
                for seed, answers in table.groupby("seed"):
                    yield f"{question}, {arm}, seed {seed}", answers[["row", "fold"]]

    def inner(self, question: str, arm: str) -> Iterator[FitInnerPredictions]:
        """Each fit's probabilities of all inner photographs of its fold."""
        for (seed, fold), table in self._tables[question, arm, "inner", "plain"].groupby(["seed", "fold"], sort=False):
            rows, p = table.row.to_numpy(), table.probability.to_numpy()
            yield FitInnerPredictions(int(seed), int(fold), rows, p, float(table.threshold.iloc[0]))

    def deciding_variants(self, question: str, arm: str, recipe: RopRecipe) -> list[str]:
        """Those of the recipe's `deciding_variants` on which an arm answered a question."""
        return [each for each in deciding_variants(recipe) if (question, arm, "test", each) in self._tables]

    def pooled_logits(self, question: str, arm: str, variant: str = "plain") -> tuple[Rows, Scores]:
        """Rows and log-odds of all photographs that the fits of an arm held out, one fit after the other."""
        table = self._tables[question, arm, "test", variant]
        return table.row.to_numpy(), (table.logit_1 - table.logit_0).to_numpy()

    def inner_log_loss(self, question: Question, arm: str) -> float:
        """Mean log loss of an arm on the inner photographs of all folds and seeds: by this, arms are chosen."""
        inner = list(self.inner(question.name, arm))
        return log_loss(question, [each.rows for each in inner], [each.p for each in inner])


def mean_probabilities(rows: Rows, p: Scores) -> tuple[Rows, Scores]:
    """Each photograph once, and the mean of its probabilities: `rows` and `p` (m,) hold it once a seed."""
    photographs, codes = np.unique(rows, return_inverse=True)
    return photographs, np.bincount(codes, weights=p) / np.bincount(codes)


def log_loss(question: Question, rows: list[Rows], p: list[Scores]) -> float:
    """Mean log loss of probabilities `p` of the photographs `rows`, fit by fit."""
    every, scores = np.concatenate(rows), np.concatenate(p)
    of_truth = np.where(question.labels[every] == 1, scores, 1 - scores)
    return float(-np.log(np.clip(of_truth, 1e-6, None)).mean())
