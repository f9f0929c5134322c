"""The reader's page: photographs and findings side by side; saving and signing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.datastructures import FormData
from starlette.responses import JSONResponse, Response

from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import BusyError, ConflictError, InvalidError, NotAllowedError, NotFoundError
from fundoscope.server.models import EYES, EyeReading, Reading
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import RowNumber
from fundoscope.server.services import readings
from fundoscope.server.services.exam_state import URGENT_BELOW
from fundoscope.server.services.eye_findings import (
    EyeFindings,
    ReadingContent,
    describe_findings,
    describe_grades,
    not_gradable_words,
)
from fundoscope.server.services.inputs import Number, check_input
from fundoscope.server.services.reader_page import (
    ReaderPage,
    ShownPhotograph,
    describe_due,
    open_reader_page,
    preview_reading,
)
from fundoscope.server.services.worklist import acknowledge_exam

router = APIRouter(include_in_schema=False)

_TICKS = ("posterior", "notch")
_TICKS_OR_UNSAID = ("aggressive", "vascularised", "treated")
_WORDS = ("zone", "stage", "plus", "regression")


async def read_form(request: Request) -> FormData:
    """The fields of a form."""
    return await request.form(max_files=0, max_fields=20_000)


TheForm = Annotated[FormData, Depends(read_form)]


@router.get("/exams/{exam_id}/read")
def show_reader_page(
    request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber,
    kind: Annotated[str, Query(max_length=20)] = "", sign: Annotated[str, Query(max_length=1)] = "",
) -> Response:  # fmt: skip
    """The page; `kind` is correction or addendum, `sign` opens the dialog that asks for the password."""
    return _render(request, room, caller, exam_id, kind, signing=bool(sign))


@router.post("/exams/{exam_id}/read")
def save(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, form: TheForm) -> Response:
    """Save what is entered; `do` is `sign` where the password is to be asked for next."""
    kind, why = _text(form, "kind"), _text(form, "why")
    content = None
    try:
        content = content_of_form(form)
        with room.database.transaction() as session:
            readings.save_reading(session, caller, exam_id, content, kind=_known_kind(kind), why=why)
    except (InvalidError, ConflictError) as error:
        if _by_script(request):
            raise
        return _render(
            request,
            room,
            caller,
            exam_id,
            kind,
            content=content,
            why=why,
            problems=[("", str(error))],
            status=error.status,
        )
    if _by_script(request):
        return JSONResponse({"saved": True})
    signing = _text(form, "do") == "sign"
    asked = kind if kind in ("correction", "addendum") else ""
    query = "&".join(filter(None, (f"kind={asked}" if asked else "", "sign=1" if signing else "")))
    return pages.redirect(
        request, f"/exams/{exam_id}/read{'?' + query if query else ''}", "" if signing else _("Saved")
    )


@router.post("/exams/{exam_id}/read/preview")
def preview(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, form: TheForm) -> Response:
    """What follows from what is entered, as a part of the page."""
    content = content_of_form(form)
    with room.database.reading() as session:
        shown = preview_reading(session, caller, exam_id, content)
    return JSONResponse({"html": pages.environment().get_template("read_outcome.html.j2").render(preview=shown)})


@router.post("/exams/{exam_id}/sign")
def sign(
    request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber,
    reading: Annotated[Number, Form()], password: Annotated[str, Form(max_length=1000)] = "",
) -> Response:  # fmt: skip
    """Sign the reading that was saved, with the password again; then its report."""
    with room.database.reading() as session:
        saved = readings.get_reading(session, caller, reading)
    if saved.exam_id != exam_id:
        raise NotFoundError(Reading.noun, reading)
    try:
        signed = readings.sign_reading(room.database, caller, reading, password)
    except (InvalidError, ConflictError, NotAllowedError, BusyError) as error:
        told = [("password", str(error))]
        return _render(
            request, room, caller, exam_id, saved.kind, signing=True, sign_problems=told, status=error.status
        )
    if signed.kind in readings.MASKED_KINDS:
        return pages.redirect(request, "/second-readings", _("Your reading is signed. Thank you."))
    return pages.redirect(request, f"/exams/{exam_id}/report", _("The reading is signed."))


@router.post("/exams/{exam_id}/read/acknowledge")
def acknowledge(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber) -> Response:
    """Put one's name and the time to an urgent result, and go on reading."""
    with room.database.transaction() as session:
        acknowledge_exam(session, caller, exam_id)
    return pages.redirect(request, f"/exams/{exam_id}/read")


# --- form and page


def content_of_form(form: FormData) -> ReadingContent:
    """What is entered, by the names of the form's fields: "right.zone", "crossing.7.2" (photograph 7, crossing 2).

    Raises `InvalidError`.
    """
    eyes = [_eye_of_form(form, eye) for eye in EYES if f"{eye}.there" in form]
    crossings = []
    for name, value in form.multi_items():
        if name.startswith("crossing.") and value:
            photograph, _dot, crossing = name.removeprefix("crossing.").partition(".")
            crossings.append(
                {"photograph_id": photograph, "crossing": crossing, "grade": None if value == "x" else value}
            )
    given = {"eyes": eyes, "crossings": crossings, "added": _added_of_form(form), "note": _text(form, "note")}
    return check_input(ReadingContent, given)


def _added_of_form(form: FormData) -> list[dict[str, Any]]:
    """Crossings that the reader has added: "added.7.1.row", ".col", ".grade" is one of photograph 7; a blank place is none."""
    added = []
    for name in form:
        parts = name.split(".")
        if len(parts) != 4 or parts[0] != "added" or parts[3] != "row":
            continue
        row, col, grade = (_text(form, ".".join((*parts[:3], what))).strip() for what in ("row", "col", "grade"))
        if not (row or col):
            continue
        if not (row and col):
            raise InvalidError(_("Write both the row and the column of the crossing that you have added."), "added")
        if not grade:
            raise InvalidError(_("Grade the crossing that you have added, or take it away."), "added")
        given = None if grade == "x" else grade
        added.append({"photograph_id": parts[1], "row": row, "col": col, "grade": given})
    return added


def _eye_of_form(form: FormData, eye: str) -> dict[str, Any]:
    quality = _text(form, f"{eye}.quality")
    return {
        "eye": eye, "gradable": quality != "none", "quality": "" if quality == "none" else quality,
        "reason": _text(form, f"{eye}.reason"), "note": _text(form, f"{eye}.note"),
        **{name: _text(form, f"{eye}.{name}") or None for name in _WORDS},
        **{name: _text(form, f"{eye}.{name}") == "1" for name in _TICKS},
        **{name: True if _text(form, f"{eye}.{name}") == "1" else None for name in _TICKS_OR_UNSAID},
    }  # fmt: skip


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _known_kind(kind: str) -> readings.ReadingKind:
    known = next((each for each in readings.KINDS if each == kind), None)
    if known is None:
        raise InvalidError(_("There is no such kind of reading. Load the page again."), "kind")
    return known


def _by_script(request: Request) -> bool:
    return request.headers.get("x-requested-with") == "fetch"


def _render(
    request: Request, room: Room, caller: Caller, exam_id: int, kind: str, *, signing: bool = False, content: ReadingContent | None = None,
    why: str = "", problems: list[tuple[str, str]] | None = None, sign_problems: list[tuple[str, str]] | None = None, status: int = 200,
) -> Response:  # fmt: skip
    with room.database.transaction() as session:
        reader = open_reader_page(session, caller, exam_id, kind)
        entered = reader.content if content is None else content
        shown = preview_reading(session, caller, exam_id, _with_both_eyes(entered)) if reader.kind else None
    signed = reader.shown.reading
    return pages.render(
        request, caller, "read.html.j2", status, reader=reader, preview=shown, signing=signing, problems=problems or [],
        sign_problems=sign_problems or [], why=why or (reader.draft.why if reader.draft is not None else ""),
        query=f"?kind={reader.kind}" if reader.kind in ("correction", "addendum") else "",
        urgent=reader.exam.urgency < URGENT_BELOW, describe=_describer(reader), entered={one.eye: one for one in entered.eyes},
        note=entered.note, graded={(one.photograph_id, one.crossing): "x" if one.grade is None else str(one.grade) for one in entered.crossings},
        added={
            number: [one for one in entered.added if one.photograph_id == number] for number in {one.photograph_id for one in entered.added}
        },
        words={"not_gradable": not_gradable_words()}, keys=_describe_keys(reader), crossing_data=_describe_crossings(reader),
        next_words=describe_due(signed.due).when if signed is not None and signed.due else "", **_names(),
    )  # fmt: skip


def _describer(reader: ReaderPage) -> Callable[[Reading, EyeReading], str]:
    """The function that puts the findings of one eye of a reading into words."""
    eyes = {one.row.id: one.row.eye for shown in (reader.shown, *reader.earlier) for one in shown.photographs}

    def describe(reading: Reading, eye: EyeReading) -> str:
        if not reader.adult or not eye.gradable:
            return describe_findings(eye, reader.patient.kind)
        return describe_grades([one.grade for one in reading.crossings if eyes.get(one.photograph_id) == eye.eye])

    return describe


def _with_both_eyes(content: ReadingContent) -> ReadingContent:
    there = {one.eye for one in content.eyes}
    more = tuple(EyeFindings(eye=eye) for eye in ("right", "left") if eye not in there)
    return content.model_copy(update={"eyes": (*content.eyes, *more)})


def _names() -> dict[str, dict[str, str]]:
    """Words for eyes and views."""
    return {
        "eyes": {"right": _("Right eye"), "left": _("Left eye"), "": _("Eye not known")},
        "short": {"right": _("R"), "left": _("L")},
        "views": {
            "disc": _("disc"), "macula": _("macula"), "temporal": _("temporal"), "nasal": _("nasal"), "superior": _("superior"),
            "inferior": _("inferior"), "other": _("other view"), "": _("view not known"),
        },
    }  # fmt: skip


def _describe_crossings(reader: ReaderPage) -> dict[str, dict[str, Any]]:
    """What the script draws of each crossing, by photograph and number."""
    return {
        str(one.row.id): {str(each["crossing"]): _describe_crossing(one, each) for each in one.crossings}
        for one in reader.shown.photographs
    }


def _describe_crossing(one: ShownPhotograph, crossing: dict[str, Any]) -> dict[str, Any]:
    words = {
        "crossing": _("photograph"),
        "vessels": _("arteries red, veins blue"),
        "attention": _("evidence for a pinch"),
    }
    pictures = [
        [f"/photographs/{one.row.id}/crossings/{crossing['crossing']}/{name}", words[name]]
        for name in crossing["pictures"]
    ]
    return {
        **{name: crossing.get(name) for name in ("row", "col", "profile", "narrowing_1", "narrowing_2", "reason")}, "pictures": pictures,
    }  # fmt: skip


def _describe_keys(reader: ReaderPage) -> list[tuple[str, str]]:
    """The keys of the page, for the list beside the form."""
    adults = [
        ("j k", _("next, previous crossing")), ("0–3", _("grade it")), ("x", _("cannot be graded")), ("c", _("show crossings")),
        ("a", _("add a crossing")),
    ]  # fmt: skip
    infants = [
        ("0–5", _("stage; 4 and 5 again: A, B, C")), ("z", _("zone")), ("o h", _("posterior, notch")), ("p", _("plus disease")),
        ("a", "A-ROP"), ("g", _("regression")), ("v t", _("vascularised, treated")), ("x", _("cannot be graded")), ("m", _("activation map")),
    ]  # fmt: skip
    return [
        ("← →", _("photographs")), ("e", _("other eye")), *(adults if reader.adult else infants), ("q", _("quality")),
        ("+ − f", _("zoom, fit")), ("r", _("red-free")), ("[ ]", _("contrast")), (", .", _("brightness")), ("⌫", _("reset the view")),
        ("b", _("both eyes")), ("l", _("earlier exam")), ("w", _("note")), ("s", _("save")), ("Ctrl+↵", _("sign")),
    ]  # fmt: skip
