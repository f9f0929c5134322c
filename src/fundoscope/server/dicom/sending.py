"""The job that sends an answer: what its destination has not taken yet, each object noted when it is taken; see `outbox.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fundoscope.errors import FundoscopeError
from fundoscope.server.dicom import answers, troubles
from fundoscope.server.dicom.answers import AnswerObject
from fundoscope.server.dicom.outbox import KIND, LANE, PRIORITY, takes_now
from fundoscope.server.dicom.places import peer_of, server_of
from fundoscope.server.dicom.shown import ShownGrading, shown_now
from fundoscope.server.models import DicomDestination, Exam, Grading, Job, SentObject, now
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.services import audit, jobs

_LOOK_AGAIN = timedelta(minutes=5)  # of answers to a destination that is switched off


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An object that was not taken, and why."""

    kind: str
    why: str


@jobs.handler(KIND, lane=LANE)
def send_answer(room: Room, job: jobs.TakenJob) -> jobs.WriteAnswer:
    """Build an answer and send what its destination has not taken yet; see the head of this file."""
    with room.database.reading() as session:
        destination = session.get_one(DicomDestination, job.payload["destination"])
        if not takes_now(destination, job.payload["what"]):
            raise jobs.NotYetError(now() + _LOOK_AGAIN)
        away = room.away.get(destination.id)
        by_hand = session.get_one(Job, job.id).priority != PRIORITY
        if away is not None and away > now() and job.attempts == 1 and not by_hand:
            raise jobs.NotYetError(away)  # those that were tried before find out when it is there again
        settled = _settled_at(session, room, job)
        if settled is not None and settled > now():
            raise jobs.NotYetError(settled)
        outdated = _is_outdated(session, job)
    if outdated:
        return lambda session: _set_aside(session, job)
    try:
        objects = _build(room, job)
    except FundoscopeError as error:  # it cannot be answered as it is: a person must put something right
        raise jobs.TryAgainError(str(error), 0, attempts=1) from error
    known = select(SentObject.sop_instance).where(
        SentObject.destination_id == destination.id, SentObject.sop_instance.in_([one.sop_instance for one in objects])
    )
    with room.database.reading() as session:
        taken = set(session.scalars(known))
    refusals = _send(room, job, destination, [one for one in objects if one.sop_instance not in taken])
    if refusals:
        limits = room.settings.traffic
        wait = min(limits.first_wait_seconds * 2 ** min(job.attempts - 1, 30), limits.longest_wait_seconds)
        raise jobs.TryAgainError(_describe(refusals, len(objects)), wait, limits.attempts)
    return lambda session: _log_sent(session, job)


def _settled_at(session: Session, room: Room, job: jobs.TakenJob) -> datetime | None:
    """When the program's answer may go: some time after its last photograph was judged, since more of them may come."""
    if job.payload["what"] != "tool" or session.get_one(Exam, job.payload["exam"]).signed_at is not None:
        return None
    gradings = [one[1] for one in job.payload["shown"]]
    last = session.scalar(select(func.max(Grading.created_at)).where(Grading.id.in_(gradings)))
    last = max(filter(None, (last, session.get_one(Job, job.id).created_at)))
    return last + timedelta(seconds=room.settings.traffic.settle_seconds)


def _is_outdated(session: Session, job: jobs.TakenJob) -> bool:
    """Whether the program's answer is about an exam that has changed since, and is not signed."""
    exam = session.get_one(Exam, job.payload["exam"])
    if job.payload["what"] != "tool" or exam.signed_at is not None:
        return False
    return exam.state == "cancelled" or [list(one) for one in shown_now(session, exam)] != job.payload["shown"]


def _set_aside(session: Session, job: jobs.TakenJob) -> None:
    """Give the key of an answer free that came too late: a job for the exam as it is now waits already, or this one comes again."""
    session.execute(update(Job).where(Job.id == job.id).values(key=f"{job.key}:outdated {job.id}"))


def _build(room: Room, job: jobs.TakenJob) -> list[AnswerObject]:
    if job.payload["what"] == "signed":
        return answers.build_signed_answer(room.database, room.settings, job.payload["reading"])
    shown = [ShownGrading(*one) for one in job.payload["shown"]]
    return answers.build_tool_answer(room.database, room.settings, job.payload["exam"], shown)


def _send(
    room: Room, job: jobs.TakenJob, destination: DicomDestination, objects: Sequence[AnswerObject]
) -> list[_Refusal]:
    """Send objects; each that is taken is noted at once. Those that were not, with the reasons."""
    if not objects:
        return []
    refusals: list[_Refusal] = []
    try:
        if destination.protocol == "dicomweb":
            from fundoscope.server.dicom.web import DicomwebConnection

            connection = DicomwebConnection(server_of(room.settings, destination))
            for one in objects:
                outcome = connection.store(one.study, one.file)
                if outcome.result == "stored":
                    _note_taken(room, job, destination, one)
                else:
                    refusals.append(_Refusal(one.kind, outcome.said))
            return refusals
        from fundoscope.server.dicom.commitment_rows import RoomReports
        from fundoscope.server.dicom.sender import send_by_dimse

        with tempfile.TemporaryDirectory(dir=room.settings.data) as folder:
            paths = [Path(folder) / f"{number}.dcm" for number in range(len(objects))]
            for path, one in zip(paths, objects, strict=True):
                path.write_bytes(one.file)
            outcomes = send_by_dimse(peer_of(room.settings, destination), paths, RoomReports(room.database))
        if all(outcome.result == "not sent" and outcome.status is None for outcome in outcomes):
            _note_away(room, destination)
        for one, outcome in zip(objects, outcomes, strict=True):
            if outcome.result == "stored" and outcome.commitment != "failed":
                _note_taken(room, job, destination, one)
            else:
                refusals.append(_Refusal(one.kind, outcome.said))
        return refusals
    except FundoscopeError as error:  # no connection: what was taken before it broke is noted
        _note_away(room, destination)
        return [*refusals, _Refusal("", str(error))]


def _note_away(room: Room, destination: DicomDestination) -> None:
    room.away[destination.id] = now() + timedelta(seconds=room.settings.traffic.first_wait_seconds)


def _note_taken(room: Room, job: jobs.TakenJob, destination: DicomDestination, one: AnswerObject) -> None:
    row = SentObject(
        destination_id=destination.id, sop_instance=one.sop_instance, kind=one.kind, exam_id=job.payload["exam"], job_id=job.id,
        digest=one.digest,
    )  # fmt: skip
    try:
        with room.database.transaction() as session:
            session.add(row)
    except IntegrityError:  # another worker, whose lease had ended, has noted it
        return


def _describe(refusals: Sequence[_Refusal], total: int) -> str:
    reasons: dict[str, list[str]] = {}
    for one in refusals:
        reasons.setdefault(one.why, []).append(one.kind)
    told = "; ".join(
        f"{', '.join(dict.fromkeys(kinds))}: {why}" if any(kinds) else why for why, kinds in reasons.items()
    )
    return told if len(refusals) >= total else f"{troubles.PARTLY} {told}"


def _log_sent(session: Session, job: jobs.TakenJob) -> None:
    caller = Caller(None, "the worker", Role.ADMINISTRATOR, frozenset(), via="worker")
    count = session.scalar(select(func.count()).select_from(SentObject).where(SentObject.job_id == job.id))
    audit.record(
        session, caller, "answer.send", "exam", job.payload["exam"], job.site_id,
        destination=job.payload["destination"], what=job.payload["what"], reading=job.payload["reading"], objects=count,
    )  # fmt: skip
