"""The process that does what waits in the queue. `fundoscope serve` starts one beside it; others may run alone, on one database.

    python -m fundoscope.server.worker --data DIR [--database URL] [--workers N]

It takes jobs by one thread more than it has child processes. It is woken through a pipe when jobs were added on this host, and looks
by itself every half second. When the pipe ends, the server is gone, and the worker ends after the jobs that it holds.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fundoscope.server.database import Database
from fundoscope.server.dicom import sending  # noqa: F401 - its job registers itself
from fundoscope.server.dicom.sources import SourceWatch
from fundoscope.server.logs import write_logs
from fundoscope.server.piped import PipedProcess, ServerPipe, read_piped_settings
from fundoscope.server.room import Room
from fundoscope.server.services import due, jobs, judging, signed_reports, uploads  # noqa: F401 - reports register themselves
from fundoscope.server.settings import ServerSettings

POLL_SECONDS = 0.5
_MODULE, _STATION = "fundoscope.server.worker", "fundoscope.server.dicom.station"

_log = logging.getLogger(__name__)


class Worker:
    """Takes jobs and does them, by `threads` at once, until `stop`. `on_done` is told the exam of every job that ended.

    Jobs of another lane than the first have one thread a lane beside these.
    """

    def __init__(self, room: Room, threads: int, on_done: Callable[[int], None] = lambda _: None) -> None:
        self._room = room
        self._on_done = on_done
        self._owner = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._woken = threading.Condition()
        self._rings = 0
        self._stopped = threading.Event()
        self._held: dict[int, jobs.TakenJob] = {}
        self._idle = threading.Event()
        kinds = jobs.lanes()
        wanted = [("", kinds.pop("", ()))] * threads + list(kinds.items())
        self._threads = [
            threading.Thread(target=self._work, args=(some,), name=f"jobs {lane}{n}", daemon=True)
            for n, (lane, some) in enumerate(wanted)
        ]
        self._leases = threading.Thread(target=self._prolong_leases, name="leases", daemon=True)

    def start(self) -> None:
        """Begin."""
        for thread in (*self._threads, self._leases):
            thread.start()

    def wake(self) -> None:
        """There may be new jobs."""
        with self._woken:
            self._rings += 1
            self._woken.notify_all()

    def stop(self) -> None:
        """Finish the jobs at hand, take no more, and wait for that."""
        self._stopped.set()
        self.wake()
        for thread in self._threads:
            thread.join()
        self._idle.set()
        self._leases.join()

    def _work(self, kinds: tuple[str, ...]) -> None:
        taken: list[jobs.TakenJob] = []
        while taken or not self._stopped.is_set():
            rings = self._rings
            try:
                taken = taken or self._take(kinds)
                if taken:
                    taken = self._do(taken, kinds)
                    continue
            except Exception:  # noqa: BLE001 - the database is away or busy; what was held is taken again when its lease ends
                _log.exception("a worker could not reach its queue")
                taken = []
            with self._woken:
                if self._rings == rings and not self._stopped.is_set():
                    self._woken.wait(POLL_SECONDS)

    def _take(self, kinds: tuple[str, ...]) -> list[jobs.TakenJob]:
        """The next jobs; SQLite's one writer is not disturbed where there is none."""
        with self._room.database.reading() as session:
            moment = jobs.next_moment(session, kinds)
        if moment is None or moment > jobs.now() or self._stopped.is_set():
            return []
        with self._room.database.transaction() as session:
            return jobs.take_jobs(session, self._owner, kinds)

    def _do(self, taken: list[jobs.TakenJob], kinds: tuple[str, ...]) -> list[jobs.TakenJob]:
        """Do jobs, write all their answers, and take the next ones in the transaction that finishes these."""
        self._held.update((job.id, job) for job in taken)
        found: list[tuple[jobs.TakenJob, jobs.WriteAnswer]] = []
        try:
            for job in taken:
                try:
                    found.append((job, jobs.HANDLERS[job.kind].work(self._room, job)))
                except Exception as error:  # noqa: BLE001 - one job must not end the worker
                    self._fail(job, error)
            try:
                return self._finish(found, kinds)
            except Exception:  # noqa: BLE001 - one of them is at fault: each by itself, below
                _log.exception("answers could not be written together")
            for one in found:
                try:
                    self._finish([one], ())
                except jobs.LeaseLostError:
                    _log.warning("job %s took so long that another worker has it", one[0].id)
                except Exception as error:  # noqa: BLE001 - as above
                    self._fail(one[0], error)
            return []
        finally:
            for job in taken:
                del self._held[job.id]
            for exam in {job.payload["exam"] for job in taken if isinstance(job.payload.get("exam"), int)}:
                self._on_done(exam)

    def _finish(
        self, found: Sequence[tuple[jobs.TakenJob, jobs.WriteAnswer]], kinds: tuple[str, ...]
    ) -> list[jobs.TakenJob]:
        with self._room.database.transaction() as session:
            for _, write in found:
                write(session)
            if found:
                jobs.finish_jobs(session, [job for job, _ in found])
            if not kinds or self._stopped.is_set():
                return []
            return jobs.take_jobs(session, self._owner, kinds)

    def _fail(self, job: jobs.TakenJob, error: Exception) -> None:
        if isinstance(error, jobs.NotYetError):
            with self._room.database.transaction() as session:
                jobs.postpone_job(session, job, error.until)
            return
        if isinstance(error, jobs.TryAgainError):
            _log.warning("job %s of kind %s is done again later, attempt %s", job.id, job.kind, job.attempts)
            with suppress(jobs.LeaseLostError), self._room.database.transaction() as session:
                jobs.fail_job(session, job, str(error), error.wait, error.attempts)
            return
        _log.error("job %s of kind %s failed, attempt %s", job.id, job.kind, job.attempts, exc_info=error)
        with suppress(jobs.LeaseLostError), self._room.database.transaction() as session:
            jobs.fail_job(session, job, f"{type(error).__name__}: {error}")

    def _prolong_leases(self) -> None:
        while not self._idle.wait(jobs.HEARTBEAT_SECONDS):
            for job in list(self._held.values()):
                try:
                    with self._room.database.transaction() as session:
                        jobs.prolong_lease(session, job)
                except Exception:  # noqa: BLE001 - tried again at the next beat
                    _log.exception("the lease of job %s could not be prolonged", job.id)


def run_worker(settings: ServerSettings, piped: bool = False) -> None:
    """Work until SIGTERM, SIGINT, or the end of standard input where `piped`: then what is added wakes it, and exams are told."""
    os.umask(0o077)
    room = Room(settings, Database(settings.database_url))
    pipe = ServerPipe(piped)
    worker = Worker(room, settings.workers + 1, pipe.tell)  # one thread writes answers while the children judge
    watch = SourceWatch(room, pipe.tell)
    pipe.listen(worker.wake)
    judging.clear_aside(settings)
    uploads.clear_incoming(settings)
    with room.database.transaction() as session:
        due.schedule_refresh(session, due.today())
    worker.start()
    watch.start()
    pipe.ended.wait()
    watch.stop()
    worker.stop()
    judging.stop_children()
    room.database.dispose()


@contextmanager
def work_beside(room: Room) -> Generator[None]:
    """Run a worker beside the server of a room for the block: it is woken by new jobs, and listeners hear when one has ended.

    Where the room has a receiver, or a worklist to ask, a station runs beside it, too.
    """
    worker = PipedProcess(room.settings, _MODULE, room.events.publish)

    def hear_of(exam: int) -> None:
        room.events.publish(exam)
        worker.wake()

    forget = jobs.on_added(worker.wake)
    station = PipedProcess(room.settings, _STATION, hear_of) if room.settings.has_station else None
    worker.start()
    if station is not None:
        station.start()
    try:
        yield
    finally:
        if station is not None:
            station.stop()
        forget()
        worker.stop()


def main() -> None:
    """The command line of a worker."""
    write_logs()
    piped = read_piped_settings()
    if piped is not None:
        run_worker(piped, piped=True)
        return
    parser = argparse.ArgumentParser(
        prog="python -m fundoscope.server.worker", description="Do what waits in the queue."
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the reading room")
    parser.add_argument("--database", default="", help="its database, where that is not in the folder")
    parser.add_argument("--workers", type=int, default=1, help="photographs that are judged at once")
    given = parser.parse_args()
    run_worker(ServerSettings(data=given.data, database=given.database, workers=given.workers))


if __name__ == "__main__":
    main()
