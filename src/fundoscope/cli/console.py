"""Messages of a command to a person, on standard error: a header, progress with the time left, rows, a summary."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0  # of progress that goes to a file or a pipe


class Console:
    """Messages and progress on standard error; nothing at all when `quiet`.

    On a terminal progress is a bar. In a file or a pipe it is a plain line every ten seconds.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        terminal = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        # told, since rich would take a log for a terminal where FORCE_COLOR or TTY_COMPATIBLE is set
        self._rich = RichConsole(
            stderr=True, quiet=quiet or sys.stderr is None, soft_wrap=True, highlight=False, force_terminal=terminal
        )

    def say(self, text: str) -> None:
        """Print one line."""
        with contextlib.suppress(BrokenPipeError):  # whoever read the messages has left; the answers go on
            self._rich.print(text, markup=False)

    def header(self, **facts: object) -> None:
        """Print what is about to run, on one line."""
        self.say("  ".join(f"{name}: {value}" for name, value in facts.items()))

    def follow(self, items: Iterable[T], total: int, what: str, done: int = 0) -> Iterator[T]:
        """The items, with progress and the time left; `done` of `total` were there before."""
        with self.stages() as report:
            report(what, done, total)
            for number, item in enumerate(items, done + 1):
                yield item
                report(what, number, total)

    @contextmanager
    def stages(self) -> Generator[Callable[[str, int, int], None]]:
        """A callback (stage, done, total) that shows the progress of each stage."""
        if self.quiet or not self._rich.is_terminal:
            with _PlainProgress(self.say) as report:
                yield report
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        with RichProgress(*columns, console=self._rich, transient=True) as bars:
            tasks: dict[str, TaskID] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done)

            yield show


class _PlainProgress:
    """A callback (stage, done, total) that prints a line without control characters every ten seconds.

    In a `with` block the line comes also while one piece of work takes longer than that.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stage = ""
        self._started = self._last_line = 0.0
        self._first = self._done = self._total = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._remind, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        with self._lock:
            now = time.monotonic()
            if stage != self._stage:
                self._stage, self._started, self._last_line, self._first = stage, now, now, done
            self._done, self._total = done, total
            self._tell(now)

    def _remind(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                if self._stage and self._done < self._total:
                    self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        if now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        seconds, done, total = now - self._started, self._done, self._total
        left = f", about {seconds / (done - self._first) * (total - done):.0f} s left" if done > self._first else ""
        self._say(f"{self._stage}: {done} of {total} after {seconds:.0f} s{left}")
