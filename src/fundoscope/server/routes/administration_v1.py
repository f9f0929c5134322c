"""`/v1/accounts`, `/v1/audit`, and changes of `/v1/sites`: for programs of administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from fundoscope.server.models import AuditEntry, User
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.records import SiteRecord
from fundoscope.server.routes.v1 import (
    PROBLEMS,
    Cursor,
    Limit,
    ListPage,
    Once,
    RowFilter,
    RowNumber,
    make_page,
    read_cursor,
)
from fundoscope.server.services import accounts, audit

router = APIRouter(prefix="/v1", responses=PROBLEMS)


class AccountRecord(BaseModel):
    """An account and where it belongs."""

    id: int
    name: str
    full_name: str
    role: str
    sites: list[int]
    language: str
    active: bool
    subject: str
    has_password: bool

    @classmethod
    def of(cls, row: User) -> AccountRecord:
        """The record of a row with its sites."""
        return cls(
            id=row.id, name=row.name, full_name=row.full_name, role=row.role, sites=[site.id for site in row.sites],
            language=row.language, active=row.active, subject=row.subject or "", has_password=row.password is not None,
        )  # fmt: skip


class InvitedAccount(AccountRecord):
    """An account with the path of the link by which its owner sets a password; it is told now and never again."""

    link: str


class AuditLine(BaseModel):
    """A line of the audit log."""

    id: int
    at: datetime
    user_id: int | None
    via: str
    address: str
    site_id: int | None
    action: str
    subject: str
    subject_id: int | None
    detail: dict[str, Any]
    hash: str

    @classmethod
    def of(cls, row: AuditEntry) -> AuditLine:
        """The line of a row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


@router.get("/accounts", tags=["accounts"])
def list_accounts(room: TheRoom, caller: TheCaller, limit: Limit = 50, cursor: Cursor = "") -> ListPage[AccountRecord]:
    """All accounts by their numbers."""
    after = read_cursor(cursor) or 0
    with room.database.reading() as session:
        found = sorted(accounts.list_accounts(session, caller), key=lambda row: row.id)
        items = [AccountRecord.of(row) for row in found if row.id > after][: limit + 1]
    return make_page(items, limit, lambda item: item.id)


@router.post("/accounts", tags=["accounts"], status_code=201)
def invite_account(room: TheRoom, caller: TheCaller, new: accounts.NewAccount) -> InvitedAccount:
    """Make an account; the name can be taken once, so a request that is sent twice makes one."""
    with room.database.transaction() as session:
        row, token = accounts.invite_account(session, caller, new)
        return InvitedAccount(**AccountRecord.of(row).model_dump(), link=f"/link/{token}")


@router.get("/accounts/{number}", tags=["accounts"])
def get_account(room: TheRoom, caller: TheCaller, number: RowNumber) -> AccountRecord:
    """One account."""
    with room.database.reading() as session:
        return AccountRecord.of(accounts.find_account(session, caller, number))


@router.put("/accounts/{number}", tags=["accounts"])
def change_account(
    room: TheRoom, caller: TheCaller, number: RowNumber, values: accounts.AccountValues
) -> AccountRecord:
    """Change role, sites, language; switch an account on or off."""
    with room.database.transaction() as session:
        return AccountRecord.of(accounts.change_account(session, caller, number, values))


@router.post("/accounts/{number}/link", tags=["accounts"], status_code=201)
def renew_link(room: TheRoom, caller: TheCaller, number: RowNumber) -> InvitedAccount:
    """A new link for a new password; the one before no longer works."""
    with room.database.transaction() as session:
        row, token = accounts.renew_link(session, caller, number)
        return InvitedAccount(**AccountRecord.of(row).model_dump(), link=f"/link/{token}")


@router.post("/sites", tags=["sites"], status_code=201, response_model=SiteRecord)
def add_site(values: accounts.SiteValues, once: Once) -> Response:
    """Add a site; the administrator who adds it belongs to it."""
    return once.answer(lambda s, caller: SiteRecord.model_validate(accounts.add_site(s, caller, values)), 201)


@router.get("/sites/{number}", tags=["sites"])
def get_site(room: TheRoom, caller: TheCaller, number: RowNumber) -> SiteRecord:
    """One site of the caller's; for an administrator any."""
    with room.database.reading() as session:
        return SiteRecord.model_validate(accounts.find_site(session, caller, number))


@router.put("/sites/{number}", tags=["sites"])
def change_site(room: TheRoom, caller: TheCaller, number: RowNumber, values: accounts.SiteValues) -> SiteRecord:
    """Change the rules of a site."""
    with room.database.transaction() as session:
        return SiteRecord.model_validate(accounts.change_site(session, caller, number, values))


@router.get("/audit", tags=["audit"])
def list_audit(
    room: TheRoom,
    caller: TheCaller,
    user_id: RowFilter = None,
    action: Annotated[str, Query(max_length=50, description="An action, or its beginning: exam.")] = "",
    subject: Annotated[str, Query(max_length=20)] = "",
    subject_id: RowFilter = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ListPage[AuditLine]:
    """Who did what, the newest first; names stand in no line."""
    with room.database.reading() as session:
        rows = audit.find_entries(session, caller, read_cursor(cursor), limit + 1, user_id, action, subject, subject_id)
        return make_page([AuditLine.of(row) for row in rows], limit, lambda line: line.id)
