"""The process that receives photographs for a room and asks the hospital's worklist. `fundoscope serve` starts it beside the server.

    python -m fundoscope.server.dicom.station --data DIR [--database URL]

It answers for a photograph when its file is on the disk and its rows, with the job that judges it, are committed. Killed in between,
it has not answered: the photograph is sent again, and is known by its SOP Instance UID.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from fundoscope.errors import FundoscopeError
from fundoscope.server.database import Database
from fundoscope.server.dicom.commitment_rows import RoomReports
from fundoscope.server.dicom.intake import ArrivedFile, Intake, take_photographs
from fundoscope.server.dicom.receiver import NOT_UNDERSTOOD, OUT_OF_RESOURCES, ReceivedObject, Receiver, RefusedObject
from fundoscope.server.dicom.settings import WorklistSettings
from fundoscope.server.dicom.worklist_query import ask_worklist, take_orders
from fundoscope.server.logs import write_logs
from fundoscope.server.models import Site
from fundoscope.server.private_files import private_files
from fundoscope.server.room import Room
from fundoscope.server.services import audit, uploads
from fundoscope.server.services.uploads import SentFile
from fundoscope.server.settings import ServerSettings, read_settings
from fundoscope.server.worker import PIPED

_SITE_SECONDS = 10.0  # until the site of the settings is looked for anew
_MOST_REFUSED = 10_000  # that are remembered, so that one that is sent again and again has one line in the log

_log = logging.getLogger(__name__)


class RoomKeeper:
    """Takes received photographs into the room; `tell` hears the exam of each that is new."""

    def __init__(self, room: Room, tell: Callable[[int], None] = lambda _: None) -> None:
        assert room.settings.receiver is not None
        self._room = room
        self._settings = room.settings.receiver
        self._tell = tell
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._intake: Intake | None = None
        self._find_again = 0.0

    def __call__(self, received: ReceivedObject) -> None:
        """Keep the photograph and write it down; raises `RefusedObject` with the reason where it cannot be taken."""
        settings = self._settings
        if time.monotonic() >= self._find_again:
            self._intake = find_intake(
                self._room, settings.site, settings.patients, settings.issuer, settings.adds_patients
            )
            self._find_again = time.monotonic() + _SITE_SECONDS
        if self._intake is None:
            self._find_again = 0.0
            raise RefusedObject(OUT_OF_RESOURCES, "the receiver belongs to no site yet: see its settings")
        intake = replace(self._intake, who=f"{received.caller} by C-STORE", address=received.address)
        with uploads.incoming_folder(self._room.settings) as folder:
            file = folder / "received.dcm"
            file.write_bytes(received.data)
            uid = received.header.sop_instance
            sent = SentFile(f"{uid}.dcm", file, len(received.data), received.digest, received.header)
            try:
                (found,) = take_photographs(self._room, intake, [ArrivedFile(sent)], folder)
            except OperationalError as error:  # somebody writes for long, or the database is away
                _log.exception("a photograph could not be written down")
                raise RefusedObject(OUT_OF_RESOURCES, "the database cannot be written now") from error
        if found.outcome == "refused":
            self._write_refusal(intake, uid)
            raise RefusedObject(NOT_UNDERSTOOD, found.reason)
        if found.outcome == "taken" and found.exam_id is not None:
            self._tell(found.exam_id)

    def _write_refusal(self, intake: Intake, uid: str) -> None:
        """A line of the log for each photograph that is refused, once."""
        if uid in self._refused:
            return
        self._refused[uid] = None
        if len(self._refused) > _MOST_REFUSED:
            self._refused.popitem(last=False)
        with self._room.database.transaction() as session:
            audit.record(session, intake.caller, "photograph.refuse", site_id=intake.site_id, sop_instance=uid)


def find_intake(
    room: Room, site: str, patients: Literal["infant", "adult"], issuer: str, adds_patients: bool = True, **more: str
) -> Intake | None:
    """Whose photographs and orders are: of the site of that name, or of the only one; None where there is no such site."""
    with room.database.reading() as session:
        query = select(Site.id).where(Site.active.is_(True))
        found = session.scalars(query.where(Site.name == site) if site else query.limit(2)).all()
    return Intake(found[0], patients, issuer, adds_patients, **more) if len(found) == 1 else None


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
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    ended = threading.Event()

    def tell(exam: int) -> None:
        if piped:
            with suppress(OSError, ValueError):  # whoever listened is gone
                answers.write(f"{exam}\n")

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    def listen() -> None:
        while os.read(0, 4096):
            pass
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN if piped else end)
    if piped:
        threading.Thread(target=listen, name="pipe", daemon=True).start()
    with private_files(), ExitStack() as stack:
        stack.callback(room.database.dispose)
        if settings.receiver is not None:
            reports = RoomReports(room.database)
            receiver = stack.enter_context(Receiver(settings.receiver, RoomKeeper(room, tell), settings.data, reports))
            _log.info("%s receives at %s:%s", settings.receiver.title, settings.receiver.host, receiver.port)
        if settings.worklist is not None:
            stack.enter_context(WorklistClock(room, settings.worklist, tell))
        ended.wait()


def main() -> None:
    """The command line of a station."""
    write_logs()
    if sys.argv[1:] == [PIPED]:
        first = b""
        while not first.endswith(b"\n"):
            part = os.read(0, 1)  # by single bytes, as the worker does: what follows is for waking
            if not part:
                return
            first += part
        run_station(ServerSettings.model_validate(json.loads(first)), piped=True)
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
