"""Exams: one visit each, from the first photograph to the signature; and a wrong day, infant or eye put right with its trace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from fundoscope.languages import gettext as _
from fundoscope.server.errors import ConflictError, InvalidError
from fundoscope.server.models import Exam, ExamPhotograph, Patient, Reading, now
from fundoscope.server.permissions import CLINICAL, EVERYBODY, Caller, Role, get_owned
from fundoscope.server.services import audit
from fundoscope.server.services.due import refresh_due
from fundoscope.server.services.exam_state import refresh_exam
from fundoscope.server.services.inputs import (
    BLANK_IS_NONE,
    Line,
    NeededPastDay,
    Note,
    Number,
    OptionalPastDay,
    ShortLine,
    Version,
)
from fundoscope.server.services.patients import lock_patient, require_version, write_correction
from fundoscope.server.services.readings import masked_exams, require_unmasked

_UNSIGNED = ("open", "to_read", "read")


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExamFields(_Input):
    """What is written down of a visit beside its photographs."""

    weight: Annotated[Annotated[int, Field(ge=200, le=500_000)] | None, BLANK_IS_NONE] = Field(
        None, description="g, on the day", examples=[1480]
    )
    camera: Line = ""
    accession: ShortLine = Field("", description="The number of the order in the hospital's system.")
    note: Note = ""


class NewExam(ExamFields):
    """An exam to be added to a patient."""

    patient_id: Number
    day: NeededPastDay = Field(examples=["2026-10-08"])


class ExamChanges(ExamFields):
    """Fields to change; those that are left out stay. A day that changes needs `why`. `version` as of a patient."""

    day: OptionalPastDay = None
    why: Line = ""
    version: Version = None


class NewPatientOfExam(_Input):
    """That an exam is of another patient: its photographs and readings go with it."""

    patient_id: Number
    why: Line = Field(min_length=1)


class PhotographCorrection(_Input):
    """That a photograph shows another eye or view, or is of another exam; what is left out stays."""

    eye: Literal["right", "left"] | None = None
    view: Literal["disc", "macula", "temporal", "nasal", "superior", "inferior", "other"] | None = None
    exam_id: Number | None = None
    why: Line = Field(min_length=1)


# --- look


def get_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    """The exam of that number, not recorded as a view; `ConflictError` while the caller is not to know whose it is."""
    caller.require(*EVERYBODY)
    exam = get_owned(session, caller, Exam, exam_id)
    require_unmasked(session, caller, exam)
    return exam


def view_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    """The exam of that number, as `get_exam`; the audit log holds who saw it."""
    get_exam(session, caller, exam_id)
    return view_masked_exam(session, caller, exam_id)


def view_masked_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    """The same for whoever shows nothing of it that tells whose it is where `readings.is_masked`; the audit log holds who saw it."""
    caller.require(*EVERYBODY)
    exam = get_owned(session, caller, Exam, exam_id)
    audit.record(session, caller, "exam.view", "exam", exam.id, exam.site_id)
    return exam


def find_exams(
    session: Session, caller: Caller, patient_id: int | None = None, state: str = "", after: int | None = None, limit: int = 50
) -> Sequence[Exam]:  # fmt: skip
    """Exams of the caller's sites with their patients, the newest first; `after` is the last of the page before.

    Those that the caller is to read again without knowing whose they are, are left out until then.
    """
    caller.require(*EVERYBODY)
    query = select(Exam).where(Exam.site_id.in_(caller.sites), Exam.id.not_in(masked_exams(caller)))
    query = query.options(selectinload(Exam.patient))
    if patient_id is not None:
        query = query.where(Exam.patient_id == get_owned(session, caller, Patient, patient_id).id)
    if state:
        query = query.where(Exam.state == state)
    if after is not None:
        query = query.where(Exam.id < after)
    found = session.scalars(query.order_by(Exam.id.desc()).limit(limit)).all()
    audit.record(session, caller, "exam.list", "patient" if patient_id else "", patient_id, found=len(found))
    return found


# --- add and change


def add_exam(session: Session, caller: Caller, new: NewExam) -> Exam:
    """Add an exam to a patient; `ConflictError` where one of that day is still without a signature: photographs go there."""
    caller.require(*CLINICAL)
    patient = lock_patient(session, caller, new.patient_id)
    if patient.left in ("died", "transferred"):
        raise ConflictError(_("The patient has left the programme. Write first that it is here again."))
    _check_day(session, patient, new.day, None)
    exam = Exam(
        site_id=patient.site_id, patient_id=patient.id, created_by=caller.user_id, created_via=caller.via,
        **new.model_dump(exclude={"patient_id"}),
    )  # fmt: skip
    session.add(exam)
    session.flush()
    refresh_exam(session, exam)
    audit.record(session, caller, "exam.add", "exam", exam.id, exam.site_id, patient=patient.id)
    return exam


def change_exam(session: Session, caller: Caller, exam_id: int, changes: ExamChanges) -> Exam:
    """Change fields of an exam; each that changes leaves a correction. The due date follows a day that was put right."""
    caller.require(*CLINICAL)
    exam = _lock_exam(session, caller, exam_id)
    require_version(session, "exam", exam.id, changes.version)
    fields = {field: getattr(changes, field) for field in sorted(changes.model_fields_set - {"why", "version"})}
    changed = {field: value for field, value in fields.items() if getattr(exam, field) != value}
    if not changed:
        return exam
    if "day" in changed:
        if changed["day"] is None:
            raise InvalidError(_("This is missing. Write year, month and day, such as 2024-03-05."), "day")
        if not changes.why:
            raise InvalidError(_("The day of the exam changes. Write why."), "why")
        _check_day(session, exam.patient, changed["day"], exam.id)
    for field, value in changed.items():
        write_correction(session, caller, exam, field, getattr(exam, field), value, changes.why)
        setattr(exam, field, value)
    if "day" in changed:
        _ask_to_read_again(exam)
    _refresh(session, exam)
    audit.record(session, caller, "exam.change", "exam", exam.id, exam.site_id, fields=sorted(changed))
    return exam


def finish_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    """Hand an exam over to the readers: the technician is done with it. Without a photograph that counts it cannot be read."""
    caller.require(*CLINICAL)
    exam = _lock_exam(session, caller, exam_id)
    _require_state(exam, "open")
    there = (
        select(ExamPhotograph.id).where(ExamPhotograph.exam_id == exam.id, ExamPhotograph.state != "withdrawn").limit(1)
    )
    if session.scalar(there) is None:
        raise ConflictError(_("The exam has no photographs. Add some, or cancel it."))
    exam.state, exam.finished_at = "to_read", now()
    refresh_exam(session, exam)
    audit.record(
        session, caller, "exam.finish", "exam", exam.id, exam.site_id, missing_views=exam.missing_views,
        waiting=exam.photographs_waiting,
    )  # fmt: skip
    return exam


def reopen_exam(session: Session, caller: Caller, exam_id: int, why: str) -> Exam:
    """Let photographs be added to a finished exam again, or bring a cancelled one back; one that is signed stays closed."""
    caller.require(*CLINICAL)
    exam = _lock_exam(session, caller, exam_id)
    _require_state(exam, "to_read", "read", "cancelled")
    if exam.state == "cancelled":
        _check_day(session, exam.patient, exam.day, exam.id)
    _change_state(session, caller, exam, "open", why)
    exam.finished_at = None
    _refresh(session, exam)
    audit.record(session, caller, "exam.reopen", "exam", exam.id, exam.site_id)
    return exam


def cancel_exam(session: Session, caller: Caller, exam_id: int, why: str) -> Exam:
    """Take an exam out that was opened by mistake; its photographs stay with it, and it can be reopened."""
    caller.require(*CLINICAL)
    exam = _lock_exam(session, caller, exam_id)
    _require_state(exam, "open", "to_read", "read")
    if session.scalar(select(Reading.id).where(Reading.exam_id == exam.id, Reading.signed_at.is_not(None)).limit(1)):
        raise ConflictError(
            _("A reading of this exam is signed. It cannot be cancelled; a reader can correct the reading.")
        )
    _change_state(session, caller, exam, "cancelled", why)
    _refresh(session, exam)
    audit.record(session, caller, "exam.cancel", "exam", exam.id, exam.site_id)
    return exam


# --- put right


def move_exam(session: Session, caller: Caller, exam_id: int, move: NewPatientOfExam) -> Exam:
    """Give an exam to another patient of its site: it was written to the wrong one. What is due is worked out anew for both.

    A signed exam is moved by a reader only, and comes back to be read: its report names the wrong patient.
    """
    caller.require(*CLINICAL)
    exam = _lock_exam(session, caller, exam_id)
    _require_reader_where_signed(session, caller, exam)
    if move.patient_id == exam.patient_id:
        raise InvalidError(_("The exam is of this patient already. Choose another one."), "patient_id")
    origin, target = exam.patient, lock_patient(session, caller, move.patient_id)
    if (target.site_id, target.kind) != (exam.site_id, origin.kind):
        raise ConflictError(_("Both patients must be of the same site, and both infants or both adults."))
    _check_day(session, target, exam.day, exam.id)
    write_correction(session, caller, exam, "patient", origin.id, target.id, move.why)
    exam.patient_id = target.id
    session.flush()
    session.expire(exam, ["patient"])
    session.expire(origin, ["exams"])
    session.expire(target, ["exams"])
    _ask_to_read_again(exam)
    _refresh(session, exam)
    refresh_due(session, origin)
    audit.record(
        session, caller, "exam.move", "exam", exam.id, exam.site_id, before=origin.id, after=target.id
    )  # fmt: skip
    return exam


def correct_photograph(
    session: Session, caller: Caller, photograph_id: int, correction: PhotographCorrection
) -> ExamPhotograph:
    """Put right the eye, the view or the exam of a photograph. A signed exam comes back to be read; only a reader may do that."""
    caller.require(*CLINICAL)
    photograph = get_owned(session, caller, ExamPhotograph, photograph_id)
    session.refresh(photograph, with_for_update=True)
    exam = _lock_exam(session, caller, photograph.exam_id)
    _require_reader_where_signed(session, caller, exam)
    changed: dict[str, Any] = {}
    for field in ("eye", "view", "exam_id"):
        value = getattr(correction, field)
        if value is not None and value != getattr(photograph, field):
            changed[field] = value
    target = exam
    if "exam_id" in changed:
        target = _lock_exam(session, caller, changed["exam_id"])
        _require_reader_where_signed(session, caller, target)
        if target.site_id != exam.site_id or target.state == "cancelled":
            raise ConflictError(_("The other exam must be of the same site, and not cancelled."))
        same = select(ExamPhotograph.id).where(
            ExamPhotograph.exam_id == target.id, ExamPhotograph.digest == photograph.digest
        )
        if session.scalar(same) is not None:
            raise ConflictError(_("The other exam holds this photograph already. Withdraw this one instead."))
    for field, value in changed.items():
        write_correction(session, caller, photograph, field, getattr(photograph, field), value, correction.why)
        setattr(photograph, field, value)
    if not changed:
        return photograph
    photograph.placed = bool(photograph.eye and photograph.view)
    session.flush()
    for each in {exam.id: exam, target.id: target}.values():
        session.expire(each, ["photographs"])
        _ask_to_read_again(each)
        refresh_exam(session, each)
    audit.record(
        session, caller, "photograph.correct", "photograph", photograph.id, photograph.site_id, **changed
    )  # fmt: skip
    return photograph


def _lock_exam(session: Session, caller: Caller, exam_id: int) -> Exam:
    exam = get_exam(session, caller, exam_id)
    session.refresh(exam, with_for_update=True)
    return exam


def _check_day(session: Session, patient: Patient, day: date, exam_id: int | None) -> None:
    """Raise where an exam of a patient cannot be of that day: before birth, or beside another one that is not signed yet."""
    if patient.birth_date is not None and day < patient.birth_date:
        text = _("This day is before the day of birth, {day}. Correct one of the two.")
        raise InvalidError(text.format(day=patient.birth_date), "day")
    same = Exam.patient_id == patient.id, Exam.day == day, Exam.state.in_(_UNSIGNED), Exam.id != (exam_id or 0)
    other = session.scalar(select(Exam.id).where(*same).limit(1))
    if other is not None:
        text = _("Exam {number} is of this patient and day, and not signed yet. Add the photographs to it.")
        raise ConflictError(text.format(number=other))


def _require_state(exam: Exam, *states: str) -> None:
    if exam.state not in states:
        told = {
            "open": _("The exam is open already."),
            "to_read": _("The exam is finished already; it waits to be read."),
            "read": _("The exam is being read."),
            "signed": _("The exam is signed. A reader can correct the reading, or add to it."),
            "cancelled": _("The exam is cancelled. Reopen it first."),
        }
        raise ConflictError(told[exam.state])


def _require_reader_where_signed(session: Session, caller: Caller, exam: Exam) -> None:
    if exam.signed_at is not None:
        caller.require(Role.READER)


def _change_state(session: Session, caller: Caller, exam: Exam, state: str, why: str) -> None:
    write_correction(session, caller, exam, "state", exam.state, state, why)
    exam.state = state


def _ask_to_read_again(exam: Exam) -> None:
    """A signed exam whose photographs, day or patient were put right waits for a reader's correction."""
    if exam.state == "signed":
        exam.state = "to_read"


def _refresh(session: Session, exam: Exam) -> None:
    session.flush()
    refresh_exam(session, exam)
    refresh_due(session, exam.patient)
