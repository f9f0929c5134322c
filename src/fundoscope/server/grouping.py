"""Several small changes in one transaction: who comes while another one is being written waits, and goes with the next.

A commit forces the disk, which takes longer than the change itself, and SQLite has one writer. Sixteen clients that send photographs
so share a commit, and each of them hears of its own only when it is on the disk.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from fundoscope.server.database import Database

T = TypeVar("T")
_MOST = 32  # changes of one transaction: others want to write, too


class GroupWriter:
    """Does changes of one kind, many in a transaction; what one of them raises leaves nothing of it, and all of the others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[contextvars.Context, Callable[[Session], Any], Future[Any]]] = deque()
        self._writing = threading.Lock()

    def run(self, change: Callable[[Session], T]) -> T:
        """What `change` returns, after it has been committed; raises what it raises, and what the database does."""
        promise: Future[T] = Future()
        self._waiting.append((contextvars.copy_context(), change, promise))
        with self._writing:  # whoever gets here first writes for all that wait
            while not promise.done():
                self._write_some()
        return promise.result()

    def _write_some(self) -> None:
        taken = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
        told: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._database.transaction() as session:
                for context, change, promise in taken:
                    try:
                        with session.begin_nested():
                            told.append((promise, context.run(change, session), None))
                    except Exception as error:  # noqa: BLE001 - it is raised where the change was asked for
                        told.append((promise, None, error))
        except BaseException as error:  # noqa: BLE001 - nothing of it is there: each hears of it
            told = [(promise, None, error) for _, _, promise in taken]
        for promise, result, error in told:
            if error is None:
                promise.set_result(result)
            else:
                promise.set_exception(error)
