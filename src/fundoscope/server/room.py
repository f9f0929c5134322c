"""What every request of a reading room shares."""

from __future__ import annotations

from dataclasses import dataclass

from fundoscope.server.database import Database
from fundoscope.server.settings import ServerSettings


@dataclass(frozen=True)
class Room:
    """One reading room: its settings and its database."""

    settings: ServerSettings
    database: Database
