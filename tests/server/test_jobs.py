"""The queue: one job a key, one worker a job, growing waits, a last attempt, a full queue."""

from datetime import timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from sqlalchemy import select, update

from fundoscope.server.errors import BusyError
from fundoscope.server.models import Job, now
from fundoscope.server.services import jobs


@pytest.fixture
def database(room):
    return room.database


def add(database, key, **values):
    with database.transaction() as session:
        return jobs.add_job(session, "judge", key, {"photograph": 1}, **values).id


def take(database, owner="a"):
    with database.transaction() as session:
        return jobs.take_job(session, owner)


def change_all(database, **values):
    with database.transaction() as session:
        session.execute(update(Job).values(values))


def test_a_job_asked_for_twice_is_one_and_wakes_after_the_commit(database):
    woken = []
    forget = jobs.on_added(lambda: woken.append(1))
    with database.transaction() as session:
        first = jobs.add_job(session, "judge", "k", {})
        again = jobs.add_job(session, "judge", "k", {"other": 1})
        jobs.add_job(session, "judge", "l", {})
        assert first.id == again.id and again.payload == {} and not woken
    assert woken == [1]
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        jobs.add_job(session, "judge", "m", {})
        1 / 0  # noqa: B018
    forget()
    add(database, "n")
    assert woken == [1]
    with database.reading() as session:
        assert jobs.count_waiting(session) == 3


def test_jobs_come_by_priority_then_age_and_each_to_one_worker(database):
    numbers = [add(database, "late", priority=60), add(database, "first"), add(database, "second")]
    add(database, "tomorrow", run_after=now() + timedelta(days=1), priority=1)
    assert [take(database, owner).id for owner in "abc"] == [numbers[1], numbers[2], numbers[0]]
    assert take(database) is None
    with database.reading() as session:
        assert jobs.next_moment(session) < now() + timedelta(seconds=jobs.LEASE_SECONDS + 1)


def test_a_job_of_a_dead_worker_is_taken_again_and_the_dead_one_may_not_finish_it(database):
    add(database, "k")
    dead = take(database, "dead")
    with database.transaction() as session:
        assert jobs.prolong_lease(session, dead)
    assert take(database, "b") is None
    change_all(database, lease_until=now() - timedelta(seconds=1))
    alive = take(database, "b")
    assert (alive.id, alive.attempts) == (dead.id, 2)
    for step in (
        lambda session, job: jobs.finish_jobs(session, [job]),
        lambda session, job: jobs.fail_job(session, job, "late"),
    ):
        with pytest.raises(jobs.LeaseLostError), database.transaction() as session:
            step(session, dead)
    with database.transaction() as session:
        assert not jobs.prolong_lease(session, dead)
        jobs.finish_jobs(session, [alive])
    with database.reading() as session:
        assert session.scalars(select(Job.state)).all() == ["done"]
    assert take(database) is None


def test_a_job_that_fails_waits_longer_each_time_and_is_given_up_at_last(database, monkeypatch):
    given_up = []
    monkeypatch.setitem(
        jobs.HANDLERS, "judge", jobs.JobHandler(lambda *_: lambda _: None, lambda s, job, why: given_up.append(why))
    )
    add(database, "k")
    waits = []
    for attempt in range(1, jobs.MAX_ATTEMPTS + 1):
        job = take(database)
        assert job.attempts == attempt
        with database.transaction() as session:
            last = jobs.fail_job(session, job, f"attempt {attempt}")
        with database.reading() as session:
            waits.append(round((session.scalars(select(Job.run_after)).one() - now()).total_seconds()))
        change_all(database, run_after=now())
    assert last and waits[:-1] == [2, 8, 32, 128] and given_up == ["attempt 5"]
    with database.reading() as session:
        row = session.scalars(select(Job)).one()
        assert (row.state, row.error) == ("failed", "attempt 5")


def test_a_full_queue_tells_how_long_to_wait_by_its_own_pace(database):
    for number in range(4):
        add(database, str(number))
    with database.reading() as session:
        jobs.require_place(session, 5)
        with pytest.raises(BusyError, match="Nothing of this was taken") as caught:
            jobs.require_place(session, 5, coming=2)
        assert caught.value.status == 503 and caught.value.retry_after == 120  # nothing was finished yet
    for _ in range(2):
        with database.transaction() as session:
            jobs.finish_jobs(session, [jobs.take_job(session, "a")])
    with database.reading() as session, pytest.raises(BusyError) as caught:
        jobs.require_place(session, 2, coming=2)
    assert caught.value.retry_after == 60  # two too many, two finished in a minute
