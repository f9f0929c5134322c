"""Steps 3 and 4 for all fits of a study: each is trained and predicts, on the engine that is asked for.

The fits that matter most come first: the first seed of ours, the published system, its baseline and MDTNet in all folds, then the other
arms, then further seeds. After a deadline no fit begins; an arm's seed of which a fold is not done is left out of the figures, and
the same command goes on with it.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import takewhile

import torch

from fundoscope.errors import StudyError, counted
from fundoscope.learning.trainer import use_threads
from fundoscope.nicking.grade_study.plan import GradePlan, PlannedFit
from fundoscope.nicking.grade_study.predict import predict_fit
from fundoscope.nicking.grade_study.prediction_table import PREDICTIONS
from fundoscope.nicking.grade_study.train import train_fit
from fundoscope.runs.fits import carry_out_fits
from fundoscope.runs.workers import WorkEngine, WorkItem
from fundoscope.studies import Progress, Study

#: The arms whose fits come before those of others.
FIRST = ("ours", "published", "baseline", "mdtnet")


def run_fits(plan: GradePlan, progress: Progress, engine: WorkEngine, deadline: float = float("inf")) -> GradePlan:
    """Carry out the fits that are not there yet; none begins after the `deadline` (seconds of `time.monotonic`).

    Returns the plan without the arms' seeds that are not whole. Raises `StudyError` where none is.
    """
    missing = [fit for fit in order_fits(plan.fits) if not _is_done(fit, plan.study)]
    done = len(plan.fits) - len(missing)
    threads = engine.threads_each(torch.get_num_threads())
    items = (WorkItem(fit.step, fit) for fit in takewhile(lambda _: time.monotonic() < deadline, missing))
    carried_out = carry_out_fits(engine, partial(carry_out, study=plan.study, threads=threads), items, threads)
    for line in progress.follow(carried_out, len(plan.fits), "training and predicting", done):
        progress.say(line)
    left = [fit for fit in plan.fits if not _is_done(fit, plan.study)]
    if not left:
        return plan
    progress.say(
        f"{counted(len(left), 'fit')} not done in time: {'; '.join(fit.name for fit in left)}. The same command goes on."
    )
    whole = plan.without({(fit.arm.name, fit.seed) for fit in left})
    if not whole.fits:
        raise StudyError(f"{plan.study.folder}: no grader is done in every fold. Run the study's command again.")
    return whole


def order_fits(fits: list[PlannedFit]) -> list[PlannedFit]:
    """The fits, those that matter most first."""
    return sorted(fits, key=lambda fit: (fit.seed, FIRST.index(fit.arm.name) if fit.arm.name in FIRST else len(FIRST)))


def carry_out(fit: PlannedFit, study: Study, threads: int = 0) -> str:
    """Train a fit and let it predict, on `threads` (0: as many as there are); returns a line about it."""
    use_threads(threads)
    start = time.monotonic()
    line = f"{fit.name}: fitted" if fit.arm.network is None else train_fit(fit, study)
    predict_fit(fit, study)
    return f"{line}, {time.monotonic() - start:.0f} s"


def _is_done(fit: PlannedFit, study: Study) -> bool:
    return (study.folder / fit.step / PREDICTIONS).exists()
