"""Judging: what a child process does to a photograph, or a photograph to it, becomes one row; a repeated step no second one."""

import hashlib
import sys
import time
from datetime import date, timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from sqlalchemy import select, update

from fundoscope.server.judge import JudgeAnswer, JudgeDiedError, JudgeProcess, JudgeUnableError
from fundoscope.server.models import AuditEntry, Exam, ExamPhotograph, Grading, Job, Patient, Site, now
from fundoscope.server.services import audit, jobs, judging
from fundoscope.server.settings import UploadLimits
from fundoscope.server.worker import Worker


def child(code, **limits):
    script = f"import sys, os, json, time\nfor line in sys.stdin:\n    {code}\n"
    return JudgeProcess(UploadLimits(**limits), (sys.executable, "-c", script))


@pytest.mark.parametrize(
    "code, says",
    [
        ("os.kill(os.getpid(), 11)", "crashed \\(SIGSEGV\\)"),
        ("os.kill(os.getpid(), 9)", "want of memory"),
        ("sys.exit(3)", "code 3"),
        ("print('{}', flush=True)", "cannot be read"),
        ("print('no answer', flush=True)", "cannot be read"),
    ],
)
def test_a_child_that_dies_says_how_and_another_one_starts(tmp_path, code, says):
    process = child(code)
    for _ in range(2):
        with pytest.raises(JudgeDiedError, match=says) as caught:
            process.judge(tmp_path / "a", "a", "rop", tmp_path)
        assert not caught.value.hung
    process.stop()


def test_a_child_that_hangs_is_ended(tmp_path):
    process = child("time.sleep(60)", grading_seconds=1)
    start = time.monotonic()
    with pytest.raises(JudgeDiedError, match="longer than 1 second") as caught:
        process.judge(tmp_path / "a", "a", "rop", tmp_path)
    assert caught.value.hung and time.monotonic() - start < 10


def test_a_child_without_a_bundle_is_not_the_photographs_fault(tmp_path):
    process = child("""print(json.dumps({"error": "BundleError: none"}), flush=True)""")
    with pytest.raises(JudgeUnableError, match="BundleError"):
        process.judge(tmp_path / "a", "a", "rop", tmp_path)
    process.stop()


@pytest.fixture
def judged_room(room):
    yield room
    judging.stop_children()


def add_photograph(room, data, name="OD disc.png"):
    digest = hashlib.sha256(data).hexdigest()
    file = judging.photograph_file(room.settings, digest)
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    with room.database.transaction() as session:
        site = Site(name=digest, guideline="china-2014", required_views=["disc"])
        session.add(site)
        session.flush()
        patient = Patient(site_id=site.id, code="1", created_via="command")
        session.add(patient)
        session.flush()
        exam = Exam(site_id=site.id, patient_id=patient.id, day=date.today(), created_via="command")
        session.add(exam)
        session.flush()
        photograph = ExamPhotograph(
            site_id=site.id, exam_id=exam.id, digest=digest, file_name=name, file_bytes=len(data), media_type="image/png",
            eye="right", view="disc", created_via="pages",
        )  # fmt: skip
        session.add(photograph)
        session.flush()
        judging.ask_to_judge(session, [photograph], patient, None)
        judging.ask_to_judge(session, [photograph], patient, None)
        return photograph.id


def take(room):
    with room.database.transaction() as session:
        return jobs.take_job(session, "test")


def write(room, job, answer_writer):
    with room.database.transaction() as session:
        answer_writer(session)
        jobs.finish_jobs(session, [job])


def test_a_photograph_is_judged_once_with_its_pictures(judged_room, eyes):
    number = add_photograph(judged_room, eyes[0].read_bytes())
    first = take(judged_room)
    assert take(judged_room) is None  # it was asked for twice, and is one job
    answer = judging.judge_photograph(judged_room, first)
    with judged_room.database.transaction() as session:  # the worker was so slow that another one began
        session.execute(update(Job).values(lease_until=now() - timedelta(seconds=1)))
    second = take(judged_room)
    write(judged_room, second, judging.judge_photograph(judged_room, second))
    with pytest.raises(jobs.LeaseLostError):
        write(judged_room, first, answer)
    with judged_room.database.transaction() as session:  # and even a step that is repeated whole is no second answer
        answer(session)
    with judged_room.database.reading() as session:
        (grading,) = session.scalars(select(Grading)).all()
        photograph = session.get(ExamPhotograph, number)
        exam = session.get(Exam, photograph.exam_id)
        assert photograph.state == "graded" and (photograph.width, photograph.height) == (640, 480)
        assert grading.probability is not None and grading.rows["rows"][0]["file"] == "OD disc.png"
        assert exam.photographs_waiting == 0 and exam.missing_views == ["left:disc"] and exam.suspected is not None
        lines = session.scalars(select(AuditEntry.action)).all()
        assert lines == ["photographs.judge"] and not list(audit.find_breaks(session))
        for name in ("photograph", "thumbnail", "activation"):
            file = judging.picture_file(judged_room.settings, photograph, grading, name)
            assert file.stat().st_size > 500 and file.stat().st_mode & 0o077 == 0
    left, top, width, height = grading.pictures["activation_place"]
    assert width * 640 == pytest.approx(height * 480, rel=1e-3)  # a square, in pixels
    assert left + width / 2 == pytest.approx(0.5, abs=0.1) and top + height / 2 == pytest.approx(0.5, abs=0.1)
    assert not any(judged_room.settings.pictures.glob(".aside/*/*"))


def test_a_worker_writes_a_row_for_every_photograph_even_a_broken_one(judged_room, monkeypatch):
    def judge(self, photograph, name, task, folder):
        if photograph.read_bytes() == b"bad":
            raise JudgeDiedError("the program that read it crashed (SIGSEGV)")
        (folder / "photograph.jpg").write_bytes(b"jpeg")
        return JudgeAnswer(
            grader="rop screen", bundle="rop", bundle_digest="d", version="1", status="rejected", reason="too dark",
            rows=[{}], size=(480, 640), pictures={"photograph": "photograph.jpg"},
        )  # fmt: skip

    monkeypatch.setattr(JudgeProcess, "judge", judge)
    add_photograph(judged_room, b"bad", "bad.png")
    add_photograph(judged_room, b"dark", "dark.png")
    done = []
    worker = Worker(judged_room, 2, done.append)
    worker.start()
    deadline = time.monotonic() + 10
    while len(done) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.stop()
    assert sorted(done) == [1, 2]
    with judged_room.database.reading() as session:
        found = {each.file_name: (each.state, each.reason) for each in session.scalars(select(ExamPhotograph))}
        assert found["dark.png"] == ("refused", "too dark")
        assert found["bad.png"][0] == "failed" and "SIGSEGV" in found["bad.png"][1]
        assert session.scalars(select(Job.state)).all() == ["done", "done"]


def test_a_job_that_is_given_up_leaves_a_row_that_says_so(judged_room, monkeypatch):
    def judge(self, photograph, name, task, folder):
        raise JudgeUnableError("BundleError: gone")

    monkeypatch.setattr(JudgeProcess, "judge", judge)
    add_photograph(judged_room, b"x")
    for _ in range(jobs.MAX_ATTEMPTS):
        with judged_room.database.transaction() as session:
            session.execute(update(Job).values(run_after=now()))
        job = take(judged_room)
        with pytest.raises(JudgeUnableError) as caught:
            judging.judge_photograph(judged_room, job)
        with judged_room.database.transaction() as session:
            jobs.fail_job(session, job, str(caught.value))
    with judged_room.database.reading() as session:
        photograph = session.scalars(select(ExamPhotograph)).one()
        assert photograph.state == "failed" and "BundleError: gone" in photograph.reason
        assert session.scalars(select(Grading.status)).all() == ["failed"]
        assert session.scalars(select(Exam.photographs_waiting)).one() == 0
