"""Step 4, `fits/.../network.safetensors`: one network an arm, question, seed and fold; and `networks.csv`, what each costs.

A fit looks at nothing but its fold's own train and inner parts, and so does its teacher. It stops on the inner part, and
goes on from the last whole epoch when it was cut off.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fundoscope.learning import DistillationPlan, distil, fit
from fundoscope.learning.trainer import use_threads
from fundoscope.networks import Classifier
from fundoscope.networks.cost import measure_cost
from fundoscope.rop.recipes import RopRecipe, StudyArm
from fundoscope.rop.study.data import StudyData
from fundoscope.rop.study.networks import (
    WEIGHTS,
    arm_options,
    build_network,
    distillation_options,
    freeze_stages,
    labelled_squares,
    load_fitted_network,
)
from fundoscope.rop.study.plan import FitTask, StudyPlan
from fundoscope.rop.study.pretraining import pretrained_weights, read_simulated_eyes, simulated_eyes
from fundoscope.rop.study.questions import ROP, TREATMENT
from fundoscope.rop.study.results import NETWORKS
from fundoscope.runs.fits import carry_out_fits
from fundoscope.studies import Progress, Study, write_json


def train_all(plan: StudyPlan, data: StudyData, progress: Progress) -> None:
    """Fit every network of the study that is not fitted yet."""
    tasks = plan.all_tasks()
    waiting = [task for task in tasks if not plan.study.done(task.step)]
    progress.say(
        f"study: {plan.folder}  photographs: {len(plan.cohort)}  groups: {len(plan.groups)}  "
        f"fits: {len(tasks)}, {len(tasks) - len(waiting)} of them done"
    )
    write_costs(plan)
    if any(arm.extended for arm in plan.arms) and plan.recipe.pretraining is not None:
        simulated_eyes(plan.recipe, plan.study, progress)  # drawn before the fits that read them
    engine = plan.options.engine
    work = FitWork(plan, data, engine.threads_each(torch.get_num_threads()))
    lines = carry_out_fits(engine, work, map(plan.work_item, waiting), work.threads)
    for line in progress.follow(lines, len(waiting), "fitting"):
        progress.say(line)


@dataclass(frozen=True)
class FitWork:
    """Fits one network of a study after the other, on `threads` (0: as many as there are); travels to a worker as it is, since
    the squares lie on the disk.
    """

    plan: StudyPlan
    data: StudyData
    threads: int = 0

    def __call__(self, task: FitTask) -> str:
        """Carry out a fit, or go on with it; returns a line about it."""
        use_threads(self.threads)
        plan, start = self.plan, time.perf_counter()
        with plan.study.step(task.step) as folder:
            model = initial_network(task, plan.recipe, plan.study)
            frozen = model.describe_frozen()
            save_weights(self._fit(model, task, folder), folder)
            seconds = time.perf_counter() - start
            write_json(folder / "fit.json", {"seconds": round(seconds, 1), "seed": task.seed, "frozen": frozen})
        return f"{task.step}: {seconds:.1f} s"

    def _fit(self, model: Classifier, task: FitTask, folder: Path) -> Classifier:
        plan, question = self.plan, self.plan.question(task.question)
        squares = labelled_squares(self.data, question, standard=plan.recipe.standard_of(task.arm))
        train, inner = question.select_known(task.fold.train), question.select_known(task.fold.inner)
        options = arm_options(plan.recipe, task.arm, plan.options.tracker)
        if not task.arm.teacher:
            return fit(model, squares, train, inner, options, folder, task.seed)
        if task.arm.extended and plan.recipe.pretraining is not None:
            first = len(squares.labels)
            eyes = read_simulated_eyes(plan.recipe, plan.study)
            squares = squares.joined(eyes.first(plan.recipe.distillation.simulated))
            train = np.concatenate([train, np.arange(first, len(squares.labels))])
        teaching_arm = plan.recipe.arm(task.arm.teacher)
        teacher = load_fitted_network(task.with_arm(teaching_arm), plan.recipe, plan.study)
        cache = plan.folder / "teacher_logits" / task.question / f"seed-{task.seed}" / f"fold-{task.fold.number}"
        teaching = DistillationPlan(teacher, squares, train, inner, cache, plan.recipe.standard_of(teaching_arm))
        return distil(model, teaching, distillation_options(plan.recipe), options, folder, task.seed)


def initial_network(task: FitTask, recipe: RopRecipe, study: Study) -> Classifier:
    """The network before its first photograph: stage 2 starts from stage 1 of the same arm, seed and fold."""
    if task.question == TREATMENT:
        model = load_fitted_network(FitTask(task.arm, ROP, task.seed, task.fold), recipe, study)
        freeze_stages(recipe, task.arm, model, TREATMENT)
        return model
    model = build_network(recipe, task.arm, task.seed)
    weights = pretrained_weights(recipe, task.arm, study)
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model


def save_weights(model: Classifier, folder: Path) -> None:
    """Keep the weights of a finished fit in its folder, instead of the best ones so far."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    (folder / "best.safetensors").unlink(missing_ok=True)


def write_costs(plan: StudyPlan) -> None:
    """Write a row an arm: parameters and multiply-accumulates of its network at the recipe's size, how it begins, and which of
    its parts stay as they began in each question.
    """
    path, recipe = plan.folder / NETWORKS, plan.recipe
    if path.exists():
        return
    rows = []
    for arm in plan.arms:
        frozen = {}
        for stage, question in enumerate(plan.questions, 1):
            model = build_network(recipe, arm, empty=True)
            freeze_stages(recipe, arm, model, question.name)
            frozen[f"frozen in stage {stage}"] = model.describe_frozen()
        size = recipe.standard_of(arm).size
        cost = measure_cost(build_network(recipe, arm, empty=True), size)
        rows.append({
            "network": arm.name, "made of": arm.network, "parameters (M)": round(cost.parameters / 1e6, 2),
            "MACs (G)": round(cost.macs / 1e9, 3), "input": f"{size} x {size}", "head": "2 classes",
            "begins with": _beginning(recipe, arm), "learns from": arm.teacher or "labels",
            **frozen,
        })  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _beginning(recipe: RopRecipe, arm: StudyArm) -> str:
    if not arm.pretrained or not recipe.networks.pretrained:
        return "random weights"
    return "ImageNet, then simulated eyes" if recipe.starts_from_simulated_eyes(arm) else "ImageNet"
