"""Step 8, `shuffled_labels.json`: the control with shuffled labels. Whatever then scores better than chance has seen what it
is tested on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.evaluation import auc
from fundoscope.evaluation.controls import NotMade, make_or_say_why, shuffle_verdict
from fundoscope.imaging import Standard
from fundoscope.learning import Squares, fit
from fundoscope.networks import build
from fundoscope.rop.recipes import ShuffledLabelNumbers
from fundoscope.rop.study.data import StudyData
from fundoscope.rop.study.networks import fit_options, predict_rows
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.results import SHUFFLED, as_plain
from fundoscope.studies import Progress, write_json

Rows = NDArray[np.int64]


def shuffle_labels(plan: StudyPlan, data: StudyData, progress: Progress) -> None:
    """Train a tiny network on the study's folds with labels shuffled over the groups, and keep the verdict on its AUCs.

    Does nothing where the options ask for no run, or where as many are there already.
    """
    runs, path, numbers = plan.options.shuffles, plan.folder / SHUFFLED, plan.recipe.shuffled_labels
    if not runs or (path.exists() and json.loads(path.read_text(encoding="utf-8"))["runs"] == runs):
        return
    side = (numbers.side, numbers.side)
    small = [np.asarray(cv2.resize(square, side, interpolation=cv2.INTER_AREA), np.uint8) for square in data.pixels()]
    tests = [np.array(fold.test) for fold in plan.folds]
    labels, standard = plan.cohort.labels, Standard(size=numbers.side)
    aucs = []
    for seed in progress.follow(range(runs), runs, "shuffling labels"):
        shuffled = shuffle_over_groups(labels, plan.group_numbers, seed)
        aucs.append(auc_on_folds(Squares(small, shuffled, standard), tests, numbers, seed))
    verdict = make_or_say_why(lambda: shuffle_verdict(aucs, int(labels.sum()), int((labels == 0).sum())))
    told = {"text": f"It {verdict}"} if isinstance(verdict, NotMade) else asdict(verdict)
    write_json(path, {"runs": runs, "aucs": as_plain(aucs), **told})


def shuffle_over_groups(labels: Rows, groups: Rows, seed: int) -> Rows:
    """The labels of whole groups dealt anew: each group gets the label of another group's first photograph."""
    first = np.array([labels[groups == group][0] for group in range(groups.max() + 1)])
    return np.random.default_rng(seed).permutation(first)[groups]


def auc_on_folds(squares: Squares, tests: Sequence[Rows], numbers: ShuffledLabelNumbers, seed: int) -> float:
    """AUC of a small network over the pooled test parts; nothing is stopped or chosen."""
    scores = np.zeros(len(squares.labels))
    for test in tests:
        train = np.setdiff1d(np.arange(len(scores)), test)
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            model = build(numbers.network, pretrained=False, size=numbers.side)
            model = fit(
                model, squares, train, np.array([], np.int64), fit_options(numbers.fit), Path(folder) / "fit", seed
            )
        logits = predict_rows(model, squares, test)
        scores[test] = logits[:, 1] - logits[:, 0]
    return auc(squares.labels, scores)
