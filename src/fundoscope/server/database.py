"""One engine a database: SQLite in a file, or PostgreSQL. Every unit of work is one transaction."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import IO, Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

if sys.platform != "win32":
    import fcntl

BUSY_SECONDS = 30  # that a writer waits for another one


class Database:
    """Transactions on one database; `url` as SQLAlchemy reads it."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self.engine = _make_engine(self.url)
        self._turn = WritersTurn.of(self.engine)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._readers = sessionmaker(self.engine.execution_options(reads_only=True), expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Generator[Session]:
        """A session that is committed when the block ends, and rolled back on an error. SQLite: the only writer meanwhile."""
        with nullcontext() if self._turn is None else self._turn.taken(), self._sessions.begin() as session:
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


class WritersTurn:
    """Who writes next into an SQLite file, in the order in which processes came.

    SQLite itself lets a writer ask again and again after growing pauses, so that a process that writes without a pause starves all
    others. Here each waits on the first of two bytes of a file beside the database, and holds it until the second is free: whoever has
    just written comes behind those who wait. SQLite's own lock stays, for programs that know nothing of this one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.Lock()
        self._file: IO[bytes] | None = None

    @classmethod
    def of(cls, engine: Engine) -> WritersTurn | None:
        """For an engine; None where the database keeps its own order, or is not shared."""
        name = engine.url.database
        if engine.dialect.name != "sqlite" or not name or name == ":memory:" or sys.platform == "win32":
            return None
        return cls(Path(f"{name}-turn"))

    @contextmanager
    def taken(self) -> Generator[None]:
        """One's turn, for the block. Raises `OperationalError`, as SQLite does, where a thread of this process writes too long."""
        if not self._thread.acquire(timeout=BUSY_SECONDS):
            raise OperationalError("BEGIN", None, TimeoutError("another thread has written for too long"))
        try:
            if self._file is None:
                self._file = self._path.open("ab")
            self._lock(0)
            self._lock(1)
            self._free(0)
            try:
                yield
            finally:
                self._free(1)
        finally:
            self._thread.release()

    def _lock(self, byte: int) -> None:
        assert self._file is not None
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, byte)  # the system gives it back when the process ends

    def _free(self, byte: int) -> None:
        assert self._file is not None
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


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
