"""What the worklist sorts an exam by, worked out from its photographs, gradings and readings, and kept in the exam's own row.

Whoever changes one of these calls `refresh_exam` in the same transaction, so that the worklist reads one table. That the 24 hours
have gone by is not kept here: it depends on the clock, and `services.worklist` asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session, selectinload

from fundoscope.guidelines.rules import PLUS, STAGES, ZONES, Plus, Stage, Zone, etrop_types, referral_classes
from fundoscope.server.dicom import outbox
from fundoscope.server.models import EYES, Exam, ExamPhotograph, EyeReading, Grading, Patient, Reading, Site
from fundoscope.server.models.base import table_of

#: Kinds of readings that speak for the exam; a masked second reading and a hidden repeat do not.
DECIDING_KINDS = ("first", "adjudication", "correction", "addendum")
#: An exam whose `urgency` is below comes first, and somebody must put their name to having seen it.
URGENT_BELOW = 20


class UrgencyReason(StrEnum):
    """Why an exam stands where it stands; `worklist.describe_reason` has the texts. In the order in which they come."""

    TYPE_1 = "type-1"
    AGGRESSIVE = "a-rop"
    REFERRAL = "referral-warranted"
    POSSIBLE_TYPE_1 = "possible-type-1"
    SUSPECTED = "suspected"
    REFUSED_VIEWS = "refused-views"
    MISSING_VIEWS = "missing-views"
    NONE = ""


#: `Exam.urgency` of each reason; lower comes first.
URGENCIES = {
    UrgencyReason.TYPE_1: 0,
    UrgencyReason.AGGRESSIVE: 2,
    UrgencyReason.REFERRAL: 5,
    UrgencyReason.POSSIBLE_TYPE_1: 8,
    UrgencyReason.SUSPECTED: 10,
    UrgencyReason.REFUSED_VIEWS: 30,
    UrgencyReason.MISSING_VIEWS: 32,
    UrgencyReason.NONE: 50,
}


@dataclass(frozen=True, slots=True)
class EyeClasses:
    """What a reader's findings of an eye amount to; None where a finding that was not said leaves it open.

    `type_1` is type 1 of ETROP (treatment-requiring), `referral` is referral-warranted (AAP 2015). A-ROP, which neither text names
    outside zone I, is told apart: `aggressive`.
    """

    type_1: bool | None
    referral: bool | None
    aggressive: bool = False


class JudgedView(Protocol):
    """What of a photograph tells whether a view is missing: an `ExamPhotograph`, or a row of its table."""

    state: Any
    eye: Any
    view: Any


def refresh_exam(session: Session, exam: Exam) -> None:
    """Bring `photographs_waiting`, `missing_views`, `suspected`, `highest_p`, `urgency` and `urgency_reason` up to date.

    Where all photographs are judged, the answer to the hospital's systems is asked for. An exam that becomes more urgent than it was when somebody acknowledged it must be acknowledged again. The 24 hours begin with
    the first photograph. Writes no audit line: the change that led here has one.
    """
    session.flush()
    rows = session.connection().execute(_SHOWN, {"exam": exam.id}).all()
    photographs = list({row.id: row for row in rows}.values())  # each with its newest grading
    said = [each.suspected for each in photographs if each.suspected is not None]
    suspected = any(said) if said else None
    place = session.connection().execute(_REQUIRED, {"exam": exam.id}).one()
    missing = find_missing_views(photographs, place.required_views if place.kind == "infant" else ())
    reason = _find_reason(session, exam, bool(suspected), find_refused(photographs), missing)
    # set at once, so that they are one statement
    exam.photographs_waiting = sum(each.state == "waiting" for each in photographs)
    if exam.uploaded_at is None and photographs:
        exam.uploaded_at = min(each.created_at for each in photographs)
    exam.suspected, exam.missing_views = suspected, missing
    exam.highest_p = max((each.probability for each in photographs if each.probability is not None), default=None)
    if URGENCIES[reason] < min(exam.urgency, URGENT_BELOW):
        exam.acknowledged_at = exam.acknowledged_by = None
    exam.urgency, exam.urgency_reason = URGENCIES[reason], reason.value
    session.flush()
    outbox.ask_for_tool_answer(session, exam)


def _find_shown() -> Select[*tuple[Any, ...]]:
    """Photographs of an exam that are not withdrawn, a row for each of their gradings: asked at every upload and answer, so no objects."""
    photograph, grading = table_of(ExamPhotograph), table_of(Grading)
    columns = (
        *(photograph.c[name] for name in ("id", "state", "eye", "view", "created_at")),
        grading.c.suspected,
        grading.c.probability,
    )
    return (
        select(*columns)
        .select_from(photograph.outerjoin(grading, grading.c.photograph_id == photograph.c.id))
        .where(photograph.c.exam_id == bindparam("exam"), photograph.c.state != "withdrawn")
        .order_by(photograph.c.id, grading.c.id)
    )


def _find_required() -> Select[*tuple[Any, ...]]:
    """What of an exam's site and patient tells which views it needs."""
    exam, site, patient = table_of(Exam), table_of(Site), table_of(Patient)
    tables = exam.join(site, site.c.id == exam.c.site_id).join(patient, patient.c.id == exam.c.patient_id)
    return select(site.c.required_views, patient.c.kind).select_from(tables).where(exam.c.id == bindparam("exam"))


_SHOWN, _REQUIRED = _find_shown(), _find_required()
_ANY_READING = select(table_of(Reading).c.id).where(table_of(Reading).c.exam_id == bindparam("exam")).limit(1)


def refresh_open_exams(session: Session, site_id: int) -> None:
    """Bring the exams of a site that are not signed up to date, after the views that it requires have changed."""
    open_ = Exam.site_id == site_id, Exam.state.in_(("open", "to_read", "read"))
    for exam in session.scalars(select(Exam).where(*open_)).all():
        refresh_exam(session, exam)


def find_missing_views(photographs: Iterable[JudgedView], required: Iterable[str]) -> list[str]:
    """The required views that no photograph shows, as "right:disc"; one that waits to be judged counts, a refused one does not."""
    there = {(each.eye, each.view) for each in photographs if each.state in ("waiting", "graded")}
    return [f"{eye}:{view}" for eye in EYES for view in required if (eye, view) not in there]


def find_refused(photographs: Sequence[JudgedView]) -> list[JudgedView]:
    """Photographs that were refused or failed and for which no other one of the same eye and view stands in."""
    good = {(each.eye, each.view) for each in photographs if each.state in ("waiting", "graded")}
    return [each for each in photographs if each.state in ("refused", "failed") and (each.eye, each.view) not in good]


def classify_eye(eye: EyeReading) -> EyeClasses:
    """What the findings of one eye amount to: every value that a missing finding may have is tried."""
    settled = eye.regression == "regressed" or (eye.vascularised and eye.stage in (None, "0"))
    if settled and not eye.aggressive:
        return EyeClasses(False, False)
    stage = rule_stage(eye)
    zones = ZONES if eye.zone is None else (cast(Zone, eye.zone),)
    stages = STAGES if stage is None else (stage,)
    pluses = PLUS if eye.plus is None else (cast(Plus, eye.plus),)
    types, referrals = set(), set()
    for zone in zones:
        for each in stages:
            for plus in pluses:
                found = etrop_types().classify(zone, each, plus)
                types.add(found is not None and found.id == "type 1")
                referrals.add(referral_classes().classify(zone, each, plus) is not None)
    return EyeClasses(
        types.pop() if len(types) == 1 else None,
        referrals.pop() if len(referrals) == 1 else None,
        bool(eye.aggressive),
    )


def rule_stage(eye: EyeReading) -> Stage | None:
    """The stage of an eye as the rules know it: without its letter (4A is 4), and A-ROP for an aggressive one.

    No rule on A-ROP may make an eye less urgent: where the stage that was written makes it type 1 of ETROP, that stage stands.
    """
    written = cast(Stage, eye.stage[0]) if eye.stage else None
    if not eye.aggressive:
        return written
    if written is not None and eye.zone is not None and eye.plus is not None:
        found = etrop_types().classify(cast(Zone, eye.zone), written, cast(Plus, eye.plus))
        if found is not None and found.id == "type 1":
            return written
    return "A-ROP"


def _find_speaking(session: Session, exam: Exam) -> tuple[list[Reading], list[Reading]]:
    """The signed readings that speak for an exam, and the drafts after them."""
    if session.connection().scalar(_ANY_READING, {"exam": exam.id}) is None:
        return [], []  # as while photographs come, when this is asked at each of them
    corrected = select(Reading.supersedes).where(Reading.kind == "correction", Reading.signed_at.is_not(None))
    rows = session.scalars(
        select(Reading)
        .where(Reading.exam_id == exam.id, Reading.kind.in_(DECIDING_KINDS))
        .where(Reading.id.not_in(corrected.where(Reading.exam_id == exam.id, Reading.supersedes.is_not(None))))
        .options(selectinload(Reading.eyes))
        .order_by(Reading.id)
    ).all()
    signed = [each for each in rows if each.signed_at is not None and each.kind != "addendum"][-1:]
    # an addendum adds to the reading before it, and a draft may be worse
    added = [each for each in rows if signed and each.id > signed[0].id and each.signed_at is not None]
    drafts = [each for each in rows if each.signed_at is None and (not signed or each.id > signed[0].id)]
    signed += added
    return signed, drafts


def _find_reason(
    session: Session, exam: Exam, suspected: bool, refused: Sequence[JudgedView], missing: Sequence[str]
) -> UrgencyReason:  # fmt: skip
    """The most urgent reason: of what readers said; of the tool while no reading is signed; of the views that are missing."""
    signed, drafts = _find_speaking(session, exam)
    found = [classify_eye(eye) for reading in (*signed, *drafts) for eye in reading.eyes if eye.gradable]
    if any(each.type_1 for each in found):
        return UrgencyReason.TYPE_1
    if any(each.aggressive for each in found):
        return UrgencyReason.AGGRESSIVE
    if any(each.referral for each in found):
        return UrgencyReason.REFERRAL
    said = [eye for reading in signed for eye in reading.eyes if eye.gradable and (eye.zone or eye.stage or eye.plus)]
    if any(classify_eye(eye).type_1 is None for eye in said):  # a draft may still lack a finding
        return UrgencyReason.POSSIBLE_TYPE_1
    if suspected and not signed:
        return UrgencyReason.SUSPECTED
    if refused:
        return UrgencyReason.REFUSED_VIEWS
    return UrgencyReason.MISSING_VIEWS if missing else UrgencyReason.NONE
