"""Which photographs, with which gradings, an answer is about: by numbers, so that it can stand in a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.server.models import Exam, ExamPhotograph, Grading

MEDIA_TYPE = "application/dicom"


class ShownGrading(NamedTuple):
    """A DICOM photograph of an exam: the numbers of its row and of its grading, and the eye as the room knows it."""

    photograph: int
    grading: int
    eye: str


def shown_now(session: Session, exam: Exam) -> list[ShownGrading]:
    """The judged DICOM photographs of an exam as they are now, each with its newest grading; withdrawn ones are left out."""
    query = (
        select(ExamPhotograph.id, Grading.id, ExamPhotograph.eye)
        .join(Grading, Grading.photograph_id == ExamPhotograph.id)
        .where(
            ExamPhotograph.exam_id == exam.id, ExamPhotograph.state != "withdrawn", ExamPhotograph.media_type == MEDIA_TYPE,
            ExamPhotograph.study != "",
        )
        .order_by(ExamPhotograph.id, Grading.id)
    )  # fmt: skip
    return sorted(
        {number: ShownGrading(number, grading, eye) for number, grading, eye in session.execute(query)}.values()
    )


def shown_of_basis(basis: Mapping[str, Any]) -> list[ShownGrading]:
    """The photographs on which a reading was signed, with the gradings of then; those that were not judged are left out."""
    eyes = {one["id"]: one["eye"] for one in basis.get("photographs", ())}
    return sorted(
        ShownGrading(one["photograph"], one["id"], eyes[one["photograph"]]) for one in basis.get("gradings", ())
    )


def digest_of_shown(shown: Sequence[ShownGrading]) -> str:
    """A short digest of what is shown, for the key of a job."""
    return hashlib.sha256(json.dumps([list(one) for one in shown]).encode()).hexdigest()[:24]
