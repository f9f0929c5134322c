"""Readings: what may be saved, who sees what, and that a signed one never changes."""

from datetime import date

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fundoscope.server.database import Database
from fundoscope.server.errors import InvalidError, NotFoundError
from fundoscope.server.models import (
    Exam,
    Grading,
    Membership,
    Patient,
    Photograph,
    Reading,
    Site,
    User,
    now,
)
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.services import readings
from fundoscope.server.services.eye_findings import (
    ReadingContent,
)


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'room.sqlite'}")
    database.upgrade()
    yield database
    database.dispose()


@pytest.fixture
def clinic(database):
    """A site with two readers, an infant's exam and an adult's one with two crossings."""
    with database.transaction() as session:
        site = Site(name="North", guideline="china-2014", required_views=["disc"])
        session.add(site)
        session.flush()
        users = [User(name=name, full_name=name.title(), role="reader") for name in ("rita", "rolf")]
        session.add_all(users)
        session.flush()
        session.add_all(Membership(user_id=user.id, site_id=site.id) for user in users)
        exams = []
        for kind in ("infant", "adult"):
            patient = Patient(
                site_id=site.id,
                kind=kind,
                code=kind,
                created_via="pages",
                birth_date=date(2024, 1, 1),
                gestational_age=196,
            )
            session.add(patient)
            session.flush()
            exam = Exam(site_id=site.id, patient_id=patient.id, day=date(2024, 2, 12), created_via="pages")
            session.add(exam)
            session.flush()
            exams.append(exam.id)
        photograph = Photograph(
            site_id=site.id, exam_id=exams[1], digest="d" * 64, file_name="a.png", file_bytes=1, media_type="image/png",
            eye="right", state="graded", created_via="pages",
        )  # fmt: skip
        session.add(photograph)
        session.flush()
        session.add(Grading(
            site_id=site.id, photograph_id=photograph.id, grader="nicking grade", bundle="nicking", bundle_digest="b" * 16,
            version="0", status="ok", created_at=now(),
            rows={"rows": [{"crossing": n, "row": 10.0 * n, "col": 5.0 * n, "grade": n} for n in (1, 2)]},
        ))  # fmt: skip
    callers = [Caller(user.id, user.full_name, Role.READER, frozenset({site.id})) for user in users]
    return {"site": site.id, "infant": exams[0], "adult": exams[1], "photograph": photograph.id, "readers": callers}


def content(**right):
    values = {"zone": "II", "stage": "2", "plus": "no"} | right
    return ReadingContent(eyes=[{"eye": "right", **values}, {"eye": "left", "gradable": False, "reason": "blurred"}])


def sign_by_hand(session, reading):
    reading.signed_at = now()
    session.flush()


def test_a_draft_is_changed_in_its_place_and_the_exam_is_read(database, clinic):
    rita, rolf = clinic["readers"]
    for stage in ("2", "4B"):
        with database.transaction() as session:
            reading = readings.save_reading(session, rita, clinic["infant"], content(stage=stage))
    with database.reading() as session:
        exam = session.get(Exam, clinic["infant"])
        (kept,) = readings.list_readings(session, rita, exam)
        assert (kept.id, kept.eyes[0].eye, kept.eyes[0].stage, kept.eyes[1].reason) == (
            reading.id,
            "right",
            "4B",
            "blurred",
        )
        assert exam.state == "read"
        assert readings.list_readings(session, rolf, exam) == []
        with pytest.raises(NotFoundError):
            readings.get_reading(session, rolf, reading.id)


@pytest.mark.parametrize(
    ("right", "field", "word"),
    [
        ({"gradable": False}, "right.reason", "why"),
        ({"gradable": False, "reason": "blurred"}, "right.zone", "Take one"),
        ({"posterior": True, "zone": "I"}, "right.posterior", "zone II"),
        ({"notch": True, "zone": None}, "right.notch", "zone"),
        ({"aggressive": True, "stage": "0"}, "right.stage", "contradict"),
        ({"reason": "dark"}, "right.reason", "Take one"),
    ],
)
def test_findings_that_contradict_each_other_are_refused_by_their_name(database, clinic, right, field, word):
    with database.transaction() as session, pytest.raises(InvalidError, match=word) as refused:
        readings.save_reading(session, clinic["readers"][0], clinic["infant"], content(**right))
    assert refused.value.field == field


def test_crossings_are_graded_where_the_tool_found_them(database, clinic):
    rita, photograph = clinic["readers"][0], clinic["photograph"]
    graded = ReadingContent(
        crossings=[
            {"photograph_id": photograph, "crossing": 1, "grade": 3},
            {"photograph_id": photograph, "crossing": 2},
        ]
    )
    with database.transaction() as session:
        reading = readings.save_reading(session, rita, clinic["adult"], graded)
        assert [(one.row, one.col, one.grade) for one in reading.crossings] == [(10.0, 5.0, 3), (20.0, 10.0, None)]
        assert readings.content_of(reading) == graded
    unknown = ReadingContent(crossings=[{"photograph_id": photograph, "crossing": 3, "grade": 0}])
    with database.transaction() as session, pytest.raises(InvalidError, match="no crossing 3"):
        readings.save_reading(session, rita, clinic["adult"], unknown)
    with database.transaction() as session, pytest.raises(InvalidError, match="one of infants"):
        readings.save_reading(session, rita, clinic["adult"], ReadingContent(eyes=[{"eye": "left", "plus": "no"}]))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE readings SET note = 'x' WHERE id = {id}",
        "DELETE FROM readings WHERE id = {id}",
        "UPDATE eye_readings SET stage = '1' WHERE reading_id = {id}",
        "UPDATE eye_readings SET reading_id = {id} WHERE reading_id = {other}",
        "DELETE FROM eye_readings WHERE reading_id = {id}",
        "INSERT INTO crossing_readings (reading_id, photograph_id, crossing, row, col) VALUES ({id}, {photograph}, 1, 0, 0)",
    ],
)
def test_the_database_refuses_every_change_of_a_signed_reading(database, clinic, change):
    rita, rolf = clinic["readers"]
    with database.transaction() as session:
        other = readings.save_reading(session, rolf, clinic["infant"], content())
        signed = readings.save_reading(session, rita, clinic["infant"], content())
        sign_by_hand(session, signed)
    statement = change.format(id=signed.id, other=other.id, photograph=clinic["photograph"])
    with pytest.raises(DBAPIError, match="a signed reading never changes"), database.transaction() as session:
        session.execute(text(statement))
    with database.transaction() as session:  # a draft still changes
        session.get(Reading, other.id).note = "changed"
