"""Size and AUC of the small ROP grader on both cameras: `make nano-curve`.

    python benchmarks/nano_curve.py --data ../shared/data --out runs/nano/curve [--sizes 160,128,192,256] [--arms undistilled,student]

At each size of the input recipe `nano` is trained in the five folds of the RetCam photographs, from labels alone (`undistilled`) and
by its fold's own teacher (`student`), which is what recipe `lite` ships: nothing that answers a photograph ever saw it or was taught
by what did. The teachers and what was learnt from simulated eyes are shared. It goes on where it was cut off.

- RetCam: each fold's INT8 file on the photographs that the fold holds out, against docs/results/retcam (the study of the shipped
  grader, same folds) and against the fold's teacher, in pairs.
- Neo, which no network ever saw: the mean AUC of the five folds' INT8 files, against the shipped grader's INT8 file, in pairs.
Speed does not depend on what was learnt: benchmarks/nano_speed.py. Written to docs/results/nano.csv and nano_out_of_fold.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.bundles import open_bundle
from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort, audit, make_groups
from fundoscope.evaluation import difference, estimate
from fundoscope.networks.cost import measure_cost
from fundoscope.rop.recipes import TEACHER, read_recipe
from fundoscope.rop.study.calibrate import CALIBRATED, INT8_STEP, calibrate_all
from fundoscope.rop.study.data import prepare_squares
from fundoscope.rop.study.export import export_folds
from fundoscope.rop.study.networks import build_network
from fundoscope.rop.study.plan import StudyOptions, StudyPlan, make_plan
from fundoscope.rop.study.predict import predict_all
from fundoscope.rop.study.pretraining import pretrain
from fundoscope.rop.study.train import train_all

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
RETCAM, NEO = "hvdropdb_retcam", "hvdropdb_neo"
SHIPPED_ARM = "undistilled"  # of docs/results/retcam: what ships as `rop`
Scores = NDArray[np.float64]


def train(size: int, arm: str, table: Path, out: Path) -> StudyPlan:
    """The study of one arm at one size, run as far as the INT8 files of its folds, in `out`/ARM-SIZE; finished steps of another one
    that are the same here are taken over.
    """
    recipe = read_recipe("nano").changed(size=size)
    folder, console = out / f"{arm}-{size}", Console()
    plan = make_plan(StudyOptions(table, folder, recipe, networks=(arm,), independent=True), console)
    of_all = (
        "pretraining/eyes",
        f"pretraining/{recipe.networks.teacher}",
        *(f"fits/rop/{TEACHER}/seed-0/fold-{k}" for k in range(5)),
    )
    of_size = (f"pretraining/{recipe.networks.student}", "squares")
    for other in sorted(each for each in out.iterdir() if each.is_dir() and each != folder):
        for step in (*of_all, *(of_size if other.name.endswith(f"-{size}") else ())):
            if (other / step).is_dir():
                shutil.copytree(other / step, folder / step, copy_function=_link, dirs_exist_ok=True)
    data = prepare_squares(plan, console)
    pretrain(recipe, plan.arms, plan.study, console)
    train_all(plan, data, console)
    predict_all(plan, data, console)
    export_folds(plan, data, console)
    calibrate_all(plan)
    return plan


def _link(source: str, target: str) -> None:
    if not Path(target).exists():
        os.link(source, target)


def score(plan: StudyPlan, neo: Cohort, neo_groups: NDArray[np.int64], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of one study, but for its speed; what its folds answer is added to `rows`."""
    arm, size = plan.arms[-1].name, plan.recipe.standard.size
    y, groups, n = plan.cohort.labels, plan.group_numbers, len(plan.cohort)
    table = pd.read_parquet(plan.folder / CALIBRATED)
    tested = table[(table.part == "test") & (table.variant == "plain") & (table.question == "rop")]
    p = {}
    for name, of_arm, precision in (("int8", arm, "int8"), ("fp32", arm, "fp32"), (TEACHER, TEACHER, "torch")):
        own = tested[(tested.arm == of_arm) & (tested.precision == precision)]
        p[name] = np.full(n, np.nan)
        p[name][own.row] = own.probability
    shipped = shipped_out_of_fold(plan.cohort)
    fold_of = {row: fold.number for fold in plan.folds for row in fold.test}
    rows += [
        {"arm": arm, "size": size, "image": name_of(record.image), "label": int(y[k]), "group": int(groups[k]), "fold": fold_of[k],
         "p_int8": round(p["int8"][k], 6), "p_fp32": round(p["fp32"][k], 6), "p_teacher": "" if np.isnan(p[TEACHER][k]) else round(p[TEACHER][k], 6),
         "p_shipped_recipe": round(float(shipped[:, k].mean()), 6)}
        for k, record in enumerate(plan.cohort)
    ]  # fmt: skip
    bundles = [open_bundle(plan.study.result(INT8_STEP.format(fold.number)) / "bundle") for fold in plan.folds]
    ours, theirs = (np.stack([answers(each, neo) for each in some]) for some in (bundles, [open_bundle("rop")]))
    model = plan.study.result(INT8_STEP.format(0)) / "bundle" / "model.int8.onnx"
    cost = measure_cost(build_network(plan.recipe, plan.arm(arm), empty=True), size)
    found = {"arm": arm, "size": size, "parameters_m": round(cost.parameters / 1e6, 2), "macs_m": round(cost.macs / 1e6),
             "int8_mb": round(model.stat().st_size / 1e6, 3)}  # fmt: skip
    with_teacher = {} if np.isnan(p[TEACHER]).any() else {
        "retcam_minus_teacher": difference(y, p["int8"], p[TEACHER], groups=groups).estimate
    }  # fmt: skip
    for name, value in {
        "retcam_auc": estimate(y, p["int8"], groups=groups),
        "retcam_minus_shipped": difference(y, p["int8"], shipped, groups=groups).estimate,
        "retcam_int8_minus_fp32": difference(y, p["int8"], p["fp32"], groups=groups).estimate,
        "neo_auc": estimate(neo.labels, ours, groups=neo_groups),
        "neo_minus_shipped": difference(neo.labels, ours, theirs, groups=neo_groups).estimate,
        **with_teacher,
    }.items():
        found |= {name: round(value.value, 4), f"{name}_low": round(value.low, 4), f"{name}_high": round(value.high, 4)}
    return found | {
        "retcam_n": n,
        "neo_n": len(neo),
        "neo_folds": ";".join(f"{estimate(neo.labels, each).value:.3f}" for each in ours),
    }


def shipped_out_of_fold(cohort: Cohort) -> Scores:
    """What the study of the shipped grader answered out of fold, (seeds, n), in the order of the cohort."""
    table = pd.read_csv(RESULTS / "retcam" / "out_of_fold.csv")
    own = table[(table.network == SHIPPED_ARM) & (table.variant == "plain") & (table.question == "rop")]
    places = {name_of(record.image): row for row, record in enumerate(cohort)}
    p = np.full((own.seed.nunique(), len(cohort)), np.nan)
    for each in own.itertuples():
        p[each.seed, places[name_of(str(each.image))]] = each.p
    assert np.isfinite(p).all()
    return p


def name_of(image: str) -> str:
    """A photograph's path within the data, from a path relative to whatever table."""
    return "/".join(Path(image).parts[-3:])


def answers(bundle: Any, cohort: Cohort) -> Scores:
    """The probabilities of a bundle for all photographs, the ones that screening would refuse included."""
    standard = bundle.card.standard
    inputs = [
        standard.tensor(standard.enhance(standard.square(standard.prepare(each.path, each.image)))) for each in cohort
    ]
    return np.concatenate([bundle.probabilities(bundle.run(one[None])[0]) for one in inputs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {RETCAM} and {NEO}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies; they are resumed")
    parser.add_argument("--sizes", default="160,128,192,256", help="pixels of the input's side")
    parser.add_argument("--arms", default="undistilled,student", help="from labels alone, and by a teacher")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out.with_suffix(".csv")
    Cohort.from_folders(given.data / RETCAM).write(table)
    neo = Cohort.from_folders(given.data / NEO)
    neo_groups = np.array(make_groups(neo, audit(neo).pairs).numbers)
    plans = [train(size, arm, table, given.out) for arm in given.arms.split(",") for size in sizes]
    answered: list[dict[str, Any]] = []
    rows = [score(plan, neo, neo_groups, answered) for plan in plans]
    write_rows(RESULTS / "nano.csv", rows)
    write_rows(RESULTS / "nano_out_of_fold.csv", answered)
    for row in rows:
        print({key: value for key, value in row.items() if "_n" not in key})


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV with the columns of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
