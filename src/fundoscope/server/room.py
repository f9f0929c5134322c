"""What every request of a reading room shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from fundoscope.server.database import Database
from fundoscope.server.events import ExamEvents
from fundoscope.server.settings import ServerSettings


@dataclass(frozen=True)
class Room:
    """One reading room: its settings, its database, and who is told of changes at once."""

    settings: ServerSettings
    database: Database
    events: ExamEvents = field(default_factory=ExamEvents)
