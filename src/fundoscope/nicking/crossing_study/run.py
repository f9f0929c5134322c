"""`fundoscope nicking study-crossings`: Mask R-CNN with a scale-attention pyramid on public sets (paper 002, section 5).

    plan.py       sets -> study.json, split.json      which photographs train, choose the confidence, and test
    train.py      split.json -> fits/                 a detector for each pyramid and seed, in two steps
    predict.py    fits/ -> detections/                what each detector finds, and what is truly there
    evaluate.py   detections/ -> results.json, tables/
    pages.py      results.json -> report.html
    run.py        (this file) one after the other, then upstream/: what the first detector gives to `study-grades`

Each step is skipped where its result is there, and a training that was killed goes on at its last whole epoch.
"""

from __future__ import annotations

from pathlib import Path

from fundoscope.nicking.crossing_study.evaluate import evaluate_study
from fundoscope.nicking.crossing_study.pages import write_report
from fundoscope.nicking.crossing_study.plan import CrossingOptions, plan_study
from fundoscope.nicking.crossing_study.predict import predict_crossings
from fundoscope.nicking.crossing_study.train import load_detector, train_detectors
from fundoscope.nicking.grade_study.transfer import write_upstream
from fundoscope.studies import Progress

UPSTREAM = "upstream"
_LAST_STEP = 2


def run_study(options: CrossingOptions, progress: Progress) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report."""
    plan = plan_study(options, progress)
    train_detectors(plan, progress)
    predict_crossings(plan, progress)
    results = evaluate_study(plan.study.folder)
    for row in results["detection"]:
        progress.say(
            "  ".join(f"{name} {row[name]}" for name in ("detector", "seed", "set", "precision", "recall", "f1"))
        )
    report = write_report(plan.study.folder)

    pyramid, seed = plan.arms[0]
    seen = (*plan.split.names["train"], *plan.split.names["inner"])
    write_upstream(plan.study.folder / UPSTREAM, seen, load_detector(plan, pyramid, seed, _LAST_STEP))
    progress.say(f"report: {report}")
    return report
