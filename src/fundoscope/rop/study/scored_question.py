"""One question as it is scored: truth, groups, and what every arm predicts out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort
from fundoscope.evaluation import METRICS, Difference, Estimate, difference, estimates
from fundoscope.rop.study.calibrate import OutOfFoldPredictions
from fundoscope.rop.study.questions import Question

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]
Names = NDArray[np.str_]


def cameras_of(cohort: Cohort, rows: Rows) -> Names | None:
    """The cameras of some photographs, (len(rows),); None where the table tells none apart."""
    return np.array(cohort.cameras)[rows] if cohort.cameras else None


@dataclass(frozen=True)
class ScoredQuestion:
    """One question as it is scored: the `rows` whose answer is known, their labels `y`, their `groups`, and what each arm
    predicts of just these. Where the table tells `cameras` (n,) apart, every AUC counts pairs by one camera only.
    """

    question: Question
    rows: Rows
    y: Rows
    groups: Rows
    predictions: dict[str, OutOfFoldPredictions]
    reference: str
    cameras: Names | None = None

    @property
    def reference_predictions(self) -> OutOfFoldPredictions:
        """Those of the arm with which all others are compared: the student, where there is one."""
        return self.predictions[self.reference]

    def select(self, places: Rows) -> ScoredQuestion:
        """The question on some of its photographs, by their places here."""
        predictions = {name: each.select_rows(places) for name, each in self.predictions.items()}
        return replace(
            self, rows=self.rows[places], y=self.y[places], groups=self.groups[places], predictions=predictions,
            cameras=None if self.cameras is None else self.cameras[places],
        )  # fmt: skip

    def estimates(self, p: Scores, threshold: Any = 0.5, metrics: Sequence[str] = METRICS) -> dict[Any, Estimate]:
        """Every metric, or some, with their intervals."""
        return estimates(self.y, p, metrics=metrics, threshold=threshold, groups=self.groups, cameras=self.cameras)

    def difference(self, first: OutOfFoldPredictions, second: OutOfFoldPredictions, metric: str = "auc") -> Difference:
        """First less second, paired, each at its own thresholds."""
        return difference(
            self.y, first.p, second.p, metric, thresholds=(first.thresholds, second.thresholds), groups=self.groups,
            names=(first.arm, second.arm), cameras=self.cameras,
        )  # fmt: skip

    def estimates_of_mean(self) -> dict[Any, Estimate]:
        """Expected calibration error and calibration slope of the reference's mean over seeds."""
        mean = self.reference_predictions.p.mean(axis=0)
        return estimates(self.y, mean, metrics=("ece", "calibration_slope"), groups=self.groups)
