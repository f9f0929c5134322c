"""What a room does with each photograph that its receiver has: answered for when it is on the disk, and taken in together with others.

Before the answer everything is asked that can be told without writing: whose it is, whether the patient is known or may be added, and
whether the queue has room. What is refused only later was answered for: it is kept, and stands where an administrator sees it.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from fundoscope.errors import PhotographError
from fundoscope.imaging import DicomHeader
from fundoscope.imaging.dicom_header import read_dicom_header
from fundoscope.languages import kept_text
from fundoscope.server.dicom.intake import (
    ArrivalOutcome,
    ArrivedFile,
    Intake,
    find_intake,
    find_owner,
    require_patient,
    take_photographs,
)
from fundoscope.server.dicom.receiver import OUT_OF_RESOURCES, ReceivedObject, RefusedObject
from fundoscope.server.dicom.refusals import write_refusal
from fundoscope.server.dicom.spool import Spool, SpooledPhotograph
from fundoscope.server.dicom.troubles import Refusal
from fundoscope.server.errors import BusyError
from fundoscope.server.room import Room
from fundoscope.server.services import jobs, judging, uploads
from fundoscope.server.services.uploads import SentFile

_SITE_SECONDS = 10.0  # until the site of the settings is looked for anew
_COUNT_SECONDS = 1.0  # until the queue is counted anew
_RETRY_SECONDS = 2.0  # until it is tried again where the database is busy, the queue full or the disk away
_MOST_REMEMBERED = 10_000  # patients, and refusals: one that is sent again and again is written down once
_GONE = kept_text("Its file was removed before it was taken. Have it sent again.")
_FAILED = kept_text("The program failed at it: its log says more. Tell who looks after the program.")

_log = logging.getLogger(__name__)


class RoomKeeper:
    """Takes received photographs into the room, within `with`; `tell` hears the exams that have new ones."""

    def __init__(self, room: Room, tell: Callable[[int], None] = lambda _: None) -> None:
        assert room.settings.receiver is not None
        self._room = room
        self._settings = room.settings.receiver
        self._tell = tell
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._intake: Intake | None = None
        self._find_again = self._count_again = 0.0
        self._patients: set[tuple[int, str]] = set()  # who need not be asked for again
        self._places = 0
        self._deciding, self._taking = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self._spool = Spool(room.settings.data)
        self._thread = threading.Thread(target=self._take_all, name="taker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End after the photographs at hand; others wait on the disk for the next start."""
        self._stopped.set()
        self._spool.close()
        self._thread.join()
        self._spool.release()

    def settle(self, seconds: float = 30.0) -> bool:
        """Wait until nothing waits any more; False where the time is over before."""
        until = time.monotonic() + seconds
        while len(self._spool) and time.monotonic() < until:
            time.sleep(0.005)
        return not len(self._spool)

    # --- before the answer

    def __call__(self, received: ReceivedObject) -> None:
        """Have a photograph on the disk; raises `RefusedObject`, `BusyError` or `ServerError` where it will not be taken."""
        intake = self._find_intake()
        if intake is None:
            raise RefusedObject(OUT_OF_RESOURCES, "the receiver belongs to no site yet: see its settings")
        try:
            self._require_place()
            with self._spool.adding(received) as one:
                self._require_owner(intake, one)
        except OperationalError as error:  # somebody writes for long, or the database is away
            _log.exception("a photograph could not be looked at")
            raise RefusedObject(OUT_OF_RESOURCES, "the database cannot be read now") from error

    def _require_owner(self, intake: Intake, one: SpooledPhotograph) -> None:
        """Raise `InvalidError` for what is no photograph, or nobody's, or of a patient who is unknown and may not be added."""
        code = find_owner(self._room, intake, _arrived(one, one.file))
        if (intake.site_id, code) not in self._patients:
            assert one.header is not None
            require_patient(self._room, intake, code, one.header)
            if len(self._patients) >= _MOST_REMEMBERED:
                self._patients.clear()
            self._patients.add((intake.site_id, code))

    def _find_intake(self) -> Intake | None:
        """Whose photographs come in, by the settings; None while there is no such site."""
        settings = self._settings
        if time.monotonic() >= self._find_again:
            self._intake = find_intake(
                self._room, settings.site, settings.patients, settings.issuer, settings.adds_patients
            )
            self._find_again = time.monotonic() + (_SITE_SECONDS if self._intake else 0.0)
        return self._intake

    def _require_place(self) -> None:
        """Raise `BusyError` where the queue has no room for one more beside those that wait here."""
        with self._deciding:
            if self._places <= 0 or time.monotonic() >= self._count_again:
                try:
                    self._places = self._count_places()
                except BusyError:
                    with self._taking:  # those that are just being taken counted twice
                        self._places = self._count_places()
                self._count_again = time.monotonic() + _COUNT_SECONDS
            self._places -= 1

    def _count_places(self) -> int:
        limit = self._room.settings.limits.waiting_jobs
        with self._room.database.reading() as session:
            waiting = jobs.count_waiting(session, judging.KIND)
            here = len(self._spool)
            jobs.require_place(session, limit, here + 1, judging.KIND)
        return limit - here - waiting

    # --- after it

    def _take_all(self) -> None:
        while some := self._spool.next_ones():
            most = len(some)
            while some and not self._stopped.is_set():
                left = self._take(some[:most])
                some = [*left, *some[most:]]
                most = 1 if left else len(some)  # where the queue is nearly full, one may have room

    def _take(self, some: Sequence[SpooledPhotograph]) -> Sequence[SpooledPhotograph]:
        """Take photographs of one sender into the room; gives those that are to be tried again."""
        try:
            with self._taking:
                outcomes = self._take_together(some)
                left = self._let_go(some, outcomes)
        except Exception as error:  # noqa: BLE001 - whatever it is, they wait where they are safe
            known = isinstance(error, BusyError | OperationalError | OSError)
            _log.warning("photographs that were received wait: %s", type(error).__name__, exc_info=not known)
            self._stopped.wait(_RETRY_SECONDS)
            return some
        for exam in {each.exam_id for each in outcomes if each.outcome == "taken" and each.exam_id is not None}:
            self._tell(exam)
        if left:
            self._stopped.wait(_RETRY_SECONDS)
        return left

    def _let_go(self, some: Sequence[SpooledPhotograph], outcomes: Sequence[ArrivalOutcome]) -> list[SpooledPhotograph]:
        """Remove what is in the room, and put aside what was refused, which is written down first; gives what could not be."""
        left = []
        for one, found in zip(some, outcomes, strict=True):
            if found.outcome != "refused":
                self._spool.remove(one)
                continue
            header = one.header or _header_of(one.file)
            patient, uid = (header.patient, header.sop_instance) if header is not None else ("", "")
            try:
                self.note(Refusal(uid, one.caller, one.address, found.reason, patient, one.file.name))
            except SQLAlchemyError:
                _log.exception("a refusal could not be written down")
                left.append(one)
            else:
                self._spool.put_aside(one)
        return left

    def _take_together(self, some: Sequence[SpooledPhotograph]) -> list[ArrivalOutcome]:
        """The way of an upload, by a second name of each file: the first one stays until its row is there."""
        intake = self._find_intake()
        if intake is None:
            raise BusyError("the receiver belongs to no site")
        intake = replace(intake, who=f"{some[0].caller} by C-STORE", address=some[0].address)
        with uploads.incoming_folder(self._room.settings) as folder:
            arrived = []
            for number, one in enumerate(some):
                file = folder / f"{number}.dcm"
                if not one.file.exists():  # somebody has removed it: to wait for it would hold up all others
                    return self._take_apart(some)
                _give_second_name(one.file, file)
                arrived.append(_arrived(one, file))
            try:
                return take_photographs(self._room, intake, arrived, folder)
            except (BusyError, OperationalError, OSError):
                raise
            except Exception:  # noqa: BLE001 - one of them is at fault: each by itself, and that one is kept
                _log.exception("photographs that were received could not be taken")
        return self._take_apart(some)

    def _take_apart(self, some: Sequence[SpooledPhotograph]) -> list[ArrivalOutcome]:
        """Each by itself; one that cannot even be taken so is refused."""
        if len(some) > 1:
            return [found for one in some for found in self._take_together([one])]
        return [ArrivalOutcome(some[0].file.name, "refused", _FAILED if some[0].file.exists() else _GONE)]

    def note(self, refusal: Refusal) -> None:
        """Write down that something was refused, once for each instance and reason."""
        if self._refused.get(refusal.sop_instance) == refusal.why and not refusal.file:
            return
        intake = self._find_intake()
        if intake is not None:
            caller = replace(intake, who=f"{refusal.caller} by C-STORE", address=refusal.address).caller
            with self._room.database.transaction() as session:
                write_refusal(session, caller, intake.site_id, refusal)
        self._refused[refusal.sop_instance] = refusal.why
        if len(self._refused) > _MOST_REMEMBERED:
            self._refused.popitem(last=False)


def _arrived(one: SpooledPhotograph, file: Path) -> ArrivedFile:
    """A photograph as the intake knows it, in the file of that name; its header is read where it was not."""
    header = one.header or _header_of(one.file)
    name = f"{header.sop_instance}.dcm" if header is not None else one.file.name
    return ArrivedFile(SentFile(name, file, one.size, one.digest, header))


def _header_of(file: Path) -> DicomHeader | None:
    try:
        return read_dicom_header(file, file.name)
    except PhotographError:
        return None


def _give_second_name(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, name)
