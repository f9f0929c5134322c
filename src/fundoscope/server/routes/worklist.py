"""The worklist as the first page, and under `/v1`."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, BackgroundTasks, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from fundoscope.languages import gettext as _
from fundoscope.server.models import now
from fundoscope.server.pages import redirect, render
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import PROBLEMS, Once, RowNumber
from fundoscope.server.services import worklist
from fundoscope.server.services.inputs import check_input
from fundoscope.server.services.worklist import WorklistPage, WorklistQuery

router = APIRouter(tags=["worklist"], responses=PROBLEMS)


class Acknowledgement(BaseModel):
    """Who has seen an urgent exam, and when."""

    exam: int
    acknowledged_at: str
    acknowledged_by: int | None


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def show_worklist(request: Request, room: TheRoom, caller: TheCaller) -> HTMLResponse:
    """The list; it asks for itself again, which writes nothing into the audit log."""
    fields = {name: text for name, text in request.query_params.items() if name in WorklistQuery.model_fields}
    query = check_input(WorklistQuery, fields)
    with room.database.reading() as session:
        page = worklist.list_work(session, caller, query)
        cameras, sites = worklist.list_cameras(session, caller), worklist.list_sites(session, caller)

    def address(**changes: Any) -> str:
        wanted = {**query.filters, "lane": query.lane, **changes}
        return "/?" + urlencode({name: value for name, value in wanted.items() if value})

    context = {
        "query": query, "page": page, "role": caller.role, "total": sum(page.counts.values()), "address": address, "at": now(), "sites": sites,
        "groups": [(lane, list(items)) for lane, items in groupby(page.items, key=lambda item: item.lane)],
        "site_options": [(site.id, site.name) for site in sites], "cameras": cameras,
        "camera_options": [(camera, camera) for camera in cameras], "describe_lane": worklist.describe_lane,
        "describe_reason": worklist.describe_reason, "describe_clock": worklist.describe_clock,
    }  # fmt: skip
    response = render(request, caller, "worklist.html.j2", **context)
    if "x-automatic" not in request.headers:
        response.background = BackgroundTask(_record_view, room, caller, query, page)
    return response


@router.post("/exams/{number}/acknowledge", include_in_schema=False)
def acknowledge_on_page(
    request: Request,
    room: TheRoom,
    caller: TheCaller,
    number: RowNumber,
    back: Annotated[str, Form(max_length=2000)] = "/",
) -> RedirectResponse:
    """Put one's name to an urgent exam, and go back to the list with its filters."""
    with room.database.transaction() as session:
        worklist.acknowledge_exam(session, caller, number)
    place = back if back.startswith("/?") else "/"
    return redirect(request, place, _("The urgent exam is acknowledged with your name."))


@router.get("/v1/worklist")
def list_work(
    room: TheRoom, caller: TheCaller, query: Annotated[WorklistQuery, Query()], background: BackgroundTasks
) -> WorklistPage:
    """What waits for somebody, the most urgent first; the caller's sites only."""
    with room.database.reading() as session:
        page = worklist.list_work(session, caller, query)
    background.add_task(_record_view, room, caller, query, page)  # a reader waits for no writer
    return page


@router.post("/v1/exams/{number}/acknowledge", response_model=Acknowledgement)
def acknowledge(number: RowNumber, once: Once) -> Response:
    """Put the caller's name and the time to an urgent exam. Asked twice, the first name stays."""

    def work(session: Session, caller: Caller) -> Acknowledgement:
        exam = worklist.acknowledge_exam(session, caller, number)
        at = exam.acknowledged_at
        assert at is not None
        return Acknowledgement(exam=exam.id, acknowledged_at=at.isoformat(), acknowledged_by=exam.acknowledged_by)

    return once.answer(work)


def _record_view(room: Room, caller: Caller, query: WorklistQuery, page: WorklistPage) -> None:
    with room.database.transaction() as session:
        worklist.record_view(session, caller, query, page)
