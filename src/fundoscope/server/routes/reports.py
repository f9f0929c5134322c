"""Reports of signed readings: the page, the PDF, and `/v1/reports`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from fundoscope.reports.pictures import safe_stem
from fundoscope.server import pages
from fundoscope.server.models import Exam, Patient, Reading, SignedReport
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import (
    LARGEST,
    PROBLEMS,
    Cursor,
    Limit,
    ListPage,
    RowFilter,
    RowNumber,
    make_page,
    read_cursor,
)
from fundoscope.server.services import exam_state, readings, signed_reports

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/v1", tags=["reports"], responses=PROBLEMS)

Language = Literal["", "en", "zh"]
ReadingQuery = Annotated[int | None, Query(alias="reading", ge=1, le=LARGEST)]


@router.get("/exams/{exam_id}/report")
def show_report(
    request: Request, room: TheRoom, caller: TheCaller, exam_id: RowNumber, reading_id: ReadingQuery = None, language: Language = ""
) -> Response:  # fmt: skip
    """The report of the reading that counts, or of `reading`; in the language of the account unless another is asked for."""
    report = _find_or_make(room, caller, exam_id, reading_id, language)
    with room.database.reading() as session:
        reading, exam = session.get_one(Reading, report.reading_id), session.get_one(Exam, exam_id)
        seen = readings.list_readings(session, caller, exam)
        versions = [one for one in seen if one.signed_at is not None and one.kind in exam_state.DECIDING_KINDS]
        superseding = readings.find_superseding(session, versions)
        patient = session.get_one(Patient, exam.patient_id)
    return pages.render(
        request, caller, "report.html.j2", report=report, reading=reading, exam=exam, patient=patient, versions=versions,
        superseding=superseding, superseded=reading.id in superseding, shown_language=report.language, kinds=signed_reports.kind_names(),
    )  # fmt: skip


@router.get("/exams/{exam_id}/report.pdf")
def send_report(
    room: TheRoom, caller: TheCaller, exam_id: RowNumber, reading_id: ReadingQuery = None, language: Language = ""
) -> Response:
    """The same as PDF."""
    report = _find_or_make(room, caller, exam_id, reading_id, language)
    with room.database.reading() as session:
        exam = session.get_one(Exam, exam_id)
        stem = f"{safe_stem(session.get_one(Patient, exam.patient_id).code)}_{exam.day.isoformat()}"
    return _send_pdf(signed_reports.read_pdf(room.settings, report), stem, report)


def _find_or_make(room: Room, caller: Caller, exam_id: int, reading_id: int | None, language: str) -> SignedReport:
    """The report as it stands today; it is made now where the worker has not come to it."""
    language = language or caller.language
    with room.database.transaction() as session:
        reading = signed_reports.choose_reading(session, caller, exam_id, reading_id)
        report = signed_reports.find_report(session, caller, reading, language)
    if report is not None:
        return report
    made = signed_reports.make_report(room, reading.id, language)
    with room.database.transaction() as session:
        return signed_reports.write_report(session, caller, room.settings, made)


def _send_pdf(pdf: bytes, stem: str, report: SignedReport) -> Response:
    mark = "_superseded" if report.superseded_by else ""
    name = f"{stem}_{report.reading_id}_{report.language}{mark}.pdf"
    return Response(
        pdf, media_type="application/pdf", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


# --- /v1


class ReportRecord(BaseModel):
    """The report of a signed reading as it was given out. `digest` is SHA-256 of its PDF; `superseded_by` the reading that superseded its own."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    reading_id: int
    language: str
    superseded_by: int | None
    digest: str
    created_at: datetime

    @classmethod
    def of(cls, report: SignedReport) -> Self:
        """The record of a report."""
        return cls.model_validate(report)


class WantedReport(BaseModel):
    """A report to be made; blank: in the language of the account."""

    model_config = ConfigDict(extra="forbid")

    language: Language = ""


@api.get("/reports")
def list_reports(
    room: TheRoom, caller: TheCaller, exam_id: RowFilter = None, limit: Limit = 50, cursor: Cursor = ""
) -> ListPage[ReportRecord]:
    """Reports of the caller's sites, the newest first."""
    after = read_cursor(cursor)
    with room.database.transaction() as session:
        found = signed_reports.find_reports(session, caller, exam_id, after, limit + 1)
        return make_page([ReportRecord.of(one) for one in found], limit, lambda report: report.id)


@api.post("/readings/{reading_id}/reports", status_code=201)
def make_report(room: TheRoom, caller: TheCaller, reading_id: RowNumber, wanted: WantedReport) -> ReportRecord:
    """The report of a signed reading as it stands today; made where it is not there yet."""
    with room.database.reading() as session:
        exam_id = readings.get_reading(session, caller, reading_id).exam_id
    return ReportRecord.of(_find_or_make(room, caller, exam_id, reading_id, wanted.language))


@api.get("/reports/{report_id}")
def get_report(room: TheRoom, caller: TheCaller, report_id: RowNumber) -> ReportRecord:
    """One report."""
    with room.database.transaction() as session:
        return ReportRecord.of(signed_reports.get_report(session, caller, report_id))


@api.get("/reports/{report_id}/pdf", response_class=Response, responses={200: {"content": {"application/pdf": {}}}})
def get_pdf(room: TheRoom, caller: TheCaller, report_id: RowNumber) -> Response:
    """Its PDF."""
    with room.database.transaction() as session:
        report = signed_reports.get_report(session, caller, report_id)
    return _send_pdf(signed_reports.read_pdf(room.settings, report), "report", report)
