"""The way of a study, one step a line: each step is a module that reads files of the study's folder and writes one.

A step whose result is there is skipped, so the same command goes on where a study was cut off.
"""

from __future__ import annotations

from pathlib import Path

from fundoscope.rop.study.calibrate import calibrate_all
from fundoscope.rop.study.data import prepare_squares
from fundoscope.rop.study.duration import estimate_duration
from fundoscope.rop.study.evaluate import evaluate_study
from fundoscope.rop.study.explain import explain_predictions
from fundoscope.rop.study.export import export_folds
from fundoscope.rop.study.networks import check_networks
from fundoscope.rop.study.pages import write_report
from fundoscope.rop.study.plan import StudyOptions, make_plan
from fundoscope.rop.study.predict import predict_all
from fundoscope.rop.study.pretraining import pretrain
from fundoscope.rop.study.refit import refit_for_export
from fundoscope.rop.study.shuffled_labels import shuffle_labels
from fundoscope.rop.study.train import train_all
from fundoscope.studies import Progress


def run_study(options: StudyOptions, progress: Progress, dry_run: bool = False) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report (of its folder in a dry run)."""
    check_networks(options.recipe, options.arms)  # before anything is read
    if dry_run:
        estimate_duration(options, progress)
        return options.out
    plan = make_plan(options, progress)  # study.json, folds.json
    data = prepare_squares(plan, progress)  # squares/
    pretrain(plan.recipe, plan.arms, plan.study, progress)  # pretraining/
    train_all(plan, data, progress)  # fits/.../network.safetensors
    predict_all(plan, data, progress)  # fits/.../predictions.parquet
    export_folds(plan, data, progress)  # int8/
    calibrate_all(plan)  # calibrated.parquet
    shuffle_labels(plan, data, progress)  # shuffled_labels.json
    results = evaluate_study(plan, data)  # results.json, tables/
    explain_predictions(plan, data, {each["name"]: each["reference"] for each in results["questions"]})  # explained/
    report = write_report(plan.folder)  # report.html
    for line in results["summary"]:
        progress.say(line)
    if options.export:
        bundle = refit_for_export(plan, data, results, progress)  # refit/, bundle/
        progress.say(f"bundle: {bundle}")
        for doubt in results["doubts"]:
            progress.say(f"WARNING: {doubt}. Do not decide by this bundle; its card and every page of it say so")
        progress.say(f"next: fundoscope rop screen PHOTOS --bundle {bundle} --out DIR")
    progress.say(f"report: {report}")
    return report
