"""That something of an exam has changed: told at once to whoever shows it, within one server.

It says no more than which exam; what has changed is read from the database, so that a message that is lost does no harm.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from fundoscope.languages import gettext as _
from fundoscope.server.errors import BusyError

MOST_LISTENERS = 500  # pages that are open at once and show progress


class Listener:
    """Waits for changes of one exam, on the event loop where it was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Tell of a change, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, seconds: float) -> None:
        """Return at the next change, at once where there was one since the last return, or after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()


class ExamEvents:
    """Who listens to which exam."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[int, set[Listener]] = {}

    def publish(self, exam_id: int) -> None:
        """Something of this exam has changed; may be called from any thread."""
        with self._lock:
            listeners = tuple(self._listeners.get(exam_id, ()))
        for listener in listeners:
            listener.ring()

    @asynccontextmanager
    async def listen(self, exam_id: int) -> AsyncGenerator[Listener]:
        """A listener of one exam; raises `BusyError` where too many listen."""
        listener = Listener()
        with self._lock:
            if sum(map(len, self._listeners.values())) >= MOST_LISTENERS:
                raise BusyError(_("Too many pages are open that show progress. Close some, and load this one again."))
            self._listeners.setdefault(exam_id, set()).add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners[exam_id].discard(listener)
                if not self._listeners[exam_id]:
                    del self._listeners[exam_id]
