"""Messages of a command to a person, on standard error: a header, progress with the time left, rows, a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

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
        self._rich = RichConsole(stderr=True, quiet=quiet, soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        """Print one line."""
        self._rich.print(text, markup=False)

    def header(self, **facts: object) -> None:
        """Print what is about to run, on one line."""
        self.say("  ".join(f"{name}: {value}" for name, value in facts.items()))

    def row(self, *cells: object) -> None:
        """Print one aligned row of a running log."""
        self.say("  ".join(f"{cell:>9.4f}" if isinstance(cell, float) else f"{cell!s:<24}" for cell in cells))

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
        if not self._rich.is_terminal:
            yield _PlainProgress(self.say)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        with RichProgress(*columns, console=self._rich, transient=True, disable=self.quiet) as bars:
            tasks: dict[str, TaskID] = {}

            def report(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done)

            yield report


class _PlainProgress:
    """A callback (stage, done, total) that prints a line without control characters every ten seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stage = ""
        self._started = self._last_line = 0.0
        self._first = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._last_line, self._first = stage, now, now, done
        if now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        seconds = now - self._started
        left = f", about {seconds / (done - self._first) * (total - done):.0f} s left" if done > self._first else ""
        self._say(f"{stage}: {done} of {total} after {seconds:.0f} s{left}")
