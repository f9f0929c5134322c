"""Workers: every job once, after what it builds on, whatever becomes of a worker; Ray as processes do."""

import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from fundoscope.errors import CohortError, StudyError, UsageError
from fundoscope.runs.fits import carry_out_fits
from fundoscope.runs.workers import WorkEngine, WorkItem


def note(folder, task):
    """Leave a line a beginning and a file an end, as a fit leaves its folder; `task` may ask for a death or an error."""
    name, wish = task
    with (folder / "begun").open("a") as file:
        file.write(f"{name} {' '.join(sorted(each.name for each in folder.glob('*.done')))}\n")
    begun = (folder / "begun").read_text().split("\n")
    if wish == "die" or (wish == "die once" and sum(line.startswith(name) for line in begun) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "raise":
        raise CohortError("a fit that cannot be")
    (folder / f"{name}.done").touch()
    return name.upper()


def carry_out(engine, folder, *jobs):
    return {
        job.key: result
        for job, result in engine.carry_out(
            partial(note, folder), [WorkItem(name, (name, wish), after) for name, wish, after in jobs]
        )
    }


def test_a_job_begins_after_what_it_builds_on_and_a_killed_worker_costs_nothing(tmp_path):
    jobs = [("teacher", "die once", ()), ("student", "", ("teacher",)), ("other", "", ()), ("deadly", "die", ())]
    found = carry_out(WorkEngine(workers=2), tmp_path, *jobs)
    assert found.pop("deadly") is None
    assert found == {"teacher": "TEACHER", "student": "STUDENT", "other": "OTHER"}
    begun = [line.split() for line in (tmp_path / "begun").read_text().splitlines()]
    assert all("teacher.done" in line for line in begun if line[0] == "student")
    assert 2 <= sum(line[0] == "deadly" for line in begun) <= 3


def test_what_a_fit_raises_is_raised_and_one_that_kills_its_worker_is_named(tmp_path):
    jobs = [WorkItem("a", ("a", "raise")), WorkItem("b", ("b", ""))]
    for engine in (WorkEngine(), WorkEngine(workers=2)):  # in this process, and beside it
        with pytest.raises(CohortError, match="cannot be"):
            list(carry_out_fits(engine, partial(note, tmp_path), jobs, 1))
    with pytest.raises(StudyError, match=r"fits/b.* --workers; the same command goes on"):
        list(carry_out_fits(WorkEngine(workers=2), partial(note, tmp_path), [WorkItem("fits/b", ("b", "die"))], 1))


def test_a_study_shares_its_threads_among_its_workers():
    assert WorkEngine().threads_each(8) == 0  # this process, as it is
    assert WorkEngine(workers=3).threads_each(8) == 2
    assert WorkEngine(workers=16).threads_each(8) == 1
    assert WorkEngine(workers=3, threads=5).threads_each(8) == 5


def test_an_unknown_engine_or_an_address_without_ray_is_told():
    with pytest.raises(UsageError, match="did you mean 'ray'"):
        WorkEngine("rays")
    with pytest.raises(UsageError, match="--engine ray"):
        WorkEngine("local", 0, "head:6379")


def test_an_address_where_nothing_answers_is_told_at_once(tmp_path):
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"--address {address}: no Ray cluster answers there"):
            carry_out(WorkEngine("ray", 1, address), tmp_path, ("a", "", ()))


@pytest.mark.services
def test_ray_does_as_processes_do(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    jobs = [("teacher", "die once", ()), ("student", "", ("teacher",)), ("other", "", ()), ("deadly", "die", ())]
    found = carry_out(WorkEngine("ray", 2), tmp_path, *jobs)
    assert found == {"teacher": "TEACHER", "student": "STUDENT", "other": "OTHER", "deadly": None}
    begun = [line.split() for line in (tmp_path / "begun").read_text().splitlines()]
    assert all("teacher.done" in line for line in begun if line[0] == "student")
    with pytest.raises(CohortError, match="cannot be"):
        carry_out(WorkEngine("ray", 1), tmp_path, ("a", "raise", ()))
