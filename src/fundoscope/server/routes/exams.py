"""Pages that change an exam or put it right; the exam itself is shown by the pages of photographs and of readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import ServerError
from fundoscope.server.models import EYES, VIEWS, Exam, ExamPhotograph, Patient
from fundoscope.server.permissions import CLINICAL, Caller, get_owned
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.forms import TheForm, TypedForm
from fundoscope.server.routes.patients import find_other
from fundoscope.server.routes.v1 import RowNumber
from fundoscope.server.services import exams, patients
from fundoscope.server.services.patients import Reason

router = APIRouter(include_in_schema=False)

_FIELDS = ("day", "weight", "camera", "accession", "note")


@router.post("/exams/{exam_id}/finish")
def finish_exam(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber) -> Response:
    """Hand the exam over to the readers; back to it with what is in the way."""
    try:
        with room.database.transaction() as session:
            exam = exams.finish_exam(session, caller, exam_id)
    except ServerError as error:
        if error.status != 409:
            raise
        return pages.redirect(request, f"/exams/{exam_id}", str(error), "bad")
    missing = len(exam.missing_views)
    told = (
        _("The exam is finished; it waits to be read.")
        if not missing
        else _("The exam is finished; views are missing.")
    )
    return pages.redirect(request, f"/exams/{exam_id}", told)


@router.get("/exams/{exam_id}/edit")
@router.get("/exams/{exam_id}/move")
@router.get("/exams/{exam_id}/reopen")
@router.get("/exams/{exam_id}/cancel")
def show_step(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber) -> Response:
    """The form of a step, which the address names."""
    caller.require(*CLINICAL)
    step = request.url.path.rpartition("/")[2]
    with room.database.transaction() as session:
        exam = exams.view_exam(session, caller, exam_id)
        values = {field: patients.spell(getattr(exam, field)) for field in _FIELDS} if step == "edit" else {}
        values["version"] = str(patients.find_version(session, "exam", exam.id))
    return _show_step(request, room, caller, exam_id, step, TypedForm(values))


@router.post("/exams/{exam_id}/edit")
def change_exam(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, form: TheForm) -> Response:
    """Change the exam; another day needs a reason."""

    def work(session: Session, changes: exams.ExamChanges) -> Exam:
        return exams.change_exam(session, caller, exam_id, changes)

    return _take_step(request, room, caller, exam_id, "edit", form, exams.ExamChanges, work)


@router.post("/exams/{exam_id}/move")
def move_exam(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, form: TheForm) -> Response:
    """Give the exam to the patient whose hospital's number was typed."""
    with room.database.reading() as session:
        exam = exams.get_exam(session, caller, exam_id)
        find_other(session, caller, exam.site_id, form, "patient_id")

    def work(session: Session, move: exams.NewPatientOfExam) -> Exam:
        return exams.move_exam(session, caller, exam_id, move)

    form.values.pop("version", None)
    return _take_step(request, room, caller, exam_id, "move", form, exams.NewPatientOfExam, work)


@router.post("/exams/{exam_id}/reopen")
def reopen_exam(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, form: TheForm) -> Response:
    """Let photographs be added again."""

    def work(session: Session, reason: Reason) -> Exam:
        return exams.reopen_exam(session, caller, exam_id, reason.why)

    form.values.pop("version", None)
    return _take_step(request, room, caller, exam_id, "reopen", form, Reason, work)


@router.post("/exams/{exam_id}/cancel")
def cancel_exam(request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, form: TheForm) -> Response:
    """Take the exam out."""

    def work(session: Session, reason: Reason) -> Exam:
        return exams.cancel_exam(session, caller, exam_id, reason.why)

    form.values.pop("version", None)
    return _take_step(request, room, caller, exam_id, "cancel", form, Reason, work)


def _take_step(
    request: Request, room: Room, caller: Caller, exam_id: int, step: str, form: TypedForm, model: type[Any],
    work: Callable[[Session, Any], Exam],
) -> Response:  # fmt: skip
    caller.require(*CLINICAL)
    typed, status = (None if form.errors else form.check(model)), 422
    if typed is not None:
        try:
            with room.database.transaction() as session:
                work(session, typed)
            done = {
                "edit": _("The changes are saved."),
                "move": _("The exam was moved."),
                "reopen": _("The exam is open again."),
                "cancel": _("The exam is cancelled."),
            }[step]
            return pages.redirect(request, f"/exams/{exam_id}", done)
        except ServerError as error:
            if error.status in (403, 404):
                raise
            status = form.add_error(error)
    return _show_step(request, room, caller, exam_id, step, form, status)


def _show_step(
    request: Request, room: Room, caller: Caller, exam_id: int, step: str, form: TypedForm, status: int = 200
) -> Response:
    with room.database.reading() as session:
        exam = exams.get_exam(session, caller, exam_id)
        patient = session.get_one(Patient, exam.patient_id)
        others = patients.find_alike(session, caller, patient) if step == "move" else ()
    return pages.render(
        request, caller, "exam_step.html.j2", status, form=form, step=step, exam=exam, patient=patient, others=others,
        age=patients.age_on(patient, exam.day),
    )  # fmt: skip


@router.get("/photographs/{photograph_id}/correct")
def show_correction(request: Request, room: TheRoom, caller: TheCaller, photograph_id: RowNumber) -> Response:
    """The form by which the eye, the view or the exam of a photograph is put right."""
    caller.require(*CLINICAL)
    with room.database.reading() as session:
        photograph = get_owned(session, caller, ExamPhotograph, photograph_id)
    values = {"eye": photograph.eye, "view": photograph.view, "exam_id": str(photograph.exam_id)}
    return _show_correction(request, room, caller, photograph_id, TypedForm(values))


@router.post("/photographs/{photograph_id}/correct")
def correct_photograph(
    request: Request, room: TheRoom, caller: TheCaller, photograph_id: RowNumber, form: TheForm
) -> Response:  # fmt: skip
    """Put the photograph right, and go on to the exam where it is now."""
    caller.require(*CLINICAL)
    form.values = {name: value for name, value in form.values.items() if value}  # what is not said stays
    typed, status = form.check(exams.PhotographCorrection), 422
    if typed is not None:
        try:
            with room.database.transaction() as session:
                photograph = exams.correct_photograph(session, caller, photograph_id, typed)
            return pages.redirect(request, f"/exams/{photograph.exam_id}", _("The photograph was put right."))
        except ServerError as error:
            if error.status in (403, 404) and not typed.exam_id:
                raise
            status = form.add_error(error)
    return _show_correction(request, room, caller, photograph_id, form, status)


def _show_correction(
    request: Request, room: Room, caller: Caller, photograph_id: int, form: TypedForm, status: int = 200
) -> Response:
    with room.database.reading() as session:
        photograph = get_owned(session, caller, ExamPhotograph, photograph_id)
        exam = exams.get_exam(session, caller, photograph.exam_id)
        patient = session.get_one(Patient, exam.patient_id)
        others = [each for each in patient.exams if each.state != "cancelled"]
    return pages.render(
        request, caller, "photograph_correct.html.j2", status, form=form, photograph=photograph, exam=exam, patient=patient,
        exams=others, eyes=EYES, views=VIEWS,
    )  # fmt: skip
