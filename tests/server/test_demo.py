"""The room to try out: people who can sign in, exams in it, and no way to lose a room of one's own."""

import re

import pytest
from sqlalchemy import func, select

from fundoscope.errors import UsageError
from fundoscope.server import demo
from fundoscope.server.models import Exam, ExamPhotograph, Job, Patient
from fundoscope.server.services import sessions


@pytest.fixture
def furnished(room, monkeypatch):
    """A room with the last infant of the demonstration, and what was said."""
    monkeypatch.setattr(demo, "INFANTS", demo.INFANTS[-1:])
    monkeypatch.setattr(demo, "ADULTS", ())
    monkeypatch.setattr(demo, "_RETCAM_SIDE", 240)
    said = []
    demo.furnish(room, said.append)
    return said


def passwords(said):
    return dict(re.findall(r"^  (\w+) +(\S+) ", "\n".join(said), re.MULTILINE))


def test_the_room_is_furnished_and_its_passwords_let_in(room, furnished):
    known = passwords(furnished)
    assert set(known) == set(demo.ACCOUNTS)
    with room.database.reading() as session:
        exam = session.scalars(select(Exam)).one()
        assert (exam.state, exam.patient.code, exam.patient.due["decision"]) == ("signed", "D-006", "examine")
        photographs = session.scalars(select(ExamPhotograph)).all()
        assert {(one.eye, one.view) for one in photographs} == {(e, v) for e in ("right", "left") for v in demo._VIEWS}
        assert session.scalar(select(func.count()).select_from(Job).where(Job.kind == "judge")) == 6
    for name, password in known.items():
        assert sessions.sign_in(room.database, name, password, "127.0.0.1", room.settings.session_hours)


def test_again_gives_new_passwords_and_adds_nothing(room, furnished):
    said = []
    demo.furnish(room, said.append)
    assert passwords(said).keys() == passwords(furnished).keys() and passwords(said) != passwords(furnished)
    with room.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Patient)) == 1


def test_a_room_of_ones_own_is_left_alone(room, sign_in):
    sign_in("reader")
    with pytest.raises(UsageError, match="Name another folder"):
        demo.furnish(room, print)
