"""What a bundle says of every photograph of a labelled cohort: the way of `fundoscope rop screen`, one photograph at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, Groups
from fundoscope.errors import CohortError, counted, list_names
from fundoscope.evaluation.decisions import EyeViews
from fundoscope.evaluation.metrics.recalibration import log_odds
from fundoscope.findings import RopFinding, Status
from fundoscope.rop.screening.eyes import eye_key
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.studies import Progress

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class LocalAnswers:
    """The graded photographs of a cohort.

    `labels` (n,) is 1 for ROP; `logits` (n,) are the network's log-odds before any temperature, nan where a photograph was
    refused; `graded` (n,) says which were not; `groups` (n,) numbers the infants; `eyes` says which eye at which exam each
    photograph shows, as screening takes them together.
    """

    labels: Rows
    logits: Array
    graded: Flags
    groups: Rows
    eyes: EyeViews
    has_infants: bool

    @property
    def decides_eyes(self) -> bool:
        """Whether a rule for eyes can be measured: infants are known, and an eye has two graded views."""
        shown = EyeViews.from_keys(self.eyes.codes[self.graded].tolist())
        return self.has_infants and int(shown.counts.max(initial=0)) > 1

    @property
    def refused_positives(self) -> int:
        """How many photographs with ROP were refused."""
        return int((self.labels[~self.graded] == 1).sum())

    def select_rows(self, rows: Rows) -> LocalAnswers:
        """The answers to some of the photographs."""
        eyes = EyeViews.from_keys(self.eyes.codes[rows].tolist())
        return LocalAnswers(
            self.labels[rows], self.logits[rows], self.graded[rows], self.groups[rows], eyes, self.has_infants
        )


def answer_cohort(grader: RopGrader, cohort: Cohort, groups: Groups, progress: Progress) -> LocalAnswers:
    """The bundle's answers to all photographs, one after the other in flat memory; `CohortError` names those that failed.

    The logit is taken back from the probability and the bundle's own temperature, so that nothing but screening is asked.
    """
    logits, graded, failed = np.full(len(cohort), np.nan), np.zeros(len(cohort), bool), []
    temperature = grader.bundle.stage.temperature
    screened = grader.screen_with_evidence(cohort.paths)
    for row, one in enumerate(progress.follow(screened, len(cohort), "grading")):
        finding = cast(RopFinding, one.findings[0])
        if finding.status is Status.FAILED:
            failed.append(f"{cohort[row].image} ({finding.reason})")
        elif finding.p_rop is not None:
            graded[row], logits[row] = True, temperature * float(log_odds(np.array(finding.p_rop)))
    if failed:
        raise CohortError(
            f"{cohort.name}: {counted(len(failed), 'photograph')} could not be graded: {list_names(failed)}. "
            "Correct or remove these rows."
        )
    keys = [eye_key(each.infant, each.eye, each.exam, each.image) for each in cohort]
    return LocalAnswers(cohort.labels, logits, graded, groups.numbers, EyeViews.from_keys(keys), cohort.has_infants)
