"""Step 3: the network of each arm, seed and fold is trained on its training patches; inner patches choose the epoch.

    fits/ARM/seed_S/fold_F/network.pt        weights
    fits/ARM/seed_S/fold_F/fit/epochs.csv    losses by epoch
    fits/ARM/seed_S/fold_F/pseudo_labels.json    how many unlabelled patches there were, and how many it learnt from

A fit that is there is not repeated, and one that was cut off goes on at its last whole epoch.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fundoscope.learning.fit import FitOptions, TrainingData, fit_batches
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.arm_patches import patches_of_arm
from fundoscope.nicking.grade_study.batches import (
    FixedBatches,
    TrainingBatches,
    TrainingPatches,
    network_inputs,
    study_device,
    views_on_device,
)
from fundoscope.nicking.grade_study.calibrate import fit_temperature, grade_probabilities
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.grade_networks import (
    MDTNetGrader,
    build_network,
    predict_both_ways,
    training_losses,
)
from fundoscope.nicking.grade_study.plan import PlannedFit
from fundoscope.nicking.grade_study.prediction_table import OWN, UNPERTURBED
from fundoscope.nicking.grade_study.study_arms import GradeArm
from fundoscope.nicking.grade_study.views import table_patches, training_views, training_views_path
from fundoscope.studies import Study, write_json

WEIGHTS = "network.pt"
PSEUDO_LABELS = "pseudo_labels.json"


def train_fit(fit: PlannedFit, study: Study) -> str:
    """Train the network of a fit, unless it is there; returns a line about it. Rules have none: they are fitted where they predict."""
    if not study.done(fit.step):
        with study.step(fit.step) as folder:
            network = train_arm(fit.arm, fit.fold, fit.seed, folder)
            torch.save(network.state_dict(), folder / WEIGHTS)
    return f"{fit.name}: trained{_describe_pseudo_labels(study.result(fit.step))}"


def train_arm(arm: GradeArm, fold: GradeFoldData, seed: int, folder: Path) -> nn.Module:
    """The trained network of an arm in a fold, in eval mode; its curves are written to `folder`/fit."""
    network = build_network(arm, fold, seed)
    learnt, grades = patches_of_arm(arm, fold, seed), fold.tables.grades.copy()
    numbers = learnt.labelled
    if arm.shuffled:
        grades[numbers] = np.random.default_rng(seed).permutation(grades[numbers])
    options = FitOptions(**fold.recipe.fit.model_dump())
    network = _fit(network, fold, _training_patches(arm, fold, seed, numbers, grades), options, folder / "fit")
    if arm.pseudo:
        confident, pseudo_grades = _pseudo_labels(network, fold, learnt.unlabelled)
        write_json(folder / PSEUDO_LABELS, {"unlabelled": len(learnt.unlabelled), "confident": len(confident)})
        grades[confident] = pseudo_grades
        numbers = np.concatenate([numbers, confident])
        options = replace(options, warm_up=fold.recipe.pseudo.warm_up)
        patches = _training_patches(arm, fold, seed, numbers, grades)
        network = _fit(network, fold, patches, options, folder / "fit_pseudo")
    return network


def _describe_pseudo_labels(folder: Path) -> str:
    path = folder / PSEUDO_LABELS
    if not path.exists():
        return ""
    counts = json.loads(path.read_text(encoding="utf-8"))
    return f"; {counts['confident']} of {counts['unlabelled']} unlabelled patches were confident enough to learn from"


def load_network(arm: GradeArm, fold: GradeFoldData, seed: int, weights: Path) -> NickGrader | MDTNetGrader:
    """The trained network of an arm with the weights of a file, in eval mode."""
    network = build_network(replace(arm, transferred=False), fold, seed)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.to(memory_format=torch.channels_last).eval()


def _training_patches(
    arm: GradeArm, fold: GradeFoldData, seed: int, numbers: NDArray[np.int64], grades: NDArray[np.int64]
) -> TrainingPatches:
    radius = fold.recipe.masked.radius if arm.masked else None
    training_views(fold)  # drawn, where they are not there yet
    views = views_on_device(training_views_path(fold), study_device())
    return TrainingPatches(views, numbers, grades[numbers], seed, radius)


def _fit(
    network: nn.Module, fold: GradeFoldData, patches: TrainingPatches, options: FitOptions, folder: Path
) -> nn.Module:
    """The network fitted to these patches, with the weights of its best epoch on the inner ones."""
    inputs = network_inputs(table_patches(fold, OWN, UNPERTURBED), fold.inner, patches.masked_radius)
    inner = FixedBatches(inputs, fold.tables.grades[fold.inner], fold.recipe.prediction.batch, study_device())
    loss, inner_loss = training_losses(network)
    data = TrainingData(TrainingBatches(patches, options.batch), loss, inner, inner_loss)
    return fit_batches(network, data, options, folder, patches.seed)


def _pseudo_labels(
    network: nn.Module, fold: GradeFoldData, unlabelled: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the unlabelled patches whose calibrated grade is confident enough to learn from, and these grades; by the
    mean over their augmented views.
    """
    views, batch = training_views(fold), fold.recipe.prediction.batch
    network.to(study_device())
    inner = predict_both_ways(network, network_inputs(table_patches(fold, OWN, UNPERTURBED), fold.inner), batch)
    temperature = fit_temperature(inner, fold.tables.grades[fold.inner], fold.recipe.calibration)
    logits = [predict_both_ways(network, network_inputs(views[:, v], unlabelled), batch) for v in range(views.shape[1])]
    p = np.mean([grade_probabilities(each, temperature) for each in logits], axis=0)
    confident = p.max(axis=1) >= fold.recipe.pseudo.minimum_confidence
    return unlabelled[confident], p[confident].argmax(axis=1)
