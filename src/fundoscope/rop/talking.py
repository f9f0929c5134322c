"""What a study asks of whoever shows its progress; the command line's `Talk` is one, tests use a silent one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Voice(Protocol):
    """Lines, rows and bars for a person."""

    def say(self, text: str) -> None:
        """One line."""

    def row(self, *cells: object) -> None:
        """One aligned row of a running log."""

    def follow(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items, with a bar and the time left."""
        ...

    def stages(self) -> AbstractContextManager[Callable[[str, int, int], None]]:
        """A callback (stage, done, all) that keeps a bar for each stage."""
        ...
