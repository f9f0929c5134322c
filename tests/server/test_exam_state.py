"""What the worklist sorts an exam by, after every kind of change."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from datetime import date

from fundoscope.server.database import Database
from fundoscope.server.models import Exam, ExamPhotograph, EyeReading, Grading, Patient, Reading, Site, User, now
from fundoscope.server.services.exam_state import classify_eye, refresh_exam, refresh_open_exams
from fundoscope.server.services.worklist import describe_reason


@pytest.fixture
def session(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'room.sqlite'}")
    database.upgrade()
    with database.transaction() as session:
        site = Site(name="A", guideline="china-2014", required_views=["disc", "temporal"])
        reader = User(name="reader", full_name="R", role="reader")
        session.add_all([site, reader])
        session.flush()
        yield session
    database.dispose()


@pytest.fixture
def exam(session):
    patient = Patient(site_id=1, kind="infant", code="I1", created_via="command")
    session.add(patient)
    session.flush()
    exam = Exam(site_id=1, patient_id=patient.id, day=date(2026, 3, 1), created_via="command")
    session.add(exam)
    session.flush()
    return exam


def add_photograph(session, exam, eye, view, p=None, *, state="graded", suspected=False):
    number = session.query(ExamPhotograph).count()
    photograph = ExamPhotograph(
        site_id=1, exam_id=exam.id, digest=f"{number:064}", file_name="a.png", file_bytes=1, media_type="image/png", eye=eye,
        view=view, state=state, created_via="command",
    )  # fmt: skip
    session.add(photograph)
    session.flush()
    if p is not None:
        session.add(
            Grading(
                site_id=1, photograph_id=photograph.id, grader="rop screen", bundle="b", bundle_digest="d", version="1",
                status="ok", probability=p, suspected=suspected, rows={"rows": []}, created_at=now(),
            )
        )  # fmt: skip
    refresh_exam(session, exam)
    return photograph


def add_reading(session, exam, *, signed=True, kind="first", supersedes=None, **findings):
    reading = Reading(
        site_id=1, exam_id=exam.id, reader_id=1, kind=kind, supersedes=supersedes,
        created_via="pages", eyes=[EyeReading(eye="right", **findings)],
    )  # fmt: skip
    session.add(reading)
    session.flush()
    reading.signed_at = now() if signed else None
    refresh_exam(session, exam)
    return reading


def test_views_are_missing_until_each_is_there_and_a_refused_one_must_be_repeated(session, exam):
    refresh_exam(session, exam)
    assert exam.missing_views == ["right:disc", "right:temporal", "left:disc", "left:temporal"]
    assert (exam.urgency_reason, exam.uploaded_at, exam.suspected) == ("missing-views", None, None)
    for eye in ("right", "left"):
        for view in ("disc", "temporal"):
            add_photograph(session, exam, eye, view, 0.1)
    assert (exam.missing_views, exam.urgency_reason, exam.urgency) == ([], "", 50)
    assert exam.uploaded_at is not None and exam.suspected is False
    refused = add_photograph(session, exam, "left", "nasal", state="refused")
    assert exam.urgency_reason == "refused-views" and exam.missing_views == []
    add_photograph(session, exam, "left", "nasal", state="waiting")
    assert (exam.urgency_reason, exam.photographs_waiting) == ("", 1)
    refused.state = "withdrawn"
    refresh_exam(session, exam)
    assert exam.urgency == 50


def test_one_suspected_photograph_makes_the_exam_urgent_until_a_reading_is_signed(session, exam):
    add_photograph(session, exam, "right", "disc", 0.2)
    photograph = add_photograph(session, exam, "right", "temporal", 0.8, suspected=True)
    assert (exam.urgency_reason, exam.urgency, exam.highest_p, exam.suspected) == ("suspected", 10, 0.8, True)
    draft = add_reading(session, exam, signed=False, zone="III", stage="0", plus="no")
    assert exam.urgency_reason == "suspected"  # a draft does not clear it
    draft.signed_at = now()
    refresh_exam(session, exam)
    assert exam.urgency_reason == "missing-views"
    photograph.state = "withdrawn"
    refresh_exam(session, exam)
    assert (exam.suspected, exam.highest_p, exam.urgency_reason) == (False, 0.2, "missing-views")


def test_a_worse_finding_must_be_acknowledged_again_and_a_correction_counts_instead_of_what_it_corrects(session, exam):
    add_photograph(session, exam, "right", "disc", 0.8, suspected=True)
    exam.acknowledged_at, exam.acknowledged_by = now(), 1
    refresh_exam(session, exam)
    assert exam.acknowledged_by == 1
    first = add_reading(session, exam, zone="II", stage="2", plus="plus")
    assert (exam.urgency_reason, exam.acknowledged_at, exam.acknowledged_by) == ("type-1", None, None)
    second = add_reading(session, exam, kind="second", zone="II", stage="1", plus="no")
    assert (
        exam.urgency_reason == "type-1" and second.id > first.id
    )  # a masked second reading does not speak for the exam
    add_reading(session, exam, kind="correction", supersedes=first.id, zone="II", stage="3", plus="no")
    assert exam.urgency_reason == "referral-warranted"


@pytest.mark.parametrize(
    ("findings", "type_1", "referral"),
    [
        ({"zone": "I", "stage": "3", "plus": "no"}, True, True),
        ({"zone": "II", "stage": "2", "plus": "plus"}, True, True),
        ({"zone": "II", "stage": "3", "plus": "pre-plus"}, False, True),
        ({"zone": "II", "stage": "2", "plus": "no"}, False, False),
        ({"zone": "III", "stage": "4A", "plus": "no"}, False, True),
        ({"zone": "II", "stage": "3"}, None, True),
        ({"stage": "2", "plus": "no"}, False, None),
        ({"zone": "II", "stage": "2", "plus": "plus", "regression": "regressed"}, False, False),
        ({"stage": "0", "plus": "no"}, False, False),
    ],
)  # fmt: skip
def test_findings_are_classed_as_etrop_and_aap_say(findings, type_1, referral):
    classes = classify_eye(EyeReading(eye="right", **findings))
    assert (classes.type_1, classes.referral, classes.aggressive) == (type_1, referral, False)


def test_an_aggressive_eye_comes_first_in_whatever_zone(session, exam):
    add_reading(session, exam, zone="II", plus="no", aggressive=True)
    assert exam.urgency_reason == "a-rop" and exam.urgency < 20
    assert describe_reason(exam.urgency_reason) and not describe_reason("")


def test_open_exams_follow_the_views_that_a_site_requires(session, exam):
    refresh_exam(session, exam)
    session.get(Site, 1).required_views = []
    refresh_open_exams(session, 1)
    assert (exam.missing_views, exam.urgency_reason) == ([], "")
