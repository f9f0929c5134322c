"""Rehearsal: learning on simulated infants before the first real photograph.

Simulated eyes cost nothing, have exact labels, and come from several cameras; no real photograph takes part, so one
rehearsal serves every fold and seed without leaking. Photographs whose quality the simulator drew as ungradable are
left out: their label cannot be seen.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from fundoscope.cohort import Cohort
from fundoscope.evaluation import auc
from fundoscope.imaging import read
from fundoscope.learning import SQUARE, Squares, fit, logits_of
from fundoscope.networks import build
from fundoscope.rop.recipes import Recipe, Rehearsal
from fundoscope.rop.talking import Voice
from fundoscope.simulate import write_infants
from fundoscope.studies import Study, write_json

_PIXELS = 400  # of the longer side: enough for squares of 320
_HELD_OUT = 8  # every eighth infant is kept for stopping


def step_of(recipe: Recipe) -> str:
    """Its place in the study's folder."""
    return f"rehearsal/{recipe.network}"


def rehearse(recipe: Recipe, study: Study, voice: Voice) -> None:
    """Train the recipe's network on simulated infants, unless that is done or the recipe has no rehearsal."""
    plan = recipe.rehearsal
    if plan is None or study.done(step_of(recipe)):
        return
    with study.step(step_of(recipe)) as folder:
        eyes = _simulated(folder / "eyes", plan, voice)
        cohort = Cohort.read(eyes)
        squares = _squares(cohort, recipe)
        infants = np.array([record.infant for record in cohort])
        gradable = np.array([record.extra["level"] != "ungradable" for record in cohort])
        held = np.isin(infants, np.unique(infants)[::_HELD_OUT])
        train, inner = np.flatnonzero(gradable & ~held), np.flatnonzero(gradable & held)
        voice.say(f"rehearsal: {len(train)} simulated photographs, {len(inner)} for stopping")
        torch.manual_seed(plan.seed)
        model = fit(build(recipe.network), squares, train, inner, plan.fit, folder, plan.seed)
        logits = logits_of(model, squares.inputs(inner))
        found = auc(squares.labels[inner], logits[:, 1] - logits[:, 0])
        write_json(
            folder / "rehearsal.json", {"simulated": True, "photographs": len(train), "inner_auc": round(found, 4)}
        )
        voice.say(f"rehearsal: AUC {found:.3f} on held-out simulated infants")
        shutil.rmtree(folder / "eyes")


def _simulated(folder: Path, plan: Rehearsal, voice: Voice) -> Path:
    table = folder / "cohort.csv"
    if not table.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with voice.stages() as step:
            write_infants(
                plan.photographs, folder, plan.seed, workers=2, size=_PIXELS,
                progress=lambda done, wanted: step("simulating", done, wanted),
            )  # fmt: skip
    return table


def _squares(cohort: Cohort, recipe: Recipe) -> Squares:
    pixels = [recipe.standard.square(read(record.path), size=SQUARE) for record in cohort]
    return Squares(pixels, cohort.labels, recipe.standard)
