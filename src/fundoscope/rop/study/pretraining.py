"""Rehearsal: learning on simulated infants before the first real photograph.

Simulated eyes cost nothing, have exact labels, and come from several cameras; no real photograph takes part, so one
rehearsal serves every fold and seed without leaking. Photographs whose quality the simulator drew as ungradable are
left out: their label cannot be seen.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.cohort import Cohort
from fundoscope.evaluation import auc
from fundoscope.imaging import read
from fundoscope.learning import SQUARE, Squares, fit, predict_logits
from fundoscope.networks import build
from fundoscope.rop.recipes import Arm, Recipe, Rehearsal
from fundoscope.rop.study.questions import treatment_question
from fundoscope.simulate import write_infants
from fundoscope.studies import Progress, Study, write_json

_PIXELS = 400  # of the longer side: enough for squares of 320
_HELD_OUT = 8  # every eighth infant is kept for stopping


@dataclass(frozen=True)
class SimulatedEyes:
    """Gradable simulated photographs: squares labelled normal or ROP, and what is known of each, all (n,).

    `treatment` as in `treatment_question`; `held` are kept back from training, whole infants at a time; `stage` and
    `zone` as the view shows them, 0 for none.
    """

    squares: Squares
    treatment: NDArray[np.int64]
    held: NDArray[np.bool_]
    infant: NDArray[np.str_]
    stage: NDArray[np.int64]
    zone: NDArray[np.int64]


def step_of(arm: Arm) -> str:
    """Its place in the study's folder."""
    return f"rehearsal/{arm.network}"


def rehearsed(recipe: Recipe, arm: Arm, study: Study) -> Path | None:
    """The weights with which an arm begins, None where it begins from its builder's."""
    own = arm.network in (recipe.teacher, recipe.student)
    return study.result(step_of(arm)) / "best.safetensors" if recipe.rehearsal and arm.prepared and own else None


def rehearse(recipe: Recipe, arm: Arm, study: Study, voice: Progress) -> None:
    """Train an arm's network on simulated infants, unless that is done or the recipe has no rehearsal for it."""
    plan = recipe.rehearsal
    if plan is None or not arm.prepared or arm.network not in (recipe.teacher, recipe.student):
        return
    if study.done(step_of(arm)):
        return
    eyes = simulated_eyes(recipe, study, voice)
    with study.step(step_of(arm)) as folder:
        train, inner = np.flatnonzero(~eyes.held), np.flatnonzero(eyes.held)
        voice.say(f"rehearsal of {arm.network}: {len(train)} simulated photographs, {len(inner)} for stopping")
        torch.manual_seed(plan.seed)
        model = build(arm.network, pretrained=recipe.pretrained, size=recipe.standard.size, given=recipe.scaling)
        model = fit(model, eyes.squares, train, inner, plan.fit, folder, plan.seed)
        logits = predict_logits(model, eyes.squares.inputs(inner))
        found = auc(eyes.squares.labels[inner], logits[:, 1] - logits[:, 0])
        write_json(
            folder / "rehearsal.json", {"simulated": True, "photographs": len(train), "inner_auc": round(found, 4)}
        )
        voice.say(f"rehearsal of {arm.network}: AUC {found:.3f} on held-out simulated infants")


def simulated_eyes(recipe: Recipe, study: Study, voice: Progress, name: str = "eyes", others: int = 0) -> SimulatedEyes:
    """The eyes of the recipe's rehearsal, drawn once and kept as squares; `others` are drawn from other seeds."""
    assert recipe.rehearsal is not None
    step = f"rehearsal/{name}"
    if not study.done(step):
        with study.step(step) as folder:
            _keep(folder, recipe, replace(recipe.rehearsal, seed=recipe.rehearsal.seed + others), voice)
    kept = study.result(step)
    pixels = np.load(kept / "squares.npy", mmap_mode="r")
    known = dict(np.load(kept / "known.npz"))
    return SimulatedEyes(Squares(pixels, known.pop("labels"), recipe.standard), **known)  # type: ignore[arg-type]


def _keep(folder: Path, recipe: Recipe, plan: Rehearsal, voice: Progress) -> None:
    cohort = Cohort.read(_simulated(folder / "eyes", plan, voice))
    seen = np.flatnonzero([record.extra["level"] != "ungradable" for record in cohort])
    records = [cohort[row] for row in seen.tolist()]
    infants = np.array([record.infant for record in records])
    np.save(folder / "squares.npy", np.stack([recipe.standard.square(read(r.path), size=SQUARE) for r in records]))
    np.savez(
        folder / "known.npz", labels=cohort.labels[seen], treatment=treatment_question(cohort).labels[seen],
        held=np.isin(infants, np.unique(infants)[::_HELD_OUT]), infant=infants,
        stage=[int(record.extra["stage"] or 0) for record in records],
        zone=[int(record.extra["zone"] or 0) for record in records],
    )  # fmt: skip
    shutil.rmtree(folder / "eyes")


def _simulated(folder: Path, plan: Rehearsal, voice: Progress) -> Path:
    table = folder / "cohort.csv"
    if not table.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with voice.stages() as step:
            write_infants(
                plan.photographs, folder, plan.seed, workers=2, size=_PIXELS,
                progress=lambda done, wanted: step("simulating", done, wanted),
            )  # fmt: skip
    return table
