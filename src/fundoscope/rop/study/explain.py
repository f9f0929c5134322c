"""Step 10, `explained/`: the photographs that the page shows, and the activation maps behind the answers."""

from __future__ import annotations

import numpy as np
import torch

from fundoscope.reports.overlay import overlay
from fundoscope.rop.study.calibrate import CalibratedPredictions
from fundoscope.rop.study.data import SCREENED, StudyData
from fundoscope.rop.study.explained_pictures import EXPLAINED, ExplainedPicture, choose_shown, write_pictures
from fundoscope.rop.study.networks import labelled_squares, load_fitted_network
from fundoscope.rop.study.plan import FitTask, StudyPlan
from fundoscope.rop.study.questions import TREATMENT, Question
from fundoscope.rop.study.results import SEEN_SECTION, TREATMENT_SECTION, maps_section

_SHOWN = 4  # photographs of each kind


def explain_predictions(plan: StudyPlan, data: StudyData, references: dict[str, str]) -> None:
    """Write the pictures, unless that is done; `references` names the arm whose maps are shown, by question."""
    if plan.study.done(EXPLAINED):
        return
    predictions = CalibratedPredictions.read(plan)
    pictures = [*_enhanced(plan, data), *_treated(plan, data)]
    for question in plan.questions:
        pictures += _maps(plan, data, predictions, question, references[question.name])
    with plan.study.step(EXPLAINED) as folder:
        write_pictures(folder, pictures)


def _enhanced(plan: StudyPlan, data: StudyData) -> list[ExplainedPicture]:
    """Figure 3 of the paper: photographs of each class, before and after their contrast is evened."""
    squares, pictures = data.pixels(), []
    for label in (0, 1):
        for row in np.flatnonzero(plan.cohort.labels == label)[: _SHOWN // 2].tolist():
            record = plan.cohort[row]
            both = {
                "as the standard cuts it": squares[row],
                "contrast evened (CLAHE)": data.standard.enhance(squares[row]),
            }
            pictures += [
                ExplainedPicture(SEEN_SECTION, pixels, record.image, (record.label, caption))
                for caption, pixels in both.items()
            ]
    return pictures


def _treated(plan: StudyPlan, data: StudyData) -> list[ExplainedPicture]:
    """Figure 11 of the paper: ROP that needs no treatment beside ROP that does."""
    if len(plan.questions) < 2:
        return []
    question, squares = plan.question(TREATMENT), data.pixels()
    return [
        ExplainedPicture(TREATMENT_SECTION, squares[row], plan.cohort[row].image, (question.classes[label],))
        for label in (0, 1)
        for row in np.flatnonzero(question.labels == label)[:_SHOWN].tolist()
    ]


def _maps(
    plan: StudyPlan, data: StudyData, predictions: CalibratedPredictions, question: Question, arm: str
) -> list[ExplainedPicture]:
    """Figure 10 of the paper, the wrong ones first: the most confident of each kind, by the network that never saw them."""
    rows = question.known_rows
    found = predictions.out_of_fold(question.name, arm).select_rows(rows)
    p, threshold, y = found.p[0], found.thresholds[0], question.labels[rows]
    squares = labelled_squares(data, question, SCREENED, plan.recipe.standard_of(plan.arm(arm)))
    pictures = []
    for place, lines in choose_shown(question, y, p, threshold, _SHOWN):
        row = int(rows[place])
        fold = next(fold for fold in plan.folds if row in fold.test)
        model = load_fitted_network(FitTask(plan.arm(arm), question.name, 0, fold), plan.recipe, plan.study)
        with torch.no_grad():
            activation = model.activation_map(torch.from_numpy(squares.inputs(np.array([row]))))[0].float().numpy()
        picture = overlay(np.array(squares.pixels[row]), activation)
        pictures.append(ExplainedPicture(maps_section(question.name), picture, plan.cohort[row].image, lines))
    return pictures
