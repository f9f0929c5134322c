"""When an infant is to be examined next: its exams' signed readings, asked of the guideline of its site.

The answer is kept in the infant's row, with its rule, the sentence of that rule and its source. It is worked out again in every
transaction that changes the infant or a signed reading, and each night, since "overdue" depends on the day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from fundoscope.guidelines import (
    DueAnswer,
    EyeExam,
    GestationalAge,
    ScreenedInfant,
    carry_treatment,
    decide_infant,
    read_guideline,
)
from fundoscope.guidelines.rules import Plus, Regression, Zone
from fundoscope.server.models import Exam, EyeReading, Job, Patient, Reading, Site, now
from fundoscope.server.room import Room
from fundoscope.server.services.exam_state import DECIDING_KINDS, rule_stage
from fundoscope.server.services.jobs import TakenJob, WriteAnswer, add_job, handler

#: How an infant may have left so that nothing is due any more; one that is lost is still due.
ENDED = ("died", "transferred", "finished")
_KIND = "refresh_due"  # of jobs
_SLICE = 200  # infants of one transaction of the nightly refresh: uploads wait only that long
_RUN_AT = timedelta(minutes=5)  # after midnight


@dataclass(frozen=True, slots=True)
class DecidingReading:
    """The signed reading that speaks for an exam, and the day of that exam."""

    day: date
    exam_id: int
    patient_id: int
    reading: Reading


def today() -> date:
    """The day it is where the room stands."""
    return date.today()


def refresh_due(session: Session, patient: Patient, on: date | None = None) -> None:
    """Work out again what is due for a patient on a day (today), and keep it in its row."""
    session.flush()
    refresh_all_due(session, (patient,), on or today())


def refresh_all_due(session: Session, patients: Sequence[Patient], on: date) -> None:
    """Work out again what is due for these patients: one query for all their readings.

    Nothing is due for adults, for infants that died, moved away or have finished, and for those merged into another one.
    """
    readings = defaultdict(list)
    for each in find_deciding_readings(session, [patient.id for patient in patients]):
        readings[each.patient_id].append(each)
    guidelines = {site.id: site.guideline for site in session.scalars(select(Site))}
    for patient in patients:
        if patient.kind != "infant" or patient.merged_into is not None or patient.left in ENDED:
            patient.due_from = patient.due_by = patient.due = None
            continue
        infant = make_infant(patient, readings[patient.id])
        answer = decide_infant(infant, read_guideline(guidelines[patient.site_id]), on)
        patient.due_from, patient.due_by, patient.due = answer.due_from, answer.due_by, describe_answer(answer)
    session.flush()


def find_deciding_readings(session: Session, patients: Sequence[int]) -> list[DecidingReading]:
    """The reading that speaks for each exam of these patients, oldest exam first; exams that are not signed are left out.

    As `readings.current_reading` has it, for many at once; cancelled exams have none.
    """
    rows = session.execute(
        select(Reading, Exam.day, Exam.patient_id)
        .join(Exam, Exam.id == Reading.exam_id)
        .where(Exam.patient_id.in_(patients), Exam.state != "cancelled")
        .where(Reading.signed_at.is_not(None), Reading.kind.in_(DECIDING_KINDS))
        .options(selectinload(Reading.eyes))
        .order_by(Exam.day, Exam.id, Reading.signed_at, Reading.id)
    ).all()
    superseded = {row[0].supersedes for row in rows}
    newest = {row[0].exam_id: row for row in rows if row[0].id not in superseded}
    return [DecidingReading(day, number, patient, reading) for number, (reading, day, patient) in newest.items()]


def make_infant(patient: Patient, readings: Iterable[DecidingReading]) -> ScreenedInfant:
    """The infant as `fundoscope.guidelines` knows it: no name, and row 0, since it stands in no table."""
    exams = carry_treatment(
        EyeExam(
            line=0, day=each.day, eye=eye.eye, vascularised=bool(eye.vascularised), treated=bool(eye.treated),
            regression=cast(Regression, eye.regression or "no"), **_findings(eye),
        )
        for each in readings
        for eye in each.reading.eyes
    )  # fmt: skip
    gains = patient.weight_gain_10_19, patient.weight_gain_20_29, patient.weight_gain_30_39
    return ScreenedInfant(
        str(patient.id), 0, patient.birth_date, gestational_age_of(patient), patient.birth_weight, exams, gains,
        patient.hydrocephalus,
    )  # fmt: skip


def gestational_age_of(patient: Patient) -> GestationalAge | None:
    """The age at birth of a patient; None where it is not known."""
    if patient.gestational_age is None:
        return None
    return GestationalAge(patient.gestational_age, whole_weeks=patient.gestational_age_in_weeks)


def _findings(eye: EyeReading) -> dict[str, Any]:
    """Zone, stage and plus in the words of the guidelines. An eye that cannot be graded has none."""
    if not eye.gradable:
        return {}
    return {"zone": cast(Zone, eye.zone or None), "stage": rule_stage(eye), "plus": cast(Plus, eye.plus or None)}


def describe_answer(answer: DueAnswer) -> dict[str, Any]:
    """The whole answer as plain JSON: the columns of `rop due`, the day it was worked out for, and each eye's own answer."""
    row = answer.as_row()
    del row["infant"], row["row"]
    eyes = [
        {
            "eye": eye.exam.eye, "exam_date": eye.exam.day.isoformat(), "decision": eye.decision.value, "etrop": eye.etrop,
            "referral_warranted": eye.referral_warranted,
            "due_from": eye.due_from and eye.due_from.isoformat(), "due_by": eye.due_by and eye.due_by.isoformat(),
            "rule": eye.rule and eye.rule.rule, "sentence": eye.rule and eye.rule.sentence,
        }
        for eye in answer.eyes
    ]  # fmt: skip
    return {"on": answer.on.isoformat(), **row, "eyes": eyes}


# --- each night, and after a change of a site's guideline


def schedule_refresh(session: Session, day: date) -> Job:
    """Put the refresh of a day into the queue, to run soon after that day has begun; once, however often it is asked for."""
    begins = datetime.combine(day, datetime.min.time()).astimezone() + _RUN_AT
    return add_job(session, _KIND, f"{_KIND}:{day}", {"day": day.isoformat()}, priority=90, run_after=begins)


def schedule_refresh_of_site(session: Session, site_id: int) -> Job:
    """Put the refresh of a site's infants into the queue, to run at once: its guideline has changed."""
    key = f"{_KIND}:site {site_id}:{now().isoformat()}"
    return add_job(session, _KIND, key, {"site": site_id}, site_id, priority=40)


def _schedule_next_day(session: Session, job: TakenJob, reason: str = "") -> None:
    """One night that failed must not end all that come after it."""
    if "day" in job.payload:
        schedule_refresh(session, max(date.fromisoformat(job.payload["day"]), today()) + timedelta(days=1))


@handler(_KIND, give_up=_schedule_next_day)
def refresh_every_due(room: Room, job: TakenJob) -> WriteAnswer:
    """Work out what is due for every infant, a slice of them in each transaction; then put the next night into the queue.

    It is the due of the day on which the job runs: a room that was switched off for a week does it once.
    """
    for numbers in _slices(room, job.payload.get("site")):
        with room.database.transaction() as session:
            patients = session.scalars(select(Patient).where(Patient.id.in_(numbers)).with_for_update()).all()
            refresh_all_due(session, patients, today())
    return lambda session: _schedule_next_day(session, job)


def _slices(room: Room, site_id: int | None) -> Iterator[Sequence[int]]:
    last = 0
    while True:
        query = select(Patient.id).where(Patient.id > last, Patient.kind == "infant", Patient.merged_into.is_(None))
        if site_id is not None:
            query = query.where(Patient.site_id == site_id)
        with room.database.reading() as session:
            numbers = session.scalars(query.order_by(Patient.id).limit(_SLICE)).all()
        if not numbers:
            return
        yield numbers
        last = numbers[-1]
