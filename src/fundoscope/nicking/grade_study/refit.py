"""The graders that ship: trained on all patches but those that choose, which the upstream had not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fundoscope.bundles.write_nicking import GraderNetworks
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.batches import network_inputs
from fundoscope.nicking.grade_study.calibrate import fit_temperature, grade_probabilities
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.grade_networks import predict_both_ways
from fundoscope.nicking.grade_study.prediction_table import OWN, UNPERTURBED
from fundoscope.nicking.grade_study.study_arms import GradeArm
from fundoscope.nicking.grade_study.train import WEIGHTS, load_network, train_arm
from fundoscope.nicking.grade_study.views import table_patches
from fundoscope.studies import Study

_CHECKED = 16  # patches on which torch and the exported file are compared


def refit_graders(
    arm: GradeArm, fold: GradeFoldData, seeds: Sequence[int], study: Study
) -> tuple[GraderNetworks, float]:
    """A calibrated network a seed, and the minimum confidence from which on their mean is graded, by the inner patches.

    Trained networks are kept in `study` (refit/ARM/seed_S), so that the work goes on where it was cut off.
    """
    recipe, grades = fold.recipe, fold.tables.grades[fold.inner]
    inputs = network_inputs(table_patches(fold, OWN, UNPERTURBED), fold.inner)
    networks, temperatures, inner = [], [], []
    for seed in seeds:
        step = f"refit/{arm.name}/seed_{seed}"
        if not study.done(step):
            with study.step(step) as folder:
                torch.save(train_arm(arm, fold, seed, folder).state_dict(), folder / WEIGHTS)
        grader = load_network(arm, fold, seed, study.result(step) / WEIGHTS)
        assert isinstance(grader, NickGrader)
        logits = predict_both_ways(grader, inputs, recipe.prediction.batch)
        temperatures.append(fit_temperature(logits, grades, recipe.calibration))
        inner.append(grade_probabilities(logits, temperatures[-1]))
        networks.append(grader)
    confidence = np.mean(inner, axis=0).max(axis=1)
    minimum_confidence = float(np.quantile(confidence, 1 - recipe.calibration.coverage))
    return GraderNetworks(networks, temperatures, inputs[:_CHECKED]), minimum_confidence
