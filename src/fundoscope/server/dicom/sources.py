"""Looking for photographs again and again: in a PACS by DICOMweb, in folders into which cameras write.

Each source has a turn every so many seconds. Who takes the turn moves it on in the database first, so that of several workers one
looks. What a source holds is remembered by `SourceItem`; what could not be fetched, or came when the queue was full, is not, and is
looked at again.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from fundoscope.errors import FundoscopeError
from fundoscope.server.database import Database
from fundoscope.server.dicom.arrived import find_seen, intake_of, remember
from fundoscope.server.dicom.folder import look_into_folder
from fundoscope.server.dicom.intake import ArrivalOutcome, ArrivedFile, take_photographs
from fundoscope.server.dicom.places import server_of
from fundoscope.server.models import DicomSource, SourceItem, now
from fundoscope.server.room import Room
from fundoscope.server.services import uploads
from fundoscope.server.services.uploads import SentFile

if TYPE_CHECKING:
    from fundoscope.server.dicom.web import DicomwebConnection, DicomwebError, FoundInstance

_TURN_SECONDS = 600  # that one look may take before another worker may look, too
_CHECK_SECONDS = 1.0  # between two looks at whose turn it is
_TOGETHER = 20  # photographs that are taken in one go
_MOST_TROUBLES = 3  # photographs that could not be fetched before a look ends
_LONGEST_TROUBLE = 1000  # characters

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LookSummary:
    """What one look at a source brought: how many photographs were taken, held already, refused; `trouble`: why it broke off, or blank."""

    taken: int = 0
    already: int = 0
    refused: int = 0
    trouble: str = ""
    exams: frozenset[int] = frozenset()

    @classmethod
    def of(cls, outcomes: Sequence[ArrivalOutcome], trouble: str = "") -> LookSummary:
        """The summary of what became of photographs."""
        counts = {name: sum(one.outcome == name for one in outcomes) for name in ("taken", "already", "refused")}
        return cls(**counts, trouble=trouble, exams=frozenset(one.exam_id for one in outcomes if one.outcome == "taken" and one.exam_id))  # fmt: skip


@dataclass
class WatchMemory:
    """What a process remembers between two looks at a source: how many objects each study held when all were seen, and of each file
    in its folder size, time and since when (seconds of `time.monotonic`) it has them.
    """

    studies: dict[str, int] = field(default_factory=dict)
    files: dict[str, tuple[int, int, float]] = field(default_factory=dict)


class SourceWatch:
    """The threads of a worker that look at sources, each at one: a PACS that is away holds up no camera.

    `on_taken` is told the number of each exam that got photographs.
    """

    def __init__(self, room: Room, on_taken: Callable[[int], None] = lambda _: None) -> None:
        self._room = room
        self._on_taken = on_taken
        self._stopped = threading.Event()
        self._memories: dict[int, WatchMemory] = defaultdict(WatchMemory)
        self._looks: dict[int, threading.Thread] = {}
        self._thread = threading.Thread(target=self._run, name="sources", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the photograph at hand, and end."""
        self._stopped.set()
        self._thread.join()
        for thread in self._looks.values():
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_CHECK_SECONDS):
            try:
                self._looks = {number: thread for number, thread in self._looks.items() if thread.is_alive()}
                for number in find_turns(self._room.database):
                    if number not in self._looks and take_turn(self._room.database, number):
                        thread = threading.Thread(
                            target=self._look, args=(number,), name=f"source {number}", daemon=True
                        )
                        self._looks[number] = thread
                        thread.start()
            except Exception:  # noqa: BLE001 - the database is away or busy; sources are looked at again
                _log.exception("sources of photographs could not be looked for")

    def _look(self, number: int) -> None:
        try:
            for exam in look(self._room, number, self._memories[number], self._stopped.is_set).exams:
                self._on_taken(exam)
        except Exception:  # noqa: BLE001 - one source must not end the watch; it is looked at again when its turn is over
            _log.exception("source %s could not be looked at", number)


def find_turns(database: Database) -> Sequence[int]:
    """The numbers of the sources whose turn it is."""
    due = or_(DicomSource.next_look_at.is_(None), DicomSource.next_look_at <= now())
    with database.reading() as session:
        return session.scalars(select(DicomSource.id).where(DicomSource.active.is_(True), due)).all()


def take_turn(database: Database, number: int) -> bool:
    """Take the turn of a source; False where somebody else has it."""
    due = or_(DicomSource.next_look_at.is_(None), DicomSource.next_look_at <= now())
    mine = update(DicomSource).where(DicomSource.id == number, DicomSource.active.is_(True), due)
    with database.transaction() as session:
        taken = session.execute(
            mine.values(next_look_at=now() + timedelta(seconds=_TURN_SECONDS)).returning(DicomSource.id)
        ).first()
    return taken is not None


def look(
    room: Room, number: int, memory: WatchMemory | None = None, is_stopped: Callable[[], bool] = lambda: False
) -> LookSummary:
    """Look at a source once, and take what is new. What went wrong stands in its row afterwards, and in the summary.

    `memory` is that of the looks before: without one no file in a folder has been there long enough.
    """
    with room.database.reading() as session:
        source = session.get_one(DicomSource, number)
    outcomes: list[ArrivalOutcome] = []
    memory, trouble = memory or WatchMemory(), ""
    try:
        if source.kind == "folder":
            look_into_folder(room, source, memory.files, outcomes, is_stopped)
        else:
            look_into_pacs(room, source, memory.studies, outcomes, is_stopped)
    except (
        FundoscopeError,
        OSError,
    ) as error:  # a full queue, a PACS that is away, a folder that is gone: told, and tried again
        trouble = str(error)[:_LONGEST_TROUBLE]
        _log.warning("source %s could not be looked through", number)
    values: dict[str, Any] = {"next_look_at": now() + timedelta(seconds=source.interval), "trouble": trouble}
    if not trouble:
        values["looked_at"] = now()
    with room.database.transaction() as session:
        session.execute(update(DicomSource).where(DicomSource.id == number).values(values))
    return LookSummary.of(outcomes, trouble)


# --- a PACS


def look_into_pacs(
    room: Room, source: DicomSource, counts: dict[str, int], outcomes: list[ArrivalOutcome], is_stopped: Callable[[], bool]
) -> None:  # fmt: skip
    """Search the studies of the last days, and take the photographs that were not seen before; `outcomes` gets what became of each.

    A study whose number of objects is as in `counts` is passed over. Photographs that cannot be fetched are passed over, too, and
    told of at the end by `DicomwebError`; where several behind one another cannot, the look ends.
    """
    from fundoscope.server.dicom.web import DicomwebConnection

    connection = DicomwebConnection(server_of(room.settings, source))
    today = date.today()
    studies: dict[str, int | None] = {}
    for modality in source.modalities:
        for found in connection.find_studies(
            today - timedelta(days=source.days - 1), today + timedelta(days=1), modality
        ):
            studies[found.study] = found.instances
    troubles: list[DicomwebError] = []
    for study, count in studies.items():
        if count is not None and counts.get(study) == count:
            continue
        found = {one.sop_instance: one for m in source.modalities for one in connection.find_photographs(study, m)}
        seen = find_seen(room.database, source.id, found)
        new, before = [one for uid, one in found.items() if uid not in seen], len(troubles)
        for start in range(0, len(new), _TOGETHER):
            if is_stopped():
                return
            outcomes += _fetch_some(room, source, connection, new[start : start + _TOGETHER], troubles)
            if len(troubles) >= _MOST_TROUBLES:
                raise troubles[-1]
        if count is not None and len(troubles) == before:
            counts[study] = count
    if troubles:
        raise troubles[-1]


def _fetch_some(
    room: Room, source: DicomSource, connection: DicomwebConnection, wanted: Sequence[FoundInstance],
    troubles: list[DicomwebError],
) -> list[ArrivalOutcome]:  # fmt: skip
    """Fetch photographs and take them; what the PACS cannot give now goes to `troubles`, and is asked for again later."""
    from fundoscope.server.dicom.web import DicomwebError, UnusableAnswerError

    became: dict[str, ArrivalOutcome] = {}
    with uploads.incoming_folder(room.settings) as folder:
        arrived: dict[str, ArrivedFile] = {}
        for k, one in enumerate(wanted):
            try:
                content = connection.fetch(one)
            except UnusableAnswerError as error:
                became[one.sop_instance] = ArrivalOutcome(one.sop_instance, "refused", str(error))
                continue
            except DicomwebError as error:
                troubles.append(error)
                if len(troubles) >= _MOST_TROUBLES:
                    break
                continue
            (folder / str(k)).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            arrived[one.sop_instance] = ArrivedFile(SentFile(one.sop_instance, folder / str(k), len(content), digest))
        taken = take_photographs(room, intake_of(source), list(arrived.values()), folder)
        became |= zip(arrived, taken, strict=True)
    remember(room.database, source.id, became)
    return list(became.values())


# --- what was seen


def find_items(session: Session, source_id: int, outcome: str = "", limit: int = 50) -> Sequence[SourceItem]:
    """What a source has shown, the newest first; only what was `refused` where that is asked for."""
    query = select(SourceItem).where(SourceItem.source_id == source_id)
    if outcome:
        query = query.where(SourceItem.outcome == outcome)
    return session.scalars(query.order_by(SourceItem.id.desc()).limit(limit)).all()
