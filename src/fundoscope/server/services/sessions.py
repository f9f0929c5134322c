"""Signing in and out: sessions in the database, growing waits after wrong passwords, a lock when nobody works.

A password is checked outside of a transaction: its hash takes a tenth of a second, and SQLite has one writer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from fundoscope.languages import gettext as _
from fundoscope.server.database import Database
from fundoscope.server.errors import BusyError, NotAllowedError, NotSignedInError
from fundoscope.server.models import SignInSession, User, now
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.security import passwords
from fundoscope.server.security.secrets import digest, new_secret
from fundoscope.server.services import audit

#: Wrong passwords that cost no wait; each one after doubles the wait, up to the longest.
FREE_FAILURES = 4
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=15)
MOST_STRANGERS = 10_000
#: `seen_at` is written no more often than this: reading pages must not make a writer of every request.
SEEN_EVERY = timedelta(seconds=30)


@dataclass(frozen=True)
class OpenedSession:
    """A session and its token, which is told once."""

    token: str
    row: SignInSession


def as_caller(user: User, via: str, address: str) -> Caller:
    """The account as a caller; its active sites must be loaded."""
    sites = frozenset(site.id for site in user.sites if site.active)
    return Caller(user.id, user.name, Role(user.role), sites, via, user.language, address)


def sign_in(database: Database, name: str, password: str, address: str, hours: int, before: str = "") -> OpenedSession:
    """Open a session by password. `before` is the token of a session that ends with it.

    Raises `NotSignedInError` for a wrong name or password, `BusyError` (429) while the account waits.
    """
    name = name.strip().lower()
    with database.reading() as session:
        user = session.scalar(select(User).where(User.name == name))
    check_password(database, user, password, address, "sign_in", name)
    assert user is not None
    with database.transaction() as session:
        if before:
            end_session(session, before, "replaced")
        return open_session(session, session.get_one(User, user.id), address, hours)


def check_password(
    database: Database, user: User | None, password: str, address: str, action: str, name: str = ""
) -> None:
    """Raise unless the password is that of the account; a wrong one is counted, and logged as `action`.failed.

    A `name` that no account has waits as an account would, so that the answers do not tell which names there are.
    """
    strangers = _strangers.setdefault(database, _Strangers())
    until = strangers.until(name) if user is None else user.locked_until
    if until is not None and until > now():
        seconds = int((until - now()).total_seconds()) + 1
        message = _("Too many wrong passwords. Wait {seconds} seconds, or ask an administrator for a new link.")
        raise BusyError(message.format(seconds=seconds), seconds, 429)
    right = passwords.matches(user.password if user is not None and user.active else None, password)
    if right and user is not None and not user.failures:
        return
    with database.transaction() as session:
        if user is None:
            strangers.count(name)
        else:
            row = session.get_one(User, user.id)
            row.failures = 0 if right else row.failures + 1
            row.locked_until = _wait_until(row.failures)
        if not right:
            caller = Caller(user.id if user else None, "", Role.TECHNICIAN, frozenset(), "pages", address=address)
            audit.record(session, caller, f"{action}.failed", "user", user.id if user else None)
    if not right:
        raise NotSignedInError(_("Name or password is wrong. Check both; capital letters count in the password."))


def _wait_until(failures: int) -> datetime | None:
    over = failures - FREE_FAILURES
    return now() + min(FIRST_WAIT * 2 ** min(over - 1, 10), LONGEST_WAIT) if over > 0 else None


class _Strangers:
    """Failures under names that no account has, in the memory of this server; the oldest are forgotten."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, datetime | None]] = OrderedDict()
        self._lock = threading.Lock()

    def until(self, name: str) -> datetime | None:
        """Until when the name waits."""
        with self._lock:
            return self._failures.get(digest(name), (0, None))[1]

    def count(self, name: str) -> None:
        """One more wrong password."""
        with self._lock:
            failures = self._failures.pop(digest(name), (0, None))[0] + 1
            self._failures[digest(name)] = (failures, _wait_until(failures))
            if len(self._failures) > MOST_STRANGERS:
                self._failures.popitem(last=False)


_strangers: WeakKeyDictionary[Database, _Strangers] = WeakKeyDictionary()


def confirm_password(database: Database, caller: Caller, password: str) -> None:
    """Raise `NotAllowedError` unless it is the caller's own password: asked again before something is signed.

    Wrong ones count as those of signing in do. Call it before the transaction that signs.
    """
    with database.reading() as session:
        user = session.get_one(User, caller.user_id)
    if user.password is None:
        raise NotAllowedError(_("This account has no password yet. Set one on the page of your account, then sign."))
    try:
        check_password(database, user, password, caller.address, "confirm")
    except NotSignedInError:
        raise NotAllowedError(_("The password is wrong, so nothing was signed. Enter it again.")) from None


def open_session(session: Session, user: User, address: str, hours: int, action: str = "sign_in") -> OpenedSession:
    """A new session of an account, with a new token."""
    token = new_secret()
    row = SignInSession(
        digest=digest(token),
        user_id=user.id,
        csrf=new_secret(),
        expires_at=now() + timedelta(hours=hours),
        address=address,
    )
    session.add(row)
    audit.record(session, as_caller(user, "pages", address), action, "user", user.id)
    return OpenedSession(token, row)


def end_session(session: Session, token: str, why: str = "sign_out") -> None:
    """End the session of a token, where there is one."""
    row = find_session(session, token)
    if row is not None:
        row.ended_at = now()
        audit.record(session, as_caller(row.user, "pages", row.address), "sign_out", "user", row.user_id, why=why)


def end_sessions(session: Session, user_id: int, but: str = "") -> None:
    """End all sessions of an account, as after a new password; not the one with the token `but`."""
    wanted = (
        (SignInSession.user_id == user_id) & SignInSession.ended_at.is_(None) & (SignInSession.digest != digest(but))
    )
    session.execute(update(SignInSession).where(wanted).values(ended_at=now()))


def find_session(session: Session, token: str) -> SignInSession | None:
    """The session of a token with its account and sites; None where it has ended or the account is not active."""
    if not token:
        return None
    row = session.scalar(
        select(SignInSession)
        .where(SignInSession.digest == digest(token))
        .options(joinedload(SignInSession.user).selectinload(User.sites))
    )
    ended = row is None or row.ended_at is not None or row.expires_at <= now() or not row.user.active
    return None if ended else row


def note_activity(database: Database, row: SignInSession, idle: timedelta, works: bool = True) -> bool:
    """Whether the session is locked: it was, or nobody worked for `idle`. `works` is False for what a page asks by itself."""
    if row.locked:
        return True
    moment: datetime = now()
    late = moment - row.seen_at > idle
    if late or (works and moment - row.seen_at > SEEN_EVERY):
        values = {"locked": True} if late else {"seen_at": moment}
        with database.transaction() as session:
            session.execute(update(SignInSession).where(SignInSession.id == row.id).values(**values))
    return late


def unlock(database: Database, token: str, password: str, address: str, hours: int) -> OpenedSession:
    """Go on with a locked session by the password of its account: a new token, the same person."""
    with database.reading() as session:
        row = find_session(session, token)
    if row is None:
        raise NotSignedInError(_("The session has ended. Sign in again."))
    check_password(database, row.user, password, address, "unlock")
    with database.transaction() as session:
        end_session(session, token, "unlocked")
        return open_session(session, session.get_one(User, row.user_id), address, hours, "unlock")
