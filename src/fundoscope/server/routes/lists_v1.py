"""`/v1/sites`, `/v1/corrections`, `/v1/jobs`: what may only be read there."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.records import CorrectionRecord, JobRecord, SiteRecord
from fundoscope.server.routes.v1 import (
    PROBLEMS,
    Cursor,
    Limit,
    ListPage,
    RowFilter,
    RowNumber,
    make_page,
    read_cursor,
)
from fundoscope.server.services import jobs, patients

router = APIRouter(prefix="/v1", responses=PROBLEMS)


@router.get("/sites", tags=["sites"])
def list_sites(room: TheRoom, caller: TheCaller, limit: Limit = 50, cursor: Cursor = "") -> ListPage[SiteRecord]:
    """The sites that the caller belongs to, by their numbers, with their guideline and the views that an exam needs."""
    after = read_cursor(cursor) or 0
    with room.database.reading() as session:
        found = patients.find_sites(session, caller, after, limit + 1)
        return make_page([SiteRecord.model_validate(site) for site in found], limit, lambda site: site.id)


@router.get("/corrections", tags=["corrections"])
def list_corrections(
    room: TheRoom,
    caller: TheCaller,
    subject: Annotated[Literal["", "patient", "exam", "photograph"], Query(description="Of what; blank for all.")] = "",
    subject_id: RowFilter = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ListPage[CorrectionRecord]:
    """What was put right in the caller's sites, the newest first: an eye, a view, an infant, a date; and why."""
    with room.database.reading() as session:
        rows = patients.find_corrections(
            session, caller, subject, [] if subject_id is None else [subject_id], read_cursor(cursor), limit + 1
        )
        return make_page([CorrectionRecord.model_validate(row) for row in rows], limit, lambda row: row.id)


@router.get("/jobs", tags=["jobs"])
def list_jobs(
    room: TheRoom,
    caller: TheCaller,
    state: Literal["", "waiting", "running", "done", "failed"] = "",
    kind: Annotated[str, Query(max_length=50)] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ListPage[JobRecord]:
    """Pieces of work of the caller's sites, the newest first."""
    with room.database.reading() as session:
        rows = jobs.find_jobs(session, caller, state, kind, read_cursor(cursor), limit + 1)
        return make_page([JobRecord.model_validate(row) for row in rows], limit, lambda row: row.id)


@router.get("/jobs/{job_id}", tags=["jobs"])
def get_job(room: TheRoom, caller: TheCaller, job_id: RowNumber) -> JobRecord:
    """One piece of work: ask again until its state is `done` or `failed`."""
    with room.database.reading() as session:
        return JobRecord.model_validate(jobs.get_job(session, caller, job_id))
