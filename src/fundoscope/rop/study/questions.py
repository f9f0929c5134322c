"""The two questions of paper 000, one after the other: is there ROP, and does it need treatment?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, Folds
from fundoscope.learning import UNLABELLED

ROP, TREATMENT = "rop", "treatment"

#: What the answers are called, the positive one last.
CLASSES = {ROP: ("normal", "rop"), TREATMENT: ("no treatment", "treatment-requiring")}


@dataclass(frozen=True)
class Question:
    """A question and its answers: `labels` (n,) are 0, 1, or `UNLABELLED` where it is not asked or not known."""

    name: str
    labels: NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the answers, the positive one last."""
        return CLASSES[self.name]

    def known(self, rows: NDArray[np.int64] | tuple[int, ...]) -> NDArray[np.int64]:
        """Those of the rows whose answer is known."""
        rows = np.array(rows, np.int64)
        return rows[self.labels[rows] != UNLABELLED]


def rop_question(cohort: Cohort) -> Question:
    """Normal or ROP, known of every photograph."""
    return Question(ROP, cohort.labels)


def treatment_question(cohort: Cohort) -> Question:
    """Whether treatment is required, asked of photographs with ROP only, as in paper 000."""
    return Question(TREATMENT, np.where(cohort.labels == 1, cohort.treatments, UNLABELLED))


def questions_of(cohort: Cohort, folds: Folds) -> tuple[list[Question], str]:
    """The questions that this cohort can be asked, and why the second is not among them, if so.

    Every part of every fold must hold both answers: nothing could be fitted, chosen or measured otherwise.
    """
    first, second = rop_question(cohort), treatment_question(cohort)
    known = second.known(tuple(range(len(cohort))))
    if not len(known):
        return [first], "The table does not say of any ROP whether it requires treatment: stage 2 was not trained."
    for fold in folds:
        for part in ("train", "inner", "test"):
            answers = set(second.labels[second.known(fold.rows(part))].tolist())
            if len(answers) < 2:
                return [first], (
                    f"The {part} part of fold {fold.number} holds no ROP of both kinds (treatment required or not): "
                    "stage 2 was not trained. Fewer folds or more photographs would do."
                )
    return [first, second], ""
