"""What a grader says of a photograph, written into the tables: once, whatever happens to worker, child or machine.

The job "judge" carries the numbers of photograph and exam, the digest that names the file, and the task; no name. Its answer is a row of `Grading`, the state of the photograph, the exam's
row, a line of the log and the end of the job, in one transaction. Pictures are made beside and renamed before that; they are not
forced onto the disk, since they can be made again from the photograph.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, case, event, exists, func, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from fundoscope.bundles.card import BaseCard
from fundoscope.bundles.read import verify
from fundoscope.findings import BundleIdentity
from fundoscope.server.judge import JudgeAnswer, JudgeDiedError, JudgeProcess
from fundoscope.server.models import Exam, ExamPhotograph, Grading, Patient, now
from fundoscope.server.models.base import table_of
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.scratch import clear_scratch, make_scratch
from fundoscope.server.services import audit, jobs
from fundoscope.server.services.exam_state import refresh_exam
from fundoscope.server.services.jobs import NewJob
from fundoscope.server.settings import ServerSettings

KIND = "judge"
#: The bundle for each kind of patient.
TASKS = {"infant": "rop", "adult": "nicking"}
#: The state of a photograph by what its grader said.
STATES = {"ok": "graded", "rejected": "refused", "failed": "failed"}

_ASIDE = ".aside"  # folder in the room's pictures where they are made
_TRIES = 2  # of a photograph at which a child crashed: another one may have taken the memory


def ask_to_judge(
    session: Session, photographs: Sequence[ExamPhotograph], patient: Patient, created_by: int | None
) -> None:
    """Put the judging of a patient's photographs by the bundle of today into the queue."""
    task = TASKS[patient.kind]
    bundle = bundle_identity(task).digest
    work = []
    for each in photographs:
        payload = {"photograph": each.id, "exam": each.exam_id, "digest": each.digest, "task": task}
        work.append(NewJob(f"{KIND}:{each.id}:{bundle}", payload, each.site_id))
    jobs.add_jobs(session, KIND, work, created_by=created_by)


@cache
def bundle_card(task: str) -> BaseCard:
    """The card of the bundle that judges today; read and verified once in the life of a process."""
    return verify(task)


@cache
def bundle_identity(task: str) -> BundleIdentity:
    """Name and digest of the bundle that judges today."""
    card = bundle_card(task)
    return BundleIdentity.from_card(card.name, card.created, card.model_dump_json())


# --- where files lie


def photograph_file(settings: ServerSettings, digest: str) -> Path:
    """Where the photograph with this SHA-256 lies, as it came."""
    return settings.photographs / digest[:2] / digest


def picture_file(settings: ServerSettings, photograph: ExamPhotograph, grading: Grading, name: str) -> Path | None:
    """Where a picture of `JudgeAnswer.pictures` lies; None where the grading has none of that name."""
    file = grading.pictures.get(name)
    if not isinstance(file, str):
        return None
    return picture_place(settings, photograph.digest, grading.bundle_digest, file)


def picture_place(settings: ServerSettings, digest: str, bundle: str, file: str) -> Path:
    """Where a picture of that file name lies, which the bundle of that digest made of the photograph with that SHA-256."""
    return settings.pictures / digest[:2] / f"{digest}_{bundle}_{file}"


def newest_grading(session: Session, photograph: ExamPhotograph) -> Grading | None:
    """The last grading of a photograph."""
    query = select(Grading).where(Grading.photograph_id == photograph.id).order_by(Grading.id.desc())
    return session.scalar(query.limit(1))


# --- the job


def write_failed(session: Session, job: jobs.TakenJob, reason: str) -> None:
    """Write that a photograph could not be judged: its job was given up."""
    reason = f"The program could not judge it ({reason}). Send it again, or tell who looks after the program."
    _write_answer(session, job.payload["photograph"], _failure(job.payload["task"], reason), 0.0)


@jobs.handler(KIND, give_up=write_failed, together=4)
def judge_photograph(room: Room, job: jobs.TakenJob) -> jobs.WriteAnswer:
    """Have a photograph judged by a child process; see the head of this file."""
    start, digest, task = time.perf_counter(), job.payload["digest"], job.payload["task"]
    file = photograph_file(room.settings, digest)
    if not file.is_file():
        answer = _failure(task, "The file is no longer there. Send it again.")
    else:
        with _children.lend(room.settings) as (child, folder):
            answer = _judge_file(child, folder, file, task)
            for name, made in answer.pictures.items():
                if isinstance(made, str) and not name.startswith("profile"):
                    place = picture_place(room.settings, digest, answer.bundle_digest, made)
                    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    (folder / made).replace(place)
    seconds = time.perf_counter() - start
    return lambda session: _write_answer(session, job.payload["photograph"], answer, seconds)


def _judge_file(child: JudgeProcess, folder: Path, file: Path, task: str) -> JudgeAnswer:
    for attempt in range(1, _TRIES + 1):
        try:
            return child.judge(file, file.name, task, folder)
        except JudgeDiedError as error:
            if attempt == _TRIES or error.hung:
                return _failure(task, f"Could not be read: {error}. Export the photograph anew, or photograph again.")
    raise AssertionError  # the last attempt has returned


def _failure(task: str, reason: str) -> JudgeAnswer:
    """The answer for a photograph at which the program failed."""
    identity = bundle_identity(task)
    grader = {"rop": "rop screen", "nicking": "nicking grade"}[task]
    row = {"file": "", "status": "failed", "reason": reason}
    return JudgeAnswer(
        grader=grader, bundle=identity.name, bundle_digest=identity.digest, version="", status="failed", reason=reason, rows=[row]
    )  # fmt: skip


def _write_answer(session: Session, number: int, answer: JudgeAnswer, seconds: float) -> None:
    """The row of an answer and all that follows from it; nothing where this bundle's answer is there already."""
    session.flush()
    if session.get_bind().dialect.name == "postgresql":  # in the order in which those who change photographs lock, too
        exam = (
            select(Exam.id).join(ExamPhotograph, ExamPhotograph.exam_id == Exam.id).where(ExamPhotograph.id == number)
        )
        session.execute(exam.with_for_update(of=Exam))
    height, width = answer.size or (None, None)
    connection = session.connection()
    said = {
        "number": number, "judge": answer.bundle_digest, "why": answer.reason, "to": STATES[answer.status], "rows": height, "columns": width,
    }  # fmt: skip
    place = connection.execute(_JUDGED, said).first()
    if place is None:  # PostgreSQL: whoever else judges this photograph waits here, and then finds the answer
        return
    named = {"file": place.file_name}  # the child knows the digest only
    rows: dict[str, Any] = {"rows": [row | named for row in answer.rows]}
    if answer.photograph is not None:
        rows["photograph"] = answer.photograph | named
    grading = {
        "site_id": place.site_id, "photograph_id": number, "grader": answer.grader, "bundle": answer.bundle,
        "bundle_digest": answer.bundle_digest, "version": answer.version, "status": answer.status, "reason": answer.reason,
        "probability": answer.probability, "suspected": answer.suspected, "rows": rows, "pictures": answer.pictures,
        "seconds": round(seconds, 4), "created_at": now(),
    }  # fmt: skip
    connection.execute(_GRADE, grading)
    judged: dict[tuple[int, int], list[int]] | None = session.info.get("judged")
    if judged is None:
        judged = session.info["judged"] = {}
        event.listen(session, "before_commit", _close_exams, once=True)
    judged.setdefault((place.exam_id, place.site_id), []).append(number)


def _judge_statement() -> ReturningUpdate[Any, Any, Any]:
    """Sets the state of a photograph unless this bundle's answer is there already; built once, since it is asked at every answer."""
    table, grading = table_of(ExamPhotograph), table_of(Grading)
    same = exists().where(grading.c.photograph_id == table.c.id, grading.c.bundle_digest == bindparam("judge"))
    values = {
        "state": case((table.c.state == "withdrawn", "withdrawn"), else_=bindparam("to")), "reason": bindparam("why"),
        "height": func.coalesce(bindparam("rows", type_=table.c.height.type), table.c.height),
        "width": func.coalesce(bindparam("columns", type_=table.c.width.type), table.c.width),
    }  # fmt: skip
    judged = update(table).where(table.c.id == bindparam("number"), ~same).values(values)
    return judged.returning(table.c.site_id, table.c.exam_id, table.c.file_name)


_JUDGED, _GRADE = _judge_statement(), insert(table_of(Grading))


def _close_exams(session: Session) -> None:
    """What is done once for each exam of which photographs were judged in a transaction: its row, and a line of the log."""
    for (exam, site), photographs in session.info.pop("judged", {}).items():
        refresh_exam(session, session.get_one(Exam, exam, populate_existing=True, with_for_update=True))
        worker = Caller(None, "the worker", Role.ADMINISTRATOR, frozenset({site}), via="worker")
        audit.record(session, worker, "photographs.judge", "exam", exam, site, photographs=photographs)


# --- children, each with a folder where it makes pictures


class _Children:
    """The child processes of this process, `settings.workers` at most: each is lent to one thread for one photograph."""

    def __init__(self) -> None:
        self._idle: list[tuple[JudgeProcess, Path]] = []
        self._lent = 0
        self._returned = threading.Condition()

    @contextmanager
    def lend(self, settings: ServerSettings) -> Generator[tuple[JudgeProcess, Path]]:
        """A child and its folder; waits where all are lent."""
        with self._returned:
            self._returned.wait_for(lambda: self._lent < settings.workers)
            self._lent += 1
            child = self._idle.pop() if self._idle else None
        try:
            child = child or (JudgeProcess(settings.limits), make_scratch(settings.pictures / _ASIDE))
            yield child
        finally:
            with self._returned:
                self._lent -= 1
                if child is not None:
                    self._idle.append(child)
                self._returned.notify()

    def stop(self) -> None:
        """End those that are not lent."""
        while self._idle:
            child, folder = self._idle.pop()
            child.stop()
            shutil.rmtree(folder, ignore_errors=True)


_children = _Children()


def stop_children() -> None:
    """End all child processes of this process; no thread may judge any more."""
    _children.stop()


def clear_aside(settings: ServerSettings) -> None:
    """Remove what processes that are gone have left half-made."""
    clear_scratch(settings.pictures / _ASIDE)
