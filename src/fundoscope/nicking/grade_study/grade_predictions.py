"""What each grader of a study predicts out of fold, read from its calibrated predictions."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.errors import StudyError
from fundoscope.evaluation.metrics import grade_metrics, grade_pairs
from fundoscope.nicking.grade_study.prediction_table import (
    CALIBRATED,
    CALIBRATION,
    EXCHANGED,
    OWN,
    PROBABILITIES,
    UNPERTURBED,
)
from fundoscope.nicking.grade_study.resampling import Array, Resamples
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.vessels.grade_rule import GRADES

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class StudiedGrader:
    """A grader of which figures are given: an arm, each seed for itself, or its seeds together, whose probabilities are averaged."""

    arm: str
    together: int = 0  # how many seeds

    @property
    def name(self) -> str:
        """As tables and legends have it."""
        return f"{self.arm}, {self.together} seeds together" if self.together else self.arm


@dataclass(frozen=True, eq=False)
class OutOfFoldGrades:
    """The graded patches of a table in its order, n, and what each of S seeds of a grader predicts of them out of fold.

    `p` (S, n, 4) are probabilities; `margin` (S, n) is by how much the confidence exceeds the minimum confidence. `stream`
    is a number of the grader: its seeds are resampled apart from those of others.
    """

    patches: pd.DataFrame
    p: Array
    margin: Array
    resamples: Resamples
    stream: int

    @property
    def truth(self) -> NDArray[np.int64]:
        """Their grades, (n,)."""
        return self.patches["grade"].to_numpy(np.int64)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The grades that each seed predicts, (S, n)."""
        return np.array([median_grades(p) for p in self.p])

    @property
    def confidence(self) -> Array:
        """The probability of each seed's likeliest grade, (S, n)."""
        return self.p.max(axis=2)

    @property
    def confident(self) -> Mask:
        """Where each seed reaches its minimum confidence, (S, n)."""
        return self.margin >= 0

    def together(self) -> OutOfFoldGrades:
        """The seeds as one grader, confident where they are in the mean."""
        return replace(self, p=self.p.mean(axis=0)[None], margin=self.margin.mean(axis=0)[None])

    def metrics(self, chosen: NDArray[Any] | None = None, against: NDArray[np.int64] | None = None) -> dict[str, Array]:
        """Each of `GRADE_METRICS` on the sample and its resamples, (1 + B,), the mean over seeds.

        Only patches `chosen` (S, n) count, or each by its weight there; grades are compared with the truth or with those `against` (S, n).
        """
        found = []
        for s, predicted in enumerate(self.predicted):
            pairs, _ = grade_pairs(self.truth if against is None else against[s], predicted)
            found.append(
                grade_metrics(self.resamples.weights @ (pairs if chosen is None else pairs * chosen[s][:, None]))
            )
        return {name: self._mean(np.array([each[name] for each in found])) for name in found[0]}

    def share(self, values: NDArray, among: Mask) -> Array:
        """The mean of `values` (S, n) over the patches `among` (S, n) on the sample and its resamples, (1 + B,); over seeds, too."""
        weights = self.resamples.weights
        with np.errstate(invalid="ignore", divide="ignore"):
            each = [(weights @ (v * m)) / (weights @ m.astype(float)) for v, m in zip(values, among, strict=True)]
        return self._mean(np.array(each))

    def _mean(self, values: Array) -> Array:
        return self.resamples.mean_over_seeds(values, self.stream)


@dataclass(frozen=True, eq=False)
class GradePredictions:
    """The rows of calibrated.parquet, and those of calibration.csv."""

    rows: pd.DataFrame
    fits: pd.DataFrame
    _resamples: dict[str, Resamples] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> GradePredictions:
        """From a study's folder; `StudyError` where they are not there."""
        for name in (CALIBRATED, CALIBRATION):
            if not (folder / name).exists():
                raise StudyError(f"{folder / name} is not there. Run the study's command again.")
        return cls(pd.read_parquet(folder / CALIBRATED), pd.read_csv(folder / CALIBRATION))

    @property
    def graders(self) -> list[StudiedGrader]:
        """Every arm in the order of the study; then the seeds together of each network that has several."""
        arms = self.rows["arm"].unique().tolist()
        seeds = self.rows.groupby("arm")["seed"].nunique()
        several = [StudiedGrader(arm, int(seeds[arm])) for arm in self.networks if seeds[arm] > 1]
        return [*map(StudiedGrader, arms), *several]

    @cached_property
    def networks(self) -> list[str]:
        """The arms that predict perturbed patches as well: rules do not."""
        perturbed = set(self.rows.loc[self.rows["variant"] != UNPERTURBED, "arm"])
        return [arm for arm in self.rows["arm"].unique() if arm in perturbed]

    @property
    def tables(self) -> list[str]:
        """Tested tables, the study's own first."""
        return [OWN, *(table for table in self.rows["table"].unique() if table != OWN)]

    @property
    def perturbed_variants(self) -> list[str]:
        """How patches are perturbed in ways that leave the grade."""
        return [each for each in self.rows["variant"].unique() if each not in (UNPERTURBED, EXCHANGED)]

    @cached_property
    def _tested(self) -> Mapping[tuple[str, str, str], pd.DataFrame]:
        """Rows of graded test patches by arm, table and variant."""
        tested = self.rows[(self.rows["part"] == "test") & self.rows["grade"].notna()]
        found = {}
        for (arm, table, variant), rows in tested.groupby(["arm", "table", "variant"], sort=False):
            found[str(arm), str(table), str(variant)] = rows
        return found

    @cached_property
    def _common(self) -> dict[str, NDArray[np.int64]]:
        """Of each table the rows that every seed of every arm predicts, so that all are judged by the same patches."""
        found = {}
        for table in self.tables:
            seen = [
                set(rows["row"])
                for (_, of, variant), each in self._tested.items()
                if (of, variant) == (table, UNPERTURBED)
                for _, rows in each.groupby("seed")
            ]
            found[table] = np.array(sorted(set.intersection(*seen)) if seen else [], np.int64)
        return found

    def out_of_fold(self, grader: StudiedGrader, table: str = OWN, variant: str = UNPERTURBED) -> OutOfFoldGrades:
        """What a grader predicts of a table's graded test patches in a variant; the mean over folds where several do."""
        wanted = self._common[table]
        found = self._tested[grader.arm, table, variant]
        found = found[np.isin(found["row"].to_numpy(), wanted)]
        seeds, seed = np.unique(found["seed"].to_numpy(), return_inverse=True)
        at = seed * len(wanted) + np.searchsorted(wanted, found["row"].to_numpy())
        shape = (len(seeds), len(wanted))
        times = np.bincount(at, minlength=len(seeds) * len(wanted)).reshape(shape)
        columns = found[[*PROBABILITIES, "margin"]].to_numpy(float).T
        sums = [np.bincount(at, values, minlength=times.size).reshape(shape) for values in columns]
        patches = found.drop_duplicates("row").sort_values("row", ignore_index=True)
        if table not in self._resamples:
            self._resamples[table] = Resamples.draw(patches["photograph"].tolist(), patches["crossing"].tolist())
        p, margin = np.stack(sums[:GRADES], axis=2) / times[..., None], sums[-1] / times
        grades = OutOfFoldGrades(patches, p, margin, self._resamples[table], zlib.crc32(grader.arm.encode()))
        return grades.together() if grader.together else grades
