"""Pictures of photographs, as the judging child made them: re-encoded, without anything that the camera wrote beside the pixels."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

import cv2
from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse, Response
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.errors import ConflictError, NotFoundError
from fundoscope.server.models import Exam, ExamPhotograph, Grading
from fundoscope.server.permissions import EVERYBODY, Caller, get_owned
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import PROBLEMS, RowNumber
from fundoscope.server.services import audit, judging, readings

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/v1", tags=["photographs"], responses=PROBLEMS)

#: Pictures that tell what the tool concluded, and are not shown to whom its answer is hidden.
_TELLING = ("activation", "crossing", "vessels", "attention")
_RED_FREE_QUALITY = 90
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}, "description": "The picture"}
}


@api.get("/photographs/{photograph_id}/picture", response_model=None, responses=_ANSWER)
@router.get("/photographs/{photograph_id}/picture", response_model=None)
def show_picture(photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The photograph in full size, as JPEG."""
    with room.database.transaction() as session:
        photograph, grading = _find(session, caller, photograph_id)
        audit.record(session, caller, "photograph.view", "photograph", photograph.id, photograph.site_id)
    return _send(request, room, photograph, grading, "photograph")


@router.get("/photographs/{photograph_id}/thumbnail", response_model=None)
def show_thumbnail(photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The photograph, its longer side 320 pixels."""
    with room.database.reading() as session:
        photograph, grading = _find(session, caller, photograph_id)
    return _send(request, room, photograph, grading, "thumbnail")


@router.get("/photographs/{photograph_id}/red-free", response_model=None)
def show_red_free(photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The green of the photograph, in which vessels stand out, as grey JPEG."""
    with room.database.reading() as session:
        photograph, grading = _find(session, caller, photograph_id)
    file = _place(room, photograph, grading, "photograph")
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)  # a JPEG that our own child has written
    if picture is None:
        raise NotFoundError("picture", photograph_id)
    green, etag = cv2.extractChannel(picture, 1), f'"{photograph.digest[:16]}-red-free"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=_headers(etag))
    data = cv2.imencode(".jpg", green, [cv2.IMWRITE_JPEG_QUALITY, _RED_FREE_QUALITY])[1]
    return Response(data.tobytes(), media_type="image/jpeg", headers=_headers(etag))


@api.get("/photographs/{photograph_id}/activation", response_model=None, responses=_ANSWER)
@router.get("/photographs/{photograph_id}/activation", response_model=None)
def show_activation(photograph_id: RowNumber, request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """What speaks for ROP, as a transparent PNG over the square that `pictures.activation_place` of the grading places."""
    with room.database.reading() as session:
        photograph, grading = _find(session, caller, photograph_id, "activation")
    return _send(request, room, photograph, grading, "activation")


@router.get("/photographs/{photograph_id}/crossings/{crossing}/{kind}", response_model=None)
def show_crossing(
    photograph_id: RowNumber, crossing: Annotated[int, Path(ge=1, le=10_000)],
    kind: Annotated[str, Path(pattern="^(crossing|vessels|attention)$")],
    request: Request, room: TheRoom, caller: TheCaller,
) -> Response:  # fmt: skip
    """One crossing of an adult's photograph: as photographed, its vessels, or what speaks for a pinch."""
    with room.database.reading() as session:
        photograph, grading = _find(session, caller, photograph_id, kind)
    return _send(request, room, photograph, grading, f"{kind}_{crossing}")


def _find(session: Session, caller: Caller, photograph_id: int, kind: str = "") -> tuple[ExamPhotograph, Grading]:
    """A photograph with its newest grading, which made the pictures."""
    caller.require(*EVERYBODY)
    photograph = get_owned(session, caller, ExamPhotograph, photograph_id)
    if kind in _TELLING and readings.answer_is_hidden(session, caller, session.get_one(Exam, photograph.exam_id)):
        raise ConflictError(_("What the tool found is hidden until your first reading is saved."))
    grading = judging.newest_grading(session, photograph)
    if grading is None:
        raise ConflictError(_("The photograph is not judged yet, and has no picture. Wait a moment."))
    return photograph, grading


def _place(room: Room, photograph: ExamPhotograph, grading: Grading, name: str) -> FilePath:
    file = judging.picture_file(room.settings, photograph, grading, name)
    if file is None or not file.is_file():
        raise NotFoundError("picture", photograph.id)
    return file


def _send(request: Request, room: Room, photograph: ExamPhotograph, grading: Grading, name: str) -> Response:
    file = _place(room, photograph, grading, name)
    etag = f'"{photograph.digest[:16]}-{grading.bundle_digest[:16]}-{name}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=_headers(etag))
    return FileResponse(file, media_type=f"image/{'png' if file.suffix == '.png' else 'jpeg'}", headers=_headers(etag))


def _headers(etag: str) -> dict[str, str]:
    """The browser may keep a picture, and asks each time whether it may still show it; its name tells nobody whose it is."""
    return {"ETag": etag, "Cache-Control": "private, no-cache", "Content-Disposition": "inline"}
