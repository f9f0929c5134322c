"""Whether a grader holds on another camera and in other renderings: three tables of a study, each computed once.

cameras.csv        each grader and baseline on all pairs of photographs, on pairs by one camera, and on each camera by itself
other_camera.csv   each network on the camera that it never saw, at the threshold that the others chose
renderings.csv     the exported network on twelve renderings of every held-out photograph: AUC, and decisions that change
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fundoscope.evaluation import difference, estimates
from fundoscope.evaluation.metrics.intervals import estimate_share
from fundoscope.imaging.renderings import RENDERINGS
from fundoscope.rop.study.calibrate import (
    OTHER_CAMERA,
    CalibratedPredictions,
    OutOfFoldPredictions,
    rendered_variant,
)
from fundoscope.rop.study.questions import ROP
from fundoscope.rop.study.results import Row
from fundoscope.rop.study.scored_question import ScoredQuestion

_METRICS = ("auc", "sensitivity", "specificity")
ALL_PAIRS, ONE_CAMERA = "all, pairs of different cameras too", "all, pairs by one camera"
AS_THEY_ARE, MOVED = "as they are", "decisions that change"


def score_cameras(scored: ScoredQuestion, baselines: Mapping[str, OutOfFoldPredictions]) -> list[Row]:
    """A row a grader and set of photographs: all, in which the AUC is that of all pairs or of pairs by one camera; each camera."""
    if scored.cameras is None:
        return []
    rows = []
    for grader, each in {**scored.predictions, **baselines}.items():
        pooled: dict[Any, Any] = estimates(
            scored.y, each.p, metrics=_METRICS, threshold=each.thresholds, groups=scored.groups
        )
        within = scored.estimates(each.p, each.thresholds, _METRICS)
        rows.append({"grader": grader, "photographs": ALL_PAIRS, **pooled})
        rows.append({"grader": grader, "photographs": ONE_CAMERA, **within})
        for camera in np.unique(scored.cameras).tolist():
            places = np.flatnonzero(scored.cameras == camera)
            own: dict[Any, Any] = estimates(
                scored.y[places], each.p[:, places], metrics=_METRICS, threshold=each.thresholds[:, places],
                groups=scored.groups[places],
            )  # fmt: skip
            rows.append({"grader": grader, "photographs": camera, **own})
    return rows


def score_other_camera(scored: ScoredQuestion, predictions: CalibratedPredictions, tested: list[str]) -> list[Row]:
    """A row a network and camera of `tested`: what it is worth there when it, its temperature and its threshold come from the
    other cameras alone.
    """
    if scored.cameras is None:
        return []
    rows = []
    for arm in scored.predictions:
        found = predictions.out_of_fold(ROP, arm, part=OTHER_CAMERA) if tested else None
        for camera in tested:
            assert found is not None
            places = np.flatnonzero(scored.cameras == camera)
            photographs = scored.rows[places]
            thresholds = found.thresholds[:, photographs]
            own: dict[Any, Any] = estimates(
                scored.y[places], found.p[:, photographs], metrics=_METRICS, threshold=thresholds,
                groups=scored.groups[places],
            )  # fmt: skip
            others = [each for each in np.unique(scored.cameras).tolist() if each != camera]
            chosen = np.unique(thresholds).tolist()
            rows.append({
                "network": arm, "learnt from": ", ".join(others), "tested on": camera, **own,
                "threshold_lowest": min(chosen), "threshold_highest": max(chosen),
            })  # fmt: skip
    return rows


def score_renderings(scored: ScoredQuestion, predictions: CalibratedPredictions, arm: str) -> list[Row]:
    """A row for the photographs as they are and for each rendering of them, answered by the network that held them out: AUC, what
    it loses, sensitivity, specificity, and the share of decisions that change.

    Decisions are those of all seeds, at the fold's own threshold; the interval of their share resamples groups.
    """
    plain, rows = scored.predictions[arm], []
    called = plain.p >= plain.thresholds
    for name in (AS_THEY_ARE, *RENDERINGS):
        variant = "plain" if name == AS_THEY_ARE else rendered_variant(name)
        each = predictions.out_of_fold(ROP, arm, variant).select_rows(scored.rows)
        own = scored.estimates(each.p, each.thresholds, _METRICS)
        changes = (each.p >= each.thresholds) != called
        rows.append({
            "rendering": name, **own,
            "auc less that as they are": None if name == AS_THEY_ARE else difference(
                scored.y, each.p, plain.p, groups=scored.groups, names=(name, AS_THEY_ARE), cameras=scored.cameras
            ),
            MOVED: estimate_share(changes.ravel(), np.tile(scored.groups, len(changes))),
        })  # fmt: skip
    return rows


def worst_renderings(rows: list[Row]) -> dict[str, Row]:
    """Of `score_renderings` the row that loses most AUC, and the one that changes most decisions."""
    rendered = [row for row in rows if row["rendering"] != AS_THEY_ARE]
    return {
        "auc": min(rendered, key=lambda row: row["auc"].value), MOVED: max(rendered, key=lambda row: row[MOVED].value),
    }  # fmt: skip
