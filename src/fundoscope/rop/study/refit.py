"""Step 12, `refit/` and `bundle/`: the network that ships, trained on every photograph, in one bundle.

No photograph is left to stop on or to choose a threshold on: the number of epochs is the median of the best epochs of the
outer folds' fits, but at least a share of the recipe's (`refit.minimum_epochs_share`); temperature and operating point come
from those fits' predictions on photographs they held out. A student is taught by the teachers of all folds together, or by the
bundle that the recipe names (`refit.teacher`): its card then says what that bundle learnt from.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from fundoscope.bundles import Bundle, open_bundle
from fundoscope.bundles.card import Stage
from fundoscope.bundles.golden import add_golden
from fundoscope.bundles.training_hashes import write_training_hashes
from fundoscope.bundles.write import write_bundle
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.evaluation.controls import NotMade, make_or_say_why
from fundoscope.evaluation.decisions import fit_temperature, worst_target_sensitivity
from fundoscope.imaging import Standard
from fundoscope.learning import DistillationPlan, FitOptions, distil, fit
from fundoscope.networks import Classifier
from fundoscope.rop.recipes import StudyArm
from fundoscope.rop.screening.likeness import write_likeness
from fundoscope.rop.study.calibrate import CalibratedPredictions, FoldCalibration, mean_probabilities
from fundoscope.rop.study.data import SCREENED, StudyData
from fundoscope.rop.study.export import bundle_card, card_stage
from fundoscope.rop.study.networks import (
    WEIGHTS,
    arm_options,
    build_network,
    distillation_options,
    freeze_stages,
    labelled_squares,
    load_fitted_network,
)
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.pretraining import pretrained_weights
from fundoscope.rop.study.questions import ROP, TREATMENT, Question
from fundoscope.rop.study.results import card_figures
from fundoscope.rop.study.simulated_treatment import SecondStage, learn_from_simulated_eyes
from fundoscope.rop.study.train import save_weights
from fundoscope.rop.study.units import shipped_eye_rule
from fundoscope.studies import Progress, write_json

_NO_ROWS = np.array([], np.int64)
_DATA = "out-of-fold answers on the training photographs"


class Ensemble(nn.Module):
    """Networks whose logits are averaged: what the folds know together."""

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        return torch.stack([member(x) for member in self.members]).mean(0)


class BundleTeacher(nn.Module):
    """The network of a bundle as a teacher: input as the bundle's standard makes it -> logits (N, 2), as its file gives them."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.bundle = bundle
        (network,) = (file for name, file in bundle.card.files.items() if name == f"model.{bundle.precision}.onnx")
        # whoever keeps this network's answers tells it by its weights from others
        self.register_buffer("file", torch.frombuffer(bytearray.fromhex(network.sha256), dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        return torch.from_numpy(self.bundle.run(x.float().cpu().numpy())[0]).to(x.device)


def refit_for_export(plan: StudyPlan, data: StudyData, results: Mapping[str, Any], progress: Progress) -> Path:
    """Train the exported arm on everything and write the bundle, unless that is done; returns the bundle's folder.

    The second stage is learnt from the cohort where it can be, else from simulated eyes where the recipe has them. The
    card's figures are those of `results.json`.
    """
    refit = Refit(plan, data, plan.arm(results["exported"]))
    for question in plan.questions:
        refit.train(question)
    name = plan.origin.name
    if plan.study.done("bundle"):
        return plan.study.result("bundle") / name
    first = card_stage(ROP, refit.calibration(plan.question(ROP)), _DATA)
    second = _second_stage(refit, progress)
    stages: list[Stage] = [first, *([second.stage] if second else [])]
    figures = [*card_figures(results["card"]), *(second.figures if second else ())]
    card = bundle_card(plan.origin, plan.recipe, range(plan.options.seeds), stages, figures)
    eyes = shipped_eye_rule(plan, refit.arm.name, first, data.graded())
    card = card.model_copy(update={"stage2": second.source if second else "none", "eyes": eyes, **refit.taught_by()})
    models = [refit.network(ROP), *([second.network] if second else [])]
    squares = labelled_squares(data, plan.question(ROP), SCREENED)
    inputs = squares.inputs(np.arange(len(plan.cohort)))
    with plan.study.step("bundle") as folder:
        write_bundle(
            models, card, calibration=inputs, check=inputs, out=folder / name, labels=squares.labels, keep_fp32=False,
            say=progress.say,
        )  # fmt: skip
        write_training_hashes(folder / name, PhotographHashes.of_photographs(plan.cohort.paths))
        groups = plan.groups.numbers.tolist()
        reference = make_or_say_why(lambda: write_likeness(folder / name, plan.cohort.paths, groups))
        if isinstance(reference, NotMade):
            progress.say(f"what the bundle's photographs look like: {reference}")
        add_golden(folder / name)
    return plan.study.result("bundle") / name


@dataclass(frozen=True)
class Refit:
    """The training of one arm on every photograph of a study."""

    plan: StudyPlan
    data: StudyData
    arm: StudyArm

    def network(self, question: str) -> Classifier:
        """The finished network of one question."""
        model = build_network(self.plan.recipe, self.arm, empty=True)
        model.load_state_dict(load_file(self.plan.study.result(f"refit/{question}") / WEIGHTS))
        return model.eval()

    def train(self, question: Question) -> None:
        """Train on every photograph whose answer is known, unless that is done."""
        study, step = self.plan.study, f"refit/{question.name}"
        if study.done(step):
            return
        with study.step(step) as folder:
            options, rows = self._options(question), question.known_rows
            squares = labelled_squares(self.data, question, standard=self.plan.recipe.standard_of(self.arm))
            model = self._initial_network(question.name)
            frozen = model.describe_frozen()
            if self.arm.teacher:
                teacher, standard = self._teacher(question)
                teaching = DistillationPlan(
                    teacher, squares, rows, _NO_ROWS, self.plan.folder / "teacher_logits" / "refit", standard
                )
                distillation = replace(
                    distillation_options(self.plan.recipe), hint=0.0
                )  # an ensemble has no one map to imitate
                model = distil(model, teaching, distillation, options, folder, seed=0)
            else:
                model = fit(model, squares, rows, _NO_ROWS, options, folder, seed=0)
            save_weights(model, folder)
            write_json(folder / "refit.json", {"epochs": options.epochs, "photographs": len(rows), "frozen": frozen})

    def taught_by(self) -> dict[str, tuple[str, ...]]:
        """The card's `trained_on`, where a bundle taught: with that bundle, and what it had learnt from."""
        name = self.plan.recipe.refit.teacher
        if not name or not self.arm.teacher:
            return {}
        card = open_bundle(name).card
        learnt = "; ".join(each for each in card.trained_on if each not in self.plan.origin.trained_on)
        told = f"answers of the bundle '{card.name}' of {card.created} to these photographs"
        return {
            "trained_on": (*self.plan.origin.trained_on, told + (f", which learnt from: {learnt}" if learnt else ""))
        }

    def calibration(self, question: Question) -> FoldCalibration:
        """Temperature and operating point from out-of-fold predictions."""
        predictions, found = CalibratedPredictions.read(self.plan), {}
        for variant in predictions.deciding_variants(question.name, self.arm.name, self.plan.recipe):
            rows, log_odds = predictions.pooled_logits(question.name, self.arm.name, variant)
            known = np.isin(rows, question.known_rows)
            found[variant] = (rows[known], log_odds[known])
        return calibrate_pooled(found, question.labels, self.plan.recipe.decision.target_sensitivity)

    def _options(self, question: Question) -> FitOptions:
        """The arm's fit for the number of epochs that the folds' fits suggest."""
        tasks = self.plan.tasks_of(self.arm, question.name)
        best = [best_epoch(self.plan.study.result(task.step) / "epochs.csv") for task in tasks]
        epochs = epochs_without_stopping(best, self.arm.fit.epochs, self.plan.recipe.refit.minimum_epochs_share)
        return replace(arm_options(self.plan.recipe, self.arm, self.plan.options.tracker), epochs=epochs)

    def _initial_network(self, question: str) -> Classifier:
        recipe = self.plan.recipe
        if question == TREATMENT:
            model = self.network(ROP)
            freeze_stages(recipe, self.arm, model, TREATMENT)
            return model
        model = build_network(recipe, self.arm)
        if weights := pretrained_weights(recipe, self.arm, self.plan.study):
            model.load_state_dict(load_file(weights))
        return model

    def _teacher(self, question: Question) -> tuple[nn.Module, Standard]:
        """Who teaches, and what it looks at: for the first question the bundle that the recipe names, if it names one."""
        recipe = self.plan.recipe
        if recipe.refit.teacher and question.name == ROP:
            bundle = open_bundle(recipe.refit.teacher)
            return BundleTeacher(bundle), bundle.card.standard
        teacher = recipe.arm(self.arm.teacher)
        tasks = [task for task in self.plan.tasks_of(teacher, question.name) if task.seed == 0]
        members = [load_fitted_network(task, recipe, self.plan.study) for task in tasks]
        return Ensemble(members), recipe.standard_of(teacher)


def _second_stage(refit: Refit, progress: Progress) -> SecondStage | None:
    plan = refit.plan
    if any(question.name == TREATMENT for question in plan.questions):
        stage = card_stage(TREATMENT, refit.calibration(plan.question(TREATMENT)), _DATA)
        return SecondStage(refit.network(TREATMENT), stage, "real")
    if plan.recipe.pretraining is None or not plan.options.simulated_stage:
        return None
    return learn_from_simulated_eyes(plan, refit.arm, refit.network(ROP), progress)


def epochs_without_stopping(best: Sequence[int], most: int, least_share: float) -> int:
    """How long to train where nothing can stop a fit: the median of the folds' `best` epochs, counted from 0, but at least
    `least_share` of the `most` epochs of the recipe. The share guards against folds whose small inner part stopped them at once.
    """
    return max(int(np.median(best)) + 1, int(most * least_share))


def best_epoch(log: Path) -> int:
    """The epoch with the lowest inner loss."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return int(min(rows, key=lambda row: float(row["inner_loss"]))["epoch"])


def calibrate_pooled(
    predictions: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]], labels: NDArray[np.int64], target: float
) -> FoldCalibration:
    """Temperature over all predictions, and the operating point of each photograph's mean over its predictions.

    `predictions` have by variant, the photographs as they are first, `rows` and `log_odds` (m,), a photograph once a seed; the
    temperature is that of the first, the point that of the worst. `labels` (n,) are those of the cohort; `target` is the
    sensitivity to reach.
    """
    rows, log_odds = next(iter(predictions.values()))
    temperature, means = fit_temperature(log_odds, labels[rows]), {}
    for variant, (own, odds) in predictions.items():
        photographs, mean = mean_probabilities(own, temperature.probabilities(odds))
        means[variant] = (labels[photographs], mean)
    return FoldCalibration(temperature, worst_target_sensitivity(means, target))
