"""Photographs that were received and answered for, and are not in the room yet: a file each, forced onto the disk.

To write one down takes longer than to receive it, and a sender waits for each answer. So it is answered for when its file is here, and
whoever takes them into the room takes many at once. A file's name tells when it came, from whom, and the digest of its bytes: one that
was cut off while it was written shows, and was never answered for.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fundoscope.errors import UsageError
from fundoscope.imaging import DicomHeader
from fundoscope.server.dicom.arrived import file_digest
from fundoscope.server.dicom.receiver import ReceivedObject
from fundoscope.server.dicom.refusals import ASIDE, RECEIVED

if sys.platform != "win32":
    import fcntl

_MOST = 32  # photographs that are taken at once: whoever else writes into the database waits as long
_LOOK_SECONDS = 5.0  # between two looks for files that somebody has put back
_FORCING = 4  # threads that force folders onto the disk
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpooledPhotograph:
    """A file of the spool: its size, SHA-256, and who sent it; `header` is None where another process had received it."""

    file: Path
    size: int
    digest: str
    caller: str
    address: str
    header: DicomHeader | None = None

    @classmethod
    def name_for(cls, received: ReceivedObject) -> str:
        """The name of its file; they sort in the order in which they come."""
        sender = f"{received.caller}\n{received.address}".encode().hex()
        return f"{time.time_ns():020}-{received.digest}-{sender}.dcm"

    @classmethod
    def of_file(cls, file: Path) -> SpooledPhotograph | None:
        """The photograph of a file that lies there; None where it is not whole, or none of ours."""
        try:
            _, digest, sender = file.stem.split("-")
            caller, address = bytes.fromhex(sender).decode().split("\n")
            size, found = file_digest(file)
        except (ValueError, OSError):
            return None
        return cls(file, size, digest, caller, address) if found == digest else None


class Spool:
    """The folder of one receiver. Raises `UsageError` where another process holds it already."""

    def __init__(self, data: Path) -> None:
        self._folder = data / RECEIVED
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system gives it back when the process ends
        except OSError as error:
            os.close(self._handle)
            raise UsageError(f"{self._folder}: another station receives for this room. End that one first.") from error
        self._forcing = ThreadPoolExecutor(_FORCING, "forcing")
        self._changed = threading.Condition()
        self._waiting: deque[SpooledPhotograph] = deque()
        self._names: set[str] = set()  # of files that are being written, wait, or are being taken
        self._closed = False
        self._look_at = 0.0

    def close(self) -> None:
        """Wake who waits for photographs, with none; what is here stays for the next process."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Let another process have the folder, after `close`."""
        self._forcing.shutdown()
        os.close(self._handle)

    def __len__(self) -> int:
        return len(self._names)

    @contextmanager
    def adding(self, received: ReceivedObject) -> Generator[SpooledPhotograph]:
        """Write a photograph down; it is looked at within the block, and what that raises leaves nothing of it.

        After the block it is on the disk, its name too, and will be taken. Both are forced at the same time: a disk does that at once.
        """
        name = SpooledPhotograph.name_for(received)
        file = self._folder / name
        with self._changed:
            self._names.add(name)
        try:
            with file.open("xb") as opened:
                opened.write(received.data)
                opened.flush()
                one = SpooledPhotograph(
                    file, len(received.data), received.digest, received.caller, received.address, received.header
                )
                yield one
                folder = self._forcing.submit(os.fsync, self._handle)
                os.fsync(opened.fileno())
                folder.result()
        except BaseException:
            file.unlink(missing_ok=True)
            self._names.discard(name)
            raise
        with self._changed:
            self._waiting.append(one)
            self._changed.notify_all()

    def next_ones(self) -> Sequence[SpooledPhotograph]:
        """Wait for photographs, and give the first that wait, all of one sender; none after `close`."""
        while True:
            self._look_around()
            with self._changed:
                if self._closed:
                    return ()
                if not self._waiting:
                    self._changed.wait(_LOOK_SECONDS)
                    continue
                found = [self._waiting.popleft()]
                sender = (found[0].caller, found[0].address)
                while (
                    self._waiting
                    and len(found) < _MOST
                    and (self._waiting[0].caller, self._waiting[0].address) == sender
                ):
                    found.append(self._waiting.popleft())
                return found

    def remove(self, taken: SpooledPhotograph) -> None:
        """Remove a photograph that is in the room."""
        taken.file.unlink(missing_ok=True)
        self._names.discard(taken.file.name)

    def put_aside(self, refused: SpooledPhotograph) -> None:
        """Keep a photograph that was answered for and cannot be taken, until somebody puts it back."""
        aside = self._folder / ASIDE
        aside.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            refused.file.replace(aside / refused.file.name)
        self._names.discard(refused.file.name)

    def _look_around(self) -> None:
        """Find files that an ended process has left, or that somebody has put back."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        try:
            files = sorted(self._folder.glob("*.dcm"))
        except OSError:  # the disk is away: looked at again
            _log.exception("what was received cannot be listed")
            return
        for file in files:
            with self._changed:
                if file.name in self._names:
                    continue
                self._names.add(file.name)
            one = SpooledPhotograph.of_file(file)
            if one is None:
                _log.warning("what was cut off while it was received is removed: %s", file.name)
                file.unlink(missing_ok=True)
                self._names.discard(file.name)
                continue
            with self._changed:
                self._waiting.append(one)
