"""Groups of photographs that must stay together when a cohort is divided: one infant's, where the table names infants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.problems import SameEyePair
from fundoscope.cohort.table import Cohort


@dataclass(frozen=True, slots=True)
class Groups:
    """The name of each photograph's group, `names`, in the table's order; `rule` says in words how they were made."""

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


def make_groups(cohort: Cohort, pairs: Sequence[SameEyePair] | None = None) -> Groups:
    """The groups of a cohort: infants, joined where photographs of two infants show one eye.

    Without an infant column each photograph is a group of its own, joined with its near-duplicates. `pairs` are those that
    `audit(cohort)` found; without them only photographs whose files are identical are joined.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = _pair_equal(cohort.digests) + [(pair.first, pair.second) for pair in pairs or ()]
    if cohort.has_infants:
        edges += _pair_equal(row.infant or "" for row in cohort)
    ends = np.array(edges, np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(edges), bool), tuple(ends)), shape=(len(cohort), len(cohort)))
    group = connected_components(links, directed=False)[1]
    first = np.unique(group, return_index=True)[1][group]  # the first photograph of each one's group names it
    heads = [cohort[row] for row in first.tolist()]
    names = [f"photograph {head.image}" if head.infant is None else f"infant {head.infant}" for head in heads]
    unit = "infants" if cohort.has_infants else "photographs (infants unknown)"
    return Groups(tuple(names), f"{unit}, joined by {'identical files' if pairs is None else 'near-duplicates'}")


def _pair_equal(values: Iterable[str]) -> list[tuple[int, int]]:
    """Each row paired with the first row of the same value; blank ones are not paired."""
    first: dict[str, int] = {}
    return [(first.setdefault(value, row), row) for row, value in enumerate(values) if value]
