"""Accounts, the links that open them, sites and their settings. Administrators change them; everybody has a page of their own.

An administrator manages the accounts and sites of the whole room, but sees patients only of the sites they belong to, as all others.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, selectinload

from fundoscope.guidelines import DEFAULT_GUIDELINE, shipped_guidelines
from fundoscope.languages import LANGUAGES
from fundoscope.languages import gettext as _
from fundoscope.server.errors import ConflictError, GoneError, InvalidError, NotFoundError
from fundoscope.server.models import VIEWS, OneTimeLink, Site, User, now
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.security.secrets import digest, new_secret
from fundoscope.server.services import audit, due, sessions
from fundoscope.server.services.exam_state import refresh_open_exams
from fundoscope.server.services.inputs import Line, Number

LINK_LIVES = {"administrator": timedelta(days=1), "invitation": timedelta(days=7), "password": timedelta(days=1)}
#: Who acts where nobody is signed in yet: the command line, or the holder of a link.
NOBODY = Caller(None, "nobody", Role.ADMINISTRATOR, frozenset(), via="command")


def _refuse_blank(text: str) -> str:
    if not text:
        raise PydanticCustomError("string_too_short", "blank")
    return text


def _check_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._@-]{1,99}", text):
        message = _(
            "A name to sign in with has 2 to 100 small letters, digits and . _ @ - and begins with a letter or digit."
        )
        raise PydanticCustomError("fundoscope", "{message}", {"message": message})
    return text


#: To sign in with; capital letters become small ones.
AccountName = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, max_length=100), AfterValidator(_check_name)
]
NeededLine = Annotated[Line, AfterValidator(_refuse_blank)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Language = Literal["en", "zh"]


class AccountValues(BaseModel):
    """What an administrator says of an account."""

    model_config = ConfigDict(extra="forbid")

    full_name: NeededLine
    role: Role
    sites: list[Number] = Field(default_factory=list, max_length=500)
    language: Language = "en"
    active: bool = True
    subject: Annotated[Line, Field(max_length=300)] = ""


class NewAccount(AccountValues):
    """An account that is to be opened by a link, or by single sign-on where `subject` is given ("issuer subject")."""

    name: AccountName


class SiteValues(BaseModel):
    """A site and its rules, as `models.Site` describes them."""

    model_config = ConfigDict(extra="forbid")

    name: NeededLine
    guideline: Annotated[str, StringConstraints(max_length=50)] = DEFAULT_GUIDELINE
    required_views: list[str] = Field(default=["disc", "macula", "temporal"], max_length=len(VIEWS))
    second_reading_share: Share = 0.1
    repeat_share: Share = 0.02
    hide_answer: bool = False
    active: bool = True


class FirstAdministrator(BaseModel):
    """What the holder of the first link says: their account and the first site."""

    model_config = ConfigDict(extra="forbid")

    name: AccountName
    full_name: NeededLine
    site: NeededLine
    language: Language = "en"


# --- links


def has_administrator(session: Session) -> bool:
    """Whether somebody can manage this room: an active administrator who can sign in."""
    wanted = (User.role == Role.ADMINISTRATOR) & User.active & (User.password.is_not(None) | User.subject.is_not(None))
    return session.scalar(select(func.count()).select_from(User).where(wanted)) != 0


def make_link(session: Session, purpose: str, user_id: int | None = None) -> str:
    """The token of a new link; an earlier unused one for the same account and purpose no longer works."""
    same = (OneTimeLink.purpose == purpose) & OneTimeLink.used_at.is_(None)
    session.execute(delete(OneTimeLink).where(same, OneTimeLink.user_id.is_not_distinct_from(user_id)))
    token = new_secret()
    expires = now() + LINK_LIVES[purpose]
    session.add(OneTimeLink(digest=digest(token), purpose=purpose, user_id=user_id, expires_at=expires))
    session.flush()
    return token


def find_link(session: Session, token: str) -> OneTimeLink:
    """The link of a token; `GoneError` where it was used, has expired, or is none of ours."""
    row = session.scalar(select(OneTimeLink).where(OneTimeLink.digest == digest(token)))
    user = session.get(User, row.user_id) if row is not None and row.user_id is not None else None
    if row is None or row.used_at is not None or row.expires_at <= now() or (user is not None and not user.active):
        raise GoneError(_("The link was used already, or is too old. Ask an administrator for a new one."))
    return row


def open_first_account(session: Session, token: str, values: FirstAdministrator, password: str, address: str) -> User:
    """The first administrator, and the first site, by the link that the first start prints. `password` is its hash."""
    link = find_link(session, token)
    if link.purpose != "administrator" or has_administrator(session):
        raise ConflictError(_("There is an administrator already. Ask them for an account."))
    link.used_at = now()
    caller = Caller(None, "", Role.ADMINISTRATOR, frozenset(), "pages", values.language, address)
    user = _add_user(session, values.name, values.full_name, Role.ADMINISTRATOR, values.language)
    user.password = password
    site = _add_site(session, caller, SiteValues(name=values.site))
    user.sites = [site]
    session.flush()
    audit.record(session, caller, "account.first", "user", user.id)
    return user


def set_password_by_link(session: Session, token: str, password: str, address: str) -> User:
    """The account of an invitation, or of a forgotten password, with its new password (a hash); its old sessions end."""
    link = find_link(session, token)
    if link.user_id is None:
        raise GoneError(_("This link opens the first account only."))
    link.used_at = now()
    user = session.get_one(User, link.user_id)
    user.password, user.failures, user.locked_until = password, 0, None
    sessions.end_sessions(session, user.id)
    audit.record(session, sessions.as_caller(user, "pages", address), "account.password", "user", user.id, by="link")
    return user


# --- accounts


def list_accounts(session: Session, caller: Caller) -> list[User]:
    """All accounts by name, with their sites."""
    caller.require(Role.ADMINISTRATOR)
    return list(session.scalars(select(User).options(selectinload(User.sites)).order_by(User.active.desc(), User.name)))


def find_account(session: Session, caller: Caller, number: int) -> User:
    """One account; administrators see all, everybody their own."""
    if number != caller.user_id:
        caller.require(Role.ADMINISTRATOR)
    user = session.get(User, number, options=[selectinload(User.sites)])
    if user is None:
        raise NotFoundError("account", number)
    return user


def invite_account(session: Session, caller: Caller, values: NewAccount) -> tuple[User, str]:
    """A new account, and the token of the link by which its owner sets a password."""
    caller.require(Role.ADMINISTRATOR)
    user = _add_user(session, values.name, values.full_name, values.role, values.language)
    user.subject = _free_subject(session, values.subject, user.id)
    user.sites = _find_sites(session, values.sites)
    audit.record(session, caller, "account.invite", "user", user.id, role=values.role, sites=sorted(values.sites))
    return user, make_link(session, "invitation", user.id)


def change_account(session: Session, caller: Caller, number: int, values: AccountValues) -> User:
    """Change role, sites, name, language; an account that is switched off is signed out everywhere."""
    caller.require(Role.ADMINISTRATOR)
    user = find_account(session, caller, number)
    loses = (
        user.active and user.role == Role.ADMINISTRATOR and not (values.active and values.role == Role.ADMINISTRATOR)
    )
    if loses and user.id == caller.user_id:
        raise ConflictError(_("You cannot take the role of administrator from yourself. Ask another administrator."))
    before = {"role": user.role, "active": user.active, "sites": sorted(site.id for site in user.sites)}
    user.full_name, user.role, user.language, user.active = (
        values.full_name,
        values.role,
        values.language,
        values.active,
    )
    user.subject = _free_subject(session, values.subject, user.id)
    user.sites = _find_sites(session, values.sites)
    if not user.active:
        sessions.end_sessions(session, user.id)
    after = {"role": user.role, "active": user.active, "sites": sorted(values.sites)}
    audit.record(session, caller, "account.change", "user", user.id, before=before, after=after)
    return user


def renew_link(session: Session, caller: Caller, number: int) -> tuple[User, str]:
    """A link by which the owner of an account sets a new password; the old one works until then."""
    caller.require(Role.ADMINISTRATOR)
    user = find_account(session, caller, number)
    if not user.active:
        raise ConflictError(_("The account is switched off. Switch it on first."))
    audit.record(session, caller, "account.link", "user", user.id)
    return user, make_link(session, "invitation" if user.password is None else "password", user.id)


def set_own_password(session: Session, caller: Caller, password: str, keep: str) -> None:
    """The caller's new password (a hash); all other sessions end. The route asks for the old one before."""
    user = session.get_one(User, caller.user_id)
    user.password = password
    sessions.end_sessions(session, user.id, keep)
    audit.record(session, caller, "account.password", "user", user.id, by="owner")


def set_own_language(session: Session, caller: Caller, language: str) -> None:
    """The language of the caller's pages and reports."""
    if language not in LANGUAGES:
        raise InvalidError(_("Choose one of the languages in the list."), "language")
    session.get_one(User, caller.user_id).language = language
    audit.record(session, caller, "account.language", "user", caller.user_id, language=language)


# --- sites


def list_sites(session: Session, caller: Caller) -> list[Site]:
    """The caller's sites by name; for an administrator all."""
    wanted = select(Site).order_by(Site.active.desc(), Site.name)
    if caller.role is not Role.ADMINISTRATOR:
        wanted = wanted.where(Site.id.in_(caller.sites))
    return list(session.scalars(wanted))


def find_site(session: Session, caller: Caller, number: int) -> Site:
    """A site of the caller's; for an administrator any."""
    site = session.get(Site, number)
    if site is None or (caller.role is not Role.ADMINISTRATOR and number not in caller.sites):
        raise NotFoundError("site", number)
    return site


def add_site(session: Session, caller: Caller, values: SiteValues) -> Site:
    """A new site; its administrator belongs to it."""
    caller.require(Role.ADMINISTRATOR)
    site = _add_site(session, caller, values)
    if caller.user_id is not None:
        user = session.get_one(User, caller.user_id)
        user.sites.append(site)
        session.flush()
    return site


def change_site(session: Session, caller: Caller, number: int, values: SiteValues) -> Site:
    """Change the rules of a site; missing views are worked out anew at once, and what is due for its infants by a job."""
    caller.require(Role.ADMINISTRATOR)
    site = find_site(session, caller, number)
    _check_site(session, values, site.id)
    before = {name: getattr(site, name) for name in SiteValues.model_fields if name != "name"}
    for name, value in values.model_dump().items():
        setattr(site, name, value)
    after = values.model_dump(exclude={"name"})
    changed = {name: [before[name], value] for name, value in after.items() if before[name] != value}
    if "required_views" in changed:
        refresh_open_exams(session, site.id)
    if "guideline" in changed:
        due.schedule_refresh_of_site(session, site.id)
    audit.record(session, caller, "site.change", "site", site.id, site_id=site.id, changed=changed)
    return site


# --- inside


def _add_user(session: Session, name: str, full_name: str, role: Role, language: str) -> User:
    if session.scalar(select(User.id).where(User.name == name)) is not None:
        message = _("There is an account {name} already. Take another name, or change that account.")
        raise InvalidError(message.format(name=name), "name")
    user = User(name=name, full_name=full_name, role=role, language=language)
    session.add(user)
    session.flush()
    return user


def _free_subject(session: Session, subject: str, number: int) -> str | None:
    taken = session.scalar(select(User.id).where(User.subject == subject, User.id != number)) if subject else None
    if taken is not None:
        raise InvalidError(
            _("Another account has this identity of single sign-on. Each belongs to one account."), "subject"
        )
    return subject or None


def _find_sites(session: Session, numbers: list[int]) -> list[Site]:
    found = list(session.scalars(select(Site).where(Site.id.in_(numbers)))) if numbers else []
    missing = set(numbers) - {site.id for site in found}
    if missing:
        message = _("There is no site {number}. Choose sites of the list.")
        raise InvalidError(message.format(number=min(missing)), "sites")
    return found


def _add_site(session: Session, caller: Caller, values: SiteValues) -> Site:
    _check_site(session, values, None)
    site = Site(**values.model_dump())
    session.add(site)
    session.flush()
    audit.record(session, caller, "site.add", "site", site.id, site_id=site.id)
    return site


def _check_site(session: Session, values: SiteValues, number: int | None) -> None:
    if values.guideline not in {one.name for one in shipped_guidelines()}:
        raise InvalidError(_("There is no guideline of that name. Choose one of the list."), "guideline")
    if not set(values.required_views) <= set(VIEWS) or len(set(values.required_views)) < len(values.required_views):
        message = _("The required views are some of {views}, each once.")
        raise InvalidError(message.format(views=", ".join(VIEWS)), "required_views")
    taken = session.scalar(select(Site.id).where(Site.name == values.name))
    if taken is not None and taken != number:
        raise InvalidError(_("There is a site of that name already. Take another name."), "name")
