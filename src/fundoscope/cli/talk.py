"""What a command says while it works, on standard error: a header, a bar with the time left, rows, a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Talk:
    """Speaks to a person, or not at all when `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False)
        self._start = time.perf_counter()

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)

    def header(self, **facts: object) -> None:
        """What is about to run, on one line."""
        self.say("  ".join(f"{name}: {value}" for name, value in facts.items()))

    def row(self, *cells: object) -> None:
        """One aligned row of a running log."""
        self.say("  ".join(f"{cell:>9.4f}" if isinstance(cell, float) else f"{cell!s:<24}" for cell in cells))

    def follow(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items, with a bar and the time left."""
        with self._bars() as bars:
            yield from bars.track(items, total=total, description=what)

    @contextmanager
    def stages(self) -> Generator[Callable[[str, int, int], None]]:
        """A callback (stage, done, all) that keeps a bar for each stage."""
        with self._bars() as bars:
            tasks: dict[str, TaskID] = {}

            def step(stage: str, done: int, wanted: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=wanted)
                bars.update(tasks[stage], completed=done)

            yield step

    def _bars(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        return Progress(*columns, console=self.console, transient=True, disable=self.quiet)

    def counts(self, counts: Mapping[str, int], working_seconds: float) -> None:
        """How it ended, and how fast."""
        total, seconds = sum(counts.values()), time.perf_counter() - self._start
        self.say("  ".join(f"{name}: {count}" for name, count in counts.items()))
        self.say(
            f"{total} photographs in {seconds:.1f} s ({1000 * working_seconds / max(1, total):.0f} ms of work each)"
        )
