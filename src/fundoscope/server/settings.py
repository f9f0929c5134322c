"""Settings of one reading room: where it keeps its data, where it listens, and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Size = Annotated[int, Field(gt=0)]


class UploadLimits(BaseModel):
    """What one upload may hold; bytes, pixels, counts, seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_bytes: Size = 64 << 20
    upload_bytes: Size = 512 << 20  # of one request, archives unpacked
    pixels: Size = 60_000_000  # of one photograph
    files: Size = 500  # of one request
    waiting_jobs: Size = 2_000  # photographs that wait to be judged before new ones are answered with 503
    grading_seconds: Size = 120  # of one photograph, before the child process is ended
    grading_bytes: Size = 3 << 30  # address space of the child process


class ServerSettings(BaseModel):
    """One reading room.

    `data` holds the database (unless `database` names another) and the photographs. `proxies` are addresses of reverse proxies
    whose forwarded headers are believed; `hosts` the names under which the room is reached beside loopback.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    database: str = ""  # URL; blank: SQLite in `data`
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    certificate: Path | None = None  # TLS, with its key
    key: Path | None = None
    proxies: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    workers: Size = 1  # child processes that judge photographs
    idle_minutes: Size = 15  # until a session is locked
    session_hours: Size = 12
    debug: bool = False  # what nobody foresaw is raised on, for makers
    limits: UploadLimits = UploadLimits()

    @property
    def database_url(self) -> str:
        """The URL of the database, as SQLAlchemy reads it."""
        return self.database or f"sqlite:///{self.data / 'fundoscope.sqlite'}"

    @property
    def photographs(self) -> Path:
        """The folder of the photographs as they came, named by the digest of their bytes."""
        return self.data / "photographs"

    @property
    def pictures(self) -> Path:
        """The folder of pictures made of them: re-encoded photographs, activation maps, reports."""
        return self.data / "pictures"
