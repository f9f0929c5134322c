"""Second readings: what a reader is to read again, and how far readers and tool agree; a page, its tables as CSV, and `/v1`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from fundoscope.evaluation.metrics import MIN_GROUPS
from fundoscope.server.pages import render
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import PROBLEMS
from fundoscope.server.services import agreement, worklist
from fundoscope.server.services.agreement import AccuracyRow, AgreementFigures, KappaRow
from fundoscope.server.services.inputs import PeriodQuery, check_input
from fundoscope.server.services.sheets import write_sheet
from fundoscope.server.services.worklist import WorklistQuery

router = APIRouter(tags=["second readings"], responses=PROBLEMS)

_PARTS = ("hits", "n", "groups", "value", "low", "high")


@router.get("/second-readings", response_class=HTMLResponse, include_in_schema=False)
def show_second_readings(request: Request, room: TheRoom, caller: TheCaller) -> HTMLResponse:
    """What the reader is to read again, and the figures."""
    fields = {name: text for name, text in request.query_params.items() if name in PeriodQuery.model_fields}
    query = check_input(PeriodQuery, fields)
    figures = _measure(room, caller, query)
    with room.database.reading() as session:
        sites = worklist.list_sites(session, caller)
        waiting = []
        if caller.role == Role.READER:
            waiting = worklist.list_work(session, caller, WorklistQuery(lane="again", limit=200)).items
    series = {
        name: [{"label": row.value[2:], "share": getattr(row, name)} for row in figures.accuracy if row.who == "tool" and row.slice == "month"]
        for name in ("sensitivity", "specificity")
    }  # fmt: skip
    return render(
        request, caller, "second_readings.html.j2", query=query, figures=figures, sites=sites, waiting=waiting, series=series, least=MIN_GROUPS,
        role=caller.role, site_options=[(site.id, site.name) for site in sites],
        address=f"site={query.site or ''}&months={query.months}",
    )  # fmt: skip


@router.get("/second-readings/{table}.csv", include_in_schema=False)
def write_table(request: Request, room: TheRoom, caller: TheCaller, table: Literal["kappas", "accuracy"]) -> Response:
    """One table as CSV; its words stay English."""
    figures = _measure(room, caller, check_input(PeriodQuery, dict(request.query_params)))
    if table == "kappas":
        text = write_sheet(list(KappaRow.model_fields), [row.model_dump() for row in figures.kappas])
    else:
        shares = ("sensitivity", "specificity")
        columns = [name for name in AccuracyRow.model_fields if name not in shares]
        rows = [
            row.model_dump()
            | {f"{name}_{part}": getattr(getattr(row, name), part) for name in shares for part in _PARTS}
            for row in figures.accuracy
        ]
        text = write_sheet([*columns, *(f"{name}_{part}" for name in shares for part in _PARTS)], rows)
    name = f'attachment; filename="{table}.csv"'
    return Response(text, media_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})


@router.get("/v1/agreement")
def get_agreement(room: TheRoom, caller: TheCaller, query: Annotated[PeriodQuery, Query()]) -> AgreementFigures:
    """Kappas between readers, and sensitivity and specificity of the tool and of readers, with 95 % intervals."""
    return _measure(room, caller, query)


def _measure(room: Room, caller: Caller, query: PeriodQuery) -> AgreementFigures:
    with room.database.reading() as session:
        figures = agreement.measure_agreement(session, caller, query)
    with room.database.transaction() as session:
        agreement.record_view(session, caller, query)
    return figures
