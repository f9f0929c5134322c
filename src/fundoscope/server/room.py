"""What every request of a reading room shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from anyio import CapacityLimiter

from fundoscope.server.database import Database
from fundoscope.server.events import ExamEvents
from fundoscope.server.grouping import GroupWriter
from fundoscope.server.settings import ServerSettings

#: Threads that store uploads; others wait, so that pages keep threads and processor of their own.
_UPLOADS_AT_ONCE = 4


@dataclass(frozen=True)
class Room:
    """One reading room: its settings, its database, who is told of changes at once, and who writes uploads down.

    `away` says until when a destination of answers, by its number, is taken to be away: it did not answer.
    """

    settings: ServerSettings
    database: Database
    events: ExamEvents = field(default_factory=ExamEvents)
    uploads: GroupWriter = field(init=False)
    away: dict[int, datetime] = field(default_factory=dict)
    upload_places: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_UPLOADS_AT_ONCE))

    def __post_init__(self) -> None:
        object.__setattr__(self, "uploads", GroupWriter(self.database))
