"""The graders that ship: taught on all patches but those that choose, which the upstream had not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fundoscope.bundles.write_nicking import GraderNetworks
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.evaluate import REFUSED, sureness
from fundoscope.nicking.grade_study.study_arms import GradeArm
from fundoscope.nicking.grade_study.train import GradeFoldData, Network
from fundoscope.studies import Study

_CHECKED = 16  # patches on which torch and the file are compared


def refit_graders(
    arm: GradeArm, fold: GradeFoldData, seeds: Sequence[int], study: Study
) -> tuple[GraderNetworks, float]:
    """A network a seed, and the probability from which on their mean is graded, by the inner patches; it resumes."""
    networks, temperatures, inner = [], [], []
    for seed in seeds:
        step = f"final/{arm.name}/seed_{seed}"
        if not study.done(step):
            with study.step(step) as folder:
                network = Network(arm, fold, seed)
                network.fit(fold.tables.labelled, fold.train, fold.recipe.fit, folder / "fit")
                p = network.answers(fold.asked("", "usual"), fold.inner)
                kept = {
                    "model": network.model.state_dict(),
                    "temperature": network.temperature,
                    "inner": torch.from_numpy(p),
                }
                torch.save(kept, folder / "network.pt")
        kept = torch.load(study.result(step) / "network.pt", weights_only=True)
        assert arm.network is not None
        grader = NickGrader(arm.network)
        grader.load_state_dict(kept["model"])
        networks.append(grader.eval())
        temperatures.append(kept["temperature"])
        inner.append(kept["inner"].numpy())
    least = float(np.quantile(sureness(np.mean(inner, axis=0)), REFUSED))
    check = fold.asked("", "usual").inputs(fold.inner[:_CHECKED])
    return GraderNetworks(networks, temperatures, check), least
