"""The course of a patient over its exams: what readers found in each eye, what the tool said, and when the next exam was due.

What the caller is not to know is left out: findings of an exam that they are to read again without knowing them, and the tool's
answer where the site hides it until the first reading is saved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.guidelines import postmenstrual_age
from fundoscope.server.models import (
    EYES,
    Correction,
    Exam,
    ExamPhotograph,
    EyeReading,
    Grading,
    Patient,
    Reading,
    User,
)
from fundoscope.server.permissions import Caller
from fundoscope.server.services.due import find_deciding_readings, gestational_age_of
from fundoscope.server.services.exam_state import classify_eye
from fundoscope.server.services.patients import find_masked_exams
from fundoscope.server.services.readings import find_hidden


@dataclass
class ToolAnswer:
    """What the tool said of one eye's photographs of an exam: how many it graded, how many it refused, the highest probability.

    `suspected` None: nothing was graded. `worst_grade` is of nicking, of adults.
    """

    graded: int = 0
    refused: int = 0
    suspected: bool | None = None
    highest_p: float | None = None
    worst_grade: int | None = None


@dataclass(frozen=True)
class EyeOfExam:
    """One eye at one exam: the reader's findings (None: no signed reading), the tool's answer (None: hidden or no photographs).

    `severity` orders findings for the drawing: 0 no ROP, 1 ROP, 2 type 2 or referral-warranted, 3 type 1 or A-ROP; None: not known.
    """

    eye: str
    findings: EyeReading | None
    tool: ToolAnswer | None
    severity: int | None


@dataclass(frozen=True)
class ExamOfCourse:
    """An exam with both eyes; `age` in days, None where it cannot be worked out. `due` is what the signed reading led to."""

    exam: Exam
    age: int | None
    eyes: Mapping[str, EyeOfExam]
    reading: Reading | None
    reader: str
    masked: bool
    hidden: bool
    due: Mapping[str, Any] | None
    worst_nicking: int | None


@dataclass(frozen=True)
class CourseMark:
    """An exam on the drawing: where it stands from left (0) to right (1000), and each eye's severity with its short text."""

    at: float
    exam: ExamOfCourse
    texts: Mapping[str, str]


@dataclass(frozen=True)
class CourseDrawing:
    """A line of time in weeks: marks of exams, ticks with their text, and the window in which the next exam is due."""

    marks: Sequence[CourseMark] = ()
    ticks: Sequence[tuple[float, str]] = ()
    window: tuple[float, float] | None = None
    today: float | None = None


@dataclass(frozen=True)
class PatientCourse:
    """The whole page of a patient: exams (newest first), the drawing, corrections with the names of who made them."""

    exams: Sequence[ExamOfCourse]
    drawing: CourseDrawing
    corrections: Sequence[tuple[Correction, str]] = ()
    masked: bool = False
    authors: Mapping[int, str] = field(default_factory=dict)


def find_course(session: Session, caller: Caller, patient: Patient, on: date) -> PatientCourse:
    """The course of a patient as the caller may know it; the number of queries does not grow with the exams."""
    exams = session.scalars(select(Exam).where(Exam.patient_id == patient.id).order_by(Exam.day, Exam.id)).all()
    numbers = [exam.id for exam in exams]
    masked = find_masked_exams(session, caller, [patient.id])
    hidden = find_hidden(session, caller, numbers)
    readings = {each.exam_id: each.reading for each in find_deciding_readings(session, [patient.id])}
    tools = _find_answers(session, numbers)
    nicking = _find_nicking(readings.values())
    people = {reading.reader_id for reading in readings.values()}
    corrections = _find_corrections(session, patient, numbers)
    people |= {row.created_by for row in corrections if row.created_by is not None}
    names = {user.id: user.full_name for user in session.scalars(select(User).where(User.id.in_(people)))}
    age = gestational_age_of(patient) if patient.kind == "infant" else None
    course = []
    for exam in exams:
        reading = None if exam.id in masked else readings.get(exam.id)
        found = {} if reading is None else {eye.eye: eye for eye in reading.eyes}
        eyes = {
            eye: EyeOfExam(
                eye, found.get(eye), None if exam.id in hidden else tools.get((exam.id, eye)), _severity(found.get(eye))
            )
            for eye in EYES
        }
        course.append(
            ExamOfCourse(
                exam,
                None if age is None or patient.birth_date is None else postmenstrual_age(patient.birth_date, age, exam.day),
                eyes, reading, names.get(reading.reader_id, "") if reading else "", exam.id in masked, exam.id in hidden,
                reading.due if reading else None, nicking.get(exam.id) if reading else None,
            )
        )  # fmt: skip
    told = [(row, names.get(row.created_by or 0, "")) for row in corrections]
    return PatientCourse(course[::-1], draw_course(course, patient, on), told, bool(masked))


def _severity(eye: EyeReading | None) -> int | None:
    if (
        eye is None
        or not eye.gradable
        or not (eye.stage or eye.aggressive or eye.vascularised or eye.regression == "regressed")
    ):
        return None
    classes = classify_eye(eye)
    if classes.type_1 or classes.aggressive:
        return 3
    if classes.referral:
        return 2
    return 0 if eye.stage in (None, "0") else 1


def _find_answers(session: Session, exams: Sequence[int]) -> dict[tuple[int, str], ToolAnswer]:
    """What the tool said, by exam and eye: of each photograph the newest grading counts; withdrawn ones are left out."""
    newest: dict[int, tuple[ExamPhotograph, Grading | None]] = {}
    rows = session.execute(
        select(ExamPhotograph, Grading)
        .outerjoin(Grading, Grading.photograph_id == ExamPhotograph.id)
        .where(ExamPhotograph.exam_id.in_(exams), ExamPhotograph.state != "withdrawn")
        .order_by(ExamPhotograph.id, Grading.id)
    ).all()
    for photograph, grading in rows:
        newest[photograph.id] = (photograph, grading)
    answers: dict[tuple[int, str], ToolAnswer] = defaultdict(ToolAnswer)
    for photograph, grading in newest.values():
        answer = answers[photograph.exam_id, photograph.eye]
        answer.graded += photograph.state == "graded"
        answer.refused += photograph.state in ("refused", "failed")
        if grading is None or photograph.state != "graded":
            continue
        if grading.suspected is not None:
            answer.suspected = bool(answer.suspected) or grading.suspected
        if grading.probability is not None:
            answer.highest_p = max(answer.highest_p or 0.0, grading.probability)
        grades = [row["grade"] for row in grading.rows.get("rows", ()) if isinstance(row.get("grade"), int)]
        answer.worst_grade = max([*grades, *([] if answer.worst_grade is None else [answer.worst_grade])], default=None)
    return dict(answers)


def _find_nicking(readings: Iterable[Reading]) -> dict[int, int]:
    """The worst grade of nicking that a reader gave, by exam."""
    worst = {}
    for reading in readings:
        grades = [crossing.grade for crossing in reading.crossings if crossing.grade is not None]
        if grades:
            worst[reading.exam_id] = max(grades)
    return worst


def _find_corrections(session: Session, patient: Patient, exams: Sequence[int]) -> Sequence[Correction]:
    photographs = select(ExamPhotograph.id).where(ExamPhotograph.exam_id.in_(exams)).scalar_subquery()
    subject, number = Correction.subject, Correction.subject_id
    mine = (
        ((subject == "patient") & (number == patient.id))
        | ((subject == "exam") & number.in_(exams))
        | ((subject == "photograph") & number.in_(photographs))
    )
    query = select(Correction).where(Correction.site_id == patient.site_id, mine)
    return session.scalars(query.order_by(Correction.id.desc()).limit(200)).all()


# --- the drawing

_LEFT, _RIGHT = 130.0, 960.0  # of 1000: the names of the eyes stand before the line
_TICKS = 10  # at most


def draw_course(exams: Sequence[ExamOfCourse], patient: Patient, on: date) -> CourseDrawing:
    """Where exams, the due window and today stand on a line of time; ticks are postmenstrual weeks where these are known."""
    done = [each for each in exams if each.exam.state != "cancelled"]
    if patient.kind != "infant" or not done:
        return CourseDrawing()
    days = [each.exam.day for each in done] + [day for day in (patient.due_from, patient.due_by) if day is not None]
    first, last = min(days), max(days)
    if first <= on <= date.fromordinal(last.toordinal() + 28):
        last = max(last, on)
    span = max((last - first).days, 7)

    def place(day: date) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (day - first).days / span, 1)

    marks = [
        CourseMark(place(each.exam.day), each, {eye: _short_text(each.eyes[eye]) for eye in EYES}) for each in done
    ]
    window = None
    if patient.due_by is not None:
        window = place(max(patient.due_from or patient.due_by, first)), place(patient.due_by)
    today = place(on) if first <= on <= last else None
    return CourseDrawing(marks, _draw_ticks(done[0], first, span, place), window, today)


def _draw_ticks(origin: ExamOfCourse, first: date, span: int, place: Any) -> list[tuple[float, str]]:
    """Whole postmenstrual weeks; days of the calendar where ages are not known."""
    step = next(weeks for weeks in (1, 2, 4, 8, 16, 32, 64, 520) if span <= weeks * 7 * _TICKS)
    if origin.age is None:
        days = [date.fromordinal(first.toordinal() + offset) for offset in range(0, span + 1, step * 7)]
        return [(place(day), f"{day:%d %b}") for day in days]
    start = origin.age - (origin.exam.day - first).days
    weeks = [week for week in range(-(-start // 7), (start + span) // 7 + 1) if week % step == 0]
    return [(place(date.fromordinal(first.toordinal() + week * 7 - start)), str(week)) for week in weeks]


def _short_text(eye: EyeOfExam) -> str:
    """Findings in a few characters: II·2+, where + is plus disease and (+) is pre-plus; ? where the eye was not graded."""
    found = eye.findings
    if found is None:
        return ""
    if not found.gradable:
        return "?"
    stage = "A" if found.aggressive else found.stage or ("–" if found.vascularised else "?")
    return f"{found.zone or '?'}·{stage}" + {"plus": "+", "pre-plus": "(+)"}.get(found.plus or "", "")
