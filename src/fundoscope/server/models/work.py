"""Work that waits, and the log of what was done."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from fundoscope.server.models.base import Base, now


class Job(Base):
    """A piece of work, written in the transaction of what it is about. `key` is unique: a piece of work asked for twice is one.

    `state`: `waiting`, `running` (until `lease_until`, then anybody may take it again), `done`, `failed` (after its last attempt).
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_next", "state", "priority", "run_after"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(50))  # "judge", "report", ...
    key: Mapped[str] = mapped_column(String(200), unique=True)
    payload: Mapped[dict[str, Any]]
    site_id: Mapped[int | None] = mapped_column(ForeignKey("sites.id"), index=True)
    priority: Mapped[int] = mapped_column(default=50)  # lower comes first
    state: Mapped[str] = mapped_column(String(20), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    run_after: Mapped[datetime] = mapped_column(default=now)
    lease_until: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(100), default="")
    error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    finished_at: Mapped[datetime | None]


class AuditEntry(Base):
    """One line of the log: who did what to which thing. `hash` covers the line and the hash before it, so a change shows."""

    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    via: Mapped[str] = mapped_column(String(20))
    address: Mapped[str] = mapped_column(String(64), default="")
    site_id: Mapped[int | None] = mapped_column(ForeignKey("sites.id"))
    action: Mapped[str] = mapped_column(String(50))  # "exam.view", "reading.sign"
    subject: Mapped[str] = mapped_column(String(20), default="")
    subject_id: Mapped[int | None]
    detail: Mapped[dict[str, Any]]  # numbers and codes, never a name
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)


class RoomSecret(Base):
    """A secret that the room made for itself when its tables were made: `draw` of second readings, `export` of coded names."""

    __tablename__ = "room_secrets"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    value: Mapped[str] = mapped_column(String(100))

    def digest(self, noun: str, number: int) -> bytes:
        """HMAC-SHA-256 of the number of a row: always the same, and nobody without the secret can foresee or undo it."""
        return hmac.new(self.value.encode(), f"{noun}:{number}".encode(), hashlib.sha256).digest()
