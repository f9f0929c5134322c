"""The tables of the reading room: migrations, transactions, the audit log."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select

from fundoscope.server.app import create_app
from fundoscope.server.database import Database, alembic_config
from fundoscope.server.models import AuditEntry, Base, Site
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.services import audit
from fundoscope.server.settings import ServerSettings

CALLER = Caller(None, "the test", Role.ADMINISTRATOR, frozenset(), via="command")


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'room.sqlite'}")
    database.upgrade()
    yield database
    database.dispose()


def test_the_migrations_make_the_tables_of_the_models(database):
    assert len(ScriptDirectory.from_config(alembic_config(database.url)).get_heads()) == 1
    with database.engine.connect() as connection:
        assert (
            compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata) == []
        )


def test_a_transaction_that_fails_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        session.add(Site(name="A", guideline="china-2014", required_views=[]))
        session.flush()
        1 / 0  # noqa: B018
    with database.reading() as session:
        assert session.scalars(select(Site)).all() == []


def test_a_changed_a_missing_and_a_rewritten_line_of_the_log_show(database):
    with database.transaction() as session:
        for number in range(5):
            audit.record(session, CALLER, "exam.view", "exam", number)
    with database.reading() as session:
        count, anchor = audit.head(session)
        assert count == 5 and not list(audit.find_breaks(session, anchor))
        assert ["cut" in text for text in audit.find_breaks(session, "f" * 64)] == [True]
    with database.transaction() as session:
        session.get(AuditEntry, 2).subject_id = 7
        session.delete(session.get(AuditEntry, 4))
    with database.reading() as session:
        assert [text.split(":")[0] for text in audit.find_breaks(session)] == ["Line 2", "Line 5"]


def test_the_room_starts_and_says_that_it_works(tmp_path):
    from starlette.testclient import TestClient

    with TestClient(create_app(ServerSettings(data=tmp_path / "room")), "http://localhost") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert (tmp_path / "room").stat().st_mode & 0o077 == 0
