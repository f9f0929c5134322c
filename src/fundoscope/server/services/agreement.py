"""How far readers agree with each other and with themselves, and how good the tool and each reader are, over time, by camera and site.

The unit is an eye (for nicking a crossing), the interval draws patients.

kappas       first against masked second reading, and first reading against its masked repeat by the same reader: kappa for
             treatment-requiring and referral-warranted, quadratic kappa (Cohen 1968) for zone, stage, plus and grades of nicking
tool         an eye is suspected where any of its photographs is; against "ROP seen" of the reading that speaks for the exam. Readers who
             saw the tool's answer lean to it, so what was read masked is given apart
readers      of exams that two have read: what a reader said in the first or second reading against what the two agreed on, or the third
             decided, on referral-warranted. Where two agree both count as right: these figures flatter, and compare readers and months

An eye that could not be graded, or whose findings leave the question open, counts in none of them; nor does, for a reader, an exam that
they are to read again: with few exams in a month or at a camera the figures would tell what the tool and others said of it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, defer, selectinload

from fundoscope.evaluation.metrics.agreement import agreement_estimates
from fundoscope.guidelines.rules import PLUS, ZONES
from fundoscope.server.models import (
    Exam,
    ExamPhotograph,
    EyeReading,
    Grading,
    Reading,
    ReadingTask,
    Site,
    User,
    now,
)
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.services import audit
from fundoscope.server.services.exam_state import DECIDING_KINDS, classify_eye
from fundoscope.server.services.inputs import PeriodQuery
from fundoscope.server.services.programme import Share, measure_share, month_before
from fundoscope.server.services.readings import masked_exams
from fundoscope.server.services.second_readings import find_differences, needs_treatment, warrants_referral

STAGES = ("0", "1", "2", "3", "4", "5")
Question = Literal["treatment", "referral", "zone", "stage", "plus", "nicking"]
Slice = Literal["all", "masked", "month", "camera", "site"]


class KappaRow(BaseModel):
    """Agreement on one question: `n` eyes or crossings that both graded, of `groups` patients; None where kappa is not defined.

    `weighted` tells quadratic kappa. `same` is the share on which both said the same.
    """

    pair: Literal["two readers", "one reader twice"]
    question: Question
    weighted: bool
    n: int
    groups: int
    kappa: float | None
    low: float | None
    high: float | None
    same: float | None


class AccuracyRow(BaseModel):
    """Sensitivity and specificity of the tool or of a reader, of all eyes or of a slice (`value` names the month, camera or site)."""

    who: str
    reader: int | None
    question: Literal["ROP seen", "referral-warranted"]
    slice: Slice
    value: str
    sensitivity: Share
    specificity: Share


class TaskCounts(BaseModel):
    """Second readings of one site: how many were asked for, and how many of them still wait. Repeats are not told apart."""

    site: int
    site_name: str
    share: float
    asked: int
    waiting: int
    adjudications: int
    adjudications_waiting: int


class AgreementFigures(BaseModel):
    """All figures of agreement, of exams of the last `months`. `left_out` counts eyes whose findings leave "ROP seen" open.

    `kept_back` counts exams that stand in no figure since the caller is to read them again, not knowing what was said of them.
    """

    months: int
    exams_read: int
    exams_read_twice: int
    left_out: int
    kept_back: int
    tasks: list[TaskCounts]
    kappas: list[KappaRow]
    accuracy: list[AccuracyRow]


@dataclass(frozen=True)
class _ReadExam:
    """An exam with its signed readings by kind: the first as it was first signed, and `current`, which speaks for the exam."""

    exam: Exam
    current: Reading
    by_kind: dict[str, Reading]


@dataclass(frozen=True)
class _Judged:
    """One eye of which it is known what it was and what somebody said."""

    who: int | None  # None: the tool
    truth: bool
    said: bool
    patient: int
    month: str
    camera: str
    site: str
    masked: bool


def measure_agreement(
    session: Session, caller: Caller, query: PeriodQuery, at: datetime | None = None
) -> AgreementFigures:
    """The figures of the caller's sites. Administrators see every reader by name, a reader themself and the others together."""
    caller.require(Role.READER, Role.ADMINISTRATOR)
    if query.site is not None:
        caller.require_site(query.site)
    numbers = [query.site] if query.site is not None else sorted(caller.sites)
    sites = {site.id: site for site in session.scalars(select(Site).where(Site.id.in_(numbers)).order_by(Site.name))}
    first_day = month_before((at or now()).astimezone().date(), query.months - 1)
    exams = _load(session, list(sites), first_day)
    unknown = set(session.scalars(masked_exams(caller)))
    known = [each for each in exams if each.exam.id not in unknown]
    kept_back, exams = len(exams) - len(known), known
    tool, left_out = _judge_tool(session, exams, sites)
    people = _judge_readers(exams, sites)
    return AgreementFigures(
        months=query.months, exams_read=len(exams), exams_read_twice=sum("second" in each.by_kind for each in exams),
        left_out=left_out, kept_back=kept_back, tasks=_count_tasks(session, sites), kappas=_measure_kappas(exams),
        accuracy=_measure_accuracy(tool, "ROP seen", "tool")
        + _rows_of_readers(session, caller, people),
    )  # fmt: skip


def record_view(session: Session, caller: Caller, query: PeriodQuery) -> None:
    """Write into the audit log that the figures were looked at."""
    audit.record(session, caller, "agreement.view", site_id=query.site, months=query.months)


def sees_rop(eye: EyeReading) -> bool | None:
    """Whether a reader saw ROP in an eye; None where it could not be graded, has regressed, or the findings leave it open."""
    if not eye.gradable or eye.regression == "regressed":
        return None
    if eye.aggressive or eye.plus == "plus" or eye.stage not in (None, "0"):
        return True
    seen_none = eye.stage == "0" or (eye.vascularised and eye.plus in (None, "no"))
    return False if seen_none else None


# --- what was read


def _load(session: Session, sites: Sequence[int], first_day: object) -> list[_ReadExam]:
    """The exams that somebody has signed, with their readings; two statements and one for their parts."""
    wanted = Exam.site_id.in_(sites), Exam.day >= first_day, Exam.state != "cancelled"
    rows = session.scalars(
        select(Reading)
        .join(Exam, Reading.exam_id == Exam.id)
        .where(*wanted, Reading.signed_at.is_not(None))
        .options(selectinload(Reading.eyes), selectinload(Reading.crossings), defer(Reading.basis), defer(Reading.due))
        .order_by(Reading.exam_id, Reading.signed_at, Reading.id)
    ).all()
    exams = {exam.id: exam for exam in session.scalars(select(Exam).where(*wanted, Exam.state == "signed"))}
    by_exam: dict[int, list[Reading]] = defaultdict(list)
    for reading in rows:
        by_exam[reading.exam_id].append(reading)
    found = []
    for number, readings in by_exam.items():
        superseded = {reading.supersedes for reading in readings}
        deciding = [each for each in readings if each.kind in DECIDING_KINDS and each.id not in superseded]
        if number in exams and deciding:
            by_kind: dict[str, Reading] = {}
            for reading in readings:
                by_kind.setdefault(reading.kind, reading)
            found.append(_ReadExam(exams[number], deciding[-1], by_kind))
    return found


def _judge_tool(session: Session, exams: Sequence[_ReadExam], sites: dict[int, Site]) -> tuple[list[_Judged], int]:
    """Eyes that the tool and the deciding reading judged; how many eyes the reading leaves open."""
    newest = select(func.max(Grading.id)).where(Grading.suspected.is_not(None)).group_by(Grading.photograph_id)
    rows = session.execute(
        select(ExamPhotograph.exam_id, ExamPhotograph.eye, func.max(case((Grading.suspected.is_(True), 1), else_=0)))
        .join(Grading, Grading.photograph_id == ExamPhotograph.id)
        .where(
            ExamPhotograph.site_id.in_(sites),
            ExamPhotograph.state == "graded",
            ExamPhotograph.eye != "",
            Grading.id.in_(newest),
        )
        .group_by(ExamPhotograph.exam_id, ExamPhotograph.eye)
    )
    suspected = {(exam, eye): bool(most) for exam, eye, most in rows}
    judged, left_out = [], 0
    for each in exams:
        for eye in each.current.eyes:
            said, truth = suspected.get((each.exam.id, eye.eye)), sees_rop(eye)
            if said is None:
                continue
            if truth is None:
                left_out += 1
                continue
            judged.append(_judge(each, None, truth, said, sites, each.current.masked))
    return judged, left_out


def _judge_readers(exams: Iterable[_ReadExam], sites: dict[int, Site]) -> list[_Judged]:
    """Eyes of exams that two have read and that are settled: what each of the two said on referral-warranted."""
    judged = []
    for each in exams:
        first, second, third = (each.by_kind.get(kind) for kind in ("first", "second", "adjudication"))
        if first is None or second is None or (third is None and find_differences(first, second)):
            continue
        settled = {eye.eye: _refers(eye) for eye in (third or first).eyes}
        for reading in (first, second):
            for eye in reading.eyes:
                truth, said = settled.get(eye.eye), _refers(eye)
                if truth is not None and said is not None:
                    judged.append(_judge(each, reading.reader_id, truth, said, sites, reading.masked))
    return judged


def _judge(each: _ReadExam, who: int | None, truth: bool, said: bool, sites: dict[int, Site], masked: bool) -> _Judged:
    exam = each.exam
    month = exam.day.strftime("%Y-%m")
    return _Judged(who, truth, said, exam.patient_id, month, exam.camera, sites[exam.site_id].name, masked)


def _refers(eye: EyeReading) -> bool | None:
    return warrants_referral(classify_eye(eye)) if eye.gradable else None


# --- figures


def _measure_kappas(exams: Sequence[_ReadExam]) -> list[KappaRow]:
    """A row for each pair and question of which something was graded twice."""
    rows = []
    for pair, kind in (("two readers", "second"), ("one reader twice", "repeat")):
        given: dict[Question, list[tuple[int, int, int]]] = defaultdict(list)
        for each in exams:
            first, second = each.by_kind.get("first"), each.by_kind.get(kind)
            if first is None or second is None:
                continue
            for question, one, other in _compare(first, second):
                given[question].append((one, other, each.exam.patient_id))
        for question, (classes, weighted) in _QUESTIONS.items():
            if not given[question]:
                continue
            one, other, patients = zip(*given[question], strict=True)
            found = agreement_estimates(one, other, patients, classes)
            kappa = found["quadratic_kappa" if weighted else "kappa"]
            rows.append(
                KappaRow(
                    pair=pair, question=question, weighted=weighted, n=kappa.n, groups=kappa.groups, kappa=_known(kappa.value),
                    low=_known(kappa.low), high=_known(kappa.high), same=_known(found["same_class"].value),
                )
            )  # fmt: skip
    return rows


#: Of each question the number of classes, and whether a disagreement counts by its distance.
_QUESTIONS: dict[Question, tuple[int, bool]] = {
    "treatment": (2, False),
    "referral": (2, False),
    "zone": (3, True),
    "stage": (len(STAGES), True),
    "plus": (3, True),
    "nicking": (4, True),
}


def _compare(first: Reading, second: Reading) -> Iterable[tuple[Question, int, int]]:
    """What both readings say, question by question and eye by eye, as numbers of classes."""
    others = {eye.eye: eye for eye in second.eyes if eye.gradable}
    for eye in first.eyes:
        other = others.get(eye.eye)
        if not eye.gradable or other is None:
            continue
        for question, read in _ANSWERS.items():
            one, two = read(eye), read(other)
            if one is not None and two is not None:
                yield question, int(one), int(two)
    # those that a reader has added have numbers of that reading only
    grades = {(each.photograph_id, each.crossing): each.grade for each in second.crossings if not each.added}
    for each in first.crossings:
        grade = grades.get((each.photograph_id, each.crossing))
        if each.grade is not None and grade is not None:
            yield "nicking", each.grade, grade


def _place(order: Sequence[str], value: str | None) -> int | None:
    return order.index(value) if value in order else None


_ANSWERS: dict[Question, Callable[[EyeReading], int | None]] = {
    "treatment": lambda eye: needs_treatment(classify_eye(eye)),
    "referral": lambda eye: warrants_referral(classify_eye(eye)),
    "zone": lambda eye: _place(ZONES, eye.zone),
    "stage": lambda eye: _place(STAGES, (eye.stage or "")[:1]),
    "plus": lambda eye: _place(PLUS, eye.plus),
}


def _measure_accuracy(
    judged: Sequence[_Judged], question: Literal["ROP seen", "referral-warranted"], who: str, reader: int | None = None
) -> list[AccuracyRow]:
    """Rows of all eyes, of what was read masked, and by month, camera and site."""
    slices: dict[tuple[Slice, str], list[_Judged]] = defaultdict(list)
    for each in judged:
        slices["all", ""].append(each)
        if each.masked:
            slices["masked", ""].append(each)
        slices["month", each.month].append(each)
        slices["camera", each.camera].append(each)
        slices["site", each.site].append(each)
    order = ("all", "masked", "month", "camera", "site")
    rows = []
    for (name, value), found in sorted(slices.items(), key=lambda entry: (order.index(entry[0][0]), entry[0][1])):
        ill, well = ([each for each in found if each.truth is truth] for truth in (True, False))
        rows.append(
            AccuracyRow(
                who=who, reader=reader, question=question, slice=name, value=value,
                sensitivity=measure_share([each.said for each in ill], [each.patient for each in ill]),
                specificity=measure_share([not each.said for each in well], [each.patient for each in well]),
            )
        )  # fmt: skip
    return rows


def _rows_of_readers(session: Session, caller: Caller, judged: Sequence[_Judged]) -> list[AccuracyRow]:
    """Rows of each reader by name for an administrator; for a reader their own, and those of the others together."""
    numbers = sorted({each.who for each in judged if each.who is not None})
    names = dict(session.execute(select(User.id, User.full_name).where(User.id.in_(numbers))).all()) if numbers else {}
    rows: list[AccuracyRow] = []
    if caller.role is Role.ADMINISTRATOR:
        for number in numbers:
            mine = [each for each in judged if each.who == number]
            rows += _measure_accuracy(mine, "referral-warranted", names[number], number)
        return rows
    for who, reader, found in (
        ("you", caller.user_id, [each for each in judged if each.who == caller.user_id]),
        ("other readers", None, [each for each in judged if each.who != caller.user_id]),
    ):
        rows += _measure_accuracy(found, "referral-warranted", who, reader)
    return rows


def _count_tasks(session: Session, sites: dict[int, Site]) -> list[TaskCounts]:
    """How many second readings each site has asked for; hidden repeats are counted with them."""
    waits = case((ReadingTask.done_at.is_(None), 1), else_=0)
    rows = session.execute(
        select(ReadingTask.site_id, ReadingTask.kind, func.count(), func.sum(waits))
        .join(Exam, ReadingTask.exam_id == Exam.id)
        .where(ReadingTask.site_id.in_(sites), Exam.state != "cancelled")
        .group_by(ReadingTask.site_id, ReadingTask.kind)
    ).all()
    counts: dict[tuple[int, bool], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for number, kind, asked, waiting in rows:
        before = counts[number, kind == "adjudication"]
        counts[number, kind == "adjudication"] = before[0] + asked, before[1] + int(waiting)
    found = []
    for site in sites.values():
        (asked, waiting), (thirds, thirds_waiting) = (counts[site.id, third] for third in (False, True))
        found.append(
            TaskCounts(
                site=site.id, site_name=site.name, share=site.second_reading_share, asked=asked, waiting=waiting,
                adjudications=thirds, adjudications_waiting=thirds_waiting,
            )
        )  # fmt: skip
    return found


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
