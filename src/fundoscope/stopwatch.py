"""Where the time of a run goes: seconds of each stage, in whichever thread it ran.

    with measured_stages() as times:
        ...                        # somewhere below: with stage("decode"): ...
    print(times.describe())

Where nobody measures, a stage costs a third of a microsecond.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

#: The stage that holds all others of one photograph, and the two of the thread that takes the answers.
PHOTOGRAPH, WAITING, WRITING = "between stages", "waiting", "writing"
NETWORK = "network"


@dataclass
class StageSeconds:
    """What all threads together spent in one stage, without the stages within it: seconds by the clock and of the processor,
    how many times it was entered, by which threads, and when first and last (by the clock of `time.perf_counter`).
    """

    clock: float = 0.0
    processor: float = 0.0
    count: int = 0
    threads: set[int] = field(default_factory=set)
    first: float = math.inf
    last: float = -math.inf


@dataclass
class StageTimes:
    """The seconds of each stage, by its name, in the order in which stages first ended."""

    seconds: dict[str, StageSeconds] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, begun: float, clock: float, processor: float) -> None:
        """Add to a stage what one block took that was `begun` then and ends now; from any thread."""
        with self._lock:
            total = self.seconds.setdefault(name, StageSeconds())
            total.clock += clock
            total.processor += processor
            total.count += 1
            total.threads.add(threading.get_ident())
            total.first, total.last = min(total.first, begun), max(total.last, time.perf_counter())

    def of(self, name: str) -> StageSeconds:
        """The seconds of one stage; noughts where it was never entered."""
        return self.seconds.get(name, StageSeconds())

    def describe(self) -> str:
        """A table in milliseconds a photograph: every stage, all together against the bare network, and what threads wait."""
        whole = self.of(PHOTOGRAPH)
        if not whole.count:
            return "no photograph was worked on"
        apart = {WAITING, WRITING}
        own = {name: total for name, total in self.seconds.items() if name not in apart and name != PHOTOGRAPH}
        own[PHOTOGRAPH] = whole
        clock, processor = (sum(getattr(each, kind) for each in own.values()) for kind in ("clock", "processor"))
        each = 1000 / whole.count
        lines = [f"{'ms a photograph':<16}{'clock':>8}{'processor':>11}{'share':>7}"]
        lines += [
            f"{name:<16}{total.clock * each:8.2f}{total.processor * each:11.2f}{total.clock / clock:7.0%}"
            for name, total in own.items()
        ]
        network = self.of(NETWORK)
        ratio = f"  {processor / network.processor:.2f} times the network's processor time" if network.processor else ""
        lines.append(f"{'in all':<16}{clock * each:8.2f}{processor * each:11.2f}{ratio}")
        idle = max(0.0, len(whole.threads) * (whole.last - whole.first) - clock)
        lines.append(f"{'idle':<16}{idle * each:8.2f}  of {len(whole.threads)} threads that work on photographs")
        for name, what in ((WRITING, "answers, report and journal"), (WAITING, "for the next photograph")):
            total = self.of(name)
            lines.append(f"{name:<16}{total.clock * each:8.2f}{total.processor * each:11.2f}  {what}")
        return "\n".join(lines)


_NOTHING: AbstractContextManager[None] = nullcontext()
_inside = threading.local()  # `stage`: the innermost one of this thread
_measuring: StageTimes | None = None


def stage(name: str) -> AbstractContextManager[object]:
    """A block of work of this name; a stage within another one counts for itself alone."""
    return _NOTHING if _measuring is None else _Stage(name, _measuring)


@contextmanager
def measured_stages() -> Generator[StageTimes]:
    """Measure every stage of every thread until the block ends; one measurement at a time in a process."""
    global _measuring
    before, _measuring = _measuring, StageTimes()
    try:
        yield _measuring
    finally:
        _measuring = before


class _Stage:
    def __init__(self, name: str, times: StageTimes) -> None:
        self.name = name
        self.times = times
        self.within_clock = self.within_processor = 0.0

    def __enter__(self) -> Self:
        self.outer: _Stage | None = getattr(_inside, "stage", None)
        _inside.stage = self
        self.clock, self.processor = time.perf_counter(), time.thread_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processor, clock = time.thread_time() - self.processor, time.perf_counter() - self.clock
        self.times.add(self.name, self.clock, clock - self.within_clock, processor - self.within_processor)
        if self.outer is not None:
            self.outer.within_clock += clock
            self.outer.within_processor += processor
        _inside.stage = self.outer
