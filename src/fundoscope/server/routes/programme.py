"""How the programme does: a page, its tables as CSV, and `/v1/programme`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from fundoscope.evaluation.metrics import MIN_GROUPS
from fundoscope.server.pages import render
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import PROBLEMS
from fundoscope.server.services import programme, worklist
from fundoscope.server.services.inputs import PeriodQuery, check_input
from fundoscope.server.services.programme import (
    CoverageRow,
    OverdueInfant,
    ProgrammeFigures,
    ReadingTimeRow,
)
from fundoscope.server.services.sheets import write_sheet

router = APIRouter(tags=["programme"], responses=PROBLEMS)

Table = Literal["coverage", "reading_time", "overdue"]
_ROWS: dict[str, type[BaseModel]] = {"coverage": CoverageRow, "reading_time": ReadingTimeRow, "overdue": OverdueInfant}
_SHARES = {"coverage": "coverage", "reading_time": "within_24_hours"}
_PARTS = ("hits", "n", "groups", "value", "low", "high")
_SHOWN = 100  # overdue infants on the page; the CSV has all


@router.get("/programme", response_class=HTMLResponse, include_in_schema=False)
def show_programme(request: Request, room: TheRoom, caller: TheCaller) -> HTMLResponse:
    """The page of all figures."""
    fields = {name: text for name, text in request.query_params.items() if name in PeriodQuery.model_fields}
    query = check_input(PeriodQuery, fields)
    figures = _measure(room, caller, query, "page")
    with room.database.reading() as session:
        sites = worklist.list_sites(session, caller)
    return render(
        request, caller, "programme.html.j2", query=query, figures=figures, sites=sites, shown=_SHOWN, role=caller.role, least=MIN_GROUPS,
        site_options=[(site.id, site.name) for site in sites],
        address=f"site={query.site or ''}&months={query.months}",
    )  # fmt: skip


@router.get("/programme/{table}.csv", include_in_schema=False)
def write_table(request: Request, room: TheRoom, caller: TheCaller, table: Table) -> Response:
    """One table as CSV; its words stay English."""
    query = check_input(PeriodQuery, dict(request.query_params))
    rows = [row.model_dump() for row in getattr(_measure(room, caller, query, table), table)]
    columns = list(_ROWS[table].model_fields)
    if table in _SHARES:
        name = _SHARES[table]
        columns = [column for column in columns if column != name] + [f"{name}_{part}" for part in _PARTS]
        rows = [row | {f"{name}_{part}": row[name][part] for part in _PARTS} for row in rows]
    return Response(
        write_sheet(columns, rows), media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{table}.csv"'},
    )  # fmt: skip


@router.get("/v1/programme")
def get_programme(room: TheRoom, caller: TheCaller, query: Annotated[PeriodQuery, Query()]) -> ProgrammeFigures:
    """Coverage, reading times, and infants who are overdue or lost, by site and month, with 95 % intervals."""
    return _measure(room, caller, query, "api")


def _measure(room: Room, caller: Caller, query: PeriodQuery, what: str) -> ProgrammeFigures:
    with room.database.reading() as session:
        figures = programme.measure_programme(session, caller, query)
    with room.database.transaction() as session:
        programme.record_view(session, caller, query, what)
    return figures
