"""Reports on commitment that one process of the room hears and another one waits for: they meet in the database."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import select

from fundoscope.server.database import Database
from fundoscope.server.dicom.commitment import CommitmentReport
from fundoscope.server.dicom.outbox import take_back
from fundoscope.server.models import CommitmentRequest, now

_LOOK_SECONDS = 0.25


class RoomReports:
    """See `fundoscope.server.dicom.commitment.CommitmentReports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expect(self, transaction: str, instances: Mapping[str, str], peer: str) -> None:
        """A question is about to be asked: it is written down first."""
        with self._database.transaction() as session:
            session.add(CommitmentRequest(transaction=transaction, instances=dict(instances), peer=peer[:300]))

    def take(self, report: CommitmentReport) -> bool:
        """A report has come; False where nobody asked for it. One that comes twice changes nothing."""
        query = select(CommitmentRequest).where(CommitmentRequest.transaction == report.transaction)
        with self._database.transaction() as session:
            asked = session.scalar(query.with_for_update())
            if asked is None:
                return False
            if asked.answered_at is None:
                asked.committed = sorted(report.committed & asked.instances.keys())
                asked.failed = {uid: reason for uid, reason in report.failed.items() if uid in asked.instances}
                asked.answered_at = now()
                lost = asked.instances.keys() - report.committed
                if lost:
                    take_back(session, asked.peer, lost)
        return True

    def wait(self, transaction: str, seconds: float) -> CommitmentReport | None:
        """The report, which is looked for until it is there, or the time is over."""
        query = select(CommitmentRequest).where(CommitmentRequest.transaction == transaction)
        end = time.monotonic() + seconds
        while True:
            with self._database.reading() as session:
                asked = session.scalar(query)
            if asked is not None and asked.answered_at is not None:
                return CommitmentReport(transaction, frozenset(asked.committed), asked.failed)
            if time.monotonic() >= end:
                return None
            time.sleep(_LOOK_SECONDS)
