"""The second stage learnt from simulated eyes: does this ROP need treatment? Until a cohort brings real answers.

Two ways are fitted on the same eyes, and the one with the lower loss on infants that neither saw is taken: a head of its
own on the first network's maps, and late stages of its own as well. What it is worth is measured on a third, fresh draw
of eyes, by stage and zone; beside it, on the same photographs, stands a model that knows only the width and tortuosity of
vessels. All of it says SIMULATED.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional

from fundoscope.bundles.card import CardFigure, Stage
from fundoscope.evaluation import Estimate, difference, estimate, estimates, results_table
from fundoscope.evaluation.controls import NotMade, make_or_say_why, vessel_baseline
from fundoscope.evaluation.decisions import fit_temperature, target_sensitivity
from fundoscope.learning import UNLABELLED, Squares, fit
from fundoscope.networks import Classifier
from fundoscope.networks.classifier import freeze
from fundoscope.rop.recipes import RopRecipe, StudyArm
from fundoscope.rop.study.calibrate import FoldCalibration
from fundoscope.rop.study.export import card_stage
from fundoscope.rop.study.networks import WEIGHTS, fit_options, freeze_stages, predict_rows
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.pretraining import SimulatedEyes, simulated_eyes
from fundoscope.rop.study.questions import TREATMENT
from fundoscope.rop.study.train import save_weights
from fundoscope.studies import Progress, Study, write_json

STEP = "refit/simulated-treatment"
VESSELS_ALONE = "auc of vessel width and tortuosity alone"
_FOLDS = 5  # of the model that knows only vessels
_DATA = "SIMULATED infants held back from training"


@dataclass(frozen=True)
class SecondStage:
    """A network for the second question, its stage of the card, what it learnt from, and its figures."""

    network: Classifier
    stage: Stage
    source: Literal["simulated", "real"]
    figures: tuple[CardFigure, ...] = ()


def learn_from_simulated_eyes(plan: StudyPlan, arm: StudyArm, first: Classifier, progress: Progress) -> SecondStage:
    """The second stage for a finished `first` network, learnt from the eyes of the recipe's pretraining.

    Writes its figures to `tables/treatment_simulated.csv`.
    """
    recipe, study = plan.recipe, plan.study
    eyes = simulated_eyes(recipe, study, progress)
    _, held_out = split_eyes(eyes, recipe.simulated_treatment.held_out_every)
    if not study.done(STEP):
        with study.step(STEP) as folder:
            _fit_and_choose(plan, arm, first, eyes, folder, progress)
    model = copy.deepcopy(first)
    model.load_state_dict(load_file(study.result(STEP) / WEIGHTS))
    log_odds, truth = predict_log_odds(model.eval(), eyes.squares, held_out), eyes.treatment[held_out]
    temperature = fit_temperature(log_odds, truth)
    point = target_sensitivity(truth, temperature.probabilities(log_odds), recipe.decision.target_sensitivity)
    stage = card_stage(TREATMENT, FoldCalibration(temperature, point), _DATA)
    fresh = fresh_eyes(recipe, study, progress)
    rows = np.flatnonzero(fresh.treatment != UNLABELLED)
    p = temperature.probabilities(predict_log_odds(model, fresh.squares, rows))
    vessels = predict_from_vessels(fresh, rows)
    if isinstance(vessels, NotMade):
        progress.say(f"treatment, by vessel width and tortuosity alone: {vessels}")
    table = score_by_stage_and_zone(fresh, rows, p, point.threshold, vessels)
    results_table(table, plan.folder / "tables" / "treatment_simulated.csv")
    on = f"{len(rows)} SIMULATED photographs with ROP, drawn afresh"
    named = {"auc": "auc", "sensitivity": "sensitivity", "specificity": "specificity", VESSELS_ALONE: VESSELS_ALONE}
    figures = tuple(_figure(f"treatment: {name}", table[0][key], on) for name, key in named.items() if key in table[0])
    return SecondStage(model, stage, "simulated", figures)


def fresh_eyes(recipe: RopRecipe, study: Study, progress: Progress) -> SimulatedEyes:
    """Eyes on which nothing was learnt or chosen, with their vessels measured."""
    numbers = recipe.simulated_treatment
    return simulated_eyes(recipe, study, progress, "held_out_set", numbers.fresh_seed, measure_vessels=True)


def predict_from_vessels(eyes: SimulatedEyes, rows: NDArray[np.int64]) -> NDArray[np.float64] | NotMade:
    """Probabilities of the photographs `rows` by a model that knows only vessels, each by five folds that hold its infant out."""
    infant = np.unique(eyes.infant[rows], return_inverse=True)[1]
    folds = [(np.flatnonzero(infant % _FOLDS != k), np.flatnonzero(infant % _FOLDS == k)) for k in range(_FOLDS)]
    return make_or_say_why(lambda: vessel_baseline(eyes.vessels[rows], eyes.treatment[rows], folds, infant).p)


def _fit_and_choose(
    plan: StudyPlan, arm: StudyArm, first: Classifier, eyes: SimulatedEyes, folder: Path, progress: Progress
) -> None:
    """Fit both ways, keep the better one's weights."""
    numbers = plan.recipe.simulated_treatment
    squares = eyes.squares.with_labels(eyes.treatment)
    train, held_out = split_eyes(eyes, numbers.held_out_every)
    options = replace(fit_options(arm.fit, plan.options.tracker, plan.recipe.renderings), batch=numbers.batch)
    losses, models, frozen = {}, {}, {}
    for way in ("own head", "own late stages"):
        model = copy.deepcopy(first)
        if way == "own head":
            freeze([model.body])
        else:
            freeze_stages(plan.recipe, arm, model, TREATMENT)
        frozen[way] = model.describe_frozen()
        models[way] = fit(model, squares, train, held_out, options, folder / way.replace(" ", "-"), seed=0)
        log_odds = torch.from_numpy(predict_log_odds(models[way], squares, held_out))
        truth = torch.from_numpy(squares.labels[held_out]).double()
        losses[way] = float(functional.binary_cross_entropy_with_logits(log_odds, truth))
        progress.say(f"treatment, {way}: loss {losses[way]:.3f} on {len(held_out)} simulated photographs held back")
    chosen = min(losses, key=losses.__getitem__)
    save_weights(models[chosen], folder)
    facts = {"simulated": True, "photographs": len(train), "chosen": chosen, "loss": losses, "frozen": frozen}
    write_json(folder / "choice.json", facts)


def predict_log_odds(model: Classifier, squares: Squares, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-odds (len(rows),) of the photographs as they are."""
    return np.diff(predict_rows(model, squares, rows), axis=1)[:, 0]


def split_eyes(eyes: SimulatedEyes, every: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Photographs with ROP to learn from, and those of every `every`-th infant, of those who need treatment and of others."""
    rows = np.flatnonzero(eyes.treatment != UNLABELLED)
    requiring = np.unique(eyes.infant[rows[eyes.treatment[rows] == 1]])
    others = np.setdiff1d(eyes.infant[rows], requiring)
    held_out = np.isin(eyes.infant[rows], [*requiring[::every], *others[::every]])
    return rows[~held_out], rows[held_out]


def score_by_stage_and_zone(
    eyes: SimulatedEyes,
    rows: NDArray[np.int64],
    p: NDArray[np.float64],
    threshold: float,
    vessels: NDArray[np.float64] | NotMade,
) -> list[dict[str, Any]]:
    """Figures over all photographs with ROP, then by stage and by zone; rows of one kind only have no AUC.

    Beside them the AUC of `vessels`, probabilities (len(rows),) by vessels alone, and the paired difference, or why there
    are none.
    """
    y, infants = eyes.treatment[rows], eyes.infant[rows]
    parts: Mapping[str, NDArray[np.bool_]] = {
        "all": np.ones(len(rows), bool),
        **{f"stage {stage}": eyes.stage[rows] == stage for stage in (1, 2, 3)},
        **{f"zone {zone}": eyes.zone[rows] == zone for zone in (1, 2, 3)},
    }
    table: list[dict[str, Any]] = []
    for name, part in parts.items():
        found: dict[Any, Any] = estimates(
            y[part], p[part], metrics=("auc", "sensitivity", "specificity"), threshold=threshold, groups=infants[part]
        )
        if isinstance(vessels, NotMade):
            found["vessels alone"] = str(vessels)
        else:
            truth, groups = y[part], infants[part]
            found[VESSELS_ALONE] = estimate(truth, vessels[part], groups=groups)
            if len(np.unique(truth)) > 1:
                found["auc less that of vessels"] = difference(
                    truth, p[part], vessels[part], groups=groups, names=("second stage", "vessels alone")
                )
        table.append({"photographs": name, "simulated": "yes", **found})
    return table


def _figure(name: str, estimate: Estimate, on: str) -> CardFigure:
    """A figure as a card holds it; without an interval where too few groups give none."""
    low, high = (None if np.isnan(end) else round(end, 4) for end in (estimate.low, estimate.high))
    return CardFigure(name=name, value=round(estimate.value, 4), low=low, high=high, n=estimate.n, on=on)
