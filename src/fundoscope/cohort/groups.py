"""Groups: what must never be parted when photographs are divided, the infant where the table tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.table import Cohort

if TYPE_CHECKING:
    from fundoscope.cohort.auditing import Audit


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of each photograph, `names`, in the table's order; `rule` says in words how they were made."""

    names: tuple[str, ...]
    rule: str

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The groups as numbers from 0, in the order in which they first appear."""
        first = {name: number for number, name in enumerate(dict.fromkeys(self.names))}
        return np.array([first[name] for name in self.names], np.int64)

    def __len__(self) -> int:
        """How many groups there are."""
        return len(set(self.names))


def make_groups(cohort: Cohort, audit: Audit | None = None) -> Groups:
    """The groups of a cohort: infants, joined where photographs of two are duplicates or near-duplicates.

    Without an infant column each photograph is a group of its own, joined with its near-duplicates. `audit`
    is what `audit(cohort)` gave; without it only the table and the files' bytes speak.
    """
    pairs = _equal(cohort.digests)
    if cohort.has_infants:
        pairs += _equal([record.infant or "" for record in cohort])
    if audit is not None:
        pairs += audit.pairs
    first = _joined(len(cohort), pairs)
    return Groups(tuple(_name(cohort, row) for row in first), _rule(cohort.has_infants, audit is not None))


def _rule(infants: bool, audited: bool) -> str:
    alone = "infants" if infants else "photographs (infants unknown)"
    return f"{alone}, joined by {'near-duplicates' if audited else 'identical files'}"


def _name(cohort: Cohort, row: int) -> str:
    record = cohort[row]
    return f"infant {record.infant}" if record.infant is not None else f"photograph {record.image}"


def _equal(values: Iterable[str]) -> list[tuple[int, int]]:
    """Each row paired with the first row of the same value; blank ones are not paired."""
    first: dict[str, int] = {}
    return [(first.setdefault(value, row), row) for row, value in enumerate(values) if value]


def _joined(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The first row of each row's connected component (union-find with path halving)."""
    parent = list(range(n))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(row) for row in range(n)]
