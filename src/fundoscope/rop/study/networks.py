"""From a recipe's numbers to torch: an arm's network, the options of its fit, its squares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from fundoscope.errors import UsageError, nearest
from fundoscope.imaging import Standard
from fundoscope.learning import (
    Augment,
    Distillation,
    FitOptions,
    HintonLoss,
    LogitRegressionLoss,
    Squares,
    predict_logits,
)
from fundoscope.networks import BODY_NAMES, Classifier, Scaling, build
from fundoscope.rop.recipes import ARM_NAMES, TEACHER, FitNumbers, RenderingNumbers, RopRecipe, StudyArm
from fundoscope.rop.study.data import StudyData
from fundoscope.rop.study.plan import FitTask
from fundoscope.rop.study.questions import ROP, TREATMENT, Question
from fundoscope.studies import Study

WEIGHTS = "network.safetensors"
_CHUNK = 256  # photographs whose input is held at once: a multiple of the batch


def check_networks(recipe: RopRecipe, arms: list[StudyArm]) -> None:
    """Raise `UsageError` naming the nearest for an arm that is neither one of the recipe's nor a known network."""
    own = (recipe.networks.teacher, recipe.networks.student)
    for arm in arms:
        if arm.network not in (*own, *BODY_NAMES):
            raise UsageError(
                f"There is no network '{arm.name}' to train: {nearest(arm.name, (*ARM_NAMES, *BODY_NAMES))}"
            )


def fit_options(numbers: FitNumbers, tracker: str = "csv", renderings: RenderingNumbers | None = None) -> FitOptions:
    """A fit's options in `learning`'s terms; views are rendered as often as `renderings` say."""
    augment = Augment(**numbers.augment.model_dump(), rendering=renderings.augmentation if renderings else 0.0)
    return FitOptions(**numbers.model_dump(exclude={"augment"}), augment=augment, tracker=tracker)


def arm_options(recipe: RopRecipe, arm: StudyArm, tracker: str = "csv") -> FitOptions:
    """The options of an arm's fit: a student, taught or alone, also learns to answer two renderings of a view alike."""
    options = fit_options(arm.fit, tracker, recipe.renderings)
    if recipe.renderings is None or arm.name == TEACHER:
        return options
    return replace(options, consistency=recipe.renderings.consistency)


def distillation_options(recipe: RopRecipe) -> Distillation:
    """How a student learns, in `learning`'s terms."""
    numbers = recipe.distillation
    loss = LogitRegressionLoss(numbers.share)
    if numbers.loss == "hinton":
        loss = HintonLoss(temperature=numbers.temperature, alpha=numbers.alpha)
    return Distillation(loss, views=numbers.views, hint=numbers.hint, turned_copies=numbers.turned_copies)


def build_network(recipe: RopRecipe, arm: StudyArm, seed: int = 0, empty: bool = False) -> Classifier:
    """An arm's network before any training; equal seeds give equal weights. `empty`: its weights will be loaded."""
    torch.manual_seed(seed)
    pretrained = recipe.networks.pretrained and arm.pretrained
    given = Scaling(recipe.standard.mean, recipe.standard.deviation)
    model = build(
        arm.network, pretrained=pretrained and not empty, size=recipe.standard_of(arm).size, input_scaling=given,
        fusion_relu=recipe.networks.fusion_relu,
    )  # fmt: skip
    if not empty:
        freeze_stages(recipe, arm, model, ROP)
    return model


def freeze_stages(recipe: RopRecipe, arm: StudyArm, model: Classifier, question: str) -> None:
    """Keep the stages of an arm's network that the recipe keeps while it learns one question.

    What began with ImageNet's weights keeps its `frozen_stages` in both questions; in the second the student keeps what it
    shares with the first, too. `Classifier.describe_frozen` says what that was.
    """
    numbers = recipe.networks
    if numbers.pretrained and arm.pretrained:
        model.freeze_stages(numbers.frozen_stages)
    if question == TREATMENT and numbers.shared_trunk and arm.network == numbers.student:
        model.freeze_trunk()


def load_fitted_network(task: FitTask, recipe: RopRecipe, study: Study) -> Classifier:
    """The network of a finished fit, in eval mode."""
    model = build_network(recipe, task.arm, empty=True)
    model.load_state_dict(load_file(study.result(task.step) / WEIGHTS))
    return model.eval()


def labelled_squares(
    data: StudyData, question: Question, variant: str = "plain", standard: Standard | None = None
) -> Squares:
    """The squares of one variant, labelled with the answers to one question; `standard` is a network's own, if not the study's."""
    standard = standard or data.standard
    return Squares(data.pixels(variant, standard.size), question.labels, standard)


def predict_rows(model: Classifier, squares: Squares, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits (len(rows), 2) of the photographs as they are, a few hundred inputs in memory at a time."""
    parts = [predict_logits(model, squares.inputs(rows[at : at + _CHUNK])) for at in range(0, len(rows), _CHUNK)]
    return np.concatenate(parts).astype(float)
