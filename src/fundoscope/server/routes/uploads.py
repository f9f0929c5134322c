"""Photographs in, under `/v1` and from the technician's page: sent, placed, withdrawn, watched while they are judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from fundoscope.languages import gettext as _
from fundoscope.languages import ngettext
from fundoscope.server import pages
from fundoscope.server.models import Exam, ExamPhotograph, Grading
from fundoscope.server.permissions import Caller, get_owned
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.multipart import receive_files
from fundoscope.server.routes.v1 import PROBLEMS, IdempotencyHeader, ListPage, Once, RowNumber
from fundoscope.server.security.answers import wants_json
from fundoscope.server.services import exam_page, exams, readings, uploads
from fundoscope.server.services.idempotency import KeptAnswer, find_answer, keep_answer
from fundoscope.server.services.inputs import check_input
from fundoscope.server.services.uploads import PhotographPlace, SentFile, UploadReceipt, Withdrawal

api = APIRouter(prefix="/v1", tags=["photographs"], responses=PROBLEMS)
router = APIRouter(include_in_schema=False)

_SMALL_BYTES = 1 << 20
STREAM_SECONDS = 300  # then the browser asks again, and the gate looks again who it is
POLL_SECONDS = 2.0  # between looks at the database, should nobody tell of a change: the worker runs on another computer
_FILES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photographs"],
                    "properties": {"photographs": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


class GradingRecord(BaseModel):
    """What the tool said of a photograph: `rows` as in `results.json`."""

    model_config = ConfigDict(from_attributes=True)

    grader: str
    bundle: str
    bundle_digest: str
    version: str
    status: str
    reason: str
    probability: float | None
    suspected: bool | None
    rows: dict[str, Any]
    created_at: datetime


class PhotographAnswer(BaseModel):
    """A photograph. `placed` is false while eye and view are only guessed; `grading` is null until it is judged, or while it is hidden.

    Names of files, digests, moments and the camera are left out while the caller is to read its exam without knowing whose it is.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    exam_id: int
    file_name: str
    digest: str
    file_bytes: int
    media_type: str
    width: int | None
    height: int | None
    eye: str
    view: str
    placed: bool
    taken_at: str
    camera: str
    state: str
    reason: str
    withdrawn_reason: str
    created_at: datetime | None
    grading: GradingRecord | None = None

    @classmethod
    def of(cls, photograph: ExamPhotograph, grading: Grading | None, masked: bool = False) -> PhotographAnswer:
        """The record of a row."""
        values = {name: getattr(photograph, name) for name in cls.model_fields if name != "grading"}
        if masked:
            blank = ("file_name", "digest", "taken_at", "camera", "withdrawn_reason")
            values |= dict.fromkeys(blank, "") | {"file_bytes": 0, "created_at": None}
        record = cls.model_validate(values)
        record.grading = None if grading is None else GradingRecord.model_validate(grading)
        return record


class Empty(BaseModel):
    """A change that needs no further word."""

    model_config = ConfigDict(extra="forbid")


class ConfirmedPlaces(BaseModel):
    """Of how many photographs eye and view were confirmed."""

    confirmed: int


# --- sending


async def take_upload(request: Request, room: Room, caller: Caller, exam_id: int, key: str = "") -> Response:
    """Receive the files of a form, keep them and write them down; the answer is the receipt, the same again for a key that came."""
    limits = room.settings.limits

    def check() -> None:
        with room.database.reading() as session:
            uploads.check_upload(session, caller, exam_id, None if is_small else limits)

    def store(sent: list[SentFile]) -> Response:
        digest = hashlib.sha256(json.dumps([exam_id, [(each.name, each.digest) for each in sent]]).encode()).hexdigest()
        if is_small:
            check()  # before any file of it is kept
        found = uploads.sort_files(sent, folder, limits)
        uploads.keep_files(found, room.settings)

        def write(session: Session) -> KeptAnswer:
            kept = find_answer(session, caller, key, digest) if key else None
            if kept is None:
                receipt = uploads.add_photographs(session, caller, exam_id, found, limits)
                kept = KeptAnswer(201 if receipt.accepted else 200, receipt.model_dump_json())
                if key:
                    keep_answer(session, caller, key, kept)
            return kept

        kept = room.uploads.run(write)
        room.events.publish(exam_id)
        return Response(kept.body, kept.status, media_type="application/json")

    said = request.headers.get("content-length", "")
    is_small = said.isdecimal() and int(said) <= _SMALL_BYTES
    if not is_small:
        await run_in_threadpool(check)  # before it has come
    with uploads.incoming_folder(room.settings) as folder:
        return await to_thread.run_sync(store, await receive_files(request, folder, limits), limiter=room.upload_places)


@api.post(
    "/exams/{exam_id}/photographs", response_model=UploadReceipt, status_code=201, openapi_extra=_FILES,
    responses={200: {"model": UploadReceipt, "description": "Nothing new: each file was there already, or was refused"}, 413: {"description": "Too large"}},
)  # fmt: skip
async def send_photographs(
    exam_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller, key: IdempotencyHeader = ""
) -> Response:
    """Send photographs, or ZIP archives of them, to an open exam. What was accepted is judged; the receipt names every file."""
    return await take_upload(request, room, caller, exam_id, key)


@router.post("/exams/{exam_id}/photographs", response_model=None)
async def send_from_page(exam_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The same from the technician's page: the receipt as JSON for its script, as a page without one."""
    answer = await take_upload(request, room, caller, exam_id)
    if wants_json(request):
        return answer
    receipt = UploadReceipt.model_validate_json(bytes(answer.body))
    return pages.render(request, caller, "receipt.html.j2", receipt=receipt)


# --- looking


@api.get("/exams/{exam_id}/photographs")
def list_photographs(exam_id: RowNumber, room: TheRoom, caller: TheCaller) -> ListPage[PhotographAnswer]:
    """All photographs of an exam, withdrawn ones too, with what the tool said of each."""
    with room.database.transaction() as session:
        exam = exams.view_masked_exam(session, caller, exam_id)
        photographs = uploads.list_photographs(session, exam)
        hidden, masked = readings.answer_is_hidden(session, caller, exam), readings.is_masked(session, caller, exam)
        gradings = {} if hidden else readings.newest_gradings(session, exam)
        return ListPage(items=[PhotographAnswer.of(each, gradings.get(each.id), masked) for each in photographs])


@api.get("/photographs/{photograph_id}")
def get_photograph(photograph_id: RowNumber, room: TheRoom, caller: TheCaller) -> PhotographAnswer:
    """One photograph: its state tells whether it was judged."""
    with room.database.transaction() as session:
        photograph, exam = uploads.view_photograph(session, caller, photograph_id)
        hidden, masked = readings.answer_is_hidden(session, caller, exam), readings.is_masked(session, caller, exam)
        grading = None if hidden else readings.newest_gradings(session, exam).get(photograph.id)
        return PhotographAnswer.of(photograph, grading, masked)


@api.get("/exams/{exam_id}/events", response_model=None, responses={200: {"content": {"text/event-stream": {}}, "description": "Events named `exam`, each with counts by state as JSON"}})  # fmt: skip
@router.get("/exams/{exam_id}/events", response_model=None)
async def watch_exam(exam_id: RowNumber, room: TheRoom, caller: TheCaller) -> Response:
    """Server-sent events while photographs are judged: one at once, and one whenever something of the exam has changed."""

    def look() -> dict[str, Any]:
        with room.database.reading() as session:
            return exam_page.count_progress(session, exams.get_exam(session, caller, exam_id))

    first = await run_in_threadpool(look)

    async def stream() -> AsyncGenerator[dict[str, str]]:
        async with room.events.listen(exam_id) as listener:
            told: dict[str, Any] = {}
            for _round in range(int(STREAM_SECONDS / POLL_SECONDS)):
                seen = await run_in_threadpool(look) if told else first
                if seen != told:
                    yield {"event": "exam", "data": json.dumps(seen)}
                    told = seen
                await listener.wait(POLL_SECONDS)

    return EventSourceResponse(stream(), ping=20, headers={"Cache-Control": "no-store"})


# --- changing, for programs


@api.post("/photographs/{photograph_id}/place", response_model=PhotographAnswer)
def place_photograph(photograph_id: RowNumber, place: PhotographPlace, once: Once) -> Response:
    """Confirm eye and view of a photograph, or put them right."""
    return once.answer(
        lambda s, caller: PhotographAnswer.of(uploads.place_photograph(s, caller, photograph_id, place), None)
    )


@api.post("/photographs/{photograph_id}/withdraw", response_model=PhotographAnswer)
def withdraw_photograph(photograph_id: RowNumber, withdrawal: Withdrawal, once: Once) -> Response:
    """Take a photograph out of its exam; it is kept, and can be brought back."""
    return once.answer(
        lambda s, caller: PhotographAnswer.of(uploads.withdraw_photograph(s, caller, photograph_id, withdrawal), None)
    )


@api.post("/photographs/{photograph_id}/restore", response_model=PhotographAnswer)
def restore_photograph(photograph_id: RowNumber, nothing: Empty, once: Once) -> Response:
    """Bring a withdrawn photograph back."""
    return once.answer(
        lambda s, caller: PhotographAnswer.of(uploads.restore_photograph(s, caller, photograph_id), None)
    )


@api.post("/exams/{exam_id}/confirm", response_model=ConfirmedPlaces)
def confirm_places(exam_id: RowNumber, nothing: Empty, once: Once) -> Response:
    """Confirm the guessed eye and view of all photographs of an exam for which both were guessed."""
    return once.answer(lambda s, caller: ConfirmedPlaces(confirmed=uploads.confirm_places(s, caller, exam_id)))


# --- the technician's page


@router.get("/exams/{exam_id}", response_model=None)
def show_exam(exam_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The technician's page of an exam; who is to read it without knowing whose it is goes on to read it."""
    with room.database.transaction() as session:
        if readings.is_masked(session, caller, get_owned(session, caller, Exam, exam_id)):
            return pages.redirect(request, f"/exams/{exam_id}/read")
        exams.view_exam(session, caller, exam_id)
        page = exam_page.describe_exam(session, caller, exam_id)
    return pages.render(
        request, caller, "exam.html.j2", page=page, limits=room.settings.limits, sentence=exam_page.write_reason
    )


@router.get("/exams/{exam_id}/photographs", response_model=None)
def show_photographs(exam_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The part of the page that changes while photographs are judged."""
    with room.database.reading() as session:
        page = exam_page.describe_exam(session, caller, exam_id)
    return pages.render(request, caller, "exam_photographs.html.j2", page=page, sentence=exam_page.write_reason)


def _back(request: Request, room: Room, exam: int, message: str) -> Response:
    room.events.publish(exam)
    if wants_json(request):
        return JSONResponse({"message": message})
    return pages.redirect(request, f"/exams/{exam}", message)


@router.post("/exams/{exam_id}/confirm", response_model=None)
def confirm_from_page(exam_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Confirm all guesses."""
    with room.database.transaction() as session:
        count = uploads.confirm_places(session, caller, exam_id)
    told = ngettext(
        "Eye and view of {n} photograph are confirmed.", "Eye and view of {n} photographs are confirmed.", count
    )
    return _back(request, room, exam_id, told.format(n=count))


@router.post("/photographs/{photograph_id}/place", response_model=None)
def place_from_page(
    photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller,
    eye: Annotated[str, Form()] = "", view: Annotated[str, Form()] = "", why: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Confirm eye and view, or put them right."""
    place = check_input(PhotographPlace, {"eye": eye, "view": view, "why": why})
    with room.database.transaction() as session:
        photograph = uploads.place_photograph(session, caller, photograph_id, place)
    return _back(request, room, photograph.exam_id, _("Eye and view are confirmed."))


@router.post("/photographs/{photograph_id}/withdraw", response_model=None)
def withdraw_from_page(
    photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller, why: Annotated[str, Form()] = ""
) -> Response:
    """Take a photograph out of its exam."""
    withdrawal = check_input(Withdrawal, {"why": why})
    with room.database.transaction() as session:
        photograph = uploads.withdraw_photograph(session, caller, photograph_id, withdrawal)
    return _back(request, room, photograph.exam_id, _("The photograph is withdrawn. It can be brought back."))


@router.post("/photographs/{photograph_id}/restore", response_model=None)
def restore_from_page(photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Bring a withdrawn photograph back."""
    with room.database.transaction() as session:
        photograph = uploads.restore_photograph(session, caller, photograph_id)
    return _back(request, room, photograph.exam_id, _("The photograph is back in its exam."))
