"""The process that receives photographs for a room and asks the hospital's worklist. `fundoscope serve` starts it beside the server.

    python -m fundoscope.server.dicom.station --data DIR [--database URL]

It answers for a photograph when its file is on the disk, and takes it into the room, with the job that judges it, in the next moment or
at its next start. Killed before its answer, the photograph is sent again, and is known by its SOP Instance UID.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

from fundoscope.errors import FundoscopeError
from fundoscope.server.database import Database
from fundoscope.server.dicom.commitment_rows import RoomReports
from fundoscope.server.dicom.intake import find_intake
from fundoscope.server.dicom.keeper import RoomKeeper
from fundoscope.server.dicom.receiver import Receiver
from fundoscope.server.dicom.settings import WorklistSettings
from fundoscope.server.dicom.worklist_query import ask_worklist, take_orders
from fundoscope.server.logs import write_logs
from fundoscope.server.piped import ServerPipe, read_piped_settings
from fundoscope.server.private_files import private_files
from fundoscope.server.room import Room
from fundoscope.server.settings import ServerSettings, read_settings

_log = logging.getLogger(__name__)


class WorklistClock:
    """The thread that asks the worklist again and again; `tell` hears of each exam that was added or changed."""

    def __init__(self, room: Room, settings: WorklistSettings, tell: Callable[[int], None]) -> None:
        self._room = room
        self._settings = settings
        self._tell = tell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worklist", daemon=True)

    def __enter__(self) -> WorklistClock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(self._settings.peer.seconds)

    def _run(self) -> None:
        while True:
            try:
                self._ask()
            except FundoscopeError as error:
                _log.warning("the worklist could not be asked: %s", error)
            except Exception:  # noqa: BLE001 - the database is away or busy; it is asked again
                _log.exception("the worklist could not be taken in")
            if self._stopped.wait(self._settings.every):
                return

    def _ask(self) -> None:
        settings = self._settings
        intake = find_intake(self._room, settings.site, settings.patients, settings.issuer, who=f"worklist of {settings.peer.title}")  # fmt: skip
        if intake is None:
            _log.error("the worklist belongs to no site: name it in the settings")
            return
        orders = ask_worklist(settings.peer, date.today(), settings.modality, settings.station)
        for one in take_orders(self._room, intake, orders):
            if one.outcome == "refused":
                _log.warning("an order of the worklist was not taken: accession %s", one.order.header.accession)
            elif one.outcome in ("added", "changed") and one.exam_id is not None:
                self._tell(one.exam_id)


def run_station(settings: ServerSettings, piped: bool = False) -> None:
    """Receive and ask until SIGTERM or SIGINT, or the end of standard input where `piped`; exams go to standard output then."""
    room = Room(settings, Database(settings.database_url))
    pipe = ServerPipe(piped)
    pipe.listen()
    with private_files(), ExitStack() as stack:
        stack.callback(room.database.dispose)
        if settings.receiver is not None:
            reports = RoomReports(room.database)
            keeper = stack.enter_context(RoomKeeper(room, pipe.tell))
            receiver = stack.enter_context(Receiver(settings.receiver, keeper, settings.data, reports, keeper.note))
            _log.info("%s receives at %s:%s", settings.receiver.title, settings.receiver.host, receiver.port)
        if settings.worklist is not None:
            stack.enter_context(WorklistClock(room, settings.worklist, pipe.tell))
        pipe.ended.wait()


def main() -> None:
    """The command line of a station."""
    write_logs()
    piped = read_piped_settings()
    if piped is not None:
        run_station(piped, piped=True)
        return
    parser = argparse.ArgumentParser(
        prog="python -m fundoscope.server.dicom.station", description="Receive photographs for a reading room."
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder of the reading room, with its settings.toml"
    )
    parser.add_argument("--database", default="", help="its database, where that is not in the folder")
    given = parser.parse_args()
    values: dict[str, Any] = {"database": given.database} if given.database else {}
    try:
        run_station(read_settings(given.data, values))
    except FundoscopeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
