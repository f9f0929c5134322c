"""Folds of patches: by photograph, grades in like shares, and each fold with an upstream that has not seen its test part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fundoscope.errors import UsageError
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.transfer import Upstream, upstreams_free_of
from fundoscope.studies import write_json

_INNER = 5  # the training photographs of a fold in so many parts, one of which chooses


@dataclass(frozen=True)
class GradeFold:
    """Photographs that are tested, that choose epoch and temperature, and the number of the upstream; others train."""

    number: int
    upstream: int
    test: frozenset[str]
    inner: frozenset[str]

    def rows(self, rows: Sequence[PatchRow], part: str) -> NDArray[np.int64]:
        """The ranks of patches with a grade in the part `train`, `inner` or `test`."""
        return np.array([k for k, row in enumerate(rows) if row.grade is not None and self.part(row) == part], np.int64)

    def part(self, row: PatchRow) -> str:
        """Where a photograph's patches are."""
        return "test" if row.photograph in self.test else "inner" if row.photograph in self.inner else "train"


def make_grade_folds(
    rows: Sequence[PatchRow], upstreams: Sequence[Upstream], k: int, seed: int, path: Path
) -> list[GradeFold]:
    """The folds of a seed, made once and kept in `path`; `UsageError` where there are too few photographs or upstreams."""
    made = _made(rows, upstreams, k, seed)
    plain = [{"upstream": upstreams[f.upstream].name, "test": sorted(f.test), "inner": sorted(f.inner)} for f in made]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, plain)
    elif json.loads(path.read_text(encoding="utf-8")) != plain:
        raise UsageError(f"{path} holds folds of other patches. Give another folder to --out, or the same table.")
    return made


def _made(rows: Sequence[PatchRow], upstreams: Sequence[Upstream], k: int, seed: int) -> list[GradeFold]:
    known = [row for row in rows if row.grade is not None]
    halves: dict[int, list[PatchRow]] = {}
    for row in known:
        halves.setdefault(upstreams_free_of(upstreams, row.photograph)[-1], []).append(row)
    if k < 2 or k < len(halves):
        raise UsageError(
            f"--folds {k}: there are {len(halves)} upstreams in use. Give at least {max(2, len(halves))} folds."
        )
    folds: list[GradeFold] = []
    for number, (upstream, own) in enumerate(sorted(halves.items())):
        parts = max(1, (k + number) // len(halves)) if len(halves) > 1 else k
        for test in _parts(own, parts, seed) if parts > 1 else [frozenset(row.photograph for row in own)]:
            others = [row for row in known if row.photograph not in test]
            inner = _parts(others, min(_INNER, len({row.photograph for row in others})), seed + 1)[0]
            folds.append(GradeFold(len(folds), upstream, test, inner))
    return folds


def _parts(rows: Sequence[PatchRow], k: int, seed: int) -> list[frozenset[str]]:
    """Their photographs in k parts of like shares of the grades."""
    groups = np.array([row.photograph for row in rows])
    if len(set(groups)) < k:
        raise UsageError(
            f"Patches of {len(set(groups))} photographs make no {k} folds. Give patches of more, or fewer folds."
        )
    grades = np.array([row.grade for row in rows])
    split = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(grades, grades, groups)
    return [frozenset(groups[test].tolist()) for _, test in split]
