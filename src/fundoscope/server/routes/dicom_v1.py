"""`/v1/dicom/...`: destinations of answers, sources of photographs, and answers on their way, for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from fundoscope.server.dicom import outbox, places
from fundoscope.server.models import DicomDestination, DicomSource
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

router = APIRouter(prefix="/v1/dicom", tags=["PACS"], responses=PROBLEMS)


class _ServerRecord(BaseModel):
    """What destinations and sources have in common; the password is never told."""

    id: int
    name: str
    site_id: int
    active: bool
    url: str
    user: str
    has_password: bool
    authority_file: str
    certificate_file: str
    key_file: str

    @classmethod
    def of(cls, row: DicomDestination | DicomSource) -> Self:
        """The record of a row."""
        values = {name: getattr(row, name) for name in cls.model_fields if name != "has_password"}
        return cls(**values, has_password=bool(row.password))


class DestinationRecord(_ServerRecord):
    """A system to which answers are sent."""

    content: str
    moment: str
    protocol: str
    host: str
    port: int | None
    called_title: str
    calling_title: str
    tls: bool
    commitment: bool


class SourceRecord(_ServerRecord):
    """Where photographs come from; `trouble` says why the last look broke off, blank where it did not."""

    kind: str
    patients: str
    adds_patients: bool
    issuer: str
    modalities: list[str]
    days: int
    folder: str
    pattern: str
    interval: int
    looked_at: datetime | None
    trouble: str


class SendingRecord(BaseModel):
    """An answer on its way, or that has arrived."""

    id: int
    exam_id: int
    destination_id: int
    what: str = Field(description="tool: the program's answer, unsigned; signed: the reader's")
    state: str = Field(
        description="waiting, held (the destination is switched off), failed, sent, nothing (nothing new)"
    )
    taken: list[str] = Field(description="Kinds of the objects that were taken: SR, KO, PDF, overlay.")
    attempts: int
    error: str
    created_at: datetime
    next_attempt: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, one: outbox.Sending) -> SendingRecord:
        """The record of an answer."""
        job = one.job
        return cls(
            id=job.id, exam_id=one.exam_id, destination_id=one.destination.id, what=one.what, state=one.state,
            taken=list(one.taken), attempts=job.attempts, error=job.error, created_at=job.created_at,
            next_attempt=job.run_after if one.state == "waiting" else None, finished_at=job.finished_at,
        )  # fmt: skip


class TrialRecord(BaseModel):
    """Whether another system answers; `trouble` says why not, and what to do."""

    answers: bool
    trouble: str

    @classmethod
    def of(cls, trouble: str) -> TrialRecord:
        """The record of what `places.try_place` says."""
        return cls(answers=not trouble, trouble=trouble)


@router.get("/destinations")
def list_destinations(
    room: TheRoom, caller: TheCaller, limit: Limit = 50, cursor: Cursor = ""
) -> ListPage[DestinationRecord]:
    """All destinations by their numbers."""
    after = read_cursor(cursor) or 0
    with room.database.reading() as session:
        rows = places.list_places(session, caller, DicomDestination)
        items = [DestinationRecord.of(row) for row in rows if row.id > after][: limit + 1]
    return make_page(items, limit, lambda item: item.id)


@router.post("/destinations", status_code=201, response_model=DestinationRecord)
def add_destination(values: places.DestinationValues, once: Once) -> Response:
    """Add a destination; from now on answers to exams of its site are sent there."""
    return once.answer(
        lambda s, caller: DestinationRecord.of(
            places.add_place(s, caller, once.room.settings, DicomDestination, values)
        ),
        201,
    )


@router.get("/destinations/{destination_id}")
def get_destination(destination_id: RowNumber, room: TheRoom, caller: TheCaller) -> DestinationRecord:
    """One destination."""
    with room.database.reading() as session:
        return DestinationRecord.of(places.find_place(session, caller, DicomDestination, destination_id))


@router.put("/destinations/{destination_id}")
def change_destination(
    destination_id: RowNumber, room: TheRoom, caller: TheCaller, values: places.DestinationValues
) -> DestinationRecord:
    """Change a destination; a password that is left blank stays."""
    with room.database.transaction() as session:
        return DestinationRecord.of(
            places.change_place(session, caller, room.settings, DicomDestination, destination_id, values)
        )


@router.post("/destinations/{destination_id}/test")
def try_destination(destination_id: RowNumber, room: TheRoom, caller: TheCaller) -> TrialRecord:
    """Ask a destination whether it hears us."""
    return TrialRecord.of(places.try_place(room, caller, DicomDestination, destination_id))


@router.get("/sources")
def list_sources(room: TheRoom, caller: TheCaller, limit: Limit = 50, cursor: Cursor = "") -> ListPage[SourceRecord]:
    """All sources by their numbers."""
    after = read_cursor(cursor) or 0
    with room.database.reading() as session:
        rows = places.list_places(session, caller, DicomSource)
        items = [SourceRecord.of(row) for row in rows if row.id > after][: limit + 1]
    return make_page(items, limit, lambda item: item.id)


@router.post("/sources", status_code=201, response_model=SourceRecord)
def add_source(values: places.SourceValues, once: Once) -> Response:
    """Add a source; from now on it is looked at."""
    return once.answer(
        lambda s, caller: SourceRecord.of(places.add_place(s, caller, once.room.settings, DicomSource, values)), 201
    )


@router.get("/sources/{source_id}")
def get_source(source_id: RowNumber, room: TheRoom, caller: TheCaller) -> SourceRecord:
    """One source, and when it was looked at."""
    with room.database.reading() as session:
        return SourceRecord.of(places.find_place(session, caller, DicomSource, source_id))


@router.put("/sources/{source_id}")
def change_source(source_id: RowNumber, room: TheRoom, caller: TheCaller, values: places.SourceValues) -> SourceRecord:
    """Change a source; a password that is left blank stays."""
    with room.database.transaction() as session:
        return SourceRecord.of(places.change_place(session, caller, room.settings, DicomSource, source_id, values))


@router.post("/sources/{source_id}/test")
def try_source(source_id: RowNumber, room: TheRoom, caller: TheCaller) -> TrialRecord:
    """Ask a source whether it can be searched."""
    return TrialRecord.of(places.try_place(room, caller, DicomSource, source_id))


@router.get("/sendings")
def list_sendings(
    room: TheRoom,
    caller: TheCaller,
    state: Annotated[Literal["", "waiting", "failed", "done"], Query()] = "",
    exam_id: RowFilter = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ListPage[SendingRecord]:
    """Answers on their way, and those that have arrived, the newest first."""
    with room.database.reading() as session:
        found = outbox.find_sendings(session, caller, state, exam_id, read_cursor(cursor), limit + 1)
        return make_page([SendingRecord.of(one) for one in found], limit, lambda item: item.id)


@router.get("/sendings/{job_id}")
def get_sending(job_id: RowNumber, room: TheRoom, caller: TheCaller) -> SendingRecord:
    """One answer on its way."""
    with room.database.reading() as session:
        return SendingRecord.of(outbox.get_sending(session, caller, job_id))


@router.post("/sendings/{job_id}/again", response_model=SendingRecord)
def send_again(job_id: RowNumber, once: Once) -> Response:
    """Send an answer now, as if it had never been tried; one that was taken is sent once more."""
    return once.answer(lambda s, caller: SendingRecord.of(outbox.send_again(s, caller, job_id)))
