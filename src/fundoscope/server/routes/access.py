"""What a route asks for: the room, and who calls."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fundoscope.server.errors import NotSignedInError
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room


def find_room(request: Request) -> Room:
    """The room of the application."""
    return request.app.state.room


#: Describes tokens in `/v1/openapi.json`; who calls is found by the gate before any route.
_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="A token of an account, made on its page.")


def find_caller(
    request: Request, described: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None
) -> Caller:
    """Who calls, as the gate found by session or token; `NotSignedInError` where nobody is signed in."""
    caller = getattr(request.state, "caller", None)
    if caller is None:
        raise NotSignedInError("Nobody is signed in. Sign in, or send a token.")
    return caller


TheRoom = Annotated[Room, Depends(find_room)]
TheCaller = Annotated[Caller, Depends(find_caller)]
