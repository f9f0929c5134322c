"""Patients, exams, photographs, and what the grader said of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from sqlalchemy import Date, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fundoscope.server.models.base import Base, OfSite, Recorded

EYES = ("right", "left")
#: Views of an eye, as codes; other for anything else.
VIEWS = ("disc", "macula", "temporal", "nasal", "superior", "inferior", "other")


class Patient(OfSite, Recorded):
    """An infant (`kind` infant) or an adult. Ages in days, weights in g; None where it is not known.

    `birth_group` joins twins; `left` says how the programme lost or left the infant (`died`, `transferred`, `finished`, `lost`)
    on `left_on`, `left_to` where to. `merged_into` is the patient that this one turned out to be.
    """

    __tablename__ = "patients"
    __table_args__ = (
        UniqueConstraint("site_id", "code"),
        Index("ix_patients_due", "site_id", "kind", "left", "due_by"),
    )
    noun: ClassVar[str] = "patient"

    kind: Mapped[str] = mapped_column(String(10), default="infant")
    code: Mapped[str] = mapped_column(String(100))  # the hospital's number
    name: Mapped[str] = mapped_column(String(200), default="")
    birth_date: Mapped[date | None] = mapped_column(Date)
    gestational_age: Mapped[int | None]
    gestational_age_in_weeks: Mapped[bool] = mapped_column(default=False)  # whole weeks only: days not known
    birth_weight: Mapped[int | None]
    weight_gain_10_19: Mapped[int | None]
    weight_gain_20_29: Mapped[int | None]
    weight_gain_30_39: Mapped[int | None]
    hydrocephalus: Mapped[bool | None]
    birth_group: Mapped[str] = mapped_column(String(100), default="")
    left: Mapped[str] = mapped_column(String(20), default="")
    left_on: Mapped[date | None] = mapped_column(Date)
    left_to: Mapped[str] = mapped_column(String(200), default="")
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("patients.id"))
    note: Mapped[str] = mapped_column(Text, default="")
    # what `guidelines` says of the infant today; worked out again whenever it, an exam or a signed reading changes, and each day
    due_from: Mapped[date | None] = mapped_column(Date)
    due_by: Mapped[date | None] = mapped_column(Date, index=True)
    due: Mapped[dict[str, Any] | None]  # the whole answer: decision, urgency, rule, sentence, reasons
    exams: Mapped[list[Exam]] = relationship(back_populates="patient", order_by="Exam.day")


class Exam(OfSite, Recorded):
    """One visit. What the worklist sorts and filters by stands here, and is brought up to date in the transaction that changes it.

    `state`: `open` (photographs may come), `to_read` (the technician has finished it), `read` (saved, not signed), `signed`,
    `cancelled`. `urgency` 0 is the most urgent (see `services.worklist`).
    """

    __tablename__ = "exams"
    __table_args__ = (
        Index("ix_exams_worklist", "site_id", "state", "urgency", "uploaded_at"),
        Index("ix_exams_by_day", "site_id", "state", "day"),
        Index("ix_exams_order", "site_id", "accession"),
    )
    noun: ClassVar[str] = "exam"

    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"), index=True)
    day: Mapped[date] = mapped_column(Date, index=True)
    weight: Mapped[int | None]  # g, on the day
    camera: Mapped[str] = mapped_column(String(200), default="")
    accession: Mapped[str] = mapped_column(String(64), default="")  # of the hospital's system
    study: Mapped[str] = mapped_column(String(64), default="", index=True)  # UID that its worklist gave
    scheduled_step: Mapped[str] = mapped_column(String(64), default="")  # of the order in its worklist
    note: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(20), default="open")
    urgency: Mapped[int] = mapped_column(default=50)
    urgency_reason: Mapped[str] = mapped_column(String(100), default="")  # a code of `services.worklist`
    photographs_waiting: Mapped[int] = mapped_column(default=0)
    missing_views: Mapped[list[str]] = mapped_column(default=list)  # "right:disc"
    suspected: Mapped[bool | None]  # by the grader, of any photograph; None: nothing graded yet
    highest_p: Mapped[float | None]  # of any photograph
    uploaded_at: Mapped[datetime | None]  # the first photograph: the 24 hours begin
    finished_at: Mapped[datetime | None]  # by the technician
    signed_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]  # of an urgent one
    acknowledged_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    patient: Mapped[Patient] = relationship(back_populates="exams")
    photographs: Mapped[list[ExamPhotograph]] = relationship(back_populates="exam", order_by="ExamPhotograph.id")


class ExamPhotograph(OfSite, Recorded):
    """One photograph of an exam. `digest` is SHA-256 of its bytes, and names its file; the same file twice in an exam is one row.
    So is the same DICOM photograph in other bytes, as a PACS may give it.

    `eye` is `right`, `left` or blank; `view` one of `VIEWS` or blank; `placed` is False while both are only guessed. `state`:
    `waiting`, `graded`, `refused` (by the grader: `reason`), `failed`, `withdrawn` (by a person: `withdrawn_reason`).
    """

    __tablename__ = "photographs"
    __table_args__ = (UniqueConstraint("exam_id", "digest"),)
    noun: ClassVar[str] = "photograph"

    exam_id: Mapped[int] = mapped_column(ForeignKey("exams.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    file_name: Mapped[str] = mapped_column(String(255))  # as it was given, to show; never a path
    file_bytes: Mapped[int]
    media_type: Mapped[str] = mapped_column(String(50))
    width: Mapped[int | None]
    height: Mapped[int | None]
    eye: Mapped[str] = mapped_column(String(10), default="")
    view: Mapped[str] = mapped_column(String(20), default="")
    placed: Mapped[bool] = mapped_column(default=False)
    taken_at: Mapped[str] = mapped_column(String(30), default="")  # as the camera wrote it, without a time zone
    camera: Mapped[str] = mapped_column(String(200), default="")
    study: Mapped[str] = mapped_column(
        String(64), default="", index=True
    )  # UIDs of a DICOM file; blank for another one
    sop_instance: Mapped[str] = mapped_column(String(64), default="", index=True)
    state: Mapped[str] = mapped_column(String(20), default="waiting", index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    remark: Mapped[str] = mapped_column(Text, default="")  # what a person should look at though it was taken; English
    withdrawn_reason: Mapped[str] = mapped_column(Text, default="")
    exam: Mapped[Exam] = relationship(back_populates="photographs")
    gradings: Mapped[list[Grading]] = relationship(back_populates="photograph", order_by="Grading.id")


class Grading(OfSite):
    """What one bundle said of one photograph: once, whatever happened to the worker. `rows` as in `results.json`.

    `pictures` names the files made beside it ("photograph", "activation", "profile_3").
    """

    __tablename__ = "gradings"
    __table_args__ = (UniqueConstraint("photograph_id", "bundle_digest"),)
    noun: ClassVar[str] = "grading"

    photograph_id: Mapped[int] = mapped_column(ForeignKey("photographs.id"), index=True)
    grader: Mapped[str] = mapped_column(String(50))  # "rop screen", "nicking grade"
    bundle: Mapped[str] = mapped_column(String(200))
    bundle_digest: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(50))  # of this program
    status: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(Text, default="")
    probability: Mapped[float | None]  # of ROP
    suspected: Mapped[bool | None]
    rows: Mapped[dict[str, Any]]  # {"rows": [...]}
    pictures: Mapped[dict[str, Any]] = mapped_column(default=dict)
    seconds: Mapped[float] = mapped_column(default=0.0)
    created_at: Mapped[datetime]
    photograph: Mapped[ExamPhotograph] = relationship(back_populates="gradings")


class Correction(OfSite, Recorded):
    """That a value of a row was put right: an eye, a view, an infant, a date; what it was, what it is, and why."""

    __tablename__ = "corrections"
    noun: ClassVar[str] = "correction"

    subject: Mapped[str] = mapped_column(String(20))  # patient, exam, photograph
    subject_id: Mapped[int] = mapped_column(index=True)
    field: Mapped[str] = mapped_column(String(50))
    before: Mapped[str] = mapped_column(Text)
    after: Mapped[str] = mapped_column(Text)
    why: Mapped[str] = mapped_column(Text, default="")


class IdempotencyKey(Base):
    """The answer to a request that a program may send twice."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("user_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    key: Mapped[str] = mapped_column(String(200))
    request: Mapped[str] = mapped_column(String(64))  # digest of method, path and body
    status: Mapped[int]
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
