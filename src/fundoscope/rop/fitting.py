"""One fit of a study: a network, a seed and a fold, from squares to logits of the photographs it never saw."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from fundoscope.cohort import Fold
from fundoscope.learning import Squares, fit, logits_of
from fundoscope.networks import Classifier, build
from fundoscope.rop.recipes import Recipe
from fundoscope.rop.rehearsal import step_of
from fundoscope.studies import Study, write_json

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Task:
    """What is fitted: the recipe with its network, the seed, and the fold."""

    recipe: Recipe
    seed: int
    fold: Fold

    @property
    def step(self) -> str:
        """Its place in the study's folder."""
        return f"fits/{self.recipe.network}/seed-{self.seed}/fold-{self.fold.number}"


def initial_network(recipe: Recipe, seed: int, study: Study) -> Classifier:
    """The recipe's network before it sees a real photograph; equal seeds give equal weights."""
    torch.manual_seed(seed)
    model = build(recipe.network)
    if recipe.rehearsal is not None:
        model.load_state_dict(load_file(study.result(step_of(recipe)) / "best.safetensors"))
    return model


def fitted_network(task: Task, study: Study) -> Classifier:
    """The network of a finished fit, in eval mode."""
    model = build(task.recipe.network)
    model.load_state_dict(load_file(study.result(task.step) / "best.safetensors"))
    return model.eval()


def run_task(task: Task, study: Study, variants: Mapping[str, Squares]) -> None:
    """Fit and predict, unless it is done; goes on from the last whole epoch when it was cut off.

    `variants` are the photographs as they are (`plain`, which alone is trained on) and under each control.
    """
    if study.done(task.step):
        return
    start = time.perf_counter()
    with study.step(task.step) as folder:
        model = initial_network(task.recipe, task.seed, study)
        train, inner = np.array(task.fold.train), np.array(task.fold.inner)
        model = fit(model, variants["plain"], train, inner, task.recipe.fit, folder, task.seed)
        predictions = _predict(model, variants, {"test": np.array(task.fold.test), "inner": inner})
        predictions.to_parquet(folder / PREDICTIONS, index=False)
        write_json(folder / "fit.json", {"seconds": round(time.perf_counter() - start, 1), "seed": task.seed})


def _predict(
    model: Classifier, variants: Mapping[str, Squares], parts: Mapping[str, NDArray[np.int64]]
) -> pd.DataFrame:
    frames = []
    for variant, squares in variants.items():
        for part, rows in parts.items():
            logits = logits_of(model, squares.inputs(rows)).astype(float)
            columns = {"row": rows, "part": part, "variant": variant, "logit_0": logits[:, 0], "logit_1": logits[:, 1]}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def predictions_of(task: Task, study: Study) -> pd.DataFrame:
    """The logits of a finished fit: row, part (test, inner), variant, logit_0, logit_1."""
    return pd.read_parquet(study.result(task.step) / PREDICTIONS)


def epochs_of(task: Task, study: Study) -> Path:
    """The log of a finished fit."""
    return study.result(task.step) / "epochs.csv"
