"""The dry run: what would be trained, and about how long it will take here, from a few steps of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from fundoscope.cohort import Fold
from fundoscope.errors import counted, in_time
from fundoscope.rop.recipes import RopRecipe, StudyArm
from fundoscope.rop.study.networks import arm_options, build_network
from fundoscope.rop.study.plan import StudyOptions, audit_study_cohort, divide, leave_cameras_out
from fundoscope.rop.study.questions import UNKNOWN, Question, answerable_questions
from fundoscope.studies import Progress


def estimate_duration(options: StudyOptions, progress: Progress) -> None:
    """Tell what would run, and about how long; two steps of each network are timed, and nothing is written."""
    cohort, groups = audit_study_cohort(options, progress)
    folds = divide(options, cohort, groups)
    questions, missing = answerable_questions(cohort, folds)
    progress.say(
        f"{counted(len(cohort), 'photograph')} ({int(cohort.labels.sum())} rop), {counted(len(groups), 'group')}: {groups.rule}"
    )
    progress.say(missing or "both questions: ROP, and whether it requires treatment")
    without_camera = list(leave_cameras_out(options, folds, cohort, progress).values())
    total = 0.0
    for arm in options.arms:
        seconds = seconds_per_photograph(options.recipe, arm)
        total += options.seeds * seconds * photographs_shown(arm, folds, questions)
        total += options.seeds * seconds * photographs_shown(arm, without_camera, questions[:1])
        progress.say(
            f"{arm.name} ({arm.network}): {counted(options.seeds, 'seed')} x {counted(options.folds, 'fold')} x at most "
            f"{counted(arm.fit.epochs, 'epoch')}, "
            f"{1000 * seconds:.0f} ms a photograph in training"
        )
    progress.say(f"on this machine at most: {in_time(total)}; nothing was trained")


def seconds_per_photograph(recipe: RopRecipe, arm: StudyArm, steps: int = 2) -> float:
    """Seconds that one augmented photograph costs in training, by `steps` steps on noise after a warm-up."""
    model = build_network(recipe, arm).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.0)
    options, standard = arm_options(recipe, arm), recipe.standard_of(arm)
    renderings = 2 if options.consistency else 1  # each view is shown in so many
    rng = np.random.default_rng(0)
    square = rng.integers(0, 255, (recipe.squares.side, recipe.squares.side, 3)).astype(np.uint8)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.perf_counter()
        views = range(arm.fit.batch * renderings)
        inputs = [standard.tensor(standard.enhance(options.augment(square, rng))) for _ in views]
        loss = model(torch.from_numpy(np.stack(inputs)).to(memory_format=torch.channels_last)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.perf_counter() - start) / (steps * arm.fit.batch)


def photographs_shown(arm: StudyArm, folds: Iterable[Fold], questions: Sequence[Question]) -> int:
    """How many photographs an arm is shown at most in all its folds, both questions, one seed."""
    shown = 0
    for question in questions:
        for fold in folds:
            labels = question.labels[list(fold.train)]
            majority = int(np.bincount(labels[labels != UNKNOWN], minlength=2).max())
            inner = len(question.select_known(fold.inner)) // 3  # no gradient: about a third of the time
            shown += arm.fit.epochs * (2 * majority * (2 if arm.extended else 1) + inner)
    return shown
