"""The way to the identity provider and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import selectinload
from starlette.responses import RedirectResponse, Response

from fundoscope.languages import gettext as _
from fundoscope.server.errors import ConflictError, NotAllowedError
from fundoscope.server.models import User
from fundoscope.server.routes.access import TheRoom
from fundoscope.server.routes.sign_in import address_of, let_in, local_path
from fundoscope.server.services import sessions
from fundoscope.server.settings import FLOW_SECONDS

if TYPE_CHECKING:
    from fundoscope.server.security.single_sign_on import Provider

router = APIRouter(include_in_schema=False)


@router.get("/sign-in/single")
def begin(request: Request, wanted: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
    """To the provider; a cookie keeps the way back to this browser."""
    redirect_uri = f"{request.url.scheme}://{request.url.netloc}/sign-in/single/back"
    address, ticket = _provider(request).begin(redirect_uri, local_path(wanted))
    answer = RedirectResponse(address, 303)
    answer.set_cookie(
        _ticket_name(request), ticket, max_age=FLOW_SECONDS, httponly=True, samesite="lax", path="/",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.get("/sign-in/single/back")
def come_back(request: Request, room: TheRoom) -> Response:
    """Let in whom the provider names, where an account has that identity."""
    ticket = request.cookies.get(_ticket_name(request), "")
    returned = {name: request.query_params[name] for name in ("state", "code", "iss") if name in request.query_params}
    identity, wanted = _provider(request).finish(ticket, returned)
    with room.database.transaction() as session:
        user = session.scalar(
            select(User).where(User.subject == identity, User.active).options(selectinload(User.sites))
        )
        if user is None:
            message = _("No account has this identity. Tell an administrator: {identity}")
            raise NotAllowedError(message.format(identity=identity))
        if request.state.session_token:
            sessions.end_session(session, request.state.session_token, "replaced")
        opened = sessions.open_session(
            session, user, address_of(request), room.settings.session_hours, "sign_in.single"
        )
    answer = let_in(request, room, opened, wanted)
    answer.delete_cookie(_ticket_name(request), path="/", httponly=True, secure=request.url.scheme == "https")
    return answer


def _provider(request: Request) -> Provider:
    """The provider of the settings; it remembers the sign-ins that are under way."""
    provider = request.app.state.provider
    if provider is None:
        raise ConflictError(_("This room has no single sign-on. Sign in by password."))
    return provider


def _ticket_name(request: Request) -> str:
    return "__Host-fundoscope-single" if request.url.scheme == "https" else "fundoscope-single"
