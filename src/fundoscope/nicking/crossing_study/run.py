"""`fundoscope nicking study-crossings`: Mask R-CNN with a scale-attention pyramid on public sets (paper 002, section 5).

    plan.py       sets -> study.json, split.json      which photographs train, choose the confidence, and test
    inputs.py     split.json -> photographs and patches as detectors take them
    train.py      photographs -> fits/                a detector for each pyramid and seed, in two steps
    predict.py    fits/ -> detections/                what each detector finds after either step, and what is truly there
    evaluate.py   detections/ -> results.json, tables/ (pyramid_figures.py: pyramids and steps compared in pairs)
    pages.py      results.json -> report.html
    run.py        (this file) one after the other, then upstream/: what the first detector gives to `study-grades`

Each step is skipped where its result is there, and a training that was killed goes on at its last whole epoch. Several
detectors may be trained at once, each in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import torch
from torch import Tensor

from fundoscope.nicking.crossing_study.detections import DETECTIONS, STEPS, arm_name
from fundoscope.nicking.crossing_study.evaluate import evaluate_study
from fundoscope.nicking.crossing_study.inputs import Marked, StudyInputs, mark_photographs
from fundoscope.nicking.crossing_study.pages import write_report
from fundoscope.nicking.crossing_study.plan import CrossingOptions, CrossingPlan, plan_study
from fundoscope.nicking.crossing_study.predict import predict_crossings, write_truth
from fundoscope.nicking.crossing_study.train import load_detector, train_detectors, unleaked_map_weights
from fundoscope.nicking.grade_study.transfer import write_upstream
from fundoscope.studies import Progress

UPSTREAM = "upstream"
T = TypeVar("T")


def run_study(options: CrossingOptions, progress: Progress) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report."""
    plan = plan_study(options, progress)
    train_and_predict(plan, progress)
    results = evaluate_study(plan.study.folder)
    for row in results["detection"]:
        progress.say(
            "  ".join(
                f"{name} {row[name]}" for name in ("detector", "seed", "step", "set", "precision", "recall", "f1")
            )
        )
    report = write_report(plan.study.folder)

    pyramid, seed = plan.arms[0]
    seen = (*plan.split.names["train"], *plan.split.names["inner"])
    write_upstream(plan.study.folder / UPSTREAM, seen, load_detector(plan, pyramid, seed, STEPS[-1]))
    progress.say(f"report: {report}")
    return report


def train_and_predict(plan: CrossingPlan, progress: Progress) -> None:
    """Train the detectors of a plan and write what they find, as far as that is not done; several at once where the plan's
    pace says so. A detector that fails does not stop the others; the first failure is raised at the end.
    """
    first_weights = unleaked_map_weights(plan, progress)
    left = [arm for arm in plan.arms if not plan.study.done(f"{DETECTIONS}/{arm_name(*arm)}")]
    if plan.study.done(f"{DETECTIONS}/truth") and not left:
        return
    if plan.options.pace.fits == 1:
        marked = mark_photographs(plan)
        write_truth(plan, StudyInputs(plan.options.recipe, marked))
        _work_on(replace(plan, arms=tuple(left)), marked, first_weights, progress)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(plan.options.pace.fits, spawn, initializer=_take_one_core) as pool:
        marked = mark_photographs(plan, pool)
        progress.say("all photographs are read")
        going = {
            pool.submit(_work_on, replace(plan, arms=(arm,)), marked, first_weights, LinesOnly(arm_name(*arm))): arm
            for arm in left
        }
        write_truth(plan, StudyInputs(plan.options.recipe, marked))
        failures = []
        for done in as_completed(going):
            error = done.exception()
            progress.say(f"{arm_name(*going[done])}: {'done' if error is None else error}")
            failures += [] if error is None else [error]
    if failures:
        raise failures[0]


def _work_on(
    plan: CrossingPlan, marked: Marked, first_weights: Mapping[str, Tensor] | None, progress: Progress
) -> None:
    photographs = [each.crossings for each in marked["train"]]
    train_detectors(plan, photographs, first_weights, progress)
    predict_crossings(plan, StudyInputs(plan.options.recipe, marked), progress)


def _take_one_core() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


class LinesOnly:
    """Progress of a process among others: a line, with the time and the detector's name, when something begins."""

    def __init__(self, name: str) -> None:
        self.name = name

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{time.strftime('%H:%M:%S')} {self.name}: {text}", flush=True)

    def follow(self, items: Iterable[T], total: int, what: str, done: int = 0) -> Iterator[T]:
        """The items; one line before them."""
        self.say(f"{what} ({total - done})")
        yield from items

    @contextmanager
    def stages(self) -> Generator[Callable[[str, int, int], None]]:
        """A callback that prints a line whenever it is called."""
        yield lambda stage, done, total: self.say(f"{stage} {done}/{total}")
