"""Cohorts and patches for studies, as ZIPs that are written while they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import PROBLEMS
from fundoscope.server.services import exports
from fundoscope.server.services.exports import ExportQuery
from fundoscope.server.services.inputs import check_input

router = APIRouter(tags=["exports"], responses=PROBLEMS)

_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/exports/cohort.zip", include_in_schema=False)
def download_cohort(request: Request, room: TheRoom, caller: TheCaller) -> StreamingResponse:
    """The cohort, from a form whose blank fields ask for everything."""
    return _send_cohort(room, caller, check_input(ExportQuery, dict(request.query_params)))


@router.get("/exports/patches.zip", include_in_schema=False)
def download_patches(request: Request, room: TheRoom, caller: TheCaller) -> StreamingResponse:
    """The patches, from a form whose blank fields ask for everything."""
    return _send_patches(room, caller, check_input(ExportQuery, dict(request.query_params)))


@router.get("/v1/exports/cohort.zip", response_class=StreamingResponse, responses=_ZIP)
def export_cohort(room: TheRoom, caller: TheCaller, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """Photographs of infants with readers' labels: a cohort table for `fundoscope rop study` and `rop evaluate`, coded."""
    return _send_cohort(room, caller, query)


@router.get("/v1/exports/patches.zip", response_class=StreamingResponse, responses=_ZIP)
def export_patches(room: TheRoom, caller: TheCaller, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
    """Crossings of adults with readers' grades: a table for `fundoscope nicking study-grades`, coded. Some seconds a photograph."""
    return _send_patches(room, caller, query)


def _send_cohort(room: Room, caller: Caller, query: ExportQuery) -> StreamingResponse:
    with room.database.transaction() as session:
        plan = exports.plan_cohort(session, caller, query)
    return _send("cohort.zip", exports.stream_cohort(room.settings, plan))


def _send_patches(room: Room, caller: Caller, query: ExportQuery) -> StreamingResponse:
    with room.database.transaction() as session:
        plan = exports.plan_patches(session, caller, query)
    return _send("patches.zip", exports.stream_patches(room.settings, plan))


def _send(name: str, pieces: Iterator[bytes]) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)
