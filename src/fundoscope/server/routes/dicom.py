"""Pages of the traffic with a PACS: destinations and sources under `/settings/dicom`, answers on their way under `/sendings`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.dicom import outbox, places, refusals, sources
from fundoscope.server.errors import ServerError
from fundoscope.server.models import DicomDestination, DicomSource
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.forms import TheForm, TypedForm
from fundoscope.server.routes.v1 import LARGEST, RowNumber
from fundoscope.server.services import accounts

router = APIRouter(include_in_schema=False)

_ON_A_PAGE = 50
_TICKS = {"destination": ("active", "tls", "commitment"), "source": ("active", "adds_patients")}
_SENDING_STATES = ("", "waiting", "failed", "done")


@router.get("/settings/dicom")
def show_traffic(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Destinations of answers, and sources of photographs."""
    with room.database.reading() as session:
        destinations = places.list_places(session, caller, DicomDestination)
        found = places.list_places(session, caller, DicomSource)
        sites = {site.id: site for site in accounts.list_sites(session, caller)}
        troubled = outbox.count_troubled(session, caller)
        refused = refusals.find_refusals(session, caller)
    return pages.render(
        request, caller, "dicom.html.j2", destinations=destinations, sources=found, sites=sites, troubled=troubled,
        refused=refused,
    )  # fmt: skip


@router.post("/settings/dicom/refused/{refusal_id}/again")
def take_again(refusal_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Have a photograph taken once more that was refused after its sender had been told that it was taken."""
    with room.database.transaction() as session:
        refusals.take_again(session, caller, room.settings, refusal_id)
    return pages.redirect(
        request, "/settings/dicom", _("It is taken again in a moment, or stands here with the reason.")
    )


# --- destinations


@router.get("/settings/dicom/destinations/new")
def show_new_destination(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The form of a new destination."""
    return _show_place(request, room, caller, DicomDestination, None, TypedForm(_defaults(places.DestinationValues)))


@router.post("/settings/dicom/destinations/new")
def add_destination(request: Request, room: TheRoom, caller: TheCaller, form: TheForm) -> Response:
    """Add a destination."""
    return _save_place(request, room, caller, DicomDestination, None, form)


@router.get("/settings/dicom/destinations/{destination_id}")
def show_destination(destination_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The form of a destination."""
    return _show_place(request, room, caller, DicomDestination, destination_id, None)


@router.post("/settings/dicom/destinations/{destination_id}")
def change_destination(
    destination_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller, form: TheForm
) -> Response:
    """Change a destination."""
    return _save_place(request, room, caller, DicomDestination, destination_id, form)


@router.post("/settings/dicom/destinations/{destination_id}/test")
def try_destination(destination_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Ask a destination whether it hears us."""
    trouble = places.try_place(room, caller, DicomDestination, destination_id)
    return _tell_answer(request, f"/settings/dicom/destinations/{destination_id}", trouble)


# --- sources


@router.get("/settings/dicom/sources/new")
def show_new_source(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The form of a new source."""
    form = TypedForm(_defaults(places.SourceValues) | {"modalities": "OP"})
    return _show_place(request, room, caller, DicomSource, None, form)


@router.post("/settings/dicom/sources/new")
def add_source(request: Request, room: TheRoom, caller: TheCaller, form: TheForm) -> Response:
    """Add a source."""
    return _save_place(request, room, caller, DicomSource, None, form)


@router.get("/settings/dicom/sources/{source_id}")
def show_source(source_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The form of a source, and what it has shown."""
    return _show_place(request, room, caller, DicomSource, source_id, None)


@router.post("/settings/dicom/sources/{source_id}")
def change_source(source_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller, form: TheForm) -> Response:
    """Change a source."""
    return _save_place(request, room, caller, DicomSource, source_id, form)


@router.post("/settings/dicom/sources/{source_id}/test")
def try_source(source_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Ask a source whether it can be searched."""
    trouble = places.try_place(room, caller, DicomSource, source_id)
    return _tell_answer(request, f"/settings/dicom/sources/{source_id}", trouble)


# --- answers on their way


@router.get("/sendings")
def show_sendings(
    request: Request,
    room: TheRoom,
    caller: TheCaller,
    state: Literal["", "waiting", "failed", "done"] = "",
    exam: Annotated[str, Query(max_length=10)] = "",
    before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
) -> Response:
    """Answers that wait to be sent, were given up, or were taken."""
    number = int(exam) if exam.isascii() and exam.isdecimal() and int(exam) <= LARGEST else None
    with room.database.reading() as session:
        found = outbox.find_sendings(session, caller, state, number, before, _ON_A_PAGE + 1)
    more = found[_ON_A_PAGE - 1].job.id if len(found) > _ON_A_PAGE else None
    return pages.render(
        request, caller, "sendings.html.j2", sendings=found[:_ON_A_PAGE], more=more, state=state, exam=number or "",
        states=_SENDING_STATES,
    )  # fmt: skip


@router.post("/sendings/{job_id}/again")
def send_again(job_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Send an answer now."""
    with room.database.transaction() as session:
        outbox.send_again(session, caller, job_id)
    return pages.redirect(request, "/sendings", _("The answer is sent again now."))


# --- inside


def _defaults(model: type[places.DestinationValues] | type[places.SourceValues]) -> dict[str, str]:
    """What a new form shows, as text; a tick is there or is not."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        value = None if field.is_required() else field.get_default()
        if value is not None and not isinstance(value, list) and value is not False:
            found[name] = "1" if value is True else str(value)
    return found


def _as_typed(row: DicomDestination | DicomSource, names: Any) -> dict[str, str]:
    """A row as its form shows it; the password is never shown."""
    found: dict[str, str] = {}
    for name in names:
        value = "" if name == "password" else getattr(row, name)
        if isinstance(value, list):
            value = ", ".join(value)
        if value is not False and value is not None:
            found[name] = "1" if value is True else str(value)
    return found


def _show_place(
    request: Request, room: Room, caller: Caller, model: Any, number: int | None, form: TypedForm | None, status: int = 200
) -> Response:  # fmt: skip
    caller.require(Role.ADMINISTRATOR)
    values = places.DestinationValues if model is DicomDestination else places.SourceValues
    with room.database.reading() as session:
        row = None if number is None else places.find_place(session, caller, model, number)
        sites = [
            site for site in accounts.list_sites(session, caller) if site.active or (row and row.site_id == site.id)
        ]
        items = _find_items(session, caller, row)
    if form is None:
        form = TypedForm() if row is None else TypedForm(_as_typed(row, values.model_fields))
    return pages.render(
        request, caller, f"dicom_{model.noun}.html.j2", status, row=row, form=form, items=items,
        site_choices=[(site.id, site.name) for site in sites],
        fields=places.PATTERN_FIELDS,
    )  # fmt: skip


def _find_items(session: Session, caller: Caller, row: DicomDestination | DicomSource | None) -> Any:
    """What a source has shown; names of files are of patients, so only to those who belong to its site."""
    if not isinstance(row, DicomSource) or row.site_id not in caller.sites:
        return ()
    return sources.find_items(session, row.id)


def _save_place(
    request: Request, room: Room, caller: Caller, model: Any, number: int | None, form: TypedForm
) -> Response:  # fmt: skip
    caller.require(Role.ADMINISTRATOR)
    kind = places.DestinationValues if model is DicomDestination else places.SourceValues
    values = form.check(kind, **{name: name in form.values for name in _TICKS[model.noun]})
    status = 422
    if values is not None:
        try:
            with room.database.transaction() as session:
                if number is None:
                    places.add_place(session, caller, room.settings, model, values)
                else:
                    places.change_place(session, caller, room.settings, model, number, values)
            return pages.redirect(request, "/settings/dicom", _("The settings were saved."))
        except ServerError as error:
            if error.status == 404:
                raise
            status = form.add_error(error)
    return _show_place(request, room, caller, model, number, form, status)


def _tell_answer(request: Request, path: str, trouble: str) -> Response:
    if trouble:
        return pages.redirect(request, path, trouble, "bad")
    return pages.redirect(request, path, _("It answers, and takes us for whom we say we are."))
