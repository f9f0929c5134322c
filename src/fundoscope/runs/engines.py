"""How photographs are worked on: here, in their order, by a few threads; what goes wrong with one stays with it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fundoscope.errors import PhotographError
from fundoscope.findings import GradedPhotograph, Grader, PhotographSource

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)


def map_in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """`work` of each item, in the items' order, done by `threads` at once.

    At most 2 x `threads` + 1 items and results are held at any time: a thousand take no more memory than ten.
    """
    if threads == 1:
        yield from map(work, items)
        return
    window: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                window.append(pool.submit(work, item))
                if len(window) > 2 * threads:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()


def grade_isolated(grader: Grader, source: PhotographSource, name: str) -> GradedPhotograph:
    """What the grader concludes of one photograph; whatever it raises becomes the photograph's row `failed`."""
    try:
        return grader.grade_one(source, name)
    except PhotographError as error:
        return grader.failed(name, f"{error.cause}. {error.remedy}")
    except Exception as error:  # noqa: BLE001 - one photograph must not end a run of thousands
        _log.debug("%s could not be graded", name, exc_info=True)
        cause = f"{type(error).__name__}: {error}".rstrip(": ").rstrip(".")
        return grader.failed(name, f"the program failed on it ({cause}). Report this photograph to its makers.")
