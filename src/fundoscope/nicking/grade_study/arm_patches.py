"""Which training patches an arm is told the grades of, and which it only sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.study_arms import GradeArm


@dataclass(frozen=True, eq=False)
class ArmPatches:
    """Numbers of patches, counted over a study's rows and extra ones: `labelled` ones whose grades an arm is told, and
    `unlabelled` ones that may get pseudo-labels. All are of photographs that neither choose nor are tested in the fold.
    """

    labelled: NDArray[np.int64]
    unlabelled: NDArray[np.int64]


def patches_of_arm(arm: GradeArm, fold: GradeFoldData, seed: int) -> ArmPatches:
    """The patches that an arm learns from. An arm with few labels is told those of a share of the crossings, drawn by fold and
    seed, the same for each such arm; the others count as unlabelled.
    """
    if not arm.few:
        return ArmPatches(fold.train, fold.unlabelled)
    rows = [*fold.tables.rows, *fold.tables.extra]
    crossings = np.array([rows[k].crossing for k in fold.train])
    every = np.unique(crossings)
    kept = max(1, round(fold.recipe.few.kept * len(every)))
    told = np.isin(crossings, np.random.default_rng((seed, 0xFE)).permutation(every)[:kept])
    return ArmPatches(fold.train[told], np.concatenate([fold.train[~told], fold.unlabelled]))
