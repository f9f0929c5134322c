"""The cookie that holds the token of a session."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

#: Over TLS the prefix makes browsers refuse a cookie that another host or plain http set.
SECURE_NAME, PLAIN_NAME = "__Host-fundoscope", "fundoscope"


def cookie_name(request: Request) -> str:
    """The name over this way: only the secure one over TLS."""
    return SECURE_NAME if request.scope["scheme"] == "https" else PLAIN_NAME


def read_cookie(request: Request) -> str:
    """The token of the session, blank where there is none."""
    return request.cookies.get(cookie_name(request), "")


def give_cookie(request: Request, response: Response, token: str, seconds: int) -> None:
    """Set the cookie: not for scripts, not sent with what other sites ask for."""
    response.set_cookie(
        cookie_name(request), token, max_age=seconds, httponly=True, samesite="lax", path="/",
        secure=request.scope["scheme"] == "https",
    )  # fmt: skip


def take_cookie(request: Request, response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(cookie_name(request), path="/", httponly=True, secure=request.scope["scheme"] == "https")
