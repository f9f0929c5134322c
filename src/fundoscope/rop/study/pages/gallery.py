"""Photographs with the maps behind their answers, and how the networks learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fundoscope.reports import Picture, ReportFigure, Section
from fundoscope.reports.overlay import overlay
from fundoscope.reports.plots import learning_curve
from fundoscope.rop.recipes import STUDENT, TEACHER, UNDISTILLED
from fundoscope.rop.study.evaluate import Asked, Assessment
from fundoscope.rop.study.train import Task, epochs_of, fitted_network

_SHOWN = 4  # photographs of each class that were graded rightly, and wrongly


def sections(found: Assessment, drawn: Path) -> list[Section]:
    """Right and wrong photographs of each question with their maps; learning curves."""
    return [*(_maps(found, asked) for asked in found.asked), _learning(found, drawn)]


def _maps(found: Assessment, asked: Asked) -> Section:
    """ReportFigure 10 of the paper, for the wrong ones too: the surest of each kind, by the network that never saw them."""
    p, threshold = asked.ours.p[0], asked.ours.thresholds[0]
    right, pictures = (p >= threshold) == asked.y, []
    for kind in (False, True):
        for label in (1, 0):
            rows = np.flatnonzero((right == kind) & (asked.y == label))
            sure = rows[np.argsort(-np.abs(p[rows] - threshold[rows]))][:_SHOWN]
            pictures += [_picture(found, asked, int(row), "right" if kind else "WRONG") for row in sure]
    text = (
        "Warm colours speak for the positive answer, and their mean over the map is the network's log-odds. "
        "Wrong answers come first: look at these."
    )
    return Section(f"Maps behind the answers: {asked.question.name}", paragraphs=(text,), pictures=pictures)


def _picture(found: Assessment, asked: Asked, at: int, verdict: str) -> Picture:
    row = int(asked.rows[at])
    fold = next(fold for fold in found.fits.folds if row in fold.test)
    task = Task(found.fits.recipe, found.arm(asked.reference), asked.question.name, 0, fold)
    squares = found.material.squares
    with torch.no_grad():
        activation = fitted_network(task, found.fits.study).activation_map(
            torch.from_numpy(squares.inputs(np.array([row])))
        )
    lines = (asked.question.classes[asked.y[at]], f"p {asked.ours.p[0, at]:.2f}", verdict)
    picture = overlay(squares.pixels[row], activation[0].float().numpy())
    return Picture(picture, found.material.cohort[row].image, lines)


def _learning(found: Assessment, drawn: Path) -> Section:
    figures = []
    for arm in found.arms:
        if arm.name in (TEACHER, STUDENT, UNDISTILLED):
            for question in found.material.questions:
                task = Task(found.fits.recipe, arm, question.name, 0, found.fits.folds[0])
                path = drawn / f"learning_{question.name}_{arm.name}.png"
                curve = learning_curve(path, epochs_of(task, found.fits.study))
                figures.append(ReportFigure(curve, f"{task.step}: loss in training and on inner photographs"))
    return Section("Learning", figures=figures)
