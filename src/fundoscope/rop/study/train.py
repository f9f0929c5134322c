"""One fit of a study: an arm, a question, a seed and a fold, from squares to logits of photographs it never saw."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fundoscope.cohort import Fold
from fundoscope.learning import DistillationPlan, Squares, distil, fit, predict_logits
from fundoscope.networks import Classifier, build
from fundoscope.rop.recipes import STUDENT, Arm, Recipe
from fundoscope.rop.study.data import Material
from fundoscope.rop.study.pretraining import rehearsed
from fundoscope.rop.study.questions import ROP, TREATMENT, Question
from fundoscope.studies import Study, write_json

PREDICTIONS = "predictions.parquet"
NETWORK = "network.safetensors"


@dataclass(frozen=True)
class Task:
    """What is fitted: the recipe, the arm, the question's name, the seed, and the fold."""

    recipe: Recipe
    arm: Arm
    question: str
    seed: int
    fold: Fold

    @property
    def step(self) -> str:
        """Its place in the study's folder."""
        return f"fits/{self.question}/{self.arm.name}/seed-{self.seed}/fold-{self.fold.number}"

    def by(self, arm: str) -> Task:
        """The same task for another arm."""
        return replace(self, arm=self.recipe.arm(arm))


def bare_network(recipe: Recipe, arm: Arm, seed: int = 0) -> Classifier:
    """An arm's network as it is built; equal seeds give equal weights."""
    torch.manual_seed(seed)
    pretrained = recipe.pretrained and arm.prepared
    return build(arm.network, pretrained=pretrained, size=recipe.standard.size, given=recipe.scaling)


def initial_network(task: Task, study: Study) -> Classifier:
    """The network before its first photograph: stage 2 starts from stage 1 of the same arm, seed and fold."""
    if task.question == TREATMENT:
        model = fitted_network(replace(task, question=ROP), study)
        freeze_shared(task.recipe, task.arm, model)
        return model
    model = bare_network(task.recipe, task.arm, task.seed)
    weights = rehearsed(task.recipe, task.arm, study)
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model


def freeze_shared(recipe: Recipe, arm: Arm, model: Classifier) -> None:
    """Keep the stages that a student's two questions share; others are free."""
    if recipe.shared_trunk and arm.network == recipe.student:
        model.freeze_trunk()


def fitted_network(task: Task, study: Study) -> Classifier:
    """The network of a finished fit, in eval mode."""
    model = bare_network(replace(task.recipe, pretrained=False), task.arm)
    model.load_state_dict(load_file(study.result(task.step) / NETWORK))
    return model.eval()


def run_task(task: Task, study: Study, material: Material) -> None:
    """Fit and predict, unless it is done; goes on from the last whole epoch when it was cut off.

    Nothing but the fold's own train and inner parts is looked at, by this network and by its teacher.
    """
    if study.done(task.step):
        return
    start = time.perf_counter()
    with study.step(task.step) as folder:
        question = material.question(task.question)
        model = _fitted(task, study, material, question, folder)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / NETWORK)
        (folder / "best.safetensors").unlink()
        parts = {"test": np.array(task.fold.test), "inner": np.array(task.fold.inner)}
        # controls are asked of the student alone: five variants for every arm would double the time of a study
        controlled = task.arm.name == STUDENT and task.question == ROP
        variants = material.variants if controlled else {"plain": material.squares}
        predict(model, variants, parts).to_parquet(folder / PREDICTIONS, index=False)
        write_json(folder / "fit.json", {"seconds": round(time.perf_counter() - start, 1), "seed": task.seed})


def _fitted(task: Task, study: Study, material: Material, question: Question, folder: Path) -> Classifier:
    squares = material.asked(question)
    train, inner = question.known(task.fold.train), question.known(task.fold.inner)
    model, options = initial_network(task, study), task.arm.fit
    if not task.arm.teacher:
        return fit(model, squares, train, inner, options, folder, task.seed)
    if task.arm.extended and material.simulated is not None:
        first = len(squares.labels)
        squares = squares.joined(material.simulated)
        train = np.concatenate([train, np.arange(first, len(squares.labels))])
    teacher = fitted_network(task.by(task.arm.teacher), study)
    cache = study.folder / "answers" / task.question / f"seed-{task.seed}" / f"fold-{task.fold.number}"
    lesson = DistillationPlan(teacher, squares, train, inner, cache)
    return distil(model, lesson, task.recipe.distillation, options, folder, task.seed)


def predict(model: Classifier, variants: Mapping[str, Squares], parts: Mapping[str, NDArray[np.int64]]) -> pd.DataFrame:
    """Logits of the rows of each part on each variant: row, part, variant, logit_0, logit_1."""
    frames = []
    for variant, squares in variants.items():
        for part, rows in parts.items():
            logits = predict_logits(model, squares.inputs(rows)).astype(float)
            columns = {"row": rows, "part": part, "variant": variant, "logit_0": logits[:, 0], "logit_1": logits[:, 1]}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def predictions_of(task: Task, study: Study) -> pd.DataFrame:
    """The logits of a finished fit: row, part (test, inner), variant, logit_0, logit_1."""
    return pd.read_parquet(study.result(task.step) / PREDICTIONS)


def epochs_of(task: Task, study: Study) -> Path:
    """The log of a finished fit."""
    return study.result(task.step) / "epochs.csv"


def in_order(arms: Iterable[Arm]) -> list[Arm]:
    """Teachers before those whom they teach."""
    return sorted(arms, key=lambda arm: bool(arm.teacher))
