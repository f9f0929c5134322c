"""Step 5, `fits/.../predictions.parquet`: the logits of every fit on photographs that it was not trained on.

Beside them `calibration.json`: the temperature and the operating point that the fold's inner photographs give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fundoscope.imaging.renderings import RENDERINGS
from fundoscope.learning import Squares
from fundoscope.learning.trainer import use_threads
from fundoscope.networks import Classifier
from fundoscope.rop.recipes import STUDENT, TEACHER
from fundoscope.rop.study.calibrate import (
    CALIBRATION,
    PREDICTIONS,
    calibrate_fold,
    deciding_variants,
    rendered_variant,
)
from fundoscope.rop.study.data import SCREENED, VARIANTS, StudyData
from fundoscope.rop.study.networks import labelled_squares, load_fitted_network, predict_rows
from fundoscope.rop.study.plan import FitTask, StudyPlan
from fundoscope.rop.study.questions import ROP
from fundoscope.runs.fits import carry_out_fits
from fundoscope.runs.workers import WorkItem
from fundoscope.studies import Progress


def predict_all(plan: StudyPlan, data: StudyData, progress: Progress) -> None:
    """Write the predictions and the calibration of every fit that has none."""
    waiting = [task for task in plan.all_tasks() if not (plan.study.result(task.step) / CALIBRATION).exists()]
    engine, items = plan.options.engine, (WorkItem(task.step, task) for task in waiting)
    work = PredictWork(plan, data, engine.threads_each(torch.get_num_threads()))
    for _ in progress.follow(carry_out_fits(engine, work, items, work.threads), len(waiting), "predicting"):
        pass


@dataclass(frozen=True)
class PredictWork:
    """Predicts and calibrates by one fit of a study after the other, on `threads` (0: as many as there are)."""

    plan: StudyPlan
    data: StudyData
    threads: int = 0

    def __call__(self, task: FitTask) -> str:
        """Write the predictions of a fit, then its calibration; returns the fit's step."""
        use_threads(self.threads)
        plan, data, question = self.plan, self.data, self.plan.question(task.question)
        folder = plan.study.result(task.step)
        model = load_fitted_network(task, plan.recipe, plan.study).to(memory_format=torch.channels_last)
        standard = plan.recipe.standard_of(task.arm)
        plain = labelled_squares(data, question, SCREENED, standard)
        squares = {VARIANTS[0]: plain} | {
            variant: labelled_squares(data, question, variant, standard) for variant in variants_of(task, data)[1:]
        }
        if plan.recipe.renderings is not None and task.arm.name != TEACHER:  # which never leaves a study
            squares |= {rendered_variant(name): plain.rendered(name) for name in RENDERINGS}
        parts = {"test": np.array(task.fold.test), "inner": np.array(task.fold.inner)}
        predictions = predict_parts(model, squares, parts)
        write_parquet(predictions, folder / PREDICTIONS)
        target = plan.recipe.decision.target_sensitivity
        variants = [variant for variant in deciding_variants(plan.recipe) if variant in squares]
        calibrate_fold(predictions, question, target, variants).write(folder / CALIBRATION)
        return task.step


def variants_of(task: FitTask, data: StudyData) -> tuple[str, ...]:
    """On which squares a fit is scored: five variants for every arm would double the time of a study."""
    return data.variants if task.arm.name == STUDENT and task.question == ROP else VARIANTS[:1]


def predict_parts(
    model: Classifier, variants: Mapping[str, Squares], parts: Mapping[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """Logits of the rows of each part on each variant: row, part, variant, logit_0, logit_1."""
    frames = []
    for variant, squares in variants.items():
        for part, rows in parts.items():
            logits = predict_rows(model, squares, rows)
            columns = {"row": rows, "part": part, "variant": variant, "logit_0": logits[:, 0], "logit_1": logits[:, 1]}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table beside `path`, then move it into place."""
    beside = path.with_name(path.name + ".part")
    frame.to_parquet(beside, index=False)
    beside.replace(path)
