"""The second stage learnt from simulated eyes: does this ROP need treatment? Until a cohort brings real answers.

Two ways are fitted on the same eyes, and the one with the lower loss on infants that neither saw is taken: a head of its
own on the first network's maps, and late stages of its own as well. What it is worth is measured on a third, fresh draw
of eyes, by stage and zone, beside a baseline that knows only the vessels' width and tortuosity.
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
from safetensors.torch import load_file, save_file
from torch.nn import functional

from fundoscope.bundles.card import CardFigure, Stage
from fundoscope.evaluation import estimates, results_table
from fundoscope.evaluation.decisions import fit_temperature, target_sensitivity
from fundoscope.learning import UNLABELLED, Squares, fit, predict_logits
from fundoscope.networks import Classifier
from fundoscope.networks.classifier import freeze
from fundoscope.rop.recipes import Arm
from fundoscope.rop.study.calibrate import Fits, Settled
from fundoscope.rop.study.export import card_figure, stage_of
from fundoscope.rop.study.pretraining import SimulatedEyes, simulated_eyes
from fundoscope.rop.study.questions import TREATMENT
from fundoscope.rop.study.train import NETWORK, freeze_shared
from fundoscope.studies import Progress, write_json

STEP = "final/simulated-treatment"
_EXAM = 1  # added to the rehearsal's seed: eyes that nothing was learnt or chosen on
_HELD_OUT = (
    3  # every third infant with ROP settles choice, temperature and threshold: fewer hold too few of either kind
)
_DATA = "SIMULATED infants held back from training"


@dataclass(frozen=True)
class SecondStage:
    """A network for the second question, its stage of the card, where it learnt, and its figures."""

    network: Classifier
    stage: Stage
    source: Literal["simulated", "real"]
    figures: tuple[CardFigure, ...] = ()


def second_of_simulated(fits: Fits, arm: Arm, first: Classifier, voice: Progress) -> SecondStage:
    """The second stage for a finished first network, learnt from the eyes of the recipe's rehearsal."""
    eyes = simulated_eyes(fits.recipe, fits.study, voice)
    if not fits.study.done(STEP):
        with fits.study.step(STEP) as folder:
            _choose(fits, arm, first, eyes, folder, voice)
    model = copy.deepcopy(first)
    model.load_state_dict(load_file(fits.study.result(STEP) / NETWORK))
    _, inner = _parts(eyes)
    logits = margin_of(model.eval(), eyes.squares, inner)
    temperature = fit_temperature(logits, eyes.treatment[inner])
    point = target_sensitivity(eyes.treatment[inner], temperature.probabilities(logits), fits.recipe.target_sensitivity)
    stage = stage_of(TREATMENT, Settled(temperature, point), _DATA)
    exam = simulated_eyes(fits.recipe, fits.study, voice, "exam", _EXAM)
    rows = np.flatnonzero(exam.treatment != UNLABELLED)
    p = temperature.probabilities(margin_of(model, exam.squares, rows))
    table = by_stage_and_zone(exam, rows, p, point.threshold)
    tables = fits.study.folder / "tables"
    tables.mkdir(exist_ok=True)
    results_table(table, tables / "treatment_simulated.csv")
    return SecondStage(model, stage, "simulated", _figures(table[0], len(rows)))


def _choose(fits: Fits, arm: Arm, first: Classifier, eyes: SimulatedEyes, folder: Path, voice: Progress) -> None:
    """Fit both ways, keep the better one's weights."""
    squares = eyes.squares.with_labels(eyes.treatment)
    train, inner = _parts(eyes)
    options = replace(arm.fit, batch=16)
    losses, models = {}, {}
    for way in ("own head", "own late stages"):
        model = copy.deepcopy(first)
        if way == "own head":
            freeze([model.body])
        else:
            freeze_shared(fits.recipe, arm, model)
        models[way] = fit(model, squares, train, inner, options, folder / way.replace(" ", "-"), seed=0)
        losses[way] = _loss(models[way], squares, inner)
        voice.say(f"treatment, {way}: loss {losses[way]:.3f} on {len(inner)} simulated photographs held back")
    chosen = min(losses, key=losses.__getitem__)
    save_file({name: value.contiguous() for name, value in models[chosen].state_dict().items()}, folder / NETWORK)
    write_json(folder / "choice.json", {"simulated": True, "photographs": len(train), "chosen": chosen, "loss": losses})


def margin_of(model: Classifier, squares: Squares, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-odds (len(rows),) of the photographs as they are, a few at a time."""
    parts = [predict_logits(model, squares.inputs(rows[at : at + 32])) for at in range(0, len(rows), 32)]
    return np.diff(np.concatenate(parts).astype(float), axis=1)[:, 0]


def _loss(model: Classifier, squares: Squares, rows: NDArray[np.int64]) -> float:
    margin = torch.from_numpy(margin_of(model, squares, rows))
    return float(functional.binary_cross_entropy_with_logits(margin, torch.from_numpy(squares.labels[rows]).double()))


def _parts(eyes: SimulatedEyes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Photographs with ROP to learn from, and those of other infants: a third of those who need treatment, and of others."""
    rows = np.flatnonzero(eyes.treatment != UNLABELLED)
    requiring = np.unique(eyes.infant[rows[eyes.treatment[rows] == 1]])
    others = np.setdiff1d(eyes.infant[rows], requiring)
    held = np.isin(eyes.infant[rows], [*requiring[::_HELD_OUT], *others[::_HELD_OUT]])
    return rows[~held], rows[held]


def by_stage_and_zone(
    eyes: SimulatedEyes, rows: NDArray[np.int64], p: NDArray[np.float64], threshold: float
) -> list[dict[str, Any]]:
    """Figures over all photographs with ROP, then stage by stage and zone by zone; rows of one kind only have no AUC."""
    y, infants = eyes.treatment[rows], eyes.infant[rows]
    parts: Mapping[str, NDArray[np.bool_]] = {
        "all": np.ones(len(rows), bool),
        **{f"stage {stage}": eyes.stage[rows] == stage for stage in (1, 2, 3)},
        **{f"zone {zone}": eyes.zone[rows] == zone for zone in (1, 2, 3)},
    }
    table: list[dict[str, Any]] = []
    for name, keep in parts.items():
        found: dict[Any, Any] = estimates(
            y[keep], p[keep], metrics=("auc", "sensitivity", "specificity"), threshold=threshold, groups=infants[keep]
        )
        table.append({"photographs": name, "simulated": "yes", **found})
    return table


def _figures(overall: Mapping[str, Any], n: int) -> tuple[CardFigure, ...]:
    on = f"{n} SIMULATED photographs with ROP, drawn afresh"
    return tuple(card_figure(f"treatment: {name}", overall[name], on) for name in ("auc", "sensitivity", "specificity"))
