"""Everybody's own page: language, password, tokens for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel
from starlette.responses import Response

from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import InvalidError, NotAllowedError, ServerError
from fundoscope.server.models import ApiToken
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.sign_in import Field
from fundoscope.server.routes.v1 import PROBLEMS, ListPage, RowNumber
from fundoscope.server.security.passwords import check_password, hash_password
from fundoscope.server.services import accounts, sessions, tokens
from fundoscope.server.services.inputs import check_input

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/v1", tags=["account"], responses=PROBLEMS)


class CallerRecord(BaseModel):
    """Who calls, and what they may see."""

    id: int | None
    name: str
    role: str
    sites: list[int]
    language: str

    @classmethod
    def of(cls, caller: Caller) -> CallerRecord:
        """The record of a caller."""
        return cls(
            id=caller.user_id, name=caller.name, role=caller.role, sites=sorted(caller.sites), language=caller.language
        )


class TokenRecord(BaseModel):
    """A token that works; the token itself is told once, when it is made."""

    id: int
    name: str
    expires_at: datetime
    used_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: ApiToken) -> TokenRecord:
        """The record of a row."""
        return cls(id=row.id, name=row.name, expires_at=row.expires_at, used_at=row.used_at, created_at=row.created_at)


class MadeToken(TokenRecord):
    """A new token: send it as `Authorization: Bearer TOKEN`. It is told now and never again."""

    token: str


@router.get("/account")
def show_account(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The page."""
    return _show(request, room, caller)


@router.post("/account/language")
def set_language(
    request: Request, room: TheRoom, caller: TheCaller, language: Annotated[str, Form(max_length=10)]
) -> Response:
    """Speak another language from now on."""
    with room.database.transaction() as session:
        accounts.set_own_language(session, caller, language)
    return pages.redirect(request, "/account")


@router.post("/account/password")
def set_password(
    request: Request, room: TheRoom, caller: TheCaller, old: Field = "", password: Field = "", again: Field = ""
) -> Response:
    """A new password; the old one is asked for where there is one."""
    try:
        with room.database.reading() as session:
            has_one = accounts.find_account(session, caller, caller.user_id or 0).password is not None
        if has_one:
            try:
                sessions.confirm_password(room.database, caller, old)
            except NotAllowedError:
                raise InvalidError(_("The old password is wrong. Enter it again."), "old") from None
        check_password(password, caller.name)
        if password != again:
            raise InvalidError(_("The two passwords differ. Enter the same one twice."), "again")
        kept = hash_password(password)
        with room.database.transaction() as session:
            accounts.set_own_password(session, caller, kept, request.state.session_token)
    except InvalidError as error:
        return _show(request, room, caller, {error.field: str(error)})
    return pages.redirect(request, "/account", _("The password was changed. All your other sessions have ended."))


@router.post("/account/tokens")
def make_token(
    request: Request,
    room: TheRoom,
    caller: TheCaller,
    token_name: Field = "",
    days: Annotated[str, Form(max_length=10)] = "90",
) -> Response:
    """A new token, shown once."""
    try:
        values = check_input(tokens.NewToken, {"name": token_name, "days": days})
        with room.database.transaction() as session:
            _row, token = tokens.make_token(session, caller, values)
    except ServerError as error:
        return _show(request, room, caller, {"token_" + (getattr(error, "field", "") or "name"): str(error)})
    return _show(request, room, caller, token=token)


@router.post("/account/tokens/{number}/end")
def end_token(request: Request, room: TheRoom, caller: TheCaller, number: RowNumber) -> Response:
    """End a token."""
    with room.database.transaction() as session:
        tokens.end_token(session, caller, number)
    return pages.redirect(request, "/account", _("The token has ended."))


@api.get("/me")
def get_me(caller: TheCaller) -> CallerRecord:
    """Whose token it is: the account, its role and its sites."""
    return CallerRecord.of(caller)


@api.get("/tokens")
def list_own_tokens(room: TheRoom, caller: TheCaller) -> ListPage[TokenRecord]:
    """The account's tokens that work."""
    with room.database.reading() as session:
        return ListPage(items=[TokenRecord.of(row) for row in tokens.list_tokens(session, caller)])


@api.post("/tokens", status_code=201)
def make_own_token(room: TheRoom, caller: TheCaller, values: tokens.NewToken) -> MadeToken:
    """Make a token; only a person who is signed in with a browser can."""
    with room.database.transaction() as session:
        row, token = tokens.make_token(session, caller, values)
        return MadeToken(**TokenRecord.of(row).model_dump(), token=token)


@api.delete("/tokens/{number}", status_code=204)
def end_own_token(room: TheRoom, caller: TheCaller, number: RowNumber) -> None:
    """End a token."""
    with room.database.transaction() as session:
        tokens.end_token(session, caller, number)


def _show(
    request: Request, room: Room, caller: Caller, faults: dict[str, str] | None = None, token: str = ""
) -> Response:
    with room.database.reading() as session:
        account = accounts.find_account(session, caller, caller.user_id or 0)
        own = tokens.list_tokens(session, caller)
    status = 422 if faults else 200
    return pages.render(
        request, caller, "account.html.j2", status, account=account, tokens=own, token=token, faults=faults or {}
    )
