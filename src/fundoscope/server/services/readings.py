"""Readings: findings saved, signed with the password, corrected by further readings. A signed one never changes.

`current_reading` is the one that counts for an exam. Second readings, hidden repeats and adjudications are asked for in
`second_readings`; they are saved and signed here, and while one is open its reader sees neither the tool's answer nor others' readings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Select, false, or_, select, true
from sqlalchemy.orm import Session, selectinload

from fundoscope.guidelines import DueAnswer, decide_infant, read_guideline
from fundoscope.languages import gettext as _
from fundoscope.server.database import Database
from fundoscope.server.dicom import outbox
from fundoscope.server.errors import ConflictError, InvalidError, NotAllowedError, NotFoundError
from fundoscope.server.models import (
    CrossingReading,
    Exam,
    ExamPhotograph,
    EyeReading,
    Grading,
    Patient,
    Reading,
    ReadingTask,
    Site,
    now,
)
from fundoscope.server.permissions import CLINICAL, Caller, Role, get_owned
from fundoscope.server.services import audit, due, exam_state, jobs, second_readings, sessions
from fundoscope.server.services.eye_findings import (
    AddedCrossing,
    CrossingGrade,
    EyeFindings,
    ReadingContent,
    check_content,
    find_gaps,
    says_something,
)

ReadingKind = Literal["first", "second", "repeat", "adjudication", "correction", "addendum"]
KINDS: tuple[ReadingKind, ...] = ("first", "second", "repeat", "adjudication", "correction", "addendum")
#: Kinds that are made without the tool's answer and without other readings of the exam.
MASKED_KINDS: tuple[ReadingKind, ...] = ("second", "repeat")
#: Pixels within which two places of a photograph are one crossing.
APART = 3.0
_ADDED_TO: tuple[ReadingKind, ...] = ("correction", "addendum")


# --- which reading counts, and what may be seen


def current_reading(session: Session, exam: Exam) -> Reading | None:
    """The newest signed reading that speaks for the exam and that no signed one supersedes."""
    superseded = select(Reading.supersedes).where(
        Reading.exam_id == exam.id, Reading.supersedes.is_not(None), Reading.signed_at.is_not(None)
    )
    query = select(Reading).where(
        Reading.exam_id == exam.id, Reading.signed_at.is_not(None), Reading.kind.in_(exam_state.DECIDING_KINDS),
        Reading.id.not_in(superseded),
    )  # fmt: skip
    return session.scalar(query.order_by(Reading.signed_at.desc(), Reading.id.desc()).limit(1).options(*_WHOLE))


def superseding_reading(session: Session, reading: Reading) -> Reading | None:
    """The signed reading that supersedes this one; None where it stands."""
    query = select(Reading).where(Reading.supersedes == reading.id, Reading.signed_at.is_not(None))
    return session.scalar(query.order_by(Reading.id.desc()).limit(1))


_WHOLE = (selectinload(Reading.eyes), selectinload(Reading.crossings))


def open_task(session: Session, caller: Caller, exam: Exam) -> ReadingTask | None:
    """The task by which the caller is to read this exam again, if there is one: their own before one that any reader may take."""
    if caller.role is not Role.READER or caller.user_id is None:
        return None
    query = _open_tasks(caller).where(ReadingTask.exam_id == exam.id)
    return session.scalar(query.order_by(ReadingTask.reader_id.is_(None), ReadingTask.id).limit(1))


def _open_tasks(caller: Caller) -> Select[ReadingTask]:
    """The tasks that wait for this reader: those given to them, and those for anybody who has not read the exam."""
    signed = select(Reading.id).where(
        Reading.exam_id == ReadingTask.exam_id, Reading.reader_id == caller.user_id, Reading.signed_at.is_not(None)
    )
    return select(ReadingTask).where(
        ReadingTask.done_at.is_(None), ReadingTask.site_id.in_(caller.sites),
        or_(ReadingTask.open_from.is_(None), ReadingTask.open_from <= now().date()),
        or_(ReadingTask.reader_id == caller.user_id, ReadingTask.reader_id.is_(None) & ~signed.exists()),
        true() if caller.role is Role.READER else false(),
    )  # fmt: skip


def masked_exams(caller: Caller) -> Select[int]:
    """The numbers of exams that the caller is to read without knowing other readings and whose they are, as a subquery."""
    return _open_tasks(caller).where(ReadingTask.kind.in_(MASKED_KINDS)).with_only_columns(ReadingTask.exam_id)


def is_masked(session: Session, caller: Caller, exam: Exam) -> bool:
    """Whether the caller is to read this exam without knowing other readings of it, the tool's answer, or whose it is."""
    task = open_task(session, caller, exam)
    return task is not None and task.kind in MASKED_KINDS


def require_unmasked(session: Session, caller: Caller, exam: Exam) -> None:
    """Raise `ConflictError` where the caller is to read this exam without knowing whose it is, and has not done so."""
    if is_masked(session, caller, exam):
        raise ConflictError(
            _("You are to read this exam again without knowing whose it is. Read it first, from your second readings.")
        )


def answer_is_hidden(session: Session, caller: Caller, exam: Exam) -> bool:
    """Whether the tool's answer on this exam is hidden from the caller; see `find_hidden`."""
    return exam.id in find_hidden(session, caller, [exam.id])


def find_hidden(session: Session, caller: Caller, exams: Sequence[int]) -> set[int]:
    """Of these exams those on which the tool's answer is hidden from the caller.

    It is in masked readings, and where the site says so until the caller's first reading is saved, or one is signed.
    """
    if caller.role is not Role.READER or not exams:
        return set()
    seen = select(Reading.id).where(
        Reading.exam_id == Exam.id, or_(Reading.reader_id == caller.user_id, Reading.signed_at.is_not(None))
    )
    quiet = select(Exam.id).join(Site).where(Exam.id.in_(exams), Site.hide_answer, ~seen.exists())
    return {*session.scalars(masked_exams(caller).where(ReadingTask.exam_id.in_(exams))), *session.scalars(quiet)}


def get_reading(session: Session, caller: Caller, reading_id: int) -> Reading:
    """One reading with its eyes and crossings; `NotFoundError` also for one that a masked reader is not to know."""
    caller.require(*CLINICAL)
    reading = get_owned(session, caller, Reading, reading_id)
    exam = session.get_one(Exam, reading.exam_id)
    if reading not in list_readings(session, caller, exam):
        raise NotFoundError(Reading.noun, reading_id)
    return reading


def list_readings(session: Session, caller: Caller, exam: Exam) -> Sequence[Reading]:
    """The readings of an exam that the caller may see, oldest first: signed ones and their own drafts.

    While a masked reading is open its reader sees that one alone.
    """
    caller.require(*CLINICAL)
    caller.require_site(exam.site_id)
    seen = Reading.signed_at.is_not(None) | (Reading.reader_id == caller.user_id)
    task = open_task(session, caller, exam)
    if task is not None and task.kind in MASKED_KINDS:
        seen = (Reading.reader_id == caller.user_id) & (Reading.kind == task.kind) & Reading.signed_at.is_(None)
    query = select(Reading).where(Reading.exam_id == exam.id, seen)
    return session.scalars(query.order_by(Reading.id).options(*_WHOLE)).all()


def find_readings(
    session: Session, caller: Caller, exam_id: int | None = None, after: int | None = None, limit: int = 50
) -> Sequence[Reading]:  # fmt: skip
    """Readings of the caller's sites that the caller may see, the newest first; `after` is the last of the page before."""
    caller.require(*CLINICAL)
    query = select(Reading).where(
        Reading.site_id.in_(caller.sites), Reading.signed_at.is_not(None) | (Reading.reader_id == caller.user_id),
        Reading.exam_id.not_in(masked_exams(caller)) | ((Reading.reader_id == caller.user_id) & Reading.signed_at.is_(None)),
    )  # fmt: skip
    if exam_id is not None:
        query = query.where(Reading.exam_id == get_owned(session, caller, Exam, exam_id).id)
    if after is not None:
        query = query.where(Reading.id < after)
    found = session.scalars(query.order_by(Reading.id.desc()).limit(limit).options(*_WHOLE)).all()
    audit.record(session, caller, "reading.list", "exam" if exam_id else "", exam_id, found=len(found))
    return found


def view_reading(session: Session, caller: Caller, reading_id: int) -> Reading:
    """The reading of that number; the audit log holds who saw it."""
    reading = get_reading(session, caller, reading_id)
    audit.record(session, caller, "reading.view", "reading", reading.id, reading.site_id)
    return reading


def find_superseding(session: Session, readings: Sequence[Reading]) -> dict[int, int]:
    """The number of the signed reading that supersedes each of these; those that stand are left out."""
    query = select(Reading.supersedes, Reading.id).where(
        Reading.supersedes.in_([one.id for one in readings]), Reading.signed_at.is_not(None)
    )
    return {old: new for old, new in session.execute(query.order_by(Reading.id)) if old is not None}


def find_draft(session: Session, caller: Caller, exam: Exam, kind: str) -> Reading | None:
    """The caller's own reading of that kind that is saved and not signed."""
    query = select(Reading).where(
        Reading.exam_id == exam.id,
        Reading.reader_id == caller.user_id,
        Reading.kind == kind,
        Reading.signed_at.is_(None),
    )
    return session.scalar(query.order_by(Reading.id.desc()).limit(1).options(*_WHOLE))


# --- saving


def save_reading(
    session: Session, caller: Caller, exam_id: int, content: ReadingContent, *, kind: ReadingKind = "first", why: str = "",
) -> Reading:  # fmt: skip
    """Save the caller's reading of an exam; it can be changed until it is signed.

    `first` asks for an exam that no signed reading speaks for; `correction` and `addendum` supersede the reading that counts, and
    need a reason `why`; the other kinds need a task (`second_readings`). `second` and `repeat` are the same to ask for: which of the
    two it is stands in the task, and its reader is not to know. Raises `ConflictError`, `InvalidError`, `NotAllowedError`.
    """
    caller.require(Role.READER)
    exam = get_owned(session, caller, Exam, exam_id)
    session.refresh(exam, with_for_update=True)  # of two readers one after the other
    if exam.state == "cancelled":
        raise ConflictError(_("This exam was cancelled. Ask the technician to open it again."))
    check_content(content, session.get_one(Patient, exam.patient_id).kind)
    task = open_task(session, caller, exam)
    if kind in MASKED_KINDS and task is not None:
        kind = next((each for each in MASKED_KINDS if each == task.kind), kind)
    hidden = answer_is_hidden(session, caller, exam)
    places = _find_places(session, exam, content)
    reading = find_draft(session, caller, exam, kind)
    if reading is None:
        reading = _begin(session, caller, exam, kind, hidden)
    elif reading.masked and not hidden and _findings(content_of(reading)) != _findings(content):
        # what was entered before the answer was seen stays in the log
        before = _findings(content_of(reading))
        audit.record(session, caller, "reading.unmask", "reading", reading.id, exam.site_id, before=before)
        reading.masked = False
    if kind in _ADDED_TO:
        _check_addition(session, reading, content, why)
    _write(session, reading, content, places)
    reading.why = why.strip()
    if kind == "first" and exam.state in ("open", "to_read"):
        exam.state = "read"
    told = {"exam": exam.id, "kind": kind, "masked": reading.masked}
    audit.record(session, caller, "reading.save", "reading", reading.id, exam.site_id, **told)
    exam_state.refresh_exam(session, exam)
    return reading


def _begin(session: Session, caller: Caller, exam: Exam, kind: ReadingKind, hidden: bool) -> Reading:
    """A new draft; `ConflictError` where the state of the exam does not allow one of this kind."""
    current = current_reading(session, exam)
    task = open_task(session, caller, exam)
    if kind == "first" and current is not None:
        raise ConflictError(_("This exam has a signed reading. Write a correction or an addendum to it."))
    if kind in _ADDED_TO and current is None:
        raise ConflictError(_("No signed reading of this exam can be corrected or added to. Read it first."))
    if kind not in ("first", *_ADDED_TO) and (task is None or task.kind != kind):
        raise ConflictError(_("Nobody asked you for such a reading of this exam. Look into your second readings."))
    if kind in _ADDED_TO and task is not None and task.kind in MASKED_KINDS:
        raise ConflictError(_("You are to read this exam again first. Look into your second readings."))
    assert caller.user_id is not None
    reading = Reading(
        site_id=exam.site_id, exam_id=exam.id, reader_id=caller.user_id, kind=kind, masked=hidden or kind in MASKED_KINDS,
        supersedes=current.id if kind in _ADDED_TO and current is not None else None,
        created_by=caller.user_id, created_via=caller.via,
    )  # fmt: skip
    session.add(reading)
    session.flush()
    return reading


def _check_addition(session: Session, reading: Reading, content: ReadingContent, why: str) -> None:
    """Raise `InvalidError` for a correction or addendum without a reason, and for an addendum that changes findings."""
    if not why.strip():
        raise InvalidError(_("Say why the reading is corrected or added to."), "why")
    before = session.get_one(Reading, reading.supersedes)
    if reading.kind == "addendum" and _findings(content_of(before)) != _findings(content):
        raise InvalidError(_("An addendum adds a note. To change findings, write a correction."), "eyes")


def _findings(content: ReadingContent) -> dict[str, Any]:
    """The findings of a reading without its texts, in one order."""
    values = content.model_dump(mode="json", exclude={"note": True, "eyes": {"__all__": {"note"}}})
    order = {
        "eyes": lambda one: one["eye"], "crossings": lambda one: (one["photograph_id"], one["crossing"]),
        "added": lambda one: (one["photograph_id"], one["row"], one["col"]),
    }  # fmt: skip
    return {name: sorted(values[name], key=key) for name, key in order.items()}


def _find_places(session: Session, exam: Exam, content: ReadingContent) -> dict[tuple[int, int], tuple[float, float]]:
    """Row and column of every crossing that the tool found.

    Raises `InvalidError` for one that is graded and the newest grading does not hold, and for one that was added where none can be.
    """
    if not content.crossings and not content.added:
        return {}
    found = {
        (photograph, row["crossing"]): (row["row"], row["col"])
        for photograph, grading in newest_gradings(session, exam).items()
        for row in grading.rows.get("rows", ())
        if row.get("crossing") is not None
    }
    for one in content.crossings:
        if (one.photograph_id, one.crossing) not in found:
            raise InvalidError(
                _("Photograph {photograph} of this exam has no crossing {crossing}. Load the page again.").format(
                    photograph=one.photograph_id, crossing=one.crossing
                ),
                "crossings",
            )
    _check_added(session, exam, content.added, found)
    return found


def _check_added(
    session: Session, exam: Exam, added: Sequence[AddedCrossing], found: Mapping[tuple[int, int], tuple[float, float]]
) -> None:
    """Raise `InvalidError` for a crossing beside its photograph, or at a place where one stands already."""
    there = [(photograph, *place) for (photograph, _number), place in found.items()]
    for one in added:
        photograph = session.get(ExamPhotograph, one.photograph_id)
        if photograph is None or photograph.exam_id != exam.id or photograph.state == "withdrawn":
            text = _("This exam has no photograph {photograph}. Load the page again.")
            raise InvalidError(text.format(photograph=one.photograph_id), "added")
        if one.row >= (photograph.height or math.inf) or one.col >= (photograph.width or math.inf):
            text = _("Row {row}, column {col} lies beside the photograph, which has {rows} rows and {cols} columns. Mark the crossing in it.")  # fmt: skip
            where = {"row": f"{one.row:g}", "col": f"{one.col:g}", "rows": photograph.height, "cols": photograph.width}
            raise InvalidError(text.format(**where), "added")
        if any(
            one.photograph_id == other and math.hypot(one.row - row, one.col - col) <= APART
            for other, row, col in there
        ):
            text = _("A crossing stands at row {row}, column {col} already. Grade that one.")
            raise InvalidError(text.format(row=f"{one.row:g}", col=f"{one.col:g}"), "added")
        there.append((one.photograph_id, one.row, one.col))


def newest_gradings(session: Session, exam: Exam) -> dict[int, Grading]:
    """The newest grading of each photograph of an exam that was not withdrawn, by the photograph's number."""
    query = (
        select(Grading)
        .join(ExamPhotograph)
        .where(ExamPhotograph.exam_id == exam.id, ExamPhotograph.state != "withdrawn")
    )
    return {grading.photograph_id: grading for grading in session.scalars(query.order_by(Grading.id))}


def _write(
    session: Session, reading: Reading, content: ReadingContent, places: dict[tuple[int, int], tuple[float, float]]
) -> None:
    """Put the content in the place of what the draft held."""
    for part in (*reading.eyes, *reading.crossings):
        session.delete(part)
    session.flush()
    session.add_all(EyeReading(reading_id=reading.id, **one.model_dump()) for one in content.eyes)
    for one in content.crossings:
        row, col = places[one.photograph_id, one.crossing]
        session.add(CrossingReading(reading_id=reading.id, row=row, col=col, **one.model_dump()))
    counts = Counter[int]()
    for one in content.added:
        counts[one.photograph_id] += 1
        session.add(CrossingReading(reading_id=reading.id, crossing=-counts[one.photograph_id], **one.model_dump()))
    reading.note = content.note
    session.flush()
    session.refresh(reading, ["eyes", "crossings"])


def content_of(reading: Reading) -> ReadingContent:
    """What a reading says, as it would be entered."""
    fields = list(EyeFindings.model_fields)
    return ReadingContent(
        eyes=tuple(EyeFindings(**{name: getattr(one, name) for name in fields}) for one in reading.eyes),
        crossings=tuple(
            CrossingGrade(photograph_id=one.photograph_id, crossing=one.crossing, grade=one.grade)
            for one in reading.crossings
            if not one.added
        ),
        added=tuple(
            AddedCrossing(photograph_id=one.photograph_id, row=one.row, col=one.col, grade=one.grade)
            for one in reading.crossings
            if one.added
        ),
        note=reading.note,
    )


# --- signing


def sign_reading(database: Database, caller: Caller, reading_id: int, password: str) -> Reading:
    """Sign the caller's own reading with the password again: from now on nothing of it changes.

    What is due next is worked out and kept in it with its rule, and its report is asked for. Raises `InvalidError` where it lacks
    something, `ConflictError` where another one was signed meanwhile, `NotAllowedError` for a wrong password.
    """
    with database.reading() as session:
        _check_signable(session, caller, reading_id)
    sessions.confirm_password(database, caller, password)  # outside of a transaction: the hash takes its time
    with database.transaction() as session:
        reading, exam, patient = _check_signable(session, caller, reading_id, lock=True)
        answer = decide_due(session, exam, content_of(reading)) if reading.kind in exam_state.DECIDING_KINDS else None
        reading.basis, task = _describe_basis(session, exam), open_task(session, caller, exam)
        if answer is not None:
            reading.due, reading.due_by = due.describe_answer(answer), answer.due_by
        reading.signed_at = now()
        reading.digest = digest_of(reading)
        if reading.kind in exam_state.DECIDING_KINDS:
            exam.state, exam.signed_at = "signed", exam.signed_at or reading.signed_at
        audit.record(
            session, caller, "reading.sign", "reading", reading.id, exam.site_id,
            exam=exam.id, kind=reading.kind, digest=reading.digest, supersedes=reading.supersedes,
        )  # fmt: skip
        due.refresh_due(session, patient)
        exam_state.refresh_exam(session, exam)
        if task is not None and task.kind == reading.kind:
            task.reading_id, task.reader_id, task.done_at = reading.id, reading.reader_id, reading.signed_at
        second_readings.note_signed(session, caller, reading, current_reading(session, exam))
        if reading.kind in exam_state.DECIDING_KINDS:
            outbox.ask_for_signed_answer(session, reading)
            for number in filter(None, (reading.id, reading.supersedes)):  # the superseded one's report says so
                key = f"report:{number}:{caller.language}:{reading.id}"
                jobs.add_job(session, "report", key, {"reading": number, "language": caller.language}, exam.site_id, 60)
    return reading


def _check_signable(
    session: Session, caller: Caller, reading_id: int, lock: bool = False
) -> tuple[Reading, Exam, Patient]:
    """The reading with its exam and patient, where the caller may sign it now."""
    caller.require(Role.READER)
    reading = get_reading(session, caller, reading_id)
    exam = session.get_one(Exam, reading.exam_id)
    if lock:
        session.refresh(exam, with_for_update=True)
        session.refresh(reading)
    if reading.reader_id != caller.user_id:
        raise NotAllowedError(_("A reading is signed by the reader who made it. Make your own."))
    if exam.state == "cancelled":
        raise ConflictError(_("This exam was cancelled. Ask the technician to open it again."))
    if reading.signed_at is not None:
        raise ConflictError(_("This reading is signed already. Write a correction or an addendum to it."))
    current = current_reading(session, exam)
    if reading.kind in ("first", *_ADDED_TO) and (current and current.id) != reading.supersedes:
        raise ConflictError(_("Another reading of this exam was signed meanwhile. Load the page again and read it."))
    patient = session.get_one(Patient, exam.patient_id)
    gaps = find_gaps(content_of(reading), patient.kind)
    if gaps:
        raise InvalidError(" ".join(gaps), "eyes")
    return reading, exam, patient


def _describe_basis(session: Session, exam: Exam) -> dict[str, Any]:
    """The photographs that were there to be read, and what the tool said of them, with bundle and version."""
    photographs = session.scalars(
        select(ExamPhotograph)
        .where(ExamPhotograph.exam_id == exam.id, ExamPhotograph.state != "withdrawn")
        .order_by(ExamPhotograph.id)
    ).all()
    gradings = newest_gradings(session, exam)
    return {
        "photographs": [
            {"id": one.id, "digest": one.digest, "eye": one.eye, "view": one.view, "state": one.state, "reason": one.reason}
            for one in photographs
        ],
        "gradings": [
            {
                "id": one.id, "photograph": number, "grader": one.grader, "bundle": one.bundle,
                "bundle_digest": one.bundle_digest, "version": one.version, "status": one.status,
                "probability": one.probability, "suspected": one.suspected,
            }
            for number, one in gradings.items()
        ],
    }  # fmt: skip


def decide_due(session: Session, exam: Exam, content: ReadingContent) -> DueAnswer | None:
    """What the site's guideline says today of an infant if this were its exam's reading; None for an adult.

    Eyes of which nothing was said are left out, as if they had not been examined.
    """
    patient = session.get_one(Patient, exam.patient_id)
    if patient.kind != "infant":
        return None
    said = [EyeReading(**one.model_dump()) for one in content.eyes if not one.gradable or says_something(one)]
    this = due.DecidingReading(exam.day, exam.id, patient.id, Reading(kind="first", eyes=said))
    others = [each for each in due.find_deciding_readings(session, [patient.id]) if each.exam_id != exam.id]
    infant = due.make_infant(patient, sorted((*others, this), key=lambda each: each.day))
    return decide_infant(infant, read_guideline(session.get_one(Site, exam.site_id).guideline), due.today())


def digest_of(reading: Reading) -> str:
    """SHA-256 of what a signed reading says, by whom, when, and on what."""
    content = content_of(reading).model_dump(mode="json")
    content["eyes"].sort(key=lambda one: one["eye"])
    del content["added"]  # they stand among the crossings
    content["crossings"] = sorted(
        [one.photograph_id, one.crossing, round(one.row, 3), round(one.col, 3), one.grade] for one in reading.crossings
    )
    assert reading.signed_at is not None
    values: Mapping[str, Any] = {
        "exam": reading.exam_id, "reader": reading.reader_id, "kind": reading.kind, "supersedes": reading.supersedes,
        "masked": reading.masked, "why": reading.why, "signed_at": reading.signed_at.isoformat(timespec="microseconds"),
        "due": reading.due, "basis": reading.basis, "content": content,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
