"""What the technician's page of an exam shows: each eye's views with what became of their photographs, and what is left to do.

The tool's answer on ROP or nicking does not stand here: whoever takes photographs needs to know which of them can be read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.languages import translate_kept
from fundoscope.server.dicom import outbox
from fundoscope.server.models import EYES, VIEWS, Exam, ExamPhotograph, Grading, Patient, Site
from fundoscope.server.permissions import CLINICAL, Caller
from fundoscope.server.services import exams, uploads
from fundoscope.server.services.patients import age_on


@dataclass(frozen=True, slots=True)
class ViewCell:
    """One view of one eye. `state`: `good`, `waiting`, `repeat` (all its photographs were refused), `missing`, or `extra`: not required."""

    eye: str
    view: str
    state: str
    photographs: tuple[ExamPhotograph, ...]


@dataclass(frozen=True, slots=True)
class ExamPage:
    """An exam with its views by eye.

    `unplaced` are photographs whose eye or view is not known; `guesses` counts those whose guess may be confirmed; `to_repeat` and
    `missing` are the cells that are still to be taken. `pictured` are photographs of which there are pictures; `version` as in
    `count_progress`; `answers_leave` is whether answers to exams of the site are sent to a PACS.
    """

    exam: Exam
    patient: Patient
    site: Site
    age: str
    eyes: dict[str, tuple[ViewCell, ...]]
    unplaced: tuple[ExamPhotograph, ...]
    withdrawn: tuple[ExamPhotograph, ...]
    counts: dict[str, int]
    guesses: int
    pictured: frozenset[int]
    may_change: bool
    version: str

    is_clinical: bool
    answers_leave: bool

    @property
    def is_open(self) -> bool:
        """Whether the caller may add photographs."""
        return self.may_change and self.exam.state == "open"

    @property
    def to_repeat(self) -> list[ViewCell]:
        """Views whose photographs were all refused."""
        return [cell for cells in self.eyes.values() for cell in cells if cell.state == "repeat"]

    @property
    def missing(self) -> list[ViewCell]:
        """Required views of which there is no photograph."""
        return [cell for cells in self.eyes.values() for cell in cells if cell.state == "missing"]

    @property
    def total(self) -> int:
        """Photographs that were not withdrawn."""
        return sum(self.counts.values()) - self.counts["withdrawn"]

    @property
    def judged(self) -> int:
        """Photographs whose judging has ended."""
        return self.total - self.counts["waiting"]


def describe_exam(session: Session, caller: Caller, exam_id: int) -> ExamPage:
    """The page of an exam of the caller's sites; it is the route that records the view."""
    exam = exams.get_exam(session, caller, exam_id)
    patient, site = session.get_one(Patient, exam.patient_id), session.get_one(Site, exam.site_id)
    photographs = uploads.list_photographs(session, exam)
    shown = [each for each in photographs if each.state != "withdrawn"]
    required = site.required_views if patient.kind == "infant" else []
    pictured = (
        select(Grading.photograph_id)
        .join(ExamPhotograph)
        .where(ExamPhotograph.exam_id == exam.id, Grading.status != "failed")
    )
    guesses = [each for each in shown if not each.placed and each.eye and each.view]
    return ExamPage(
        exam=exam, patient=patient, site=site, age=age_on(patient, exam.day),
        eyes={eye: _cells(eye, required, shown) for eye in EYES},
        unplaced=tuple(each for each in shown if not (each.eye and each.view)),
        withdrawn=tuple(each for each in photographs if each.state == "withdrawn"),
        counts=_count(photographs), guesses=len(guesses),
        pictured=frozenset(session.scalars(pictured)), version=count_progress(session, exam)["version"],
        is_clinical=caller.role in CLINICAL, answers_leave=outbox.has_destination(session, exam.site_id),
        may_change=caller.role in CLINICAL and exam.state in ("open", "to_read", "read"),
    )  # fmt: skip


def _cells(eye: str, required: Sequence[str], photographs: Sequence[ExamPhotograph]) -> tuple[ViewCell, ...]:
    """The views of an eye, required ones first, then others of which there are photographs."""
    taken = {each.view for each in photographs if each.eye == eye}
    cells = []
    for view in sorted(taken.union(required) - {""}, key=lambda view: (view not in required, VIEWS.index(view))):
        own = tuple(each for each in photographs if (each.eye, each.view) == (eye, view))
        states = {each.state for each in own}
        if "graded" in states:
            state = "good" if view in required else "extra"
        elif "waiting" in states:
            state = "waiting"
        else:
            state = "repeat" if own else "missing"
        cells.append(ViewCell(eye, view, state, own))
    return tuple(cells)


def _count(photographs: Sequence[ExamPhotograph]) -> dict[str, int]:
    states = Counter(each.state for each in photographs)
    return {state: states[state] for state in ("waiting", "graded", "refused", "failed", "withdrawn")}


def count_progress(session: Session, exam: Exam) -> dict[str, Any]:
    """Photographs by state, the exam's state, and a `version` that changes with anything that the page shows."""
    columns = (ExamPhotograph.id, ExamPhotograph.state, ExamPhotograph.eye, ExamPhotograph.view, ExamPhotograph.placed,
               ExamPhotograph.remark)  # fmt: skip
    rows = session.execute(select(*columns).where(ExamPhotograph.exam_id == exam.id).order_by(ExamPhotograph.id)).all()
    states = Counter(row.state for row in rows)
    counts = {state: states[state] for state in ("waiting", "graded", "refused", "failed", "withdrawn")}
    version = hashlib.sha256(repr((exam.state, [tuple(row) for row in rows])).encode()).hexdigest()[:16]
    return {**counts, "exam": exam.state, "version": version}


def write_reason(reason: str) -> str:
    """A reason as its grader wrote it, in the language spoken now: what the catalogue holds is translated."""
    told = translate_kept(reason)
    return told[:1].upper() + told[1:]
