"""The pages that let in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from fundoscope.server import pages
from fundoscope.server.errors import BusyError, NotSignedInError, ServerError
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheRoom
from fundoscope.server.security.cookies import give_cookie, take_cookie
from fundoscope.server.services import sessions
from fundoscope.server.services.sessions import OpenedSession

router = APIRouter(include_in_schema=False)

Field = Annotated[str, Form(max_length=1000)]
Next = Annotated[str, Query(alias="next", max_length=2000)]
NextField = Annotated[str, Form(alias="next", max_length=2000)]


@router.get("/sign-in")
def show_sign_in(request: Request, room: TheRoom, wanted: Next = "/") -> Response:
    """The form; who is signed in goes on."""
    if request.state.caller is not None:
        return RedirectResponse(local_path(wanted), 303)
    return _show_form(request, room, "sign_in.html.j2", wanted)


@router.post("/sign-in")
def sign_in(
    request: Request, room: TheRoom, name: Field = "", password: Field = "", wanted: NextField = "/"
) -> Response:
    """Open a session: a new token, whatever the browser had before."""
    try:
        opened = sessions.sign_in(
            room.database, name, password, address_of(request), room.settings.session_hours, request.state.session_token
        )
    except (NotSignedInError, BusyError) as error:
        return _show_form(request, room, "sign_in.html.j2", wanted, error, name)
    return let_in(request, room, opened, wanted)


@router.get("/unlock")
def show_unlock(request: Request, room: TheRoom, wanted: Next = "/") -> Response:
    """The form of a locked session."""
    if not request.state.locked:
        return RedirectResponse(local_path(wanted), 303)
    return _show_form(request, room, "unlock.html.j2", wanted)


@router.post("/unlock")
def unlock(request: Request, room: TheRoom, password: Field = "", wanted: NextField = "/") -> Response:
    """Go on with a locked session."""
    try:
        opened = sessions.unlock(
            room.database, request.state.session_token, password, address_of(request), room.settings.session_hours
        )
    except (NotSignedInError, BusyError) as error:
        if not request.state.session_token:
            return RedirectResponse("/sign-in", 303)
        return _show_form(request, room, "unlock.html.j2", wanted, error)
    return let_in(request, room, opened, wanted)


@router.post("/sign-out")
def sign_out(request: Request, room: TheRoom) -> Response:
    """End the session."""
    with room.database.transaction() as session:
        sessions.end_session(session, request.state.session_token)
    answer = RedirectResponse("/sign-in", 303)
    take_cookie(request, answer)
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def _show_form(
    request: Request, room: Room, template: str, wanted: str, error: ServerError | None = None, name: str = ""
) -> Response:
    return pages.render(
        request, None, template, error.status if error else 200, next=local_path(wanted), name=name[:100],
        problem=str(error or ""), single_sign_on=room.settings.single_sign_on,
    )  # fmt: skip


def local_path(wanted: str) -> str:
    """A path of this room to go to; anything that a browser could read as another site becomes the worklist."""
    odd = not wanted.startswith("/") or wanted[1:2] in ("/", "\\") or not wanted.isprintable() or "\\" in wanted
    return "/" if odd else wanted


def address_of(request: Request) -> str:
    """The address of whoever asks; behind a stated proxy the one that it tells."""
    return request.client.host if request.client else ""


def let_in(request: Request, room: TheRoom, opened: OpenedSession, wanted: str) -> Response:
    """Give the cookie of a session and go on to where one wanted to go."""
    answer = RedirectResponse(local_path(wanted), 303)
    give_cookie(request, answer, opened.token, room.settings.session_hours * 3600)
    return answer
