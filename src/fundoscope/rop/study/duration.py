"""How long a training will take here, from a few steps of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from fundoscope.cohort import Folds
from fundoscope.learning import SQUARE, UNLABELLED
from fundoscope.rop.recipes import Arm, Recipe
from fundoscope.rop.study.questions import Question
from fundoscope.rop.study.train import bare_network


def seconds_a_photograph(recipe: Recipe, arm: Arm, steps: int = 2) -> float:
    """Seconds that one augmented photograph costs in training, by `steps` steps on noise after a warm-up."""
    model = bare_network(recipe, arm).train().to(memory_format=torch.channels_last)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(weights, 0.0)
    rng = np.random.default_rng(0)
    square = rng.integers(0, 255, (SQUARE, SQUARE, 3)).astype(np.uint8)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.perf_counter()
        inputs = [
            recipe.standard.tensor(recipe.standard.enhance(arm.fit.augment(square, rng))) for _ in range(arm.fit.batch)
        ]
        loss = model(torch.from_numpy(np.stack(inputs)).to(memory_format=torch.channels_last)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.perf_counter() - start) / (steps * arm.fit.batch)


def photographs_seen(arm: Arm, folds: Folds, questions: Sequence[Question]) -> int:
    """How many photographs an arm is shown at most in all its folds, both questions, one seed."""
    shown = 0
    for question in questions:
        for fold in folds:
            labels = question.labels[list(fold.train)]
            majority = int(np.bincount(labels[labels != UNLABELLED], minlength=2).max())
            inner = len(question.known(fold.inner)) // 3  # no gradient: about a third of the time
            shown += arm.fit.epochs * (2 * majority * (2 if arm.extended else 1) + inner)
    return shown
