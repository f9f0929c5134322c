"""Pages of infants and adults: added, changed, looked up; their course over the exams; how they leave, move or are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import NotFoundError, ServerError
from fundoscope.server.models import Patient, Site
from fundoscope.server.permissions import CLINICAL, Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.forms import TheForm, TypedForm
from fundoscope.server.routes.v1 import RowNumber, read_cursor, write_cursor
from fundoscope.server.services import due, due_words, exams, patients
from fundoscope.server.services.course import find_course
from fundoscope.server.services.eye_findings import describe_findings

router = APIRouter(include_in_schema=False)

_PAGE = 50  # patients on a page of the list
_SHOWN = (
    "kind", "code", "name", "birth_date", "birth_weight", "weight_gain_10_19", "weight_gain_20_29", "weight_gain_30_39",
    "hydrocephalus", "birth_group", "note",
)  # fmt: skip


# --- look


@router.get("/patients")
def list_patients(
    request: Request,
    room: TheRoom,
    caller: TheCaller,
    search: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """The patients of the caller's sites, looked up by number or name."""
    with room.database.transaction() as session:
        found = patients.find_patients(session, caller, search, None, "", read_cursor(cursor), _PAGE + 1)
        sites = {site.id: site.name for site in patients.find_sites(session, caller)}
    following = write_cursor(found[_PAGE - 1].id) if len(found) > _PAGE else ""
    return pages.render(
        request, caller, "patients.html.j2", patients=found[:_PAGE], sites=sites, search=search, following=following,
        show_age=patients.show_gestational_age,
    )  # fmt: skip


@router.get("/patients/new")
def show_new_patient(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The form of a patient to be added."""
    caller.require(*CLINICAL)
    return _show_patient_form(request, room, caller, TypedForm({"kind": "infant"}))


@router.post("/patients/new")
def add_patient(request: Request, room: TheRoom, caller: TheCaller, form: TheForm) -> Response:
    """Add the patient, and go on to its page; or show the form with its errors."""
    new = form.check(patients.NewPatient)
    status = 422
    if new is not None:
        try:
            with room.database.transaction() as session:
                patient = patients.add_patient(session, caller, new)
            return pages.redirect(request, f"/patients/{patient.id}", _("The patient is added."))
        except ServerError as error:
            status = form.add_error(error)
    caller.require(*CLINICAL)
    return _show_patient_form(request, room, caller, form, status)


@router.get("/patients/{patient_id}")
def show_patient(request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber) -> Response:
    """The patient with both eyes' course, what is due by which rule, and what was put right."""
    return _show_patient(request, room, caller, patient_id, TypedForm({"day": due.today().isoformat()}))


@router.post("/patients/{patient_id}/exams")
def add_exam(
    request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm
) -> Response:  # fmt: skip
    """Add an exam, and go on to it; or show the patient with what is wrong."""
    caller.require(*CLINICAL)
    new = form.check(exams.NewExam, patient_id=patient_id)
    status = 422
    if new is not None:
        try:
            with room.database.transaction() as session:
                exam = exams.add_exam(session, caller, new)
            return pages.redirect(request, f"/exams/{exam.id}", _("The exam is added. Add its photographs."))
        except ServerError as error:
            if error.status == NotFoundError.status:
                raise
            status = form.add_error(error)
    return _show_patient(request, room, caller, patient_id, form, status)


def _show_patient(
    request: Request, room: Room, caller: Caller, patient_id: int, form: TypedForm, status: int = 200
) -> Response:
    with room.database.transaction() as session:
        patient = patients.view_patient(session, caller, patient_id)
        context = {
            "patient": patient,
            "site": session.get_one(Site, patient.site_id),
            "course": find_course(session, caller, patient, due.today()),
            "siblings": patients.find_siblings(session, caller, patient),
            "into": session.get(Patient, patient.merged_into) if patient.merged_into else None,
        }
    return pages.render(
        request, caller, "patient.html.j2", status, form=form, today=due.today(), may_change=caller.role in CLINICAL,
        may_unmerge=caller.role is Role.ADMINISTRATOR,
        show_age=patients.show_gestational_age, words=due_words, describe_findings=describe_findings,
        field_words=describe_fields(), **context,
    )  # fmt: skip


def describe_fields() -> dict[str, str]:
    """The names of fields of patients, exams and photographs, as corrections name them, in words."""
    return {
        "kind": _("infant or adult"), "code": _("hospital's number"), "name": _("name"), "birth_date": _("date of birth"),
        "gestational_age": _("gestational age"), "birth_weight": _("birth weight"), "hydrocephalus": _("hydrocephalus"),
        "weight_gain_10_19": _("weight gain, days 10 to 19"), "weight_gain_20_29": _("weight gain, days 20 to 29"),
        "weight_gain_30_39": _("weight gain, days 30 to 39"), "birth_group": _("twins"), "note": _("note"), "left": _("how it left"),
        "left_on": _("day on which it left"), "left_to": _("where it went"), "site": _("site"), "merged_into": _("merged into patient"),
        "merged_from": _("merged from patient"), "patient": _("patient"), "day": _("day of the exam"), "weight": _("weight"),
        "camera": _("camera"), "accession": _("number of the order"), "state": _("state"), "eye": _("eye"), "view": _("view"),
        "exam_id": _("exam"),
    }  # fmt: skip


def _show_patient_form(
    request: Request, room: Room, caller: Caller, form: TypedForm, status: int = 200, patient: Patient | None = None
) -> Response:
    with room.database.reading() as session:
        sites = [(site.id, site.name) for site in patients.find_sites(session, caller)]
    return pages.render(request, caller, "patient_form.html.j2", status, form=form, sites=sites, patient=patient)


# --- change


@router.get("/patients/{patient_id}/edit")
def show_edit(request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber) -> Response:
    """The form with what is known of the patient."""
    caller.require(*CLINICAL)
    with room.database.transaction() as session:
        patient = patients.view_patient(session, caller, patient_id)
        values = {field: patients.spell(getattr(patient, field)) for field in _SHOWN}
        values["gestational_age"] = patients.show_gestational_age(patient)
        values["version"] = str(patients.find_version(session, "patient", patient.id))
    return _show_patient_form(request, room, caller, TypedForm(values), patient=patient)


@router.post("/patients/{patient_id}/edit")
def change_patient(
    request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm
) -> Response:
    """Change the patient, and go back to its page; or show the form with its errors."""
    caller.require(*CLINICAL)

    def change(session: Session, changes: patients.PatientChanges) -> Patient:
        return patients.change_patient(session, caller, patient_id, changes)

    def show(patient: Patient, status: int) -> Response:
        return _show_patient_form(request, room, caller, form, status, patient)

    done = _("The changes are saved.")
    return _do(request, room, caller, patient_id, form, patients.PatientChanges, change, done, show)


@router.get("/patients/{patient_id}/leave")
@router.get("/patients/{patient_id}/return")
@router.get("/patients/{patient_id}/transfer")
@router.get("/patients/{patient_id}/merge")
def show_step(request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber) -> Response:
    """The form of a step, which the address names."""
    caller.require(*CLINICAL)
    step = request.url.path.rpartition("/")[2]
    with room.database.transaction() as session:
        patient = patients.view_patient(session, caller, patient_id)
    form = TypedForm({"left_on": due.today().isoformat()})
    return _show_step(request, room, caller, patient, step, form)


@router.post("/patients/{patient_id}/leave")
def record_leaving(
    request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm
) -> Response:
    """Write how the patient left."""
    return _take_step(request, room, caller, patient_id, form, "leave", patients.Leaving, patients.record_leaving)


@router.post("/patients/{patient_id}/return")
def record_return(request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm) -> Response:
    """Write that the patient is here again."""
    return _take_step(request, room, caller, patient_id, form, "return", patients.Reason, patients.record_return)


@router.post("/patients/{patient_id}/transfer")
def transfer_patient(
    request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm
) -> Response:
    """Move the patient to another site of the room."""
    return _take_step(request, room, caller, patient_id, form, "transfer", patients.Transfer, patients.transfer_patient)


@router.post("/patients/{patient_id}/merge")
def merge_patient(request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm) -> Response:
    """Give the exams to the patient that this one is, named by the hospital's number."""
    with room.database.reading() as session:
        patient = patients.get_patient(session, caller, patient_id)
        find_other(session, caller, patient.site_id, form, "into")
    return _take_step(request, room, caller, patient_id, form, "merge", patients.Merging, patients.merge_patients)


@router.get("/patients/{patient_id}/unmerge")
def show_unmerge(request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber) -> Response:
    """The form by which an administrator undoes a merge."""
    caller.require(Role.ADMINISTRATOR)
    with room.database.transaction() as session:
        patient = patients.view_patient(session, caller, patient_id)
    return _show_step(request, room, caller, patient, "unmerge", TypedForm({}))


@router.post("/patients/{patient_id}/unmerge")
def unmerge_patient(
    request: Request, room: TheRoom, caller: TheCaller, patient_id: RowNumber, form: TheForm
) -> Response:  # fmt: skip
    """Undo a merge."""
    return _take_step(request, room, caller, patient_id, form, "unmerge", patients.Reason, patients.unmerge_patients)


def find_other(session: Session, caller: Caller, site_id: int, form: TypedForm, field: str) -> None:
    """Put the patient whose hospital's number was typed as `code` into `field` of a form; an error where there is none."""
    code = form.values.get("code", "")
    other = patients.find_by_code(session, caller, site_id, code)
    form.values = {name: value for name, value in form.values.items() if name != "code"}
    if other is not None:
        form.values |= {field: str(other.id)}
    elif code.strip():
        form.errors["code"] = _("No patient of this site has the number {code}.").format(code=code[:40])
    else:
        form.errors["code"] = _("Write the hospital's number of the other patient.")
    form.shown = {"code": code}


def _take_step(
    request: Request, room: Room, caller: Caller, patient_id: int, form: TypedForm, step: str, model: type[Any],
    service: Callable[[Session, Caller, int, Any], Patient],
) -> Response:  # fmt: skip
    done = {
        "leave": _("It is written how the patient left."),
        "return": _("The patient is here again."),
        "transfer": _("The patient was moved, with everything that belongs to it."),
        "merge": _("The exams of both stand here now."),
        "unmerge": _("The merge is undone: the patient has its exams again."),
    }[step]
    caller.require(*(CLINICAL if step != "unmerge" else (Role.ADMINISTRATOR,)))

    def work(session: Session, typed: BaseModel) -> Patient:
        return service(session, caller, patient_id, typed)

    def show(patient: Patient, status: int) -> Response:
        return _show_step(request, room, caller, patient, step, form, status)

    return _do(request, room, caller, patient_id, form, model, work, done, show)


def _do(
    request: Request, room: Room, caller: Caller, patient_id: int, form: TypedForm, model: type[Any],
    work: Callable[[Session, Any], Patient], done: str, show: Callable[[Patient, int], Response],
) -> Response:  # fmt: skip
    """Check what was typed, do it, and go on to the patient; or show the form again with what is wrong."""
    typed, status = (None if form.errors else form.check(model)), 422
    if typed is not None:
        try:
            with room.database.transaction() as session:
                patient = work(session, typed)
            seen = patient.site_id in caller.sites
            return pages.redirect(request, f"/patients/{patient.id}" if seen else "/", done)
        except ServerError as error:
            if error.status == NotFoundError.status:
                raise
            status = form.add_error(error)
    with room.database.reading() as session:
        patient = patients.get_patient(session, caller, patient_id)
    return show(patient, status)


def _show_step(
    request: Request, room: Room, caller: Caller, patient: Patient, step: str, form: TypedForm, status: int = 200
) -> Response:
    with room.database.reading() as session:
        sites: Sequence[tuple[int, str]] = ()
        others: Sequence[Patient] = ()
        if step == "transfer":
            active = select(Site).where(Site.active, Site.id != patient.site_id).order_by(Site.name)
            sites = [(site.id, site.name) for site in session.scalars(active)]
        if step == "merge":
            others = patients.find_alike(session, caller, patient)
    return pages.render(
        request, caller, "patient_step.html.j2", status, form=form, step=step, patient=patient, sites=sites, others=others,
        show_age=patients.show_gestational_age,
    )  # fmt: skip
