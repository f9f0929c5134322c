"""Both stages of paper 000 on simulated infants, end to end, by infant.

    python benchmarks/simulated_study.py [--out runs/simulated-study] [--photographs 960]

Simulates a cohort (infants with both eyes and several views), keeps at most two views an eye, and runs the whole study of
recipe `lite` on it (at 160 px, two epochs: half an hour on two cores): teacher, student, student alone, five folds, both questions, the cascade by photograph, eye, exam and
infant. Then everything once more as if normal : ROP without : with need of treatment stood 1459 : 113 : 345, as in the
paper. Writes docs/results/simulated_study. SIMULATED: it shows that the chain holds, nothing of real eyes.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.evaluation import estimates, results_table
from fundoscope.evaluation.decisions import Cascade, class_weights, score_cascade
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.study.plan import StudyOptions
from fundoscope.rop.study.run import run_study
from fundoscope.simulate import write_infants

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "simulated_study"
SEED, SIDE, VIEWS = 4000, 400, 2
MIX = {0: 1459, 1: 113, 2: 345}  # normal, ROP without need of treatment, with it: paper 000, table 3
METRICS = ("auc", "accuracy", "precision", "f1", "sensitivity", "specificity")


def cohort_of(out: Path, photographs: int) -> Path:
    """The table of the study: of each eye the first `VIEWS` gradable views."""
    eyes = out.with_name(out.name + "-eyes")
    table = eyes / "study.csv"
    if table.exists():
        return table
    if not (eyes / "cohort.csv").exists():
        shutil.rmtree(eyes, ignore_errors=True)
        write_infants(photographs, eyes, SEED, workers=2, size=SIDE)
    taken: Counter[tuple[str | None, str | None]] = Counter()
    kept = []
    for record in Cohort.read(eyes / "cohort.csv"):
        key = (record.infant, record.eye)
        if record.extra["level"] != "ungradable" and taken[key] < VIEWS:
            taken[key] += 1
            kept.append(record)
    Cohort(kept, str(table)).write(table)
    return table


def told(cohort: Cohort) -> str:
    """How many photographs and infants of each kind."""
    kinds = {"normal": set(), "no treatment": set(), "treatment": set()}
    worst: dict[str | None, int] = {}
    for record in cohort:
        kind = 0 if record.label == "normal" else 1 + bool(record.treatment_requiring)
        worst[record.infant] = max(worst.get(record.infant, 0), kind)
    for infant, kind in worst.items():
        list(kinds.values())[kind].add(infant)
    return ", ".join(f"{len(infants)} infants {name}" for name, infants in kinds.items())


def weighted(study: Path, cohort: Cohort) -> None:
    """The figures at the paper's mix of classes, by photograph."""
    answers = pd.read_csv(study / "tables" / "out_of_fold.csv").query("variant == 'plain'")
    classes = np.where(cohort.labels == 0, 0, np.where(cohort.treatments == 1, 2, 1))
    weights = class_weights(classes, MIX)
    groups = np.array([record.infant for record in cohort])
    rows = []
    for (question, network), part in answers.groupby(["question", "network"], sort=False):
        asked = np.flatnonzero(part.query("seed == 0").label.to_numpy() >= 0)
        p, threshold = (_seeds(part, column)[:, asked] for column in ("p", "threshold"))
        y = part.query("seed == 0").label.to_numpy()[asked]
        found = estimates(y, p, metrics=METRICS, threshold=threshold, groups=groups[asked], weights=weights[asked])
        rows.append({"question": question, "network": network, **found})
    results_table(rows, RESULTS / "papers_mix.csv")
    student = dict(iter(answers.query("network == 'student'").groupby("question")))
    (p_rop, t_rop), (p_tr, t_tr) = (
        (_seeds(student[q], "p"), _seeds(student[q], "threshold")) for q in ("rop", "treatment")
    )
    cascade = score_cascade(classes == 2, classes > 0, Cascade(p_rop, p_tr, t_rop, t_tr), groups, weights)
    results_table(cascade, RESULTS / "papers_mix_cascade.csv")
    for row in (*rows, *cascade):
        print("  ".join(str(value) for value in row.values()))


def _seeds(part: pd.DataFrame, column: str) -> NDArray[np.float64]:
    return np.stack([each[column].to_numpy() for _, each in part.groupby("seed")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "simulated-study")
    parser.add_argument("--photographs", type=int, default=960)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--size", type=int, default=160, help="pixels of the input; the recipe's 256 take thrice the time"
    )
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    table = cohort_of(given.out, given.photographs)
    cohort = Cohort.read(table)
    print(f"{len(cohort)} photographs: {told(cohort)}")
    # the eyes are simulated already: pretraining on more of them would only double the time
    recipe = read_recipe("lite").changed(size=given.size, epochs=given.epochs, pretraining=False)
    run_study(StudyOptions(table, given.out, recipe, prevalences=(0.061, 0.431)), Console())
    shutil.rmtree(RESULTS, ignore_errors=True)
    shutil.copytree(given.out / "tables", RESULTS)
    shutil.copy(given.out / "report.html", RESULTS / "report.html")
    weighted(given.out, cohort)


if __name__ == "__main__":
    main()
