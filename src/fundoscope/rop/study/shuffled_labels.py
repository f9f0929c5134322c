"""The control with shuffled labels: whatever then scores better than chance has seen what it is tested on."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.evaluation import auc
from fundoscope.evaluation.controls import ShuffleControl, shuffle_verdict
from fundoscope.imaging import Standard
from fundoscope.learning import Augment, FitOptions, Squares, fit, predict_logits
from fundoscope.networks import build
from fundoscope.rop.study.data import Material

STANDARD = Standard(size=64)
#: Enough to learn a few hundred small pictures by heart.
OPTIONS = FitOptions(
    epochs=25, patience=25, batch=16, learning_rate=1e-2, average=0.5, smoothing=0.0,
    augment=Augment(rotation=0, scale=0, shift=0, field=0, colour=0, light=0, sharpness=0, noise=0, encoding=0),
)  # fmt: skip

Rows = NDArray[np.int64]


def shuffle_control(material: Material, runs: int) -> ShuffleControl:
    """Train a tiny network `runs` times on a study's folds with shuffled labels, and judge the AUCs."""
    labels, groups = material.cohort.labels, np.array(material.groups.numbers)
    small = [
        np.asarray(cv2.resize(p, (64, 64), interpolation=cv2.INTER_AREA), np.uint8) for p in material.squares.pixels
    ]
    folds = [np.array(fold.test) for fold in material.folds]
    squares = Squares(small, labels, STANDARD)
    aucs = []
    for seed in range(runs):
        mixed = shuffled(labels, groups, seed)
        aucs.append(out_of_fold_auc(replace(squares, labels=mixed), folds, seed))
    return shuffle_verdict(aucs, int(labels.sum()), int((labels == 0).sum()))


def shuffled(labels: Rows, groups: Rows, seed: int) -> Rows:
    """Labels dealt anew to whole groups."""
    first = np.array([labels[groups == group][0] for group in range(groups.max() + 1)])
    return np.random.default_rng(seed).permutation(first)[groups]


def out_of_fold_auc(squares: Squares, folds: list[Rows], seed: int) -> float:
    """AUC of a tiny network over the pooled test parts; nothing is stopped or chosen."""
    scores = np.zeros(len(squares.labels))
    for test in folds:
        train = np.setdiff1d(np.arange(len(scores)), test)
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory() as folder:
            model = fit(build("tiny"), squares, train, np.array([], np.int64), OPTIONS, Path(folder) / "fit", seed)
        logits = predict_logits(model, squares.inputs(test))
        scores[test] = logits[:, 1] - logits[:, 0]
    return auc(squares.labels, scores)
