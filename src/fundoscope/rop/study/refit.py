"""The network that leaves a study: trained on every photograph, taught by the networks of all folds, in one bundle.

No photograph is left to stop on or to choose a threshold on: the number of epochs is the median over the fits of the
outer folds, and temperature and operating point come from those fits' answers on photographs they held out.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fundoscope.bundles.card import CardFigure, Stage
from fundoscope.bundles.write import write_bundle
from fundoscope.evaluation.decisions import fit_temperature, target_sensitivity
from fundoscope.learning import DistillationPlan, FitOptions, distil, fit
from fundoscope.networks import Classifier
from fundoscope.rop.recipes import Arm
from fundoscope.rop.study.calibrate import Fits, Settled
from fundoscope.rop.study.data import Material
from fundoscope.rop.study.export import Origin, card_of, pooled_answers, stage_of
from fundoscope.rop.study.pretraining import rehearsed
from fundoscope.rop.study.questions import ROP, TREATMENT, Question
from fundoscope.rop.study.simulated_treatment import SecondStage, second_of_simulated
from fundoscope.rop.study.train import NETWORK, bare_network, epochs_of, fitted_network, freeze_shared
from fundoscope.studies import Progress, write_json

_NOTHING = np.array([], np.int64)


class Ensemble(nn.Module):
    """The mean of several networks' logits: what the folds know together."""

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        return torch.stack([member(x) for member in self.members]).mean(0)


@dataclass(frozen=True)
class Final:
    """The training on everything: which fits it rests on, the arm that leaves, and the photographs."""

    fits: Fits
    arm: Arm
    material: Material

    def network(self, question: str) -> Classifier:
        """The finished network of one question."""
        model = bare_network(replace(self.fits.recipe, pretrained=False), self.arm)
        model.load_state_dict(load_file(self.fits.study.result(f"final/{question}") / NETWORK))
        return model.eval()

    def train(self, question: Question) -> None:
        """Train on every photograph whose answer is known, unless that is done."""
        study, step = self.fits.study, f"final/{question.name}"
        if study.done(step):
            return
        with study.step(step) as folder:
            options = self._options(question)
            squares, rows = self.material.asked(question), question.known(tuple(range(len(question.labels))))
            model = self._initial(question.name)
            if self.arm.teacher:
                lesson = DistillationPlan(
                    self._teacher(question), squares, rows, _NOTHING, study.folder / "answers" / "final"
                )
                how = replace(self.fits.recipe.distillation, hint=0.0)  # an ensemble has no one map to imitate
                model = distil(model, lesson, how, options, folder, seed=0)
            else:
                model = fit(model, squares, rows, _NOTHING, options, folder, seed=0)
            keep(model, folder)
            write_json(folder / "final.json", {"epochs": options.epochs, "photographs": len(rows)})

    def settled(self, question: Question) -> Settled:
        """Temperature and operating point from out-of-fold answers."""
        tasks = list(self.fits.tasks(self.arm, question))
        rows, logits = pooled_answers(self.fits, tasks)
        known = np.isin(rows, question.known(rows))
        return settled_on(rows[known], logits[known], question.labels, self.fits.recipe.target_sensitivity)

    def _options(self, question: Question) -> FitOptions:
        tasks = self.fits.tasks(self.arm, question)
        epochs = int(np.median([best_epoch(epochs_of(task, self.fits.study)) for task in tasks])) + 1
        return replace(self.arm.fit, epochs=max(epochs, self.arm.fit.epochs // 2))

    def _initial(self, question: str) -> Classifier:
        recipe = self.fits.recipe
        if question == TREATMENT:
            model = self.network(ROP)
            freeze_shared(recipe, self.arm, model)
            return model
        model = bare_network(recipe, self.arm)
        if weights := rehearsed(recipe, self.arm, self.fits.study):
            model.load_state_dict(load_file(weights))
        return model

    def _teacher(self, question: Question) -> nn.Module:
        teacher = self.fits.recipe.arm(self.arm.teacher)
        tasks = [task for task in self.fits.tasks(teacher, question) if task.seed == 0]
        return Ensemble([fitted_network(task, self.fits.study) for task in tasks])


def final_bundle(
    fits: Fits, arm: Arm, material: Material, origin: Origin, figures: Sequence[CardFigure], voice: Progress
) -> Path:
    """Train on everything and write the bundle `origin.name`, unless that is done; returns its folder.

    The second stage is learnt from the cohort where it can be, else from simulated eyes where the recipe has them.
    """
    study, final = fits.study, Final(fits, arm, material)
    for question in material.questions:
        final.train(question)
    if study.done("bundle"):
        return study.result("bundle") / origin.name
    first = stage_of(ROP, final.settled(material.question(ROP)), "out-of-fold answers on the training photographs")
    second = _second(final, voice)
    stages: list[Stage] = [first, *([second.stage] if second else [])]
    card = card_of(origin, fits.recipe, range(fits.seeds), stages, [*figures, *(second.figures if second else ())])
    card = card.model_copy(update={"stage2": second.source if second else "none"})
    models = [final.network(ROP), *([second.network] if second else [])]
    inputs = material.squares.inputs(np.arange(len(material.cohort)))
    with study.step("bundle") as folder:
        write_bundle(
            models, card, calibration=inputs, check=inputs, out=folder / origin.name,
            labels=material.squares.labels, keep_fp32=False, say=voice.say,
        )  # fmt: skip
    return study.result("bundle") / origin.name


def _second(final: Final, voice: Progress) -> SecondStage | None:
    fits, material = final.fits, final.material
    if any(question.name == TREATMENT for question in material.questions):
        question = material.question(TREATMENT)
        stage = stage_of(TREATMENT, final.settled(question), "out-of-fold answers on the training photographs")
        return SecondStage(final.network(TREATMENT), stage, "real")
    if fits.recipe.rehearsal is None:
        return None
    return second_of_simulated(fits, final.arm, final.network(ROP), voice)


def keep(model: Classifier, folder: Path) -> None:
    """Put the weights of a finished training into its folder."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / NETWORK)
    (folder / "best.safetensors").unlink()


def best_epoch(log: Path) -> int:
    """The epoch with the lowest inner loss."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return int(min(rows, key=lambda row: float(row["inner_loss"]))["epoch"])


def settled_on(
    rows: NDArray[np.int64], logits: NDArray[np.float64], labels: NDArray[np.int64], target: float
) -> Settled:
    """Temperature over all answers, and the operating point of each photograph's mean over its answers."""
    temperature = fit_temperature(logits, labels[rows])
    each = np.unique(rows)
    mean = np.array([temperature.probabilities(logits[rows == row]).mean() for row in each])
    return Settled(temperature, target_sensitivity(labels[each], mean, target))
