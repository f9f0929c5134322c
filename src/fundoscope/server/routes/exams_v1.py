"""`/v1/exams`, and corrections of photographs, for programs."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.records import ExamRecord, record_exam
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
from fundoscope.server.services import exams
from fundoscope.server.services.patients import Reason

router = APIRouter(prefix="/v1", responses=PROBLEMS)


class PlacedPhotograph(BaseModel):
    """Where a photograph belongs, after it was put right."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    exam_id: int
    eye: str
    view: str
    placed: bool


@router.get("/exams", tags=["exams"])
def list_exams(
    room: TheRoom,
    caller: TheCaller,
    patient_id: RowFilter = None,
    state: Literal["", "open", "to_read", "read", "signed", "cancelled"] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ListPage[ExamRecord]:
    """Exams of the caller's sites, the newest first; not those that the caller is to read again without knowing whose they are."""
    after = read_cursor(cursor)
    with room.database.transaction() as session:
        found = exams.find_exams(session, caller, patient_id, state, after, limit + 1)
        return make_page(ExamRecord.of_many(session, found), limit, lambda exam: exam.id)


@router.post("/exams", tags=["exams"], status_code=201, response_model=ExamRecord)
def add_exam(new: exams.NewExam, once: Once) -> Response:
    """Add an exam to a patient; its postmenstrual age is worked out. One of that day that is not signed yet is in the way (409)."""
    return once.answer(lambda s, caller: record_exam(s, exams.add_exam(s, caller, new)), 201)


@router.get("/exams/{exam_id}", tags=["exams"])
def get_exam(room: TheRoom, caller: TheCaller, exam_id: RowNumber) -> ExamRecord:
    """One exam; 409 while the caller is to read it again without knowing whose it is."""
    with room.database.transaction() as session:
        return record_exam(session, exams.view_exam(session, caller, exam_id))


@router.patch("/exams/{exam_id}", tags=["exams"], response_model=ExamRecord)
def change_exam(exam_id: RowNumber, changes: exams.ExamChanges, once: Once) -> Response:
    """Change the fields that are sent; each leaves a correction. Another day needs `why`."""
    return once.answer(lambda s, caller: record_exam(s, exams.change_exam(s, caller, exam_id, changes)))


@router.post("/exams/{exam_id}/finish", tags=["exams"], response_model=ExamRecord)
def finish_exam(exam_id: RowNumber, once: Once) -> Response:
    """Hand an exam over to the readers: all photographs are there."""
    return once.answer(lambda s, caller: record_exam(s, exams.finish_exam(s, caller, exam_id)))


@router.post("/exams/{exam_id}/reopen", tags=["exams"], response_model=ExamRecord)
def reopen_exam(exam_id: RowNumber, reason: Reason, once: Once) -> Response:
    """Let photographs be added to a finished exam again, or bring a cancelled one back."""
    return once.answer(lambda s, caller: record_exam(s, exams.reopen_exam(s, caller, exam_id, reason.why)))


@router.post("/exams/{exam_id}/cancel", tags=["exams"], response_model=ExamRecord)
def cancel_exam(exam_id: RowNumber, reason: Reason, once: Once) -> Response:
    """Take an exam out that was opened by mistake; its photographs stay with it."""
    return once.answer(lambda s, caller: record_exam(s, exams.cancel_exam(s, caller, exam_id, reason.why)))


@router.post("/exams/{exam_id}/move", tags=["exams"], response_model=ExamRecord)
def move_exam(exam_id: RowNumber, move: exams.NewPatientOfExam, once: Once) -> Response:
    """Give an exam that was written to the wrong patient to another one of the same site."""
    return once.answer(lambda s, caller: record_exam(s, exams.move_exam(s, caller, exam_id, move)))


@router.post("/photographs/{photograph_id}/correct", tags=["photographs"], response_model=PlacedPhotograph)
def correct_photograph(photograph_id: RowNumber, correction: exams.PhotographCorrection, once: Once) -> Response:
    """Put right the eye, the view or the exam of a photograph."""
    return once.answer(
        lambda s, caller: PlacedPhotograph.model_validate(
            exams.correct_photograph(s, caller, photograph_id, correction)
        )
    )
