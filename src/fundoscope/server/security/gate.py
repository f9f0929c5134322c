"""The gate: every request passes it before any route, so that no route can forget a check.

In this order: the peer (only a stated proxy may bring requests without TLS from beyond loopback), the name that is called, how often
one address asks, the size, who calls (session or token), how often the account asks, and for a change where it comes from and the
token of its session. Without a caller only `OPEN` is served.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fundoscope.languages import gettext as _
from fundoscope.languages import speaking
from fundoscope.server import pages
from fundoscope.server.errors import NotAllowedError, NotSignedInError, ServerError, TooLargeError
from fundoscope.server.logs import get_log
from fundoscope.server.room import Room
from fundoscope.server.security import hosts
from fundoscope.server.security.answers import answer_error
from fundoscope.server.security.cookies import read_cookie
from fundoscope.server.security.peers import Peers
from fundoscope.server.security.rates import Buckets
from fundoscope.server.services import sessions, tokens

_log = get_log("fundoscope.gate")

#: What is served without a caller: exact paths, and what lies below the second ones.
OPEN = frozenset({"/healthz", "/favicon.ico", "/metrics", "/sign-in", "/sign-out", "/unlock", "/v1/openapi.json"})
OPEN_BELOW = ("/static/", "/sign-in/", "/link/")
#: Where passwords, links and tokens can be tried.
KNOCKS = ("/sign-in", "/unlock", "/link/", "/account/password")
#: Bytes of a request that brings no file.
PLAIN_BYTES = 1 << 20
#: The token of a form with files stands in its first field, so a file that follows is not read to find it.
_TOKEN_WITHIN = 16 << 10
_TOKEN = re.compile(rb'(?:(?:^|&)csrf=|name="csrf"\r\n\r\n)([A-Za-z0-9_-]{20,100})')

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # nothing to other sites; "no-referrer" would make browsers send "Origin: null" with our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Gate:
    """The middleware of a room, as ASGI: it holds no answer back and reads no more of a request than it must."""

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self.app = app
        self.room = room
        self.hosts = hosts.known_hosts(room.settings)
        self.peers = Peers(room.settings)
        rates = room.settings.rates
        self.by_address, self.by_account = Buckets(rates.address), Buckets(rates.account)
        self.by_knock = Buckets(rates.sign_in)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. The start and the end of the application go on; there are no web sockets here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        state = request.state
        state.caller, state.csrf, state.locked, state.session_token, state.language = None, "", False, "", "en"
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(request, MutableHeaders(scope=message))
            await send(message)

        try:
            self.peers.identify(scope)
            hosts.check_host(request, self.hosts)
            self._check_rate(request)
            await run_in_threadpool(self._recognise, request)
            state.language = pages.choose_language(request, state.caller)
            with speaking(state.language):
                if state.caller is not None:
                    self.by_account.take(str(state.caller.user_id))
                elif not is_open(request.scope["path"]):
                    raise NotSignedInError(_("Nobody is signed in. Sign in, or send a token."))
                receive = _within(receive, self._most_bytes(request))
                receive = await self._check_change(request, receive)
                await self.app(scope, receive, send_with_headers)
        except Exception as error:
            if started or (self.room.settings.debug and not isinstance(error, ServerError)):
                raise
            if not isinstance(error, (ServerError, HTTPException)):
                _log.error("unforeseen", exc_info=error)
            with speaking(state.language):
                await answer_error(request, error)(scope, receive, send_with_headers)

    def _check_rate(self, request: Request) -> None:
        address = request.client.host if request.client else ""
        if not request.scope["path"].startswith("/static/"):
            self.by_address.take(address)
        if request.method == "POST" and request.scope["path"].startswith(KNOCKS):
            self.by_knock.take(address)

    def _recognise(self, request: Request) -> None:
        """Set who calls, from a program's token under `/v1`, else from the session's cookie."""
        state, settings = request.state, self.room.settings
        address = request.client.host if request.client else ""
        scheme, _space, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and request.scope["path"].startswith("/v1/"):
            state.caller = tokens.find_caller(self.room.database, given.strip(), address)
            if state.caller is None:
                self.by_knock.take(address)
                raise NotSignedInError(
                    _("The token is not known, or has ended. Make a new one on the page of your account.")
                )
            return
        token = read_cookie(request)
        if not token or request.scope["path"].startswith("/static/"):
            return
        with self.room.database.reading() as session:
            row = sessions.find_session(session, token)
        if row is None:
            return
        works = "text/event-stream" not in request.headers.get("accept", "") and "x-automatic" not in request.headers
        state.locked = sessions.note_activity(self.room.database, row, timedelta(minutes=settings.idle_minutes), works)
        state.session_token, state.csrf = token, row.csrf
        if not state.locked:
            state.caller = sessions.as_caller(row.user, "pages", address)

    def _most_bytes(self, request: Request) -> int:
        """The limit of this request's body; raises where it says itself that it is larger."""
        kind = request.headers.get("content-type", "").split(";")[0]
        brings_files = request.state.caller is not None and kind not in (
            "application/json",
            "application/x-www-form-urlencoded",
        )
        most = self.room.settings.limits.upload_bytes if brings_files else PLAIN_BYTES
        said = request.headers.get("content-length", "0")
        if not said.isdecimal() or int(said) > most:
            raise _too_large(most)
        return most

    async def _check_change(self, request: Request, receive: Receive) -> Receive:
        """For a change by cookie: the origin, and the session's token in a header or in the form's first field."""
        if request.method in hosts.SAFE_METHODS or (
            request.state.caller is not None and request.state.caller.via == "api"
        ):
            return receive  # no browser sends a program's token by itself
        hosts.check_origin(request)
        wanted = request.state.csrf
        if not wanted or _same_token(request.headers.get("x-csrf-token", ""), wanted):
            return receive
        is_plain = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        within = PLAIN_BYTES if is_plain else _TOKEN_WITHIN
        read, receive = await _read_first(receive, within)
        found = _TOKEN.search(read, 0, within)
        if found is None or not _same_token(found[1].decode(), wanted):
            raise NotAllowedError(_("The page is too old, so nothing was done. Load it again and repeat what you did."))
        return receive

    def _add_headers(self, request: Request, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-cache" if request.scope["path"].startswith("/static/") else "no-store")
        if request.scope["scheme"] == "https":
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")


def is_open(path: str) -> bool:
    """Whether a path is served without a caller."""
    return path in OPEN or path.startswith(OPEN_BELOW)


def _same_token(given: str, wanted: str) -> bool:
    """Whether two tokens are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _too_large(most: int) -> TooLargeError:
    message = _(
        "The request is larger than {most} MB. Send less at a time, or ask whoever runs the room to raise the limit."
    )
    return TooLargeError(message.format(most=max(1, most >> 20)))


def _within(receive: Receive, most: int) -> Receive:
    """A body that says no length, or a wrong one, is cut off at the limit."""
    taken = 0

    async def receive_within() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, str(_too_large(most)))  # of this kind, for else FastAPI answers 400
        return message

    return receive_within


async def _read_first(receive: Receive, wanted: int) -> tuple[bytes, Callable[[], Awaitable[Message]]]:
    """The first bytes of a body, and a `receive` that gives them once more."""
    kept: list[Message] = []
    read = b""
    while len(read) < wanted:
        message = await receive()
        kept.append(message)
        read += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body", False):
            break

    async def receive_again() -> Message:
        return kept.pop(0) if kept else await receive()

    return read, receive_again
