"""What the reader's page shows of an exam: photographs by eye and view, earlier exams, what the tool said, what is entered so far.

The tool's answer is left out here, and not only not drawn, while it is hidden from the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from fundoscope.languages import gettext as _
from fundoscope.server.errors import InvalidError
from fundoscope.server.models import EYES, VIEWS, Exam, ExamPhotograph, Grading, Patient, Reading, Site, User
from fundoscope.server.permissions import Caller, Role, get_owned
from fundoscope.server.services import audit, exam_state, readings
from fundoscope.server.services.due import describe_answer, gestational_age_of
from fundoscope.server.services.due_words import describe_reasons, describe_when
from fundoscope.server.services.eye_findings import (
    EyeFindings,
    ReadingContent,
    check_content,
    describe_findings,
    eye_name,
    find_gaps,
    says_something,
)
from fundoscope.server.services.patients import find_masked_exams
from fundoscope.server.services.readings import ReadingKind

_EARLIER = 12  # exams that the page offers for comparison


@dataclass(frozen=True)
class ShownPhotograph:
    """A photograph as the page shows it; `grading` is None while the tool's answer is hidden or there is none.

    `crossings` are rows of the grading with their number, place and width profile, without the tool's grade where that is hidden.
    """

    row: ExamPhotograph
    grading: Grading | None
    crossings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def map_place(self) -> list[float] | None:
        """Left, top, width and height of the activation map, as shares of the photograph; None where there is none."""
        return None if self.grading is None else self.grading.pictures.get("activation_place")


@dataclass(frozen=True)
class ShownExam:
    """An exam with its photographs in the order right eye, left eye, none; each from the disc outwards.

    `age` is postmenstrual, in days; `reading` the one that counts, where the caller may see it. `hidden` is whether the tool's answer
    on it is, `masked` whether the caller is to read it again.
    """

    exam: Exam
    age: int | None
    photographs: list[ShownPhotograph]
    reading: Reading | None
    hidden: bool = False
    masked: bool = False


@dataclass(frozen=True)
class ReaderPage:
    """Everything that the page needs; `kind` is what the caller is about to write, None for somebody who only looks.

    `content` is what is entered so far: the draft, else for a correction or addendum what it starts from. `hidden` is whether the
    tool's answer is; `others` are the readings that an adjudication compares. `masked` is the number of the task by which the exam
    is read without knowing whose it is, else None: there are no earlier exams then.
    """

    shown: ShownExam
    patient: Patient
    site: Site
    earlier: list[ShownExam]
    kind: ReadingKind | None
    content: ReadingContent
    draft: Reading | None
    hidden: bool
    masked: int | None
    others: list[Reading]
    names: dict[int, str]  # of accounts

    @property
    def exam(self) -> Exam:
        """The exam that is read."""
        return self.shown.exam

    @property
    def adult(self) -> bool:
        """Whether crossings are graded, and not ROP."""
        return self.patient.kind == "adult"


def open_reader_page(session: Session, caller: Caller, exam_id: int, wanted: str = "") -> ReaderPage:
    """The page of an exam; `wanted` is `correction` or `addendum` where the caller asked for one. The view is logged."""
    caller.require(Role.READER)
    exam = get_owned(session, caller, Exam, exam_id)
    patient, site = session.get_one(Patient, exam.patient_id), session.get_one(Site, exam.site_id)
    hidden, task = readings.answer_is_hidden(session, caller, exam), readings.open_task(session, caller, exam)
    masked = task.id if task is not None and task.kind in readings.MASKED_KINDS else None
    seen = readings.list_readings(session, caller, exam)
    current = None if masked is not None else readings.current_reading(session, exam)
    kind = _choose_kind(task.kind if task is not None else "", current, wanted, exam)
    draft = readings.find_draft(session, caller, exam, kind) if kind is not None else None
    start = draft or (current if kind in ("correction", "addendum", None) else None)
    before = [] if masked is not None else _find_earlier(session, caller, exam)
    audit.record(session, caller, "exam.read", "exam", exam.id, exam.site_id, hidden=hidden)
    shown = _show_exams(session, [exam, *before], patient)
    earlier = _hide_earlier(session, caller, patient, shown[1:])
    named = {
        exam.acknowledged_by,
        *(
            one.reader_id
            for one in (*seen, *(each.reading for each in earlier if each.reading), *([current] if current else []))
        ),
    }
    users = session.scalars(select(User).where(User.id.in_(named - {None})))
    names = {user.id: user.full_name for user in users}
    mine = replace(_hide_answers(shown[0]) if hidden else shown[0], reading=current)
    return ReaderPage(
        mine, patient, site, earlier, kind, readings.content_of(start) if start is not None else ReadingContent(), draft,
        hidden, masked, [one for one in seen if one.signed_at is not None and (kind == "adjudication" or one is not current)], names,
    )  # fmt: skip


def _find_earlier(session: Session, caller: Caller, exam: Exam) -> Sequence[Exam]:
    """Exams of the same patient to look at beside this one, the newest first."""
    same = Exam.patient_id == exam.patient_id, Exam.site_id.in_(caller.sites)
    query = select(Exam).where(*same, Exam.day < exam.day, Exam.state != "cancelled")
    return session.scalars(query.order_by(Exam.day.desc(), Exam.id.desc()).limit(_EARLIER)).all()


def _choose_kind(task: str, current: Reading | None, wanted: str, exam: Exam) -> ReadingKind | None:
    """What the caller is about to write: what was asked for, else the first reading, else nothing."""
    if exam.state == "cancelled":
        return None
    adds = current is not None and wanted in ("correction", "addendum") and task not in readings.MASKED_KINDS
    asked = wanted if adds else task or ("first" if current is None else "")
    return next((kind for kind in readings.KINDS if kind == asked), None)


def _show_exams(session: Session, exams: Sequence[Exam], patient: Patient) -> list[ShownExam]:
    """The exams with their photographs, gradings and readings: three queries for all."""
    numbers = [exam.id for exam in exams]
    photographs = session.scalars(
        select(ExamPhotograph)
        .where(ExamPhotograph.exam_id.in_(numbers), ExamPhotograph.state != "withdrawn")
        .order_by(ExamPhotograph.id)
    ).all()
    gradings: dict[int, Grading] = {
        grading.photograph_id: grading
        for grading in session.scalars(
            select(Grading).join(ExamPhotograph).where(ExamPhotograph.exam_id.in_(numbers)).order_by(Grading.id)
        )
    }
    signed = session.scalars(
        select(Reading)
        .where(
            Reading.exam_id.in_(numbers), Reading.signed_at.is_not(None), Reading.kind.in_(exam_state.DECIDING_KINDS)
        )
        .options(selectinload(Reading.eyes), selectinload(Reading.crossings))
        .order_by(Reading.signed_at, Reading.id)
    ).all()
    superseded = {reading.supersedes for reading in signed}
    current = {reading.exam_id: reading for reading in signed if reading.id not in superseded}
    shown = []
    for exam in exams:
        own = sorted((one for one in photographs if one.exam_id == exam.id), key=_place)
        listed = [ShownPhotograph(one, gradings.get(one.id), _list_crossings(gradings.get(one.id))) for one in own]
        shown.append(ShownExam(exam, _age_on(patient, exam), listed, current.get(exam.id)))
    return shown


def _place(photograph: ExamPhotograph) -> tuple[int, int, int]:
    eyes, views = (*EYES, ""), (*VIEWS, "")
    return eyes.index(photograph.eye), views.index(photograph.view), photograph.id


def _age_on(patient: Patient, exam: Exam) -> int | None:
    age = gestational_age_of(patient)
    return None if age is None or patient.birth_date is None else age.days + (exam.day - patient.birth_date).days


def _list_crossings(grading: Grading | None) -> list[dict[str, Any]]:
    rows = [] if grading is None else grading.rows.get("rows", ())
    pictures = {} if grading is None else grading.pictures
    return [
        {
            **{name: row.get(name) for name in _CROSSING}, "profile": pictures.get(f"profile_{row['crossing']}"),
            "pictures": [name for name in ("crossing", "vessels", "attention") if f"{name}_{row['crossing']}" in pictures],
        }
        for row in rows
        if row.get("crossing") is not None
    ]  # fmt: skip


_CROSSING = (
    "crossing", "row", "col", "confidence", "artery_width_px", "vein_width_px", "narrowing_1", "narrowing_2", "p0", "p1", "p2",
    "p3", "grade", "reason",
)  # fmt: skip


def _hide_earlier(session: Session, caller: Caller, patient: Patient, earlier: Sequence[ShownExam]) -> list[ShownExam]:
    """Earlier exams without what the caller is not to know of them: findings of one to be read again, hidden answers of the tool."""
    masked = find_masked_exams(session, caller, [patient.id])
    hidden = readings.find_hidden(session, caller, [one.exam.id for one in earlier])
    shown = [_hide_answers(one) if one.exam.id in hidden else one for one in earlier]
    return [replace(one, reading=None, masked=True) if one.exam.id in masked else one for one in shown]


def _hide_answers(shown: ShownExam) -> ShownExam:
    return replace(shown, photographs=[_hide_answer(one) for one in shown.photographs], hidden=True)


def _hide_answer(shown: ShownPhotograph) -> ShownPhotograph:
    """The photograph with what the tool found where, and without what it thinks of it."""
    kept = ("crossing", "row", "col")
    crossings = [{name: one[name] for name in kept} | {"profile": None, "pictures": []} for one in shown.crossings]
    return ShownPhotograph(shown.row, None, crossings)


# --- what follows from findings, while they are entered


class EyePreview(BaseModel):
    """Findings of one eye in words, and what they amount to; None where what was not said leaves it open."""

    eye: str
    words: str
    etrop: str | None = None
    referral: bool | None = None
    aggressive: bool = False


class DuePreview(BaseModel):
    """What would be due by these findings, with the rule; see `due.describe_answer` for the rest."""

    when: str
    urgent: bool
    reasons: list[str]
    guideline: str
    rule: str | None
    sentence: str | None
    source: str | None


class ReadingPreview(BaseModel):
    """What follows from findings; `gaps` is what must be entered or put right before they can be signed.

    `due` is null for an adult, and in a masked reading, whose reader is not to know the infant's days.
    """

    eyes: list[EyePreview]
    due: DuePreview | None
    hints: list[str]
    gaps: list[str]


def preview_reading(session: Session, caller: Caller, exam_id: int, content: ReadingContent) -> ReadingPreview:
    """What would follow if these were the findings of the exam; nothing is kept."""
    caller.require(Role.READER)
    exam = get_owned(session, caller, Exam, exam_id)
    kind = session.get_one(Patient, exam.patient_id).kind
    eyes = [
        EyePreview(eye=one.eye, words=describe_findings(one, kind) if _is_told(one, kind) else _("nothing entered yet"), aggressive=bool(one.aggressive))
        for one in content.eyes
    ]  # fmt: skip
    try:
        check_content(content, kind)
    except InvalidError as error:
        return ReadingPreview(eyes=eyes, due=None, hints=[], gaps=[str(error)])
    hints = [
        _("{eye}: photograph again within 24 hours, else examine by ophthalmoscopy (AAP 2015).").format(
            eye=eye_name(one.eye)
        )
        for one in content.eyes
        if kind == "infant" and not one.gradable
    ]
    answer = readings.decide_due(session, exam, content) if any(_is_told(one, kind) for one in content.eyes) else None
    if answer is not None:
        by_eye = {each.exam.eye: each for each in answer.eyes if each.exam.day == exam.day}
        for one in eyes:
            if one.eye in by_eye:
                one.etrop, one.referral = by_eye[one.eye].etrop, by_eye[one.eye].referral_warranted
    masked = readings.is_masked(session, caller, exam)
    due = None if answer is None or masked else describe_due(describe_answer(answer))
    return ReadingPreview(eyes=eyes, due=due, hints=hints, gaps=find_gaps(content, kind))


def describe_due(answer: dict[str, Any]) -> DuePreview:
    """An answer on what is due, as it is kept, for a page."""
    return DuePreview(
        when=describe_when(answer), urgent=answer["urgency"] in ("treat", "refer"), reasons=describe_reasons(answer),
        guideline=answer["guideline"], rule=answer["rule"], sentence=answer["sentence"], source=answer["source"],
    )  # fmt: skip


def _is_told(one: EyeFindings, kind: str) -> bool:
    return not one.gradable or says_something(one) or (kind == "adult" and bool(one.quality))
