"""What the arms of a study of grades said, put together from its folds, and every figure of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation import estimate
from fundoscope.evaluation.metrics import (
    estimate_share,
    grade_difference,
    grade_estimates,
    paper_weights,
    results_table,
)
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.train import GradeFoldData, log_loss
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.simulate.pinch import SHAMS

REFUSED = 0.1  # share of the inner patches, the least sure ones, that is not to be graded

Row = dict[str, object]
Floats = NDArray[np.float64]


def sureness(p: Floats) -> Floats:
    """How sure a grade is, (n,): the greatest probability."""
    return p.max(axis=1)


@dataclass(frozen=True, eq=False)
class Said:
    """What an arm said of the patches `rows` of a table: probabilities (n, 4), and which are sure enough to be graded."""

    rows: Sequence[PatchRow]
    p: Floats
    sure: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.int64]:
        """Ranks of the patches that have a grade and were asked about."""
        return np.array([k for k, r in enumerate(self.rows) if r.grade is not None and np.isfinite(self.p[k, 0])], int)

    @property
    def truth(self) -> NDArray[np.int64]:
        """Their grades."""
        return np.array([self.rows[k].grade for k in self.known], int)

    @property
    def told(self) -> NDArray[np.int64]:
        """What they were told as."""
        return median_grades(self.p[self.known])

    @property
    def groups(self) -> list[str]:
        """Their photographs."""
        return [self.rows[k].photograph for k in self.known]


@dataclass(frozen=True, eq=False)
class GradeAnswers:
    """The answers of all arms: `where(arm, seed, fold)` is the folder of one."""

    folds: dict[int, list[GradeFoldData]]
    where: dict[tuple[str, int, int], Path]
    arms: Sequence[str]
    variants: Sequence[str]

    @property
    def tables(self) -> list[str]:
        """The study's own table, "", and others that were tested."""
        return ["", *next(iter(self.folds.values()))[0].tables.others]

    def said(self, arm: str, table: str = "", variant: str = "usual") -> Said:
        """Out-of-fold probabilities, means over seeds (and over folds where a photograph is in none)."""
        tables = next(iter(self.folds.values()))[0].tables
        rows = tables.others[table] if table else tables.rows
        total, times, sure = np.zeros((len(rows), 4)), np.zeros(len(rows)), np.zeros(len(rows))
        for fold, kept in self._kept_of(arm):
            p, least = kept[f"{table}|{variant}"], np.quantile(sureness(kept["inner"]), REFUSED)
            ranks = fold.tested(table)
            total[ranks] += p
            times[ranks] += 1
            sure[ranks] += sureness(p) >= least
        with np.errstate(invalid="ignore"):
            return Said(rows, total / times[:, None], sure >= times / 2)

    @cached_property
    def figures(self) -> list[Row]:
        """The study's own patches: each arm's figures, as they are and with grades in the 90-patch set's shares."""
        return [
            {"grader": arm, "inner_log_loss": self.inner_loss(arm), **self._figures(self.said(arm))}
            for arm in self.arms
        ]

    @cached_property
    def elsewhere(self) -> list[Row]:
        """Each other table."""
        return [
            {"on": table, "grader": arm, **self._figures(self.said(arm, table))}
            for table in self.tables[1:]
            for arm in self.arms
        ]

    def inner_loss(self, arm: str) -> float:
        """Mean log loss on the folds' inner patches, by which designs can be chosen before the tested ones are looked at."""
        return float(
            np.mean([log_loss(kept["inner"], fold.tables.labelled[fold.inner]) for fold, kept in self._kept_of(arm)])
        )

    def _kept_of(self, arm: str) -> Iterator[tuple[GradeFoldData, Mapping[str, Floats]]]:
        """Each fold of each seed, and what the arm answered there, by table and variant."""
        for seed, folds in self.folds.items():
            for fold in folds:
                with np.load(self.where[arm, seed, fold.fold.number] / "answers.npz") as kept:
                    yield fold, kept

    def _figures(self, said: Said) -> Row:
        y, told, groups = said.truth, said.told, said.groups
        nicked = 1 - said.p[said.known][:, 0]
        mixed = grade_estimates(y, told, groups, paper_weights(y))
        row: Row = {**grade_estimates(y, told, groups)}
        for name in ("auc", "average_precision"):
            row[f"nicked_{name}"] = estimate((y > 0).astype(int), nicked, name, groups=groups)
        return row | {f"papers_mix_{name}": mixed[name] for name in ("quadratic_kappa", "accuracy")}

    @cached_property
    def differences(self) -> list[Row]:
        """Quadratic kappa of the first arm less each other's, paired, on each table."""
        first = self.arms[0]
        rows: list[Row] = []
        for table in self.tables:
            one = self.said(first, table)
            for arm in self.arms[1:]:
                other = self.said(arm, table)
                apart = grade_difference(one.truth, one.told, other.told, one.groups, (first, arm))
                rows.append({"on": table or "own", "what": f"{first} less {arm}", "quadratic_kappa": apart})
        return rows

    @cached_property
    def spoilt(self) -> list[Row]:
        """How well the grade of an untouched patch is kept in each variant, for the networks."""
        return [
            {"grader": arm, "variant": variant, **self._kept(self.said(arm), self.said(arm, "", variant))}
            for arm in self.arms
            if self.asks_variants(arm)
            for variant in self.variants[1:]
        ]

    def asks_variants(self, arm: str) -> bool:
        """Whether it is a network."""
        with np.load(self.where[arm, *self._first] / "answers.npz") as kept:
            return f"|{self.variants[-1]}" in kept

    @property
    def _first(self) -> tuple[int, int]:
        seed, folds = next(iter(self.folds.items()))
        return seed, folds[0].fold.number

    def _kept(self, untouched: Said, spoilt: Said) -> Row:
        against = grade_estimates(untouched.told, spoilt.told, untouched.groups)["quadratic_kappa"]
        true = grade_estimates(untouched.truth, spoilt.told, untouched.groups)["quadratic_kappa"]
        return {"kappa_to_untouched": against, "kappa_to_truth": true}

    @cached_property
    def shams(self) -> list[Row]:
        """Of the patches that are graded at all: the share of each sham alone told as grade 0, and the recall of 2 and 3."""
        return [row for arm in self.arms if self.asks_variants(arm) for row in self._shams(arm)]

    def _shams(self, arm: str) -> Iterator[Row]:
        said = self.said(arm)
        sure, told, truth = said.sure[said.known], said.told, said.truth
        kinds = np.array([said.rows[k].sham for k in said.known])
        yield self._share(arm, "graded at all", said, np.ones(len(truth), bool), sure)
        for sham in SHAMS:
            of = (truth == 0) & (kinds == sham)
            if of.any():
                yield self._share(arm, f"sham '{sham}' alone told as 0", said, of & sure, told == 0)
        for grade in (2, 3):
            yield self._share(arm, f"grade {grade} told as {grade}", said, (truth == grade) & sure, told == grade)
        for what, of in (("2 or 3", truth >= 2), ("0 or 1", truth < 2)):
            yield self._share(arm, f"grade {what} told as 2 or 3", said, of & sure, told >= 2)

    def _share(self, arm: str, what: str, said: Said, of: NDArray[np.bool_], right: NDArray[np.bool_]) -> Row:
        groups = [g for g, chosen in zip(said.groups, of, strict=True) if chosen]
        return {"grader": arm, "what": what, "share": estimate_share(right[of], groups)}

    def predictions(self) -> list[Row]:
        """A row a patch and arm: its grade, the probabilities, and what it was told as."""
        rows: list[Row] = []
        for arm in self.arms:
            said = self.said(arm)
            for k, told in zip(said.known, said.told, strict=True):
                row, p = said.rows[k], said.p[k]
                about = {"grader": arm, "patch": row.path.name, "photograph": row.photograph, "sham": row.sham}
                chances = {f"p{g}": round(float(p[g]), 4) for g in range(4)}
                rows.append({**about, "grade": row.grade, **chances, "told": int(told), "sure": bool(said.sure[k])})
        return rows

    def write_tables(self, folder: Path) -> None:
        """Write every table as CSV."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "grades": self.figures, "elsewhere": self.elsewhere, "differences": self.differences, "spoilt": self.spoilt,
            "shams": self.shams, "predictions": self.predictions(),
        }  # fmt: skip
        for name, rows in tables.items():
            if rows:
                results_table(rows, folder / f"{name}.csv")

    def lines(self) -> Iterator[str]:
        """The figures that a person wants first."""
        for row in self.figures:
            yield f"{row['grader']}: quadratic kappa {row['quadratic_kappa']}, accuracy {row['accuracy']}"
        for row in self.differences:
            yield f"{row['on']}: {row['what']}: {row['quadratic_kappa']}"
