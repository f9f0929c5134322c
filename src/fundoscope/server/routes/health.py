"""Whether the room works."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import text

from fundoscope.server.routes.access import TheRoom

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz(room: TheRoom) -> dict[str, str]:
    """`ok` where the database answers."""
    with room.database.reading() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok"}
