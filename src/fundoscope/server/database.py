"""One engine a database: SQLite in a file, or PostgreSQL. Every unit of work is one transaction."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.orm import Session, sessionmaker

BUSY_SECONDS = 30  # that a writer waits for another one


class Database:
    """Transactions on one database; `url` as SQLAlchemy reads it."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.engine = _make_engine(self.url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._readers = sessionmaker(self.engine.execution_options(reads_only=True), expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """A session that is committed when the block ends, and rolled back on an error. SQLite: the only writer meanwhile."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session to read with; it waits for no writer, and what it changes is thrown away."""
        with self._readers() as session:
            yield session

    def upgrade(self, revision: str = "head") -> None:
        """Bring the schema to the newest revision; one that is there already costs two questions."""
        if revision == "head" and self._has_newest_schema():
            return
        command.upgrade(alembic_config(self.url), revision)

    def _has_newest_schema(self) -> bool:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            return connection.scalar(text("SELECT version_num FROM alembic_version")) == newest_revision()

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def alembic_config(url: str) -> Config:
    """What Alembic needs to find the migrations of this package and the database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = url
    return config


@cache
def newest_revision() -> str | None:
    """The revision of the schema that this program knows as its newest."""
    return ScriptDirectory.from_config(alembic_config("")).get_current_head()


def _make_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)  # no name in a log

    @event.listens_for(engine, "connect")
    def _open(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_SECONDS * 1000}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        reads = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
