"""Who asks, and what each role may do.

A technician adds infants, exams and photographs; a reader does this too, reads and signs; an administrator manages accounts, sites
and settings, and sees the programme, but does not sign. Everybody sees only the sites they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.errors import NotAllowedError, NotFoundError
from fundoscope.server.models.base import OfSite


class Role(StrEnum):
    """What an account is for."""

    TECHNICIAN = "technician"
    READER = "reader"
    ADMINISTRATOR = "administrator"


def name_role(role: Role) -> str:
    """The role in the language spoken now."""
    return {"technician": _("technician"), "reader": _("reader"), "administrator": _("administrator")}[role]


#: Everybody who works with exams.
CLINICAL = (Role.TECHNICIAN, Role.READER)
EVERYBODY = tuple(Role)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an account (`user_id`), by which way (`pages`, `api`, `command`, `worker`), and the sites it belongs to."""

    user_id: int | None
    name: str
    role: Role
    sites: frozenset[int]
    via: str = "pages"
    language: str = "en"
    address: str = ""

    def require(self, *roles: Role) -> None:
        """Raise `NotAllowedError` unless the caller has one of the roles."""
        if self.role not in roles:
            message = _(
                "This needs the role {roles}; {name} is {role}. Ask an administrator for an account that has it."
            )
            wanted = _(" or ").join(name_role(role) for role in roles)
            raise NotAllowedError(message.format(roles=wanted, name=self.name, role=name_role(self.role)))

    def require_site(self, site_id: int) -> None:
        """Raise `NotFoundError` unless the caller belongs to the site."""
        if site_id not in self.sites:
            raise NotFoundError("site", site_id)


T = TypeVar("T", bound=OfSite)


def get_owned(session: Session, caller: Caller, model: type[T], number: int) -> T:
    """The row of that number; `NotFoundError` where there is none, or it belongs to a site of others."""
    row = session.get(model, number)
    if row is None or row.site_id not in caller.sites:
        raise NotFoundError(model.noun, number)
    return row
