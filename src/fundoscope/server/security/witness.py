"""The witness stands before the gate: it counts and logs every request and every answer, refused ones too."""

from __future__ import annotations

import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fundoscope.server.logs import get_log
from fundoscope.server.metrics import RoomMetrics

_log = get_log("fundoscope.requests")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Witness:
    """The middleware, as ASGI. Files of the package are not logged."""

    def __init__(self, app: ASGIApp, metrics: RoomMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and write down what came of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status, seconds = 500, 0.0

        async def send_and_see(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - began
            await send(message)

        state = scope.setdefault("state", {})
        state["request_id"] = secrets.token_hex(6)
        structlog.contextvars.bind_contextvars(request=state["request_id"])
        self.metrics.open.inc()
        try:
            await self.app(scope, receive, send_and_see)
        finally:
            self.metrics.open.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(method, route).observe(seconds or time.perf_counter() - began)
            if not scope["path"].startswith("/static/"):
                caller = state.get("caller")
                _log.info(
                    "request", method=method, route=route, status=status, ms=round((time.perf_counter() - began) * 1000, 1),
                    user=caller.user_id if caller else None, via=caller.via if caller else None,
                    address=scope["client"][0] if scope.get("client") else None,
                )  # fmt: skip
            structlog.contextvars.clear_contextvars()
