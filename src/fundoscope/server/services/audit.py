"""The audit log: a chain of hashes, so that a line that was changed or taken out shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from fundoscope.server.models import AuditEntry, now
from fundoscope.server.models.base import table_of
from fundoscope.server.permissions import Caller, Role

#: The hash before the first line.
GENESIS = "0" * 64
_LINES = table_of(AuditEntry)  # asked without objects: nearly every request writes a line
_LAST = select(_LINES.c.hash).order_by(_LINES.c.id.desc()).limit(1)
_APPEND = insert(_LINES)
_LOCK = 0x66756E64  # of PostgreSQL: one writer of the chain at a time; SQLite has one writer anyway


def record(
    session: Session, caller: Caller, action: str, subject: str = "", subject_id: int | None = None,
    site_id: int | None = None, **detail: Any,
) -> None:  # fmt: skip
    """Append a line: `action` such as "exam.view", the row it is about, and `detail`: numbers and codes, never a name."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    session.flush()
    connection = session.connection()
    values = {
        "at": now(), "user_id": caller.user_id, "via": caller.via, "address": caller.address, "site_id": site_id, "action": action,
        "subject": subject, "subject_id": subject_id, "detail": detail, "previous": connection.scalar(_LAST) or GENESIS,
    }  # fmt: skip
    connection.execute(_APPEND, values | {"hash": entry_hash(AuditEntry(**values))})


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256 of a line and of the hash before it."""
    values = [
        entry.previous, entry.at.isoformat(timespec="microseconds"), entry.user_id, entry.via, entry.address, entry.site_id,
        entry.action, entry.subject, entry.subject_id, entry.detail,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def find_breaks(session: Session, anchor: str = "") -> Iterator[str]:
    """Sentences on every place where the chain does not hold; none where it is whole.

    `anchor` is a hash that was the head once, kept outside: a chain that was written anew does not hold it.
    """
    previous, anchored = GENESIS, not anchor
    for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id).execution_options(yield_per=1000)):
        if entry.previous != previous:
            yield f"Line {entry.id}: a line before it is missing, or was put in."
        if entry.hash != entry_hash(entry):
            yield f"Line {entry.id}: was changed after it was written."
        previous = entry.hash
        anchored = anchored or entry.hash == anchor
        session.expunge(entry)
    if not anchored:
        yield f"The anchor {anchor} is not in the log: it was cut or written anew."


def find_entries(
    session: Session, caller: Caller, before: int | None, most: int, user_id: int | None = None, action: str = "",
    subject: str = "", subject_id: int | None = None,
) -> list[AuditEntry]:  # fmt: skip
    """Lines of the log, the newest first, below the line `before`; for administrators. `action` may be its beginning ("exam.")."""
    caller.require(Role.ADMINISTRATOR)
    wanted = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(most)
    if before is not None:
        wanted = wanted.where(AuditEntry.id < before)
    if user_id is not None:
        wanted = wanted.where(AuditEntry.user_id == user_id)
    if action:
        wanted = wanted.where(AuditEntry.action.startswith(action, autoescape=True))
    if subject:
        wanted = wanted.where(AuditEntry.subject == subject)
    if subject_id is not None:
        wanted = wanted.where(AuditEntry.subject_id == subject_id)
    return list(session.scalars(wanted))


def head(session: Session) -> tuple[int, str]:
    """Number and hash of the last line."""
    row = session.execute(select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1)).first()
    return (row.id, row.hash) if row else (0, GENESIS)
