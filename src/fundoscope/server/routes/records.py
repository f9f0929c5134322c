"""Sites, patients, exams, corrections and jobs as `/v1` answers them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from fundoscope.server.models import Exam, Patient
from fundoscope.server.permissions import Caller
from fundoscope.server.services.patients import age_on, find_masked_exams, find_versions, show_gestational_age


class _Record(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class SiteRecord(_Record):
    """A site that the caller belongs to, with its rules."""

    id: int
    name: str
    guideline: str = Field(examples=["china-2014"])
    required_views: list[str]
    second_reading_share: float
    repeat_share: float
    hide_answer: bool
    active: bool


class PatientRecord(_Record):
    """A patient. `due` is what the site's guideline says of an infant, with its rule, the rule's sentence and its source.

    `version` changes with every change; send it with a change of yours, and nobody's work is overwritten.
    """

    id: int
    version: int
    site_id: int
    kind: str
    code: str
    name: str
    birth_date: date | None
    gestational_age: str = Field(description="28+3; 28 where the days are not known; blank where nothing is.")
    birth_weight: int | None = Field(description="g")
    weight_gain_10_19: int | None
    weight_gain_20_29: int | None
    weight_gain_30_39: int | None
    hydrocephalus: bool | None
    birth_group: str
    left: str = Field(description="died, transferred, finished, lost; blank while the patient is here.")
    left_on: date | None
    left_to: str
    merged_into: int | None
    note: str
    due_from: date | None
    due_by: date | None
    due: dict[str, Any] | None = Field(
        description="null, too, while the caller is to read an exam again without knowing its readings."
    )
    created_at: datetime
    created_via: str

    @classmethod
    def of_many(cls, session: Session, caller: Caller, patients: Iterable[Patient]) -> list[Self]:
        """The records of patients as the caller may know them; the queries are the same for one and for many."""
        patients = list(patients)
        numbers = [patient.id for patient in patients]
        versions = find_versions(session, "patient", numbers)
        masked = set(find_masked_exams(session, caller, numbers).values())
        computed = ("gestational_age", "version", "due")
        plain = [field for field in cls.model_fields if field not in computed]
        return [
            cls(
                version=versions[patient.id], gestational_age=show_gestational_age(patient),
                due=None if patient.id in masked else patient.due,
                **{field: getattr(patient, field) for field in plain},
            )
            for patient in patients
        ]  # fmt: skip


class ExamRecord(_Record):
    """An exam. The tool's answers stand with its photographs, and what readers found with its readings."""

    id: int
    version: int
    site_id: int
    patient_id: int
    day: date
    postmenstrual_age: str = Field(
        description="Weeks and days on that day: 33+5; blank for adults, and where it is not known."
    )
    weight: int | None = Field(description="g, on the day")
    camera: str
    accession: str
    note: str
    state: str = Field(description="open, to_read, read, signed, cancelled")
    photographs_waiting: int
    missing_views: list[str] = Field(examples=[["right:disc"]])
    uploaded_at: datetime | None
    finished_at: datetime | None
    signed_at: datetime | None
    created_at: datetime
    created_via: str

    @classmethod
    def of_many(cls, session: Session, exams: Iterable[Exam]) -> list[Self]:
        """The records of exams: one query for all their versions."""
        exams = list(exams)
        versions = find_versions(session, "exam", [exam.id for exam in exams])
        computed = ("postmenstrual_age", "version")
        plain = [field for field in cls.model_fields if field not in computed]
        return [
            cls(
                version=versions[exam.id], postmenstrual_age=age_on(exam.patient, exam.day),
                **{field: getattr(exam, field) for field in plain},
            )
            for exam in exams
        ]  # fmt: skip


class CorrectionRecord(_Record):
    """A value that was put right: what it was, what it is, who changed it, when and why."""

    id: int
    site_id: int
    subject: str
    subject_id: int
    field: str
    before: str
    after: str
    why: str
    created_at: datetime
    created_by: int | None
    created_via: str


class JobRecord(_Record):
    """A piece of work that waits, runs, is done, or has failed after its last attempt (`error` says why)."""

    id: int
    kind: str
    key: str
    site_id: int | None
    state: str = Field(description="waiting, running, done, failed")
    attempts: int
    error: str
    created_at: datetime
    run_after: datetime
    finished_at: datetime | None


def record_patient(session: Session, caller: Caller, patient: Patient) -> PatientRecord:
    """A patient as it is answered to the caller."""
    return PatientRecord.of_many(session, caller, [patient])[0]


def record_exam(session: Session, exam: Exam) -> ExamRecord:
    """An exam as it is answered."""
    return ExamRecord.of_many(session, [exam])[0]
