"""Whether the room works, and its figures."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from starlette.responses import Response

from fundoscope.languages import gettext as _
from fundoscope.server.errors import NotAllowedError
from fundoscope.server.routes.access import TheRoom
from fundoscope.server.security.hosts import is_loopback

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz(room: TheRoom) -> dict[str, str]:
    """`ok` where the database answers."""
    with room.database.reading() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok"}


@router.get("/metrics", include_in_schema=False)
def write_metrics(request: Request, room: TheRoom) -> Response:
    """Figures for Prometheus, for this machine, or for who sends the token of the settings."""
    file = room.settings.metrics_token_file
    sent = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    known = file is not None and sent and secrets.compare_digest(sent.encode(), file.read_text().strip().encode())
    if not known and not is_loopback(request.client.host if request.client else ""):
        raise NotAllowedError(_("Figures are told on this machine only, or to who sends the token of the settings."))
    return Response(request.app.state.metrics.write(), media_type=CONTENT_TYPE_LATEST)
