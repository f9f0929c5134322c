"""Requests that a program may send twice: the key that came with one, and the answer that was given, in the transaction of its effect.

So either both are there or neither is, whenever the power goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.errors import InvalidError
from fundoscope.server.models import IdempotencyKey, now
from fundoscope.server.permissions import Caller

#: How long an answer is kept to be given again.
KEPT_FOR = timedelta(days=7)
_NOT_YET = 0  # status of a key whose request is being done


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it was given: its status, the text of its body, and where what it made is found."""

    status: int
    body: str
    location: str = ""


def find_answer(session: Session, caller: Caller, key: str, request: str) -> KeptAnswer | None:
    """The answer that was given to this key; None where it comes for the first time, and it is then held for this transaction.

    `request` is a digest of the request; `InvalidError` where the key came with another request before.
    """
    forgotten = IdempotencyKey.user_id == caller.user_id, IdempotencyKey.created_at < now() - KEPT_FOR
    session.execute(delete(IdempotencyKey).where(*forgotten))
    insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[session.get_bind().dialect.name]
    values = {
        "user_id": caller.user_id, "key": key, "request": request, "status": _NOT_YET, "answer": {}, "created_at": now(),
    }  # fmt: skip
    added = session.execute(insert(IdempotencyKey).values(values).on_conflict_do_nothing().returning(IdempotencyKey.id))
    if added.first() is not None:
        return None
    row = session.scalars(_find(caller, key)).one()
    if row.request != request:
        text = _("This key came with another request before. Send each request with a key of its own.")
        raise InvalidError(text, "Idempotency-Key")
    return KeptAnswer(row.status, row.answer["body"], row.answer.get("location", ""))


def keep_answer(session: Session, caller: Caller, key: str, answer: KeptAnswer) -> None:
    """Keep the answer to the request of this key."""
    row = session.scalars(_find(caller, key)).one()
    row.status, row.answer = answer.status, {"body": answer.body, "location": answer.location}
    session.flush()


def _find(caller: Caller, key: str) -> Select[IdempotencyKey]:
    mine = IdempotencyKey.user_id == caller.user_id, IdempotencyKey.key == key
    return select(IdempotencyKey).where(*mine)
