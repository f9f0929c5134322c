"""What the teacher's cache saves, and whether it costs anything in AUC.

    python benchmarks/distillation.py [--study runs/weights-rop] [--out runs/distillation]

Speed: epochs of the undistilled student, of the distilled one reading the teacher's kept answers, and of one whose
teacher answers anew at every step, in turns on the same photographs. AUC: the students of the study's first seed, who
took their views from six kept ones, against students who saw another view in every epoch, which is what a teacher asked
anew would give; same folds, same teachers, paired by eye. Goes on where it was cut off; writes
docs/results/distillation.csv.

What stands in docs/results is of the study on RetCam alone, before the shipped study had both cameras.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from fundoscope.cli.console import Console
from fundoscope.evaluation import difference, results_table
from fundoscope.learning import Distillation, DistillationPlan, Squares, distil
from fundoscope.learning.distillation import TeacherAnswers, TeacherViews, distillation_batches
from fundoscope.learning.squares import training_batches
from fundoscope.networks import Classifier
from fundoscope.rop.recipes import STUDENT, TEACHER, read_recipe
from fundoscope.rop.study.calibrate import CalibratedPredictions, calibrate_fold
from fundoscope.rop.study.data import prepare_squares
from fundoscope.rop.study.networks import (
    build_network,
    distillation_options,
    fit_options,
    labelled_squares,
    load_fitted_network,
)
from fundoscope.rop.study.plan import FitTask, StudyPlan, make_plan
from fundoscope.rop.study.predict import predict_parts
from fundoscope.rop.study.questions import ROP
from fundoscope.rop.study.ship import shipped_options
from fundoscope.rop.study.train import initial_network
from fundoscope.studies import Study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "distillation.csv"
RECIPE = read_recipe("lite")
DISTILLATION = distillation_options(RECIPE)
ROUNDS = 3


def epoch_seconds(squares: Squares, rows: np.ndarray) -> list[dict[str, object]]:
    """Median seconds of an epoch of each way, and their ratios to the student alone."""
    teacher, student = (build_network(RECIPE, RECIPE.arm(name)) for name in (TEACHER, STUDENT))
    options = fit_options(RECIPE.student_fit)
    views = TeacherViews(squares, options.augment, ROUNDS + 1, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        answers = TeacherAnswers(teacher, views, views.copies(rows, squares.labels), Path(folder))
        list(answers)
        once = (time.perf_counter() - start) / views.number
    alone = training_batches(squares, rows, options.augment, options.batch, 0)
    taught = distillation_batches(answers, rows, options.batch)
    ways = {"student alone": (alone, None), "kept answers": (taught, None), "teacher asked anew": (alone, teacher)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, (batches, asked) in ways.items():
            batches.sampler.set_epoch(turn)  # ty: ignore[unresolved-attribute]
            spent = _epoch(student, batches, asked)
            if turn:
                seconds[name].append(spent)
    base = median(seconds["student alone"])
    found = [{"what": f"epoch, {name}", "value": round(median(each), 3), "ratio": round(median(each) / base, 3)}
             for name, each in seconds.items()]  # fmt: skip
    return [*found, {"what": "teacher's answers to one view of each, once", "value": round(once, 3)}]


def _epoch(student: Classifier, batches: object, teacher: Classifier | None) -> float:
    student.train()
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], 1e-5)
    start = time.perf_counter()
    for x, target in batches:  # ty: ignore[not-iterable]
        x = x.to(memory_format=torch.channels_last)
        logits = student(x)
        if teacher is not None:
            with torch.no_grad():
                target = torch.cat([target[:, None], teacher.eval()(x)], dim=1)
        loss = (
            DISTILLATION.distillation_loss(logits, target)
            if target.ndim == 2
            else torch.nn.functional.cross_entropy(logits, target)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return time.perf_counter() - start


def aucs(plan: StudyPlan, squares: Squares, out: Study) -> list[dict[str, object]]:
    """Six kept views against a new one in every epoch."""
    question, arm = plan.question(ROP), plan.arm(STUDENT)
    kept = CalibratedPredictions.read(plan).out_of_fold(ROP, STUDENT).p[:1]
    anew = np.full((1, len(question.labels)), np.nan)
    how = replace(DISTILLATION, views=arm.fit.epochs)
    for fold in plan.folds:
        task = FitTask(arm, ROP, 0, fold)
        if not out.done(f"fold-{fold.number}"):
            with out.step(f"fold-{fold.number}") as folder:
                _fit(task, plan, squares, how, folder)
        frame = pd.read_parquet(out.result(f"fold-{fold.number}") / "predictions.parquet")
        part = frame[frame.part == "test"]
        calibration = calibrate_fold(frame, question, RECIPE.decision.target_sensitivity)
        anew[0, part.row] = calibration.temperature.probabilities((part.logit_1 - part.logit_0).to_numpy())
    gap = difference(question.labels, kept, anew, groups=plan.group_numbers, names=("kept", "anew"))
    return [
        {"what": f"AUC, {how.views} views, a new one in each epoch", "value": round(gap.second, 4)},
        {"what": f"AUC, {DISTILLATION.views} kept views", "value": round(gap.first, 4)},
        {"what": "AUC, kept less anew, paired", "value": round(gap.estimate.value, 4),
         "low": round(gap.estimate.low, 4), "high": round(gap.estimate.high, 4)},
    ]  # fmt: skip


def _fit(task: FitTask, plan: StudyPlan, squares: Squares, how: Distillation, folder: Path) -> None:
    train, inner = np.array(task.fold.train), np.array(task.fold.inner)
    teacher = load_fitted_network(task.with_arm(plan.arm(TEACHER)), RECIPE, plan.study)
    distillation = DistillationPlan(teacher, squares, train, inner, folder / "answers")
    student = initial_network(task, RECIPE, plan.study)
    model = distil(student, distillation, how, fit_options(task.arm.fit), folder / "fit", task.seed)
    parts = {"test": np.array(task.fold.test), "inner": inner}
    predict_parts(model, {"plain": squares}, parts).to_parquet(folder / "predictions.parquet", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "runs" / "weights-rop")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "distillation")
    given = parser.parse_args()
    console = Console()
    plan = make_plan(shipped_options(given.study.with_suffix(".csv"), given.study), console)
    squares = labelled_squares(prepare_squares(plan, console), plan.question(ROP))
    rows = epoch_seconds(squares, np.array(plan.folds[0].train))
    for row in rows:
        print(*row.values(), flush=True)
    rows += aucs(plan, squares, Study.open(given.out, {"recipe": RECIPE.as_json(), "commands": []}))
    for row in rows[-3:]:
        print(*row.values())
    results_table(rows, RESULTS)


if __name__ == "__main__":
    main()
