"""Folds of patches by photograph, grades in like shares, each with an upstream that has not seen its test part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fundoscope.errors import UsageError, counted
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.prediction_table import OWN
from fundoscope.nicking.grade_study.transfer import Upstream, upstreams_free_of
from fundoscope.nicking.recipes.grades import GradeFoldNumbers, GradeRecipe
from fundoscope.studies import write_json

Part = Literal["train", "inner", "test"]


@dataclass(frozen=True)
class GradeFold:
    """The photographs of a fold: `test` ones are predicted, `inner` ones choose epoch and temperature, all others train.

    `upstream` is the number of an upstream that has not seen the test photographs.
    """

    number: int
    upstream: int
    test: frozenset[str]
    inner: frozenset[str]

    def part_of(self, row: PatchRow) -> Part:
        """The part to which a patch belongs, by its photograph."""
        return "test" if row.photograph in self.test else "inner" if row.photograph in self.inner else "train"

    def row_numbers(self, rows: Sequence[PatchRow], part: Part) -> NDArray[np.int64]:
        """The numbers of the patches with a grade in a part."""
        graded = [k for k, row in enumerate(rows) if row.grade is not None and self.part_of(row) == part]
        return np.array(graded, np.int64)


@dataclass(frozen=True, eq=False)
class PatchTables:
    """The patches of a study: `rows` are folded and tested, `extra` only train, `others` are only tested, by name."""

    rows: Sequence[PatchRow]
    extra: Sequence[PatchRow]
    others: dict[str, Sequence[PatchRow]]

    @cached_property
    def grades(self) -> NDArray[np.int64]:
        """Grades of rows and of extra ones, in this order; -1 where not known."""
        return np.array([-1 if row.grade is None else row.grade for row in (*self.rows, *self.extra)], np.int64)

    def tested(self, table: str) -> Sequence[PatchRow]:
        """The rows of a tested table by its name; `OWN` is the study's own."""
        return self.rows if table == OWN else self.others[table]

    @property
    def tested_names(self) -> tuple[str, ...]:
        """Names of all tested tables, the study's own first."""
        return (OWN, *self.others)


@dataclass(frozen=True, eq=False)
class GradeFoldData:
    """A fold with its patches, its upstream and the recipe. What networks are shown lies in `folder`.

    `upstream` has seen no test photograph of the fold: from it weights may be transferred. Of all `upstreams` (where none are
    given it is the only one) those make a patch's maps that have not seen its photograph.
    """

    tables: PatchTables
    fold: GradeFold
    upstream: Upstream
    folder: Path
    recipe: GradeRecipe
    upstreams: tuple[Upstream, ...] = ()

    def maps_of(self, row: PatchRow) -> Upstream:
        """The upstream whose maps show a patch: one that has not seen its photograph. Where each has, the last one: such a patch
        may train, and is never tested.
        """
        every = self.upstreams or (self.upstream,)
        return [every[-1], *(each for each in every if row.photograph not in each.seen_photographs)][-1]

    @property
    def train(self) -> NDArray[np.int64]:
        """Numbers of the graded patches that train, counted over rows and extra ones; of the extra ones only those whose
        photograph is neither tested nor chooses.
        """
        extra = self.fold.row_numbers(self.tables.extra, "train") + len(self.tables.rows)
        return np.concatenate([self.fold.row_numbers(self.tables.rows, "train"), extra])

    @property
    def inner(self) -> NDArray[np.int64]:
        """Numbers of the patches that choose."""
        return self.fold.row_numbers(self.tables.rows, "inner")

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """Numbers of the patches without a grade whose photographs train, counted over rows and extra ones."""
        rows = [*self.tables.rows, *self.tables.extra]
        ungraded = [k for k, row in enumerate(rows) if row.grade is None and self.fold.part_of(row) == "train"]
        return np.array(ungraded, np.int64)

    def tested(self, table: str) -> NDArray[np.int64]:
        """Numbers of a table's patches that this fold predicts.

        Those are patches of its test photographs; of another table also those of photographs that neither train in this
        study nor were seen by the upstream.
        """
        if table == OWN:
            return self.fold.row_numbers(self.tables.rows, "test")
        known = self.upstream.seen_photographs | {row.photograph for row in (*self.tables.rows, *self.tables.extra)}
        unseen = [
            k
            for k, row in enumerate(self.tables.others[table])
            if row.photograph in self.fold.test or row.photograph not in known
        ]
        return np.array(unseen, np.int64)


def make_grade_folds(
    rows: Sequence[PatchRow], upstreams: Sequence[Upstream], k: int, seed: int, numbers: GradeFoldNumbers, path: Path
) -> list[GradeFold]:
    """The `k` folds of a seed, written to `path`; where that file is there it must hold the same.

    Raises `UsageError` for too few photographs, fewer folds than upstreams, an inner part of too few crossings, or a file with
    folds of other patches.
    """
    folds = _deal_folds(rows, upstreams, k, seed, numbers)
    plain = [{"upstream": upstreams[f.upstream].name, "test": sorted(f.test), "inner": sorted(f.inner)} for f in folds]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, plain)
    elif json.loads(path.read_text(encoding="utf-8")) != plain:
        raise UsageError(f"{path} holds folds of other patches. Give another folder to --out, or the same table.")
    return folds


def _deal_folds(
    rows: Sequence[PatchRow], upstreams: Sequence[Upstream], k: int, seed: int, numbers: GradeFoldNumbers
) -> list[GradeFold]:
    """Folds of graded patches. Photographs are first dealt to upstreams that have not seen them, then into folds, as many to an
    upstream as it has a share of the crossings, and one at least.
    """
    graded = [row for row in rows if row.grade is not None]
    by_upstream: dict[int, list[PatchRow]] = {}
    for row in graded:
        by_upstream.setdefault(upstreams_free_of(upstreams, row.photograph)[-1], []).append(row)
    if k < 2 or k < len(by_upstream):
        fewest = max(2, len(by_upstream))
        raise UsageError(f"--folds {k}: there are {len(by_upstream)} upstreams in use. Give at least {fewest} folds.")
    crossings = {upstream: len({row.crossing for row in own}) for upstream, own in by_upstream.items()}
    folds: list[GradeFold] = []
    for upstream, parts in sorted(_share_folds(crossings, k).items()):
        own = by_upstream[upstream]
        for test in _split_photographs(own, parts, seed) if parts > 1 else [frozenset(row.photograph for row in own)]:
            inner = _choose_inner([row for row in graded if row.photograph not in test], numbers, seed, len(folds))
            folds.append(GradeFold(len(folds), upstream, test, inner))
    return folds


def _share_folds(crossings: dict[int, int], k: int) -> dict[int, int]:
    """How many of `k` folds each upstream gets: one, and each further one where most crossings fall to a fold."""
    parts = dict.fromkeys(crossings, 1)
    for _ in range(k - len(crossings)):
        parts[max(parts, key=lambda upstream: (crossings[upstream] / parts[upstream], -upstream))] += 1
    return parts


def _choose_inner(others: Sequence[PatchRow], numbers: GradeFoldNumbers, seed: int, fold: int) -> frozenset[str]:
    """The inner photographs of a fold: the first part of its other photographs that has crossings enough to choose by."""
    photographs = {row.photograph for row in others}
    parts = _split_photographs(others, min(numbers.inner_parts, len(photographs)), seed + 1)
    counts = [len({row.crossing for row in others if row.photograph in part}) for part in parts]
    enough = next((part for part, n in zip(parts, counts, strict=True) if n >= numbers.fewest_inner_crossings), None)
    if enough is None:
        raise UsageError(
            f"fold {fold} of seed {seed}: each of {len(parts)} parts of its other photographs holds at most "
            f"{counted(max(counts), 'crossing')}, and {numbers.fewest_inner_crossings} are needed to choose by. Give patches of "
            "more crossings, or a recipe with fewer inner_parts."
        )
    return enough


def _split_photographs(rows: Sequence[PatchRow], k: int, seed: int) -> list[frozenset[str]]:
    """The photographs of these patches in `k` parts with like shares of the grades."""
    groups = np.array([row.photograph for row in rows])
    if len(set(groups)) < k:
        raise UsageError(
            f"Patches of {counted(len(set(groups)), 'photograph')} make no {k} folds. Give patches of more, or fewer folds."
        )
    grades = np.array([row.grade for row in rows])
    split = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(grades, grades, groups)
    return [frozenset(groups[test].tolist()) for _, test in split]
