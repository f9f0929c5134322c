"""Tokens by which programs ask `/v1`: of one account and with its rights, with an end, told once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.database import Database
from fundoscope.server.errors import ConflictError, NotAllowedError, NotFoundError
from fundoscope.server.models import ApiToken, Membership, Site, User, now
from fundoscope.server.models.base import table_of
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.security.secrets import digest, new_secret
from fundoscope.server.services import audit
from fundoscope.server.services.accounts import NeededLine

PREFIX = "fundoscope_"  # so that scanners of sources find one that was written down
MOST_OF_ONE_ACCOUNT = 20
#: `used_at` is written no more often than this.
USED_EVERY = timedelta(minutes=5)


class NewToken(BaseModel):
    """What a token is for, and how many days it works."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[NeededLine, Field(max_length=100)]
    days: Annotated[int, Field(ge=1, le=365)] = 90


def list_tokens(session: Session, caller: Caller) -> list[ApiToken]:
    """The caller's tokens that work, the newest first."""
    wanted = (ApiToken.user_id == caller.user_id) & ApiToken.ended_at.is_(None) & (ApiToken.expires_at > now())
    return list(session.scalars(select(ApiToken).where(wanted).order_by(ApiToken.id.desc())))


def make_token(session: Session, caller: Caller, values: NewToken) -> tuple[ApiToken, str]:
    """A new token of the caller; only a person can make one, so that a stolen one cannot outlive itself."""
    if caller.via != "pages":
        raise NotAllowedError(_("A token cannot make another one. Sign in with a browser and make it there."))
    if len(list_tokens(session, caller)) >= MOST_OF_ONE_ACCOUNT:
        raise ConflictError(_("The account has too many tokens. End one that is not used."))
    token = new_secret(PREFIX)
    row = ApiToken(
        user_id=caller.user_id, name=values.name, digest=digest(token), expires_at=now() + timedelta(days=values.days),
        created_by=caller.user_id, created_via=caller.via,
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit.record(session, caller, "token.make", "token", row.id, days=values.days)
    return row, token


def end_token(session: Session, caller: Caller, number: int) -> None:
    """End one of the caller's tokens."""
    row = session.get(ApiToken, number)
    if row is None or row.user_id != caller.user_id:
        raise NotFoundError("token", number)
    row.ended_at = row.ended_at or now()
    audit.record(session, caller, "token.end", "token", row.id)


def find_caller(database: Database, token: str, address: str) -> Caller | None:
    """Whom a token calls for, with the active sites of the account; None where it has ended or the account is switched off."""
    with database.reading() as session:
        rows = session.connection().execute(_OWNERS, {"digest": digest(token)}).all()
    if not rows or rows[0].ended_at is not None or rows[0].expires_at <= now() or not rows[0].active:
        return None
    owner = rows[0]
    if owner.used_at is None or now() - owner.used_at > USED_EVERY:
        with database.transaction() as session:
            session.execute(update(ApiToken).where(ApiToken.id == owner.id).values(used_at=now()))
    sites = frozenset(row.site_id for row in rows if row.site_id is not None)
    return Caller(owner.user_id, owner.name, Role(owner.role), sites, "api", owner.language, address)


def _find_owners() -> Select[*tuple[Any, ...]]:
    """A row for each active site of the account of a token: every request of a program asks for it, so no objects are made of it."""
    token, user, member, site = (table_of(model) for model in (ApiToken, User, Membership, Site))
    own = member.join(site, (site.c.id == member.c.site_id) & site.c.active)
    tables = token.join(user, user.c.id == token.c.user_id).outerjoin(own, member.c.user_id == user.c.id)
    columns = (
        token.c.id, token.c.ended_at, token.c.expires_at, token.c.used_at, token.c.user_id,
        user.c.name, user.c.role, user.c.active, user.c.language, member.c.site_id,
    )  # fmt: skip
    return select(*columns).select_from(tables).where(token.c.digest == bindparam("digest"))


_OWNERS = _find_owners()
