"""Answers on their way to the hospital's systems: each is a job, written in the transaction of what it answers.

The program's answer is asked for when all photographs of an exam are judged, the reader's when it is signed. A job builds the objects
anew, the same byte for byte, sends those that its destination has not taken yet, and notes each that was taken at once; where some were
not, it is done again after a wait, longer each time (`sending.py`). So nothing is lost, and nothing that was taken is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.shown import MEDIA_TYPE, digest_of_shown, shown_now, shown_of_basis
from fundoscope.server.errors import ConflictError, NotFoundError
from fundoscope.server.models import DicomDestination, Exam, ExamPhotograph, Job, Reading, SentObject, now
from fundoscope.server.permissions import EVERYBODY, Caller
from fundoscope.server.services import audit, jobs

KIND, LANE = "dicom_send", "pacs"
_TOOL, _SIGNED = ("tool", "both"), ("signed", "both")
PRIORITY, _BY_HAND = 70, 10  # behind photographs and reports; in front, where somebody waits for it


def takes_now(destination: DicomDestination, what: str) -> bool:
    """Whether a destination is in use and wants answers of that kind, `tool` or `signed`."""
    return destination.active and destination.content in (_TOOL if what == "tool" else _SIGNED)


# --- asking; called in the transaction of what is answered


def ask_for_tool_answer(session: Session, exam: Exam) -> None:
    """Ask for the program's answer to an exam whose photographs are all judged, by each destination that wants it now.

    What is asked for twice is one job. Nothing is asked for while photographs wait, nor once the exam is signed.
    """
    if exam.photographs_waiting or exam.signed_at is not None or exam.state == "cancelled":
        return
    wanted = DicomDestination.content.in_(_TOOL), DicomDestination.moment == "judged"
    _ask(session, exam, "tool", lambda: shown_now(session, exam), *wanted)


def ask_for_signed_answer(session: Session, reading: Reading) -> None:
    """Ask for what a reader has just signed, and before it for the program's answer by those who want it only then."""
    exam = session.get_one(Exam, reading.exam_id)
    shown = shown_of_basis(reading.basis or {})
    late = DicomDestination.content.in_(_TOOL), DicomDestination.moment == "signed"
    _ask(session, exam, "tool", lambda: shown, *late)
    _ask(session, exam, "signed", lambda: shown, DicomDestination.content.in_(_SIGNED), reading=reading.id)


def _ask(session: Session, exam: Exam, what: str, find: Any, *wanted: Any, reading: int | None = None) -> None:
    query = select(DicomDestination.id).where(
        DicomDestination.site_id == exam.site_id, DicomDestination.active.is_(True), *wanted
    )
    destinations = session.scalars(query).all()
    shown = find() if destinations else []
    kept = select(ExamPhotograph.id).where(
        ExamPhotograph.id.in_([one.photograph for one in shown]), ExamPhotograph.media_type == MEDIA_TYPE,
        ExamPhotograph.study != "",
    )  # fmt: skip
    if not shown or session.scalar(kept.limit(1)) is None:
        return  # to photographs that are no DICOM there is no answer in DICOM
    name = digest_of_shown(shown) if reading is None else f"reading {reading}"
    payload = {"exam": exam.id, "what": what, "shown": [list(one) for one in shown], "reading": reading}
    for number in destinations:
        work = jobs.NewJob(f"{KIND}:{number}:{what}:{exam.id}:{name}", {**payload, "destination": number}, exam.site_id)
        jobs.add_jobs(session, KIND, [work], PRIORITY)


# --- sending again


def take_back(session: Session, peer: str, instances: Collection[str]) -> None:
    """Send again what a system has taken by DIMSE and then, asked for commitment, does not answer for; `peer` is its address."""
    query = select(SentObject, DicomDestination).join(DicomDestination).where(
        SentObject.sop_instance.in_(instances), DicomDestination.protocol == "dimse"
    )  # fmt: skip
    rows = [row for row, place in session.execute(query) if place.address == peer]
    if not rows:
        return
    numbers = {row.job_id for row in rows}
    for row in rows:
        session.delete(row)
    again = {
        "state": "waiting",
        "attempts": 0,
        "run_after": now(),
        "finished_at": None,
        "error": troubles.NOT_COMMITTED,
    }
    session.execute(update(Job).where(Job.id.in_(numbers), Job.state == "done").values(again))
    jobs.wake_after_commit(session)


# --- looking, and sending again by hand


@dataclass(frozen=True, slots=True)
class Sending:
    """An answer on its way, or that has arrived: its job, where it goes, and which objects were taken for it."""

    job: Job
    destination: DicomDestination
    taken: Sequence[str]

    @property
    def exam_id(self) -> int:
        """The number of its exam."""
        return self.job.payload["exam"]

    @property
    def what(self) -> str:
        """`tool` or `signed`."""
        return self.job.payload["what"]

    @property
    def state(self) -> str:
        """`waiting` (also while it is sent), `held` (its destination is switched off, or takes nothing of it), `failed`, `sent`,
        or `nothing`: there was nothing new to send, or the exam had changed before.
        """
        if self.job.state == "done":
            return "sent" if self.taken else "nothing"
        if self.job.state == "failed":
            return "failed"
        return "waiting" if takes_now(self.destination, self.what) else "held"


def find_sendings(
    session: Session, caller: Caller, state: str = "", exam_id: int | None = None, after: int | None = None, limit: int = 50
) -> list[Sending]:  # fmt: skip
    """Answers of the caller's sites, the newest first; `state` is `waiting`, `failed` or `done`; `after` is the last of the page before."""
    caller.require(*EVERYBODY)
    query = select(Job).where(Job.site_id.in_(caller.sites), Job.kind == KIND)
    if state:
        query = query.where(Job.state.in_(("waiting", "running")) if state == "waiting" else Job.state == state)
    if exam_id is not None:
        query = query.where(Job.payload["exam"].as_integer() == exam_id)
    if after is not None:
        query = query.where(Job.id < after)
    rows = session.scalars(query.order_by(Job.id.desc()).limit(limit)).all()
    return _with_objects(session, rows)


def get_sending(session: Session, caller: Caller, job_id: int) -> Sending:
    """The answer with that number; `NotFoundError` where it is of another site, or no answer."""
    job = jobs.get_job(session, caller, job_id)
    if job.kind != KIND:
        raise NotFoundError("sending", job_id)
    return _with_objects(session, [job])[0]


def _with_objects(session: Session, rows: Sequence[Job]) -> list[Sending]:
    found = session.execute(
        select(SentObject.job_id, SentObject.kind)
        .where(SentObject.job_id.in_([job.id for job in rows]))
        .order_by(SentObject.id)
    )
    taken: dict[int, list[str]] = {}
    for number, kind in found:
        taken.setdefault(number, []).append(kind)
    places: Mapping[int, DicomDestination] = {row.id: row for row in session.scalars(select(DicomDestination))}
    return [Sending(job, places[job.payload["destination"]], taken.get(job.id, ())) for job in rows]


def has_destination(session: Session, site_id: int) -> bool:
    """Whether answers to exams of a site are sent anywhere."""
    return session.scalar(select(DicomDestination.id).where(DicomDestination.site_id == site_id).limit(1)) is not None


def count_troubled(session: Session, caller: Caller) -> int:
    """How many answers of the caller's sites were given up, or were tried and wait."""
    query = select(func.count()).select_from(Job).where(
        Job.site_id.in_(caller.sites), Job.kind == KIND,
        (Job.state == "failed") | (Job.state.in_(("waiting", "running")) & (Job.error != "")),
    )  # fmt: skip
    return session.scalar(query) or 0


def send_again(session: Session, caller: Caller, job_id: int) -> Sending:
    """Send an answer now, as if it had never been tried; one that was taken already is sent once more, whole."""
    caller.require(*EVERYBODY)
    sending = get_sending(session, caller, job_id)
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    if job.state == "running":
        raise ConflictError(_("The answer is being sent at this moment. Load the page again."))
    if job.state == "done":
        session.execute(delete(SentObject).where(SentObject.job_id == job.id))
    values = {
        "state": "waiting", "attempts": 0, "run_after": now(), "finished_at": None, "lease_until": None,
        "priority": _BY_HAND,
    }  # fmt: skip
    session.execute(update(Job).where(Job.id == job.id).values(values))
    jobs.wake_after_commit(session)
    audit.record(session, caller, "answer.again", "exam", sending.exam_id, job.site_id, job=job.id)
    session.refresh(job)
    return _with_objects(session, [job])[0]
