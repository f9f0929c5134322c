"""Step 1: every photograph read once, judged, graded and measured, in one stream and flat memory.

    photographs.parquet   a row a photograph: row, image, status (ok, rejected, failed), reason, quality, and which hash of the
                          bundle's training photographs it repeats
    measures.parquet      a row a photograph, as a study has it: whether screening grades it, nuisances, mean colours, vessels
    predictions.parquet   a row a photograph and question, in the columns of a study's `calibrated.parquet`

Rejected photographs are graded all the same, so that figures can be given with and without them; failed ones have no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fundoscope.bundles import Bundle
from fundoscope.cohort import Cohort, CohortRow
from fundoscope.cohort.columns import LABELS
from fundoscope.cohort.fingerprints import fingerprint
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.errors import CohortError, PhotographError
from fundoscope.findings import Status, join_remarks
from fundoscope.imaging.quality import judge_quality
from fundoscope.processors import count_processors
from fundoscope.rop.study.data import MEASURES, measure_photograph, read_whole
from fundoscope.rop.study.questions import TREATMENT, Question
from fundoscope.runs.engines import map_in_order
from fundoscope.studies import Progress

PHOTOGRAPHS, PREDICTIONS = "photographs.parquet", "predictions.parquet"
_GRADED = "quality: graded"
THREADS = min(4, count_processors()) + 1  # as in screening: while one waits for Python's lock, another decodes


@dataclass(frozen=True, slots=True)
class GradedRow:
    """What became of one photograph: cells of the three tables, `answers` a dict a question."""

    photograph: dict[str, Any]
    measures: dict[str, float] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class CohortPredictor:
    """A bundle as it answers the `questions` of a cohort, and what it remembers of its training photographs (or nothing)."""

    bundle: Bundle
    questions: list[Question]
    hashes: PhotographHashes | None = None

    def write(self, cohort: Cohort, folder: Path, progress: Progress) -> None:
        """Write the three tables of a cohort into `folder`; `CohortError` where too few photographs could be read."""
        photographs, measures, answers = [], [], []
        rows = map_in_order(self.grade, cohort, THREADS)
        for row in progress.follow(rows, len(cohort), "grading"):
            photographs.append(row.photograph)
            measures.append(row.measures)
            answers += row.answers
        read = {cohort[answer["row"]].label for answer in answers}
        if missing := [label for label in LABELS if label not in read]:
            failed = [row["reason"] for row in photographs if row["status"] == Status.FAILED]
            raise CohortError(
                f"{cohort.name}: no photograph labelled {' or '.join(missing)} could be read, and figures need both classes"
                f"{f' ({failed[0]})' if failed else ''}. Add such photographs, or correct their paths."
            )
        pd.DataFrame(photographs).to_parquet(folder / PHOTOGRAPHS, index=False)
        pd.DataFrame(measures).astype(float).to_parquet(folder / MEASURES, index=False)
        pd.DataFrame(answers).to_parquet(folder / PREDICTIONS, index=False)

    def grade(self, record: CohortRow) -> GradedRow:
        """One photograph; whatever goes wrong with it becomes its row `failed`."""
        try:
            return self._grade(record)
        except PhotographError as error:
            why = f"{error.cause}. {error.remedy}"
        except Exception as error:  # noqa: BLE001 - one photograph must not end an evaluation of thousands
            why = f"the program failed on it ({type(error).__name__}: {error}). Report this photograph to its makers."
        return GradedRow({"row": record.row, "image": record.image, "status": Status.FAILED.value, "reason": why})

    def _grade(self, record: CohortRow) -> GradedRow:
        standard = self.bundle.card.standard
        prepared = standard.prepare(record.path, record.image)
        verdict = judge_quality(prepared, "infant")
        tensor = standard.tensor(standard.enhance(standard.square(prepared)))[None]
        whole = read_whole(prepared, record)
        asked = {question.name: question.labels[record.row] >= 0 for question in self.questions}
        measures = {_GRADED: float(verdict.gradable)} | measure_photograph(whole, asked.get(TREATMENT))
        seen = self.hashes.find(fingerprint(whole.photograph)) if self.hashes is not None else None
        status = Status.OK if verdict.gradable else Status.REJECTED
        photograph = {
            "row": record.row, "image": record.image, "status": status.value,
            "reason": join_remarks(*([] if verdict.gradable else verdict.reasons), *verdict.remarks),
            "quality": verdict.score, "seen_before": seen is not None,
            "seen_number": None if seen is None else seen.number, "seen_turn": None if seen is None else seen.turn,
            "seen_similarity": None if seen is None else seen.similarity,
        }  # fmt: skip
        return GradedRow(photograph, measures, list(self._answers(record.row, tensor)))

    def _answers(self, row: int, tensor: np.ndarray) -> Iterator[dict[str, Any]]:
        card, stages = self.bundle.card, len(self.questions)
        for question, stage, (logits, _) in zip(
            self.questions, card.stages[:stages], self.bundle.run_stages(tensor, stages), strict=True
        ):
            yield {
                "question": question.name, "arm": card.name, "seed": 0, "fold": 0, "part": "test", "variant": "plain",
                "precision": self.bundle.precision, "row": row, "logit_0": float(logits[0, 0]),
                "logit_1": float(logits[0, 1]), "probability": float(stage.probabilities(logits)[0]),
                "threshold": stage.operating_point.threshold,
            }  # fmt: skip
