"""Step 3, `pretraining/`: learning on simulated infants before the first real photograph.

Simulated eyes cost nothing, have exact labels, and come from several cameras. No real photograph takes part, so one
pretraining serves every fold and seed without leaking. Photographs whose quality the simulator drew as ungradable are
left out: their label cannot be seen.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort
from fundoscope.evaluation import auc
from fundoscope.evaluation.controls import VESSEL_FEATURES, vessel_features
from fundoscope.imaging import read
from fundoscope.learning import Squares, fit, predict_logits
from fundoscope.rop.recipes import PretrainingNumbers, RopRecipe, StudyArm
from fundoscope.rop.study.networks import build_network, fit_options
from fundoscope.rop.study.questions import UNKNOWN, treatment_question
from fundoscope.simulate import write_infants
from fundoscope.studies import Progress, Study, write_json


@dataclass(frozen=True)
class SimulatedEyes:
    """Gradable simulated photographs as squares labelled normal or ROP, and what is known of each, all (n,).

    `treatment` as in `treatment_question`; `held_out` are kept from training, whole infants at a time; `stage` and `zone` as
    the view shows them, 0 for none. `vessels` (n, K) are the `VESSEL_FEATURES` of the photographs of which treatment is asked,
    nan where they were not measured.
    """

    squares: Squares
    treatment: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    infant: NDArray[np.str_]
    stage: NDArray[np.int64]
    zone: NDArray[np.int64]
    vessels: NDArray[np.float64]

    def first(self, number: int) -> Squares:
        """The squares of the first photographs."""
        return replace(self.squares, pixels=self.squares.pixels[:number], labels=self.squares.labels[:number])


def pretraining_step(arm: StudyArm) -> str:
    """The folder of an arm's pretraining within the study's."""
    return f"pretraining/{arm.network}"


def pretrained_weights(recipe: RopRecipe, arm: StudyArm, study: Study) -> Path | None:
    """The weights with which an arm begins; None where it begins from ImageNet or at random."""
    return study.result(pretraining_step(arm)) / "best.safetensors" if recipe.starts_from_simulated_eyes(arm) else None


def pretrain(recipe: RopRecipe, arms: list[StudyArm], study: Study, progress: Progress) -> None:
    """Train the networks of these arms on simulated infants, where the recipe says so and it is not done."""
    numbers = recipe.pretraining
    for arm in arms:
        if numbers is None or not recipe.starts_from_simulated_eyes(arm) or study.done(pretraining_step(arm)):
            continue
        eyes = simulated_eyes(recipe, study, progress)
        with study.step(pretraining_step(arm)) as folder:
            train, inner = np.flatnonzero(~eyes.held_out), np.flatnonzero(eyes.held_out)
            progress.say(f"pretraining of {arm.network}: {len(train)} simulated photographs, {len(inner)} for stopping")
            model = build_network(recipe, arm, numbers.seed)
            frozen = model.describe_frozen()
            options = fit_options(numbers.fit, renderings=recipe.renderings)
            squares = replace(eyes.squares, standard=recipe.standard_of(arm))
            model = fit(model, squares, train, inner, options, folder, numbers.seed)
            logits = predict_logits(model, squares.inputs(inner))
            inner_auc = auc(squares.labels[inner], logits[:, 1] - logits[:, 0])
            facts = {
                "simulated": True, "photographs": len(train), "inner_auc": round(inner_auc, 4), "frozen": frozen,
            }  # fmt: skip
            write_json(folder / "pretraining.json", facts)
            progress.say(f"pretraining of {arm.network}: AUC {inner_auc:.3f} on held-out simulated infants")


def simulated_eyes(
    recipe: RopRecipe,
    study: Study,
    progress: Progress,
    name: str = "eyes",
    seed: int = 0,
    measure_vessels: bool = False,
) -> SimulatedEyes:
    """The eyes of the recipe's pretraining, drawn once and kept as squares; `seed` is added for another, fresh set.

    With `measure_vessels` the vessels are measured where treatment is asked, for the baseline: a third of a second a photograph.
    """
    numbers = recipe.pretraining
    assert numbers is not None
    step = f"pretraining/{name}"
    if not study.done(step):
        with study.step(step) as folder:
            _draw(folder, recipe, numbers.model_copy(update={"seed": numbers.seed + seed}), progress, measure_vessels)
    return read_simulated_eyes(recipe, study, name)


def read_simulated_eyes(recipe: RopRecipe, study: Study, name: str = "eyes") -> SimulatedEyes:
    """The eyes that `simulated_eyes` drew; `StudyError` where it did not."""
    folder = study.result(f"pretraining/{name}")
    pixels = np.load(folder / "squares.npy", mmap_mode="r")
    known = dict(np.load(folder / "known.npz"))
    return SimulatedEyes(Squares(pixels, known.pop("labels"), recipe.standard), **known)  # type: ignore[arg-type]


def _draw(
    folder: Path, recipe: RopRecipe, numbers: PretrainingNumbers, progress: Progress, measure_vessels: bool
) -> None:
    """Simulate the photographs, keep their squares and what is known of them, and remove the files."""
    eyes = folder / "eyes"
    if not (eyes / "cohort.csv").exists():
        shutil.rmtree(eyes, ignore_errors=True)
        with progress.stages() as step:
            write_infants(
                numbers.photographs, eyes, numbers.seed, workers=2, size=numbers.side,
                progress=lambda done, wanted: step("simulating", done, wanted),
            )  # fmt: skip
    cohort = Cohort.read(eyes / "cohort.csv")
    gradable = np.flatnonzero([record.extra["level"] != "ungradable" for record in cohort])
    records = [cohort[row] for row in gradable.tolist()]
    infants = np.array([record.infant for record in records])
    treatment = treatment_question(cohort).labels[gradable]
    squares, vessels = [], np.full((len(records), len(VESSEL_FEATURES)), np.nan)
    for row, record in enumerate(progress.follow(records, len(records), "reading simulated photographs")):
        photograph = read(record.path)
        squares.append(recipe.standard.square(photograph, size=recipe.squares.side))
        if measure_vessels and treatment[row] != UNKNOWN:
            vessels[row] = list(vessel_features(photograph).values())
    np.save(folder / "squares.npy", np.stack(squares))
    np.savez(
        folder / "known.npz", labels=cohort.labels[gradable], treatment=treatment, vessels=vessels,
        held_out=np.isin(infants, np.unique(infants)[:: numbers.held_out_every]), infant=infants,
        stage=[int(record.extra["stage"] or 0) for record in records],
        zone=[int(record.extra["zone"] or 0) for record in records],
    )  # fmt: skip
    shutil.rmtree(eyes)
