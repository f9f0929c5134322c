"""`/v1/patients`: infants and adults, for programs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.records import PatientRecord, record_patient
from fundoscope.server.routes.v1 import (
    PROBLEMS,
    Cursor,
    Limit,
    ListPage,
    Once,
    RowFilter,
    RowNumber,
    make_page,
    read_cursor,
)
from fundoscope.server.services import patients

router = APIRouter(prefix="/v1/patients", tags=["patients"], responses=PROBLEMS)


@router.get("")
def list_patients(
    room: TheRoom,
    caller: TheCaller,
    search: Annotated[str, Query(max_length=200, description="Part of a number or a name.")] = "",
    site_id: RowFilter = None,
    birth_group: Annotated[str, Query(max_length=100)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ListPage[PatientRecord]:
    """Patients of the caller's sites, the newest first; those that were merged into another one are left out."""
    after = read_cursor(cursor)
    with room.database.transaction() as session:
        found = patients.find_patients(session, caller, search, site_id, birth_group, after, limit + 1)
        return make_page(PatientRecord.of_many(session, caller, found), limit, lambda patient: patient.id)


@router.post("", status_code=201, response_model=PatientRecord)
def add_patient(new: patients.NewPatient, once: Once) -> Response:
    """Add an infant or an adult to a site of the caller."""
    return once.answer(lambda s, caller: record_patient(s, caller, patients.add_patient(s, caller, new)), 201)


@router.get("/{patient_id}")
def get_patient(room: TheRoom, caller: TheCaller, patient_id: RowNumber) -> PatientRecord:
    """One patient, with what is due next and by which rule."""
    with room.database.transaction() as session:
        return record_patient(session, caller, patients.view_patient(session, caller, patient_id))


@router.patch("/{patient_id}", response_model=PatientRecord)
def change_patient(patient_id: RowNumber, changes: patients.PatientChanges, once: Once) -> Response:
    """Change the fields that are sent; each leaves a correction. Send `version`, so that nobody's work is overwritten."""
    return once.answer(
        lambda s, caller: record_patient(s, caller, patients.change_patient(s, caller, patient_id, changes))
    )


@router.post("/{patient_id}/leave", response_model=PatientRecord)
def record_leaving(patient_id: RowNumber, leaving: patients.Leaving, once: Once) -> Response:
    """Write that a patient died, was transferred to a place outside this room, has finished screening, or is lost."""
    return once.answer(
        lambda s, caller: record_patient(s, caller, patients.record_leaving(s, caller, patient_id, leaving))
    )


@router.post("/{patient_id}/return", response_model=PatientRecord)
def record_return(patient_id: RowNumber, reason: patients.Reason, once: Once) -> Response:
    """Write that a patient that had left is here again."""
    return once.answer(
        lambda s, caller: record_patient(s, caller, patients.record_return(s, caller, patient_id, reason))
    )


@router.post("/{patient_id}/transfer", response_model=PatientRecord)
def transfer_patient(patient_id: RowNumber, transfer: patients.Transfer, once: Once) -> Response:
    """Move a patient to another site of this room, with its exams, photographs, readings and reports."""
    return once.answer(
        lambda s, caller: record_patient(s, caller, patients.transfer_patient(s, caller, patient_id, transfer))
    )


@router.post("/{patient_id}/merge", response_model=PatientRecord)
def merge_patient(patient_id: RowNumber, merging: patients.Merging, once: Once) -> Response:
    """Give the exams of a patient that was entered twice to the other one, which is answered."""
    return once.answer(
        lambda s, caller: record_patient(s, caller, patients.merge_patients(s, caller, patient_id, merging))
    )


@router.post("/{patient_id}/unmerge", response_model=PatientRecord)
def unmerge_patient(patient_id: RowNumber, reason: patients.Reason, once: Once) -> Response:
    """Undo a merge: the patient has the exams again that it brought. For administrators."""
    return once.answer(
        lambda s, caller: record_patient(s, caller, patients.unmerge_patients(s, caller, patient_id, reason))
    )
