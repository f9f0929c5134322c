"""The fits of a study on an engine: in this process one after the other, in processes beside each other, or by Ray on many machines.

A fit is a step of the study's folder: it reads and writes there, begins from what other fits left there, and goes on at its last
whole epoch when its worker was killed. So every engine leaves the same files, as long as a fit has as many threads: sums in
another order differ in their last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fundoscope.errors import StudyError
from fundoscope.runs.workers import TRIES, WorkEngine, WorkItem

T = TypeVar("T")
R = TypeVar("R")


def carry_out_fits(
    engine: WorkEngine, work: Callable[[T], R], items: Iterable[WorkItem[T]], threads: int
) -> Iterator[R]:
    """What `work` gives for each item, as it is done; beside each other where the engine says so, on `threads` processors each.

    Raises `StudyError` for a fit over which workers were lost again and again.
    """
    if engine.here:
        yield from (work(item.task) for item in items)
        return
    for item, result in engine.carry_out(work, items, max(1, threads)):
        if result is None:
            raise StudyError(
                f"{item.key}: its worker was ended {TRIES} times, perhaps for want of memory. Give fewer --workers; the same "
                "command goes on."
            )
        yield result
