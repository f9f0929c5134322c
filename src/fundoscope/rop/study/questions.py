"""The two questions of paper 000, one after the other: is there ROP, and does it need treatment?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, Folds

ROP, TREATMENT = "rop", "treatment"

#: Names of the answers to each question, the positive one last.
CLASSES = {ROP: ("normal", "rop"), TREATMENT: ("no treatment", "treatment-requiring")}

#: The label of a photograph whose answer is unknown, or that is not asked; equal to `learning.UNLABELLED`.
UNKNOWN = -1


@dataclass(frozen=True)
class Question:
    """A question and the true answers: `labels` (n,) are 0, 1, or `UNKNOWN`."""

    name: str
    labels: NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the answers, the positive one last."""
        return CLASSES[self.name]

    @property
    def known_rows(self) -> NDArray[np.int64]:
        """The rows of all photographs whose answer is known."""
        return np.flatnonzero(self.labels != UNKNOWN)

    def select_known(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows whose answer is known, in their order."""
        rows = np.asarray(rows, np.int64)
        return rows[self.labels[rows] != UNKNOWN]


def rop_question(cohort: Cohort) -> Question:
    """Normal or ROP, known for every photograph."""
    return Question(ROP, cohort.labels)


def treatment_question(cohort: Cohort) -> Question:
    """Whether treatment is required, asked of photographs with ROP only, as in paper 000."""
    return Question(TREATMENT, np.where(cohort.labels == 1, cohort.treatments, UNKNOWN))


def answerable_questions(cohort: Cohort, folds: Folds) -> tuple[list[Question], str]:
    """The questions that this cohort can answer, and why the second is not among them ("" where it is).

    Every part of every fold must hold both answers: else nothing could be fitted, chosen or measured.
    """
    first, second = rop_question(cohort), treatment_question(cohort)
    if not len(second.known_rows):
        return [first], "The table does not say of any ROP whether it requires treatment: stage 2 was not trained."
    for fold in folds:
        for part in ("train", "inner", "test"):
            answers = set(second.labels[second.select_known(fold.rows(part))].tolist())
            if len(answers) < 2:
                return [first], (
                    f"The {part} part of fold {fold.number} holds no ROP of both kinds (treatment required or not): "
                    "stage 2 was not trained. Fewer folds or more photographs would do."
                )
    return [first, second], ""
