"""What a study works on: its cohort with groups and folds, and the photographs in every variant that is graded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fundoscope.cohort import Cohort, Folds, Groups
from fundoscope.evaluation.controls.matched_photographs import KINDS, Controls
from fundoscope.imaging import Photograph, Standard, read
from fundoscope.learning import SQUARE, Squares
from fundoscope.rop.study.questions import Question, questions_of

#: The photographs as they are, and made alike in what is not disease.
VARIANTS = ("plain", *KINDS, "all")


@dataclass(frozen=True)
class Material:
    """The cohort, its groups, folds and questions, the photographs, and `variants` of them as squares.

    `plain` are the photographs as they are; `field`, `colour` and `encoding` are made alike in that, `all` in all three.
    `missing` says why there is no second question; `simulated` are eyes that no fold holds, learnt from the teacher alone.
    """

    cohort: Cohort
    groups: Groups
    folds: Folds
    questions: Sequence[Question]
    missing: str
    photographs: list[Photograph]
    variants: dict[str, Squares]
    simulated: Squares | None = None

    @classmethod
    def of(cls, cohort: Cohort, groups: Groups, folds: Folds, standard: Standard) -> Material:
        """Read every photograph of the cohort, and make the variants."""
        photographs = [read(record.path, record.image) for record in cohort]
        squares = [standard.square(photograph, size=SQUARE) for photograph in photographs]
        plain = Squares(squares, cohort.labels, standard)
        variants = {"plain": plain}
        for name, kinds in [*((kind, (kind,)) for kind in KINDS), ("all", KINDS)]:
            controls = Controls.fit(photographs, kinds, side=SQUARE)
            variants[name] = replace(plain, pixels=[controls.apply(photograph).pixels for photograph in photographs])
        return cls(cohort, groups, folds, *questions_of(cohort, folds), photographs, variants)

    @property
    def squares(self) -> Squares:
        """The photographs as they are."""
        return self.variants["plain"]

    def question(self, name: str) -> Question:
        """The question of that name."""
        return next(question for question in self.questions if question.name == name)

    def asked(self, question: Question) -> Squares:
        """The photographs as they are, labelled with the answers to one question."""
        return self.squares.with_labels(question.labels)
