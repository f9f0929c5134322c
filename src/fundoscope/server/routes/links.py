"""Links that work once: the first administrator's, an invitation, a forgotten password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import InvalidError
from fundoscope.server.models import User
from fundoscope.server.routes.access import TheRoom
from fundoscope.server.routes.sign_in import Field, address_of, let_in
from fundoscope.server.security.passwords import check_password, hash_password
from fundoscope.server.services import accounts, sessions
from fundoscope.server.services.inputs import check_input

router = APIRouter(include_in_schema=False)

Token = Annotated[str, Path(max_length=100)]


@router.get("/link/{token}")
def show_link(request: Request, room: TheRoom, token: Token) -> Response:
    """The form that the link opens."""
    return _show(request, room, token, {}, "")


@router.post("/link/{token}")
def open_link(
    request: Request,
    room: TheRoom,
    token: Token,
    password: Field = "",
    again: Field = "",
    name: Field = "",
    full_name: Field = "",
    site: Field = "",
) -> Response:
    """Set the password, for the first link with the account and the first site, and go in."""
    given = {"name": name, "full_name": full_name, "site": site, "language": request.state.language}
    try:
        with room.database.reading() as session:
            link = accounts.find_link(session, token)
            owner = session.get(User, link.user_id) if link.user_id is not None else None
        check_password(password, owner.name if owner else name)
        if password != again:
            raise InvalidError(_("The two passwords differ. Enter the same one twice."), "again")
        first = None if owner else check_input(accounts.FirstAdministrator, given)
        kept = hash_password(password)
        with room.database.transaction() as session:
            if first is None:
                user = accounts.set_password_by_link(session, token, kept, address_of(request))
            else:
                user = accounts.open_first_account(session, token, first, kept, address_of(request))
            if request.state.session_token:
                sessions.end_session(session, request.state.session_token, "replaced")
            opened = sessions.open_session(session, user, address_of(request), room.settings.session_hours)
    except InvalidError as error:
        return _show(request, room, token, given, str(error), error.field)
    return let_in(request, room, opened, "/")


def _show(
    request: Request, room: TheRoom, token: str, given: dict[str, object], problem: str, field: str = ""
) -> Response:
    with room.database.reading() as session:
        link = accounts.find_link(session, token)
        owner = session.get(User, link.user_id) if link.user_id is not None else None
    values = {name: given.get(name, "") for name in ("name", "full_name", "site")}
    faults = {field: problem} if problem else {}
    return pages.render(
        request, None, "link.html.j2", 422 if problem else 200, owner=owner, values=values, faults=faults, link=link
    )
