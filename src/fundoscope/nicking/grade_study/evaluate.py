"""Step 7: every figure of a study of grades, from its calibrated predictions. Pure: no network is run, nothing is drawn.

    results.json    every figure with its interval, n and groups, confusion counts, and the points of the curves
    tables/         the same figures as CSV, a file a table, and the out-of-fold grade of every patch

Probabilities of a patch are means over seeds, and over folds where its photograph is in none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.errors import StudyError
from fundoscope.evaluation.metrics import (
    FALSE_POSITIVE_RATES,
    bootstrap,
    estimate,
    estimate_share,
    grade_counts,
    grade_difference,
    grade_estimates,
    paper_weights,
    pr_points,
    results_table,
    roc_band,
    roc_points,
)
from fundoscope.nicking.grade_study.prediction_table import (
    ACTIVATIONS,
    CALIBRATED,
    CALIBRATION,
    EXPLANATIONS,
    OWN,
    PROBABILITIES,
    RESULTS,
    TABLES,
    UNPERTURBED,
)
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.simulate.pinch import SHAMS
from fundoscope.studies import write_json
from fundoscope.vessels.grade_rule import GRADES

_BANDED = 2  # graders at most for which the ROC gets a band: more would hide each other

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class OutOfFoldGrades:
    """The graded patches of a table in its order, (n, ...), and what one arm predicts of them out of fold.

    `patches` says which they are, `p` (n, 4) are probabilities, `confident` (n,) whether the arm is confident enough
    for a grade in at least half of the fits that predict the patch.
    """

    patches: pd.DataFrame
    p: NDArray[np.float64]
    confident: NDArray[np.bool_]

    @property
    def truth(self) -> NDArray[np.int64]:
        """Their grades."""
        return self.patches["grade"].to_numpy(np.int64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The grades that are predicted."""
        return median_grades(self.p)

    @property
    def photographs(self) -> list[str]:
        """Whose patches they are: the groups of every interval."""
        return self.patches["photograph"].tolist()


@dataclass(frozen=True, eq=False)
class GradePredictions:
    """The rows of calibrated.parquet, and those of calibration.csv."""

    rows: pd.DataFrame
    fits: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> GradePredictions:
        """From a study's folder; `StudyError` where they are not there."""
        for name in (CALIBRATED, CALIBRATION):
            if not (folder / name).exists():
                raise StudyError(f"{folder / name} is not there. Run the study's command again.")
        return cls(pd.read_parquet(folder / CALIBRATED), pd.read_csv(folder / CALIBRATION))

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the order of the study."""
        return self.rows["arm"].unique().tolist()

    @property
    def networks(self) -> list[str]:
        """The arms that predict perturbed patches as well: rules do not."""
        perturbed = set(self.rows.loc[self.rows["variant"] != UNPERTURBED, "arm"])
        return [arm for arm in self.arms if arm in perturbed]

    @property
    def other_tables(self) -> list[str]:
        """Tested tables besides the study's own."""
        return [table for table in self.rows["table"].unique() if table != OWN]

    @property
    def perturbed_variants(self) -> list[str]:
        """How patches are perturbed."""
        return [variant for variant in self.rows["variant"].unique() if variant != UNPERTURBED]

    def out_of_fold(self, arm: str, table: str = OWN, variant: str = UNPERTURBED) -> OutOfFoldGrades:
        """What an arm predicts of a table's graded test patches in a variant."""
        rows = self.rows
        wanted = (rows["arm"] == arm) & (rows["table"] == table) & (rows["variant"] == variant)
        found = rows[wanted & (rows["part"] == "test") & rows["grade"].notna()]
        _, first, patch = np.unique(found["row"].to_numpy(), return_index=True, return_inverse=True)
        total, times = np.zeros((len(first), GRADES)), np.bincount(patch, minlength=len(first))
        np.add.at(total, patch, found[PROBABILITIES].to_numpy())
        confident = np.bincount(patch, found["confident"].to_numpy(float), minlength=len(first))
        return OutOfFoldGrades(found.iloc[first], total / times[:, None], confident >= times / 2)


def evaluate(folder: Path) -> list[str]:
    """Write results.json and tables/ of a study; returns the lines that a person wants to read first."""
    predictions = GradePredictions.read(folder)
    tables = {
        "grades": [
            {
                "grader": arm,
                "inner_log_loss": float(
                    np.mean(predictions.fits.loc[predictions.fits["arm"] == arm, "inner_log_loss"])
                ),
                **grade_figures(predictions.out_of_fold(arm)),
            }
            for arm in predictions.arms
        ],
        "other_tables": [
            {"table": table, "grader": arm, **grade_figures(predictions.out_of_fold(arm, table))}
            for table in predictions.other_tables
            for arm in predictions.arms
        ],
        "differences": list(kappa_differences(predictions)),
        "perturbed": [row for arm in predictions.networks for row in perturbed_figures(predictions, arm)],
        "shams": [row for arm in predictions.networks for row in sham_figures(arm, predictions.out_of_fold(arm))],
        "pointing": list(pointing_figures(folder / EXPLANATIONS / ACTIVATIONS)),
    }
    for name, rows in tables.items():
        path = folder / TABLES / f"{name}.csv"
        path.unlink(missing_ok=True)  # of an earlier run with other graders
        if rows:
            results_table(rows, path)
    results_table(list(list_predictions(predictions)), folder / TABLES / "out_of_fold.csv")
    write_json(folder / RESULTS, _as_json({**tables, **_drawn_figures(predictions)}))
    return [
        *(f"{row['grader']}: quadratic kappa {row['quadratic_kappa']}, accuracy {row['accuracy']}" for row in tables["grades"]),
        *(f"{row['table']}: {row['comparison']}: {row['quadratic_kappa']}" for row in tables["differences"]),
    ]  # fmt: skip


def grade_figures(grades: OutOfFoldGrades) -> Row:
    """Kappas, accuracy and recalls; how well nicked and not nicked are separated; the first two also with the grades weighed as they
    come in the 90-patch set (`papers_mix`).
    """
    y, predicted, groups = grades.truth, grades.predicted, grades.photographs
    nicked = {
        f"nicked_{name}": estimate((y > 0).astype(int), 1 - grades.p[:, 0], name, groups=groups)
        for name in ("auc", "average_precision")
    }
    mixed = grade_estimates(y, predicted, groups, paper_weights(y))
    papers_mix = {f"papers_mix_{name}": mixed[name] for name in ("quadratic_kappa", "accuracy")}
    return {**grade_estimates(y, predicted, groups), **nicked, **papers_mix}


def kappa_differences(predictions: GradePredictions) -> Iterator[Row]:
    """Quadratic kappa of the first arm less each other's, paired, on each table."""
    first, *others = predictions.arms
    for table in (OWN, *predictions.other_tables):
        one = predictions.out_of_fold(first, table)
        for arm in others:
            other = predictions.out_of_fold(arm, table)
            difference = grade_difference(one.truth, one.predicted, other.predicted, one.photographs, (first, arm))
            yield {"table": table, "comparison": f"{first} less {arm}", "quadratic_kappa": difference}


def perturbed_figures(predictions: GradePredictions, arm: str) -> Iterator[Row]:
    """Quadratic kappa of a network's grade of perturbed patches with that of the same ones unperturbed, and with the truth."""
    unperturbed = predictions.out_of_fold(arm)
    for variant in predictions.perturbed_variants:
        perturbed, groups = predictions.out_of_fold(arm, OWN, variant), unperturbed.photographs
        against = (unperturbed.predicted, unperturbed.truth)
        kappas = [grade_estimates(y, perturbed.predicted, groups)["quadratic_kappa"] for y in against]
        yield {
            "grader": arm, "variant": variant, "kappa_to_unperturbed": kappas[0], "kappa_to_truth": kappas[1],
        }  # fmt: skip


def sham_figures(arm: str, grades: OutOfFoldGrades) -> Iterator[Row]:
    """The share of patches that are graded at all; and of these the share of each sham on a healthy vein that is graded 0, and
    recalls of 2 and 3.
    """
    truth, predicted, confident = grades.truth, grades.predicted, grades.confident
    shams = np.where(grades.patches["narrowed"].to_numpy(), "", grades.patches["sham"].to_numpy())

    def share(what: str, patches: NDArray[np.bool_], right: NDArray[np.bool_]) -> Row:
        groups = [photograph for photograph, chosen in zip(grades.photographs, patches, strict=True) if chosen]
        return {"grader": arm, "what": what, "share": estimate_share(right[patches], groups)}

    yield share("graded at all", np.ones(len(truth), bool), confident)
    for sham in SHAMS:
        patches = (truth == 0) & (shams == sham)
        if patches.any():
            yield share(f"sham '{sham}' alone graded 0", patches & confident, predicted == 0)
    for grade in (2, 3):
        yield share(f"grade {grade} graded {grade}", (truth == grade) & confident, predicted == grade)
    for what, patches in (("2 or 3", truth >= 2), ("0 or 1", truth < 2)):
        yield share(f"grade {what} graded 2 or 3", patches & confident, predicted >= 2)


def pointing_figures(activations: Path) -> Iterator[Row]:
    """For each network and stream: the share of its activation on the venous flanks of nicked patches, and that share over
    the flanks' share of the area, which chance would give.
    """
    rows = pd.read_csv(activations)
    for _, found in rows.groupby(["grader", "stream"], sort=False):
        mass, area = found["mass"].to_numpy(), found["area"].to_numpy()
        y, groups = np.ones(len(found)), found["photograph"].tolist()
        over = bootstrap(lambda w, m=mass, a=area: {"over chance": (w @ m) / (w @ a)}, y, groups)["over chance"]
        mean = bootstrap(lambda w, m=mass: {"mass": (w @ m) / w.sum(axis=1)}, y, groups)["mass"]
        yield {**found.iloc[0][["grader", "stream"]], "over_chance": over, "mass": mean}


def list_predictions(predictions: GradePredictions) -> Iterator[Row]:
    """A row a patch and arm: which patch it is, its grade, the probabilities, the grade that is predicted."""
    for arm in predictions.arms:
        grades = predictions.out_of_fold(arm)
        for k, patch in enumerate(grades.patches.to_dict("records")):
            about = {"grader": arm, **{name: patch[name] for name in ("patch", "photograph", "sham")}}
            p = {name: round(float(value), 4) for name, value in zip(PROBABILITIES, grades.p[k], strict=True)}
            yield {
                **about, "grade": int(patch["grade"]), **p, "predicted_grade": int(grades.predicted[k]),
                "confident": bool(grades.confident[k]),
            }  # fmt: skip


def _drawn_figures(predictions: GradePredictions) -> Row:
    """What the pages draw: confusion counts (4, 4), truth by row; points of the ROC and precision-recall curves of
    nicked or not, with a band (false-positive rate, low, high) where there are few arms; the share that is nicked.
    """
    confusion, curves, nicked_share = {}, {}, math.nan
    for arm in predictions.arms:
        grades = predictions.out_of_fold(arm)
        y, score = (grades.truth > 0).astype(int), 1 - grades.p[:, 0]
        nicked_share = float(y.mean())
        confusion[arm] = grade_counts(grades.truth, grades.predicted)
        banded = len(predictions.arms) <= _BANDED
        band = [FALSE_POSITIVE_RATES, *roc_band(y, score, grades.photographs)] if banded else None
        curves[arm] = {"roc": roc_points(y, score), "precision_recall": pr_points(y, score), "roc_band": band}
    return {"graders": predictions.arms, "nicked_share": nicked_share, "confusion": confusion, "curves": curves}


def _as_json(value: Any) -> Any:
    """Plain values: dataclasses as objects, arrays as lists, nan as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _as_json(asdict(value))
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_as_json(each) for each in value]
    if isinstance(value, np.generic):
        return _as_json(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
