"""A reading room for the tests, people who are signed in to it, and infants to look at.

    room            the room of one test: an empty database of the newest schema, a folder
    client          a client that nobody has signed in with
    sign_in         sign_in("reader") -> Person: a client with a session; `person.user`, `person.caller`, `person.password`
    site            the site to which these people belong; `other_site` is one to which they do not
    make_patient, make_exam, make_photograph      rows in the database; values by keyword; of `site` unless told otherwise

Everything runs on SQLite; with FUNDOSCOPE_TEST_DATABASE=postgresql://... (a database that may be emptied) on PostgreSQL.
"""

import hashlib
import os
import shutil
from datetime import date

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from argon2 import PasswordHasher
from sqlalchemy import text
from starlette.testclient import TestClient

from fundoscope.server.app import create_app
from fundoscope.server.database import Database
from fundoscope.server.models import Exam, ExamPhotograph, Membership, Patient, Site, User
from fundoscope.server.room import Room
from fundoscope.server.security import passwords
from fundoscope.server.security.cookies import PLAIN_NAME
from fundoscope.server.security.passwords import hash_password
from fundoscope.server.services import sessions
from fundoscope.server.services.exam_state import refresh_exam
from fundoscope.server.settings import ServerSettings

POSTGRESQL = os.environ.get("FUNDOSCOPE_TEST_DATABASE", "")
ADDRESS = "http://localhost:8000"
PASSWORD = "a short sentence is good"


class Person(TestClient):
    """A client with a session: it sends the session's token with every request, as the pages do."""

    user: User
    caller: sessions.Caller
    password = PASSWORD

    @property
    def id(self):
        return self.user.id


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A SQLite file of the newest schema, to be copied; None on PostgreSQL."""
    if POSTGRESQL:
        Database(POSTGRESQL).upgrade()
        return None
    path = tmp_path_factory.mktemp("schema") / "fundoscope.sqlite"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.dispose()
    return path


@pytest.fixture(scope="session", autouse=True)
def quick_passwords():
    """A cheap hash."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(scope="session")
def password_hash(quick_passwords):
    return hash_password(PASSWORD)


@pytest.fixture
def settings(tmp_path, empty_database):
    """Settings of a room; a test module may define its own fixture of this name."""
    return ServerSettings(data=tmp_path / "room", database=POSTGRESQL, debug=True)


@pytest.fixture(scope="session")
def routes():
    """The routes of the first room, which all share: FastAPI prepares each at its first request, in a sixth of a second together."""
    return []


@pytest.fixture
def app(settings, empty_database, routes):
    settings = settings.model_copy(update={"database": POSTGRESQL})
    settings.data.mkdir(mode=0o700)
    if empty_database is None:
        settings = settings.model_copy(update={"database": POSTGRESQL})  # also where a module has settings of its own
        empty_postgresql(settings.database_url)
    else:
        shutil.copy(empty_database, settings.data / "fundoscope.sqlite")
    app = create_app(settings)
    routes[:] = routes or app.router.routes
    app.router.routes[:] = routes
    yield app
    app.state.room.database.dispose()


@pytest.fixture
def room(app) -> Room:
    return app.state.room


@pytest.fixture
def client(app):
    with TestClient(app, ADDRESS, headers={"Origin": ADDRESS}) as client:
        yield client


@pytest.fixture
def site(room):
    return add_site(room, "Site A")


@pytest.fixture
def other_site(room):
    return add_site(room, "Site B")


@pytest.fixture
def sign_in(app, client, room, site, password_hash):
    """sign_in(role, name=..., sites=[...]): an account of that role and a client with its session."""

    def sign_in(role="reader", name="", sites=None, **values):
        with room.database.transaction() as session:
            number = session.query(User).count() + 1
            name = name or f"{role}{number}"
            user = User(name=name, full_name=name.title(), role=role, password=password_hash, **values)
            session.add(user)
            session.flush()
            for one in [site] if sites is None else sites:
                session.add(Membership(user_id=user.id, site_id=one.id))
            session.flush()
            opened = sessions.open_session(session, user, "testclient", 1)
            caller = sessions.as_caller(user, "pages", "testclient")
        headers = {"Origin": ADDRESS, "X-CSRF-Token": opened.row.csrf}
        person = Person(app, ADDRESS, headers=headers)
        person.cookies.set(PLAIN_NAME, opened.token, domain="localhost.local")
        person.user, person.caller = user, caller
        person.portal = client.portal  # one event loop for all
        return person

    return sign_in


@pytest.fixture
def make_patient(room, site):
    def make_patient(**values):
        with room.database.transaction() as session:
            number = session.query(Patient).count() + 1
            wanted = {
                "site_id": site.id, "kind": "infant", "code": f"N{number:04}", "birth_date": date(2026, 1, 5),
                "gestational_age": 28 * 7, "birth_weight": 1050, "created_via": "command",
            }  # fmt: skip
            patient = Patient(**wanted | values)
            session.add(patient)
        return patient

    return make_patient


@pytest.fixture
def make_exam(room, make_patient):
    def make_exam(patient=None, **values):
        patient = patient or make_patient()
        with room.database.transaction() as session:
            wanted = {
                "site_id": patient.site_id,
                "patient_id": patient.id,
                "day": date(2026, 2, 9),
                "created_via": "command",
            }
            exam = Exam(**wanted | values)
            session.add(exam)
            session.flush()
            refresh_exam(session, exam)
        return exam

    return make_exam


@pytest.fixture
def make_photograph(room, make_exam):
    """A row only, without a file: what is judged and shown comes in by the route for uploads."""

    def make_photograph(exam=None, **values):
        exam = exam or make_exam()
        with room.database.transaction() as session:
            number = session.query(ExamPhotograph).count() + 1
            wanted = {
                "site_id": exam.site_id, "exam_id": exam.id, "digest": hashlib.sha256(b"%d" % number).hexdigest(),
                "file_name": f"{number}.png", "file_bytes": 1000, "media_type": "image/png", "width": 640, "height": 480,
                "eye": "right", "view": "disc", "placed": True, "created_via": "command",
            }  # fmt: skip
            photograph = ExamPhotograph(**wanted | values)
            session.add(photograph)
            session.flush()
            refresh_exam(session, session.get_one(Exam, exam.id))
        return photograph

    return make_photograph


def add_site(room, name, **values):
    """A site where nothing is drawn for second readings, unless told otherwise: the draw has another key in each database."""
    wanted = {"required_views": ["disc", "macula", "temporal"], "second_reading_share": 0.0, "repeat_share": 0.0}
    with room.database.transaction() as session:
        site = Site(**{"name": name, "guideline": "china-2014", **wanted, **values})
        session.add(site)
    return site


def empty_postgresql(url):
    """Take all rows out, and start the numbers anew."""
    database = Database(url)
    with database.transaction() as session:
        names = session.scalars(
            text(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'room_secrets')"
            )
        ).all()
        session.execute(text(f"TRUNCATE {', '.join(names)} RESTART IDENTITY CASCADE"))
    database.dispose()
