"""Sites, accounts, sessions, tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fundoscope.server.models.base import Base, Recorded, now


class Site(Base):
    """A hospital or a camera's place, with its rules.

    `guideline` is one of `fundoscope.guidelines`; `required_views` the views an eye's exam needs; `second_reading_share` and
    `repeat_share` (0 to 1) how many signed exams are read by a second reader, and once more by the same reader, unknown to them;
    `hide_answer` hides the tool's answer until the first reading is saved.
    """

    __tablename__ = "sites"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    guideline: Mapped[str] = mapped_column(String(50))
    required_views: Mapped[list[str]]
    second_reading_share: Mapped[float] = mapped_column(default=0.1)
    repeat_share: Mapped[float] = mapped_column(default=0.02)
    hide_answer: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Membership(Base):
    """That an account belongs to a site."""

    __tablename__ = "memberships"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), primary_key=True)


class User(Base):
    """An account. `password` is an argon2 hash, None where only single sign-on or a one-time link lets in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)  # to sign in with, in small letters
    full_name: Mapped[str] = mapped_column(String(200))  # as it stands on reports
    role: Mapped[str] = mapped_column(String(20))
    password: Mapped[str | None] = mapped_column(String(200))
    subject: Mapped[str | None] = mapped_column(String(300), unique=True)  # issuer and subject of OpenID Connect
    language: Mapped[str] = mapped_column(String(10), default="en")
    active: Mapped[bool] = mapped_column(default=True)
    failures: Mapped[int] = mapped_column(default=0)  # of signing in, since the last success
    locked_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    sites: Mapped[list[Site]] = relationship(secondary="memberships", order_by=Site.name)


class SignInSession(Base):
    """Somebody's session; only the digest of its token is kept. `locked` asks for the password again."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    locked: Mapped[bool] = mapped_column(default=False)
    ended_at: Mapped[datetime | None]
    address: Mapped[str] = mapped_column(String(64), default="")
    user: Mapped[User] = relationship()


class ApiToken(Base, Recorded):
    """A program's key to `/v1`, of one account and with an end; only its digest is kept."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    user: Mapped[User] = relationship(foreign_keys=[user_id])


class OneTimeLink(Base):
    """A link that works once: the first administrator's, an invitation, a forgotten password."""

    __tablename__ = "one_time_links"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    purpose: Mapped[str] = mapped_column(String(20))  # administrator, invitation, password
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
