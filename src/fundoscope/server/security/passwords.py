"""Passwords: argon2id with 19 MiB, 2 passes, 1 lane: what OWASP's Password Storage Cheat Sheet asks for at least."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fundoscope.languages import gettext as _
from fundoscope.server.errors import BusyError, InvalidError

SHORTEST, LONGEST = 12, 200
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)
#: Each hash takes a core and 19 MiB; who knocks often must not fill the memory.
_AT_ONCE = threading.BoundedSemaphore(2)
_WAIT_SECONDS = 10


def check_password(password: str, name: str = "") -> None:
    """Raise `InvalidError` for a password that is too short, too long, or too easy; `name` is the account's."""
    if not SHORTEST <= len(password) <= LONGEST:
        message = _("The password has {count} characters. Take {shortest} to {longest}; a short sentence is good.")
        raise InvalidError(message.format(count=len(password), shortest=SHORTEST, longest=LONGEST), "password")
    if len(set(password)) < 5 or (name and name.lower() in password.lower()):
        raise InvalidError(
            _("The password is easy to guess. Take one with more different letters, without the account's name."),
            "password",
        )


def hash_password(password: str) -> str:
    """What is kept of a password."""
    with _one_of_few():
        return _HASHER.hash(password)


def matches(kept: str | None, password: str) -> bool:
    """Whether the password is the one of which `kept` was made. None takes as long and is False, so time tells nothing."""
    with _one_of_few():
        try:
            return _HASHER.verify(kept or _nobodys(), password[:LONGEST]) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


@cache
def _nobodys() -> str:
    return _HASHER.hash("nobody's password")


@contextmanager
def _one_of_few() -> Generator[None]:
    if not _AT_ONCE.acquire(timeout=_WAIT_SECONDS):
        raise BusyError(_("Too many people sign in at this moment. Try again in a few seconds."), 5, 429)
    try:
        yield
    finally:
        _AT_ONCE.release()
