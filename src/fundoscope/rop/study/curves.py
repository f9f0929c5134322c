"""`tables/curves.csv`: the points of every curve that the page draws.

    question, curve, grader, seed, x, y, low, high, n

`curve` is `roc` (x is 1 - specificity, y sensitivity), `precision_recall` (x is recall), `reliability` (x is the mean
probability of a bin, y the share of positives with its Wilson interval, n photographs), `coverage_error` and
`coverage_sensitivity` (x is the share of photographs kept), or `net_benefit` (x is the threshold probability; of the
reference, and of treating all and none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.evaluation.decisions import coverage_risk, decision_curve
from fundoscope.evaluation.metrics import pr_points, reliability_bins, roc_points
from fundoscope.rop.study.scored_question import ScoredQuestion

COLUMNS = ["question", "curve", "grader", "seed", "x", "y", "low", "high", "n"]
_DIGITS = 5


def write_curves(
    questions: Sequence[ScoredQuestion], baselines: Mapping[str, Mapping[str, NDArray[np.float64]]], path: Path
) -> None:
    """Write the curves of all questions; of each question's `baselines` the first is drawn beside the networks."""
    frames = [
        frame.assign(question=scored.question.name)
        for scored in questions
        for frame in _frames(scored, baselines[scored.question.name])
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).reindex(columns=COLUMNS).round(_DIGITS).to_csv(path, index=False)


def _frames(scored: ScoredQuestion, baselines: Mapping[str, NDArray[np.float64]]) -> Iterator[pd.DataFrame]:
    graders = {name: each.p for name, each in scored.predictions.items()}
    graders |= {name: p[None] for name, p in list(baselines.items())[:1]}
    for name, seeds in graders.items():
        for seed, p in enumerate(seeds):
            for curve, points in (("roc", roc_points), ("precision_recall", pr_points)):
                x, y = points(scored.y, p)
                yield pd.DataFrame({"curve": curve, "grader": name, "seed": seed, "x": x, "y": y})
    found, reference = scored.reference_predictions, scored.reference
    p, thresholds = found.p.mean(axis=0), found.thresholds.mean(axis=0)
    bins = [(each.score, each.share, each.low, each.high, each.n) for each in reliability_bins(scored.y, p)]
    yield pd.DataFrame(bins, columns=["x", "y", "low", "high", "n"]).assign(curve="reliability", grader=reference)
    risk = coverage_risk(scored.y, p, thresholds)
    for curve, y in (("coverage_error", risk.error), ("coverage_sensitivity", risk.sensitivity)):
        yield pd.DataFrame({"curve": curve, "grader": reference, "x": risk.coverage, "y": y})
    benefit = decision_curve(scored.y, p)
    for name, y in ((reference, benefit.model), ("treat all", benefit.treat_all), ("treat none", benefit.treat_none)):
        yield pd.DataFrame({"curve": "net_benefit", "grader": name, "x": benefit.thresholds, "y": y})
