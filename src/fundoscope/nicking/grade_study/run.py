"""`fundoscope nicking study-grades`: ways to grade nicking compared on one table of patches (paper 002, section 6).

    plan.py        patch tables, upstreams     -> study.json, folds_<seed>.json
    views.py       patches                     -> patches/            what networks and rules are shown
    fits.py        patches/                    -> fits/               train.py: weights and curves; predict.py: predictions
    predict.py     fits/                       -> predictions.parquet
    calibrate.py   predictions.parquet         -> calibrated.parquet, calibration.csv
    explain.py     fits/, patches/             -> explanations/       where the networks look
    evaluate.py    calibrated.parquet, ...     -> results.json, tables/
    pages.py       results.json, tables/, ...  -> report.html
    export.py      all graded patches          -> refit/, bundle/     with --export

What is there already is kept: the same command goes on where it was cut off, and more graders can be added to a study.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from fundoscope.nicking.grade_study.calibrate import calibrate
from fundoscope.nicking.grade_study.detection import detect_in_patches
from fundoscope.nicking.grade_study.evaluate import evaluate
from fundoscope.nicking.grade_study.explain import explain
from fundoscope.nicking.grade_study.export import export_grader, exportable_arms
from fundoscope.nicking.grade_study.fits import run_fits
from fundoscope.nicking.grade_study.pages import write_pages
from fundoscope.nicking.grade_study.plan import GradeOptions, plan_study
from fundoscope.nicking.grade_study.predict import join_predictions
from fundoscope.nicking.grade_study.prediction_table import PREDICTIONS
from fundoscope.nicking.grade_study.study_arms import build_arms
from fundoscope.nicking.grade_study.views import keep_patches
from fundoscope.studies import Progress


def run_study(options: GradeOptions, progress: Progress) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report."""
    if options.export:
        exportable_arms(build_arms(options.graders, options.recipe))
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    plan = plan_study(options, progress)
    keep_patches(plan, progress, options.engine.processes)
    plan = run_fits(plan, progress, options.engine, deadline)
    join_predictions(plan)
    calibrate(plan.study.folder / PREDICTIONS, plan.recipe.calibration)
    explain(plan)
    if options.detection:
        detect_in_patches(plan, progress)
    for line in evaluate(plan.study.folder):
        progress.say(line)
    report = write_pages(plan.study.folder)
    progress.say(f"report: {report}")
    if options.export:
        bundle = export_grader(plan, progress)
        progress.say(f"bundle: {bundle}; next: fundoscope nicking grade PHOTOS... --bundle {bundle} --out DIR")
    return report
