"""`/v1/readings`: readings of exams, saved, signed, corrected, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Literal, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from fundoscope.server.models import Reading
from fundoscope.server.routes.access import TheCaller, TheRoom
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
from fundoscope.server.services import readings
from fundoscope.server.services.eye_findings import AddedCrossing, CrossingGrade, EyeFindings, ReadingContent
from fundoscope.server.services.inputs import Line
from fundoscope.server.services.reader_page import ReadingPreview, preview_reading

router = APIRouter(prefix="/v1", tags=["readings"], responses=PROBLEMS)


class NewReading(ReadingContent):
    """A reading to be saved; the caller's draft of that kind is changed where there is one.

    `correction` and `addendum` supersede the signed reading and say `why`; `second`, `repeat` and `adjudication` need a task. Say
    `second` for every masked one: which of them are hidden repeats is not told.
    """

    kind: Literal["first", "second", "repeat", "adjudication", "correction", "addendum"] = "first"
    why: Line = ""


class Signature(BaseModel):
    """The password of the account, asked again: a token alone cannot sign."""

    model_config = ConfigDict(extra="forbid")

    password: str = Field(min_length=1, max_length=1000)


class CrossingGradeRecord(CrossingGrade):
    """A grade of nicking with the place of its crossing, in pixels of the photograph."""

    row: float
    col: float


class ReadingRecord(BaseModel):
    """One reading. `intact` tells whether a signed one still is what its `digest` was made of; null while it is not signed.

    `due` is what the guideline said when it was signed, with its rule; `basis` are the photographs and gradings that were there.
    `kind` of a hidden repeat is `second` until it is signed.
    """

    id: int
    exam_id: int
    reader_id: int
    kind: str
    masked: bool
    supersedes: int | None
    superseded_by: int | None
    why: str
    eyes: list[EyeFindings]
    crossings: list[CrossingGradeRecord]
    added: list[AddedCrossing]
    note: str
    created_at: datetime
    signed_at: datetime | None
    due: dict[str, Any] | None
    due_by: date | None
    basis: dict[str, Any] | None
    digest: str
    intact: bool | None

    @classmethod
    def of_many(cls, session: Session, rows: Sequence[Reading]) -> list[Self]:
        """Records of readings whose eyes and crossings are loaded; one query more for all."""
        superseding = readings.find_superseding(session, rows)
        plain = (
            "id", "exam_id", "reader_id", "masked", "supersedes", "why", "note", "created_at", "signed_at", "due",
            "due_by", "basis", "digest",
        )  # fmt: skip
        return [
            cls(
                **{name: getattr(row, name) for name in plain}, superseded_by=superseding.get(row.id),
                kind="second" if row.kind == "repeat" and row.signed_at is None else row.kind,
                eyes=list(readings.content_of(row).eyes),
                crossings=[
                    CrossingGradeRecord(photograph_id=one.photograph_id, crossing=one.crossing, grade=one.grade, row=one.row, col=one.col)
                    for one in row.crossings
                    if not one.added
                ],
                added=list(readings.content_of(row).added),
                intact=readings.digest_of(row) == row.digest if row.signed_at else None,
            )
            for row in rows
        ]  # fmt: skip

    @classmethod
    def of(cls, session: Session, row: Reading) -> Self:
        """The record of one reading."""
        return cls.of_many(session, [row])[0]


@router.get("/readings")
def list_readings(
    room: TheRoom, caller: TheCaller, exam_id: RowFilter = None, limit: Limit = 50, cursor: Cursor = ""
) -> ListPage[ReadingRecord]:
    """Signed readings, and the caller's own that are only saved; the newest first."""
    after = read_cursor(cursor)
    with room.database.transaction() as session:
        found = readings.find_readings(session, caller, exam_id, after, limit + 1)
        return make_page(ReadingRecord.of_many(session, found), limit, lambda reading: reading.id)


@router.get("/exams/{exam_id}/readings")
def list_readings_of_exam(
    room: TheRoom, caller: TheCaller, exam_id: RowNumber, limit: Limit = 50, cursor: Cursor = ""
) -> ListPage[ReadingRecord]:
    """The same, of one exam."""
    return list_readings(room, caller, exam_id, limit, cursor)


@router.post("/exams/{exam_id}/readings", status_code=201, response_model=ReadingRecord)
def save_reading(exam_id: RowNumber, new: NewReading, once: Once) -> Response:
    """Save a reading; it can be changed by another call until it is signed."""
    content = ReadingContent(eyes=new.eyes, crossings=new.crossings, added=new.added, note=new.note)
    return once.answer(
        lambda s, caller: ReadingRecord.of(
            s, readings.save_reading(s, caller, exam_id, content, kind=new.kind, why=new.why)
        ),
        201,
    )


@router.post("/exams/{exam_id}/readings/preview")
def preview(room: TheRoom, caller: TheCaller, exam_id: RowNumber, content: ReadingContent) -> ReadingPreview:
    """What would follow from these findings: types, what is due by which rule, what is missing. Nothing is kept."""
    with room.database.reading() as session:
        return preview_reading(session, caller, exam_id, content)


@router.get("/readings/{reading_id}")
def get_reading(room: TheRoom, caller: TheCaller, reading_id: RowNumber) -> ReadingRecord:
    """One reading."""
    with room.database.transaction() as session:
        return ReadingRecord.of(session, readings.view_reading(session, caller, reading_id))


@router.post("/readings/{reading_id}/sign")
def sign_reading(room: TheRoom, caller: TheCaller, reading_id: RowNumber, signature: Signature) -> ReadingRecord:
    """Sign the caller's own reading with the password: from now on nothing of it changes. Signed again it is refused (409)."""
    signed = readings.sign_reading(room.database, caller, reading_id, signature.password)
    with room.database.reading() as session:
        return ReadingRecord.of(session, readings.get_reading(session, caller, signed.id))
