"""Folds: a cohort divided for nested cross-validation, written once as a file and reused.

Each outer fold tests on one part of the groups. The rest is divided again: `train` is fitted, `inner` decides when to stop, the
temperature, the threshold and every choice between models. No group stands in two parts of a fold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.balance import Counts, deal_groups
from fundoscope.cohort.columns import LABELS
from fundoscope.cohort.groups import Groups
from fundoscope.cohort.table import Cohort, list_some
from fundoscope.errors import CohortError, LeakError, UsageError

VERSION = 1
PARTS = ("test", "train", "inner")


@dataclass(frozen=True, slots=True)
class Fold:
    """One outer fold, as rows of the cohort, ascending: `test` is held out, `train` is fitted, `inner` is for every choice."""

    number: int
    test: tuple[int, ...]
    train: tuple[int, ...]
    inner: tuple[int, ...]

    def rows(self, part: str) -> tuple[int, ...]:
        """The rows of the part named test, train or inner."""
        return {"test": self.test, "train": self.train, "inner": self.inner}[part]

    def part_of(self, row: int) -> str:
        """The part that a row stands in."""
        return next(part for part in PARTS if row in self.rows(part))


@dataclass(frozen=True, slots=True)
class Folds:
    """The folds of one cohort.

    `photographs` (each one's cells and the digest of its file) and `cohort_sha256` tie them to that cohort; `groups` says which
    photographs stay together, and by what rule.
    """

    folds: tuple[Fold, ...]
    groups: Groups
    seed: int
    cohort_sha256: str
    photographs: tuple[dict[str, Any], ...]

    @classmethod
    def make(cls, cohort: Cohort, groups: Groups, k: int = 5, inner: float = 0.22, seed: int = 0) -> Folds:
        """Folds of a cohort: `k` outer ones, with the share `inner` of the remaining groups as each one's inner part.

        Equal seeds give equal folds. Raises `CohortError` when a class has too few groups for every part to
        hold it.
        """
        if k < 2 or not 0 < inner < 1:
            raise UsageError(f"folds={k}, inner={inner}: these make no parts. Give folds >= 2 and 0 < inner < 1.")
        counts = _counts(cohort, groups)
        _check_enough(counts, k, groups.rule)
        rng = np.random.default_rng(seed)
        outer = deal_groups(counts, [1 / k] * k, rng)
        folds = tuple(_nested(number, outer, counts, groups.numbers, inner, rng) for number in range(k))
        made = cls(folds, groups, seed, cohort.sha256, _photographs(cohort))
        made.check_partition()
        made.check_classes(cohort)
        made.check_groups(cohort, groups)
        return made

    @classmethod
    def read(cls, path: str | Path, cohort: Cohort, allow_leaks: bool = False) -> Folds:
        """The folds in a file, for the very cohort they were made of.

        Raises `CohortError` naming what differs when the cohort changed, or when the file is not whole; and
        `LeakError` when a group stands in two parts, unless `allow_leaks` (the audit reports them instead).
        """
        path = Path(path)
        folds = _from_json(_read_json(path), str(path))
        if folds.cohort_sha256 != cohort.sha256:
            changes = list_some(_changes(folds.photographs, _photographs(cohort)), " | ")
            raise CohortError(
                f"{path}: made of another cohort than {cohort.name}: {changes}. "
                "Restore the cohort as it was, or make folds anew under another name."
            )
        folds.check_partition(str(path))
        if not allow_leaks:
            folds.check_groups(cohort, folds.groups)
        return folds

    def write(self, path: str | Path) -> Path:
        """Write the folds as JSON, in one step; a file that holds other folds is never overwritten."""
        path = Path(path)
        text = json.dumps(self.to_json(), indent=1) + "\n"
        if path.exists() and path.read_text("utf-8") != text:
            raise CohortError(f"{path}: holds other folds already. Read those, or give another path.")
        beside = path.with_name(f"{path.name}.{os.getpid()}.part")
        beside.write_text(text, "utf-8")
        beside.replace(path)
        return path

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        return {
            "version": VERSION,
            "cohort_sha256": self.cohort_sha256,
            "seed": self.seed,
            "groups": {"rule": self.groups.rule, "of": list(self.groups.names)},
            "folds": [
                {
                    part: {
                        "rows": list(fold.rows(part)),
                        "images": [self.photographs[row]["image"] for row in fold.rows(part)],
                    }
                    for part in PARTS
                }
                for fold in self.folds
            ],
            "photographs": list(self.photographs),
        }

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __getitem__(self, number: int) -> Fold:
        return self.folds[number]

    def leave_out(self, cohort: Cohort, camera: str, number: int, inner: float, seed: int) -> Fold:
        """A fold that tests every photograph by `camera` and learns from the others, except those whose group that camera saw too.

        Raises `CohortError` where a part would hold one class only.
        """
        groups, tested = self.groups.numbers, np.array(cohort.cameras) == camera
        part = np.full(groups.max() + 1, -1)  # of each group, as PARTS counts them; -1: seen by both
        rest = np.setdiff1d(groups, groups[tested])
        counts = _counts(cohort, self.groups)
        part[rest] = 1 + deal_groups(counts[rest], [1 - inner, inner], np.random.default_rng(seed))
        train, inside = (tuple(np.flatnonzero(part[groups] == at).tolist()) for at in (1, 2))
        fold = Fold(number, tuple(np.flatnonzero(tested).tolist()), train, inside)
        for name in PARTS:
            if len(set(cohort.labels[list(fold.rows(name))].tolist())) < 2:
                raise CohortError(f"the {name} part would have one class only. Add photographs of the other class.")
        return fold

    def check_partition(self, name: str = "folds") -> str:
        """A sentence which says that each photograph is tested once and stands once in every fold.

        Raises `CohortError` where that is not so.
        """
        everything = list(range(len(self.photographs)))
        tested = sorted(chain.from_iterable(fold.test for fold in self.folds))
        if tested != everything:
            wrong = sorted(row for row in {*everything, *tested} if tested.count(row) != 1)
            raise CohortError(
                f"{name}: not tested exactly once: row {list_some([str(row) for row in wrong])}. Make the folds anew."
            )
        for fold in self.folds:
            if sorted(fold.test + fold.train + fold.inner) != everything:
                raise CohortError(
                    f"{name}: fold {fold.number} does not hold each photograph once. Make the folds anew."
                )
        return f"each of {len(everything)} photographs is tested exactly once, in {len(self.folds)} folds"

    def check_classes(self, cohort: Cohort) -> None:
        """Raise `CohortError` when a part of a fold holds one class only: nothing could be measured on it."""
        for fold in self.folds:
            for part in PARTS:
                if len(set(cohort.labels[list(fold.rows(part))])) < 2:
                    raise CohortError(
                        f"{cohort.name}: the {part} part of fold {fold.number} has one class only, because "
                        f"groups ({self.groups.rule}) stay whole. Ask for fewer folds, or add photographs."
                    )

    def check_groups(self, cohort: Cohort, groups: Groups) -> None:
        """Raise `LeakError` naming the photographs when a group stands in two parts of a fold."""
        numbers = groups.numbers
        for fold in self.folds:
            part = np.zeros(len(cohort), np.int64)
            for number, name in enumerate(PARTS):
                part[list(fold.rows(name))] = number
            home = np.full(numbers.max() + 1, -1)
            home[numbers[::-1]] = part[::-1]  # the part of each group's first photograph
            strays = np.flatnonzero(home[numbers] != part)
            if len(strays):
                rows = np.flatnonzero(numbers == numbers[strays[0]]).tolist()
                named = list_some([f"{cohort[row].image} ({fold.part_of(row)})" for row in rows])
                raise LeakError(
                    f"{groups.names[rows[0]]} stands on two sides of fold {fold.number}: {named}. "
                    "Make the folds anew, so that its photographs stay together."
                )

    def table(self, cohort: Cohort) -> list[dict[str, Any]]:
        """A row for each fold and part: numbers of photographs, groups and infants, in all and by class."""
        rows: list[dict[str, Any]] = []
        for fold, part in product(self.folds, PARTS):
            records = [cohort[row] for row in fold.rows(part)]
            row: dict[str, Any] = {"fold": fold.number, "part": part, "photographs": len(records)}
            row |= {label: sum(r.label == label for r in records) for label in LABELS}
            row["treatment_requiring"] = sum(r.treatment_requiring is True for r in records)
            row["groups"] = len({self.groups.names[r.row] for r in records})
            if cohort.has_infants:
                row["infants"] = len({r.infant for r in records})
                row |= {f"infants_{label}": len({r.infant for r in records if r.label == label}) for label in LABELS}
            rows.append(row)
        return rows


def _counts(cohort: Cohort, groups: Groups) -> Counts:
    """Photographs of each group by class: normal, rop, treatment-requiring ROP (a part of rop), and each label of each camera
    where the table tells cameras apart.
    """
    numbers, n = groups.numbers, len(groups)
    classes = [cohort.labels == 0, cohort.labels == 1, cohort.treatments == 1]
    cameras = np.array(cohort.cameras)
    classes += [(cameras == camera) & (cohort.labels == label) for camera in np.unique(cameras) for label in (0, 1)]
    return np.stack([np.bincount(numbers[members], minlength=n) for members in classes], axis=1).astype(float)


def _check_enough(counts: Counts, k: int, rule: str) -> None:
    groups = {label: int((counts[:, number] > 0).sum()) for number, label in enumerate(LABELS)}
    rarer = min(groups, key=groups.__getitem__)
    if groups[rarer] < max(k, 3):  # test, train and inner need one each
        raise CohortError(
            f"{k} folds need {max(k, 3)} groups of each class, {rarer} has {groups[rarer]} ({rule}). "
            "Ask for fewer folds, or add photographs of other infants."
        )


def _nested(
    number: int,
    outer: NDArray[np.int64],
    counts: Counts,
    groups: NDArray[np.int64],
    inner: float,
    rng: np.random.Generator,
) -> Fold:
    rest = np.flatnonzero(outer != number)
    part = np.zeros(len(counts), np.int64)  # of each group, as PARTS counts them
    part[rest] = 1 + deal_groups(counts[rest], [1 - inner, inner], rng)
    test, train, inside = (tuple(np.flatnonzero(part[groups] == at).tolist()) for at in range(3))
    return Fold(number, test, train, inside)


def _photographs(cohort: Cohort) -> tuple[dict[str, Any], ...]:
    return tuple(r.content() | {"sha256": d} for r, d in zip(cohort, cohort.digests, strict=True))


def _changes(before: tuple[dict[str, Any], ...], now: tuple[dict[str, Any], ...]) -> list[str]:
    """What differs between two states of a table, a clause each."""
    old, new = {p["image"]: p for p in before}, {p["image"]: p for p in now}
    if gone := [f"{image} is gone" for image in old if image not in new]:
        return gone
    if added := [f"{image} was added" for image in new if image not in old]:
        return added
    changed = [f"{image}: {_change(old[image], new[image])}" for image in old if old[image] != new[image]]
    return changed or ["the rows stand in another order or another number"]


def _change(old: dict[str, Any], new: dict[str, Any]) -> str:
    key = next(key for key in new if old.get(key) != new[key])
    return "the file's content" if key == "sha256" else f"{key} was {old.get(key)!r} and is {new[key]!r}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CohortError(f"{path}: cannot be read ({error.strerror}). Give the path of the folds.") from error
    except ValueError as error:
        raise CohortError(f"{path}: is no JSON file ({error}). Make the folds anew.") from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise CohortError(f"{path}: is no file of folds of version {VERSION}. Make the folds anew.")
    return values


def _from_json(values: dict[str, Any], name: str) -> Folds:
    try:
        groups = Groups(tuple(map(str, values["groups"]["of"])), str(values["groups"]["rule"]))
        folds = tuple(
            Fold(number, *(tuple(map(int, fold[part]["rows"])) for part in PARTS))
            for number, fold in enumerate(values["folds"])
        )
        photographs = tuple(dict(photograph) for photograph in values["photographs"])
        if len(groups.names) != len(photographs):
            raise ValueError(f"{len(groups.names)} groups for {len(photographs)} photographs")
        return Folds(folds, groups, int(values["seed"]), str(values["cohort_sha256"]), photographs)
    except (KeyError, TypeError, ValueError) as error:
        raise CohortError(f"{name}: is no whole file of folds ({error!r}). Make the folds anew.") from error
