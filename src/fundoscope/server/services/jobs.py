"""The queue: pieces of work that wait in the database, written in the transaction of what they are about.

A worker takes a job for `LEASE_SECONDS` and prolongs that while it works; a job whose worker died is taken again when its lease has
ended. A handler does the slow part outside any transaction, and gives back a function that writes what it found: that function and
the end of the job are one transaction, so a step that was done twice leaves one answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Select, event, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from fundoscope.languages import ngettext
from fundoscope.server.errors import BusyError, NotFoundError
from fundoscope.server.models import Job, now
from fundoscope.server.models.base import table_of
from fundoscope.server.permissions import EVERYBODY, Caller
from fundoscope.server.room import Room

LEASE_SECONDS = 20
HEARTBEAT_SECONDS = 5  # between two prolongations of a lease
MAX_ATTEMPTS = 5
FIRST_WAIT_SECONDS = 2  # after the first attempt that failed; each further wait is four times as long
_MOST_TOGETHER = 8  # jobs that are looked at to find some of one kind
_ERROR_LENGTH = 2000  # characters of an error that are kept
_SHORTEST_RETRY, _LONGEST_RETRY = 2, 120  # seconds that are told to who met a full queue


class TryAgainError(Exception):
    """Somebody outside of the room cannot do their part now: the job waits `wait` seconds, and is given up after `attempts`."""

    def __init__(self, why: str, wait: float, attempts: int) -> None:
        super().__init__(why)
        self.wait, self.attempts = wait, attempts


class NotYetError(Exception):
    """It is too early for the job: it waits until then, and was not tried."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"not before {until:%Y-%m-%d %H:%M:%S} UTC")
        self.until = until


class LeaseLostError(Exception):
    """The job was taken by another worker meanwhile; what was found is thrown away."""


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job as its worker holds it; `attempts` counts this one, too."""

    id: int
    kind: str
    key: str
    payload: dict[str, Any]
    site_id: int | None
    attempts: int
    owner: str
    created_by: int | None


#: Writes what a job found, in the transaction that finishes it.
WriteAnswer = Callable[[Session], None]


@dataclass(frozen=True, slots=True)
class JobHandler:
    """How jobs of one kind are done, and what is to be written where they are given up (with the reason).

    `together` of them are taken at once where so many wait, and their answers are written in one transaction. Jobs of a `lane` of
    their own have a thread of their own: who waits for another system must not hold up those that judge.
    """

    work: Callable[[Room, TakenJob], WriteAnswer]
    give_up: Callable[[Session, TakenJob, str], None] | None = None
    together: int = 1
    lane: str = ""


HANDLERS: dict[str, JobHandler] = {}
_listeners: list[Callable[[], None]] = []


def handler(
    kind: str, give_up: Callable[[Session, TakenJob, str], None] | None = None, together: int = 1, lane: str = ""
) -> Callable[[Callable[[Room, TakenJob], WriteAnswer]], Callable[[Room, TakenJob], WriteAnswer]]:
    """Decorate the function that does jobs of a kind; `give_up` writes that one failed for the last time.

    See `JobHandler` for `together` and `lane`.
    """

    def register(work: Callable[[Room, TakenJob], WriteAnswer]) -> Callable[[Room, TakenJob], WriteAnswer]:
        HANDLERS[kind] = JobHandler(work, give_up, together, lane)
        return work

    return register


def lanes() -> dict[str, tuple[str, ...]]:
    """The kinds of jobs of each lane."""
    found: dict[str, tuple[str, ...]] = {}
    for kind, known in HANDLERS.items():
        found[known.lane] = (*found.get(known.lane, ()), kind)
    return found


def on_added(wake: Callable[[], None]) -> Callable[[], None]:
    """Call `wake` after every transaction of this process that added jobs; what is returned ends that."""
    _listeners.append(wake)

    def forget() -> None:
        with suppress(ValueError):
            _listeners.remove(wake)

    return forget


# --- adding


@dataclass(frozen=True, slots=True)
class NewJob:
    """A piece of work of which there is one only, by its `key`."""

    key: str
    payload: dict[str, Any]
    site_id: int | None = None


def add_jobs(
    session: Session, kind: str, work: Sequence[NewJob], priority: int = 50, run_after: datetime | None = None,
    created_by: int | None = None,
) -> None:  # fmt: skip
    """Put pieces of work into the queue; those whose key is there already stay as they are.

    Lower `priority` comes first. Workers are woken when the transaction has been committed.
    """
    insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[session.get_bind().dialect.name]
    moment = now()
    values = [
        {
            "kind": kind, "key": each.key, "payload": each.payload, "site_id": each.site_id, "priority": priority,
            "run_after": run_after or moment, "created_by": created_by, "state": "waiting", "attempts": 0, "lease_owner": "",
            "error": "", "created_at": moment,
        }
        for each in work
    ]  # fmt: skip
    if not values:
        return
    session.flush()
    session.connection().execute(insert(Job).on_conflict_do_nothing(index_elements=[Job.key]), values)
    wake_after_commit(session)


def wake_after_commit(session: Session) -> None:
    """Wake workers when the transaction has been committed."""
    if not session.info.get("adds_jobs"):
        session.info["adds_jobs"] = True
        event.listen(session, "after_commit", _wake_all, once=True)


def add_job(
    session: Session, kind: str, key: str, payload: dict[str, Any], site_id: int | None = None, priority: int = 50,
    run_after: datetime | None = None, created_by: int | None = None,
) -> Job:  # fmt: skip
    """Put one piece of work into the queue, as `add_jobs` does; gives the job that has this key."""
    add_jobs(session, kind, [NewJob(key, payload, site_id)], priority, run_after, created_by)
    return session.scalars(select(Job).where(Job.key == key)).one()


def _wake_all(session: Session) -> None:
    session.info.pop("adds_jobs", None)
    for wake in tuple(_listeners):
        wake()


def count_waiting(session: Session, kind: str | None = None) -> int:
    """How many jobs wait or are being done."""
    session.flush()
    return session.connection().scalar(_count_unfinished(kind)) or 0


def require_place(session: Session, limit: int, coming: int = 1, kind: str | None = None) -> None:
    """Raise `BusyError` where `coming` jobs more would make the queue longer than `limit`.

    The time to wait that it tells is worked out from what was finished in the last minute.
    """
    waiting = count_waiting(session, kind)
    if waiting + coming <= limit:
        return
    since = now() - timedelta(minutes=1)
    finished = session.scalar(select(func.count()).select_from(Job).where(Job.finished_at >= since)) or 0
    wait = math.ceil(60 * (waiting + coming - limit) / finished) if finished else _LONGEST_RETRY
    retry = min(max(wait, _SHORTEST_RETRY), _LONGEST_RETRY)
    raise BusyError(
        ngettext(
            "{waiting} photographs wait to be judged already. Nothing of this was taken: send it again in {retry} second.",
            "{waiting} photographs wait to be judged already. Nothing of this was taken: send it again in {retry} seconds.",
            retry,
        ).format(waiting=waiting, retry=retry),
        retry_after=retry,
    )


@cache
def _count_unfinished(kind: str | None) -> Select[int]:
    table = table_of(Job)
    query = select(func.count()).select_from(table).where(table.c.state.in_(("waiting", "running")))
    return query if kind is None else query.where(table.c.kind == kind)


# --- working


def take_jobs(
    session: Session, owner: str, kinds: tuple[str, ...] | None = None, most: int = _MOST_TOGETHER
) -> list[TakenJob]:
    """Take the next job for `LEASE_SECONDS`: one whose worker died, or else the first that waits; none where there is none.

    Behind it come others of its kind, as many as its handler takes together, `most` in all. The session must be of a writing transaction. Two
    workers never take the same job: SQLite has one writer at a time, PostgreSQL skips rows that another worker holds.
    """
    moment = now()
    left = select(Job).where(Job.state == "running", Job.lease_until < moment).order_by(Job.lease_until)
    waiting = select(Job).where(Job.state == "waiting", Job.run_after <= moment).order_by(Job.priority, Job.run_after)
    for query in (left, waiting):
        if kinds is not None:
            query = query.where(Job.kind.in_(kinds))
        rows = session.scalars(query.limit(most).with_for_update(skip_locked=True)).all()
        if rows:
            known = HANDLERS.get(rows[0].kind)
            together = [row for row in rows if row.kind == rows[0].kind][: known.together if known else 1]
            return [_take(row, owner, moment) for row in together]
    return []


def take_job(session: Session, owner: str) -> TakenJob | None:
    """Take the next job, and no other behind it; see `take_jobs`."""
    return next(iter(take_jobs(session, owner, most=1)), None)


def _take(job: Job, owner: str, moment: datetime) -> TakenJob:
    job.state, job.lease_owner, job.lease_until = "running", owner, moment + timedelta(seconds=LEASE_SECONDS)
    job.attempts += 1
    return TakenJob(job.id, job.kind, job.key, job.payload, job.site_id, job.attempts, owner, job.created_by)


def prolong_lease(session: Session, job: TakenJob) -> bool:
    """Hold a job for `LEASE_SECONDS` more; False where another worker has it meanwhile."""
    return _change(session, job, lease_until=now() + timedelta(seconds=LEASE_SECONDS))


def finish_jobs(session: Session, taken: Sequence[TakenJob]) -> None:
    """Mark jobs of one worker done; raises `LeaseLostError` where another worker has one of them meanwhile."""
    mine = tuple_(Job.id, Job.attempts).in_([(job.id, job.attempts) for job in taken])
    held = (mine, Job.state == "running", Job.lease_owner == taken[0].owner)
    values = {"state": "done", "lease_until": None, "error": "", "finished_at": now()}
    finished = session.scalars(update(Job).where(*held).values(values).returning(Job.id)).all()
    if lost := {job.id: job.key for job in taken if job.id not in finished}:
        raise LeaseLostError(", ".join(lost.values()))


def fail_job(
    session: Session, job: TakenJob, error: str, wait: float | None = None, attempts: int = MAX_ATTEMPTS
) -> bool:
    """Write that an attempt failed: the job waits (seconds; longer each time), or after `attempts` is given up; True if so.

    What its handler writes for a job that was given up is written, too. Raises `LeaseLostError` as `finish_jobs` does.
    """
    error = error[-_ERROR_LENGTH:]
    if job.attempts < attempts:
        pause = timedelta(seconds=FIRST_WAIT_SECONDS * 4 ** (job.attempts - 1) if wait is None else wait)
        if not _change(session, job, state="waiting", lease_until=None, error=error, run_after=now() + pause):
            raise LeaseLostError(job.key)
        return False
    if not _change(session, job, state="failed", lease_until=None, error=error, finished_at=now()):
        raise LeaseLostError(job.key)
    known = HANDLERS.get(job.kind)
    if known is not None and known.give_up is not None:
        known.give_up(session, job, error)
    return True


def postpone_job(session: Session, job: TakenJob, until: datetime) -> None:
    """Put a job back as if it had not been taken: it is too early for it."""
    _change(session, job, state="waiting", lease_until=None, attempts=job.attempts - 1, run_after=until)


def _change(session: Session, job: TakenJob, **values: Any) -> bool:
    """Change a job that is still this worker's; whether it was."""
    mine = (Job.id == job.id, Job.state == "running", Job.lease_owner == job.owner, Job.attempts == job.attempts)
    held = session.execute(update(Job).where(*mine).values(values).returning(Job.id)).first()
    return held is not None


def next_moment(session: Session, kinds: Sequence[str] | None = None) -> datetime | None:
    """When the next job may be taken: one that waits for its time, or whose lease ends; None where there is none."""
    waiting = select(func.min(Job.run_after)).where(Job.state == "waiting")
    left = select(func.min(Job.lease_until)).where(Job.state == "running")
    if kinds is not None:
        waiting, left = waiting.where(Job.kind.in_(kinds)), left.where(Job.kind.in_(kinds))
    return min(filter(None, (session.scalar(waiting), session.scalar(left))), default=None)


# --- looking


def find_jobs(
    session: Session, caller: Caller, state: str = "", kind: str = "", after: int | None = None, limit: int = 50
) -> Sequence[Job]:  # fmt: skip
    """Jobs of the caller's sites, the newest first; `after` is the number of the last one of the page before."""
    caller.require(*EVERYBODY)
    query = select(Job).where(Job.site_id.in_(caller.sites))
    if state:
        query = query.where(Job.state == state)
    if kind:
        query = query.where(Job.kind == kind)
    if after is not None:
        query = query.where(Job.id < after)
    return session.scalars(query.order_by(Job.id.desc()).limit(limit)).all()


def get_job(session: Session, caller: Caller, job_id: int) -> Job:
    """The job of that number; `NotFoundError` where it is of a site of others, or of none."""
    caller.require(*EVERYBODY)
    job = session.get(Job, job_id)
    if job is None or job.site_id not in caller.sites:
        raise NotFoundError("job", job_id)
    return job
