"""Training of the network that maps infants' vessels and discs.

    python -m fundoscope.rop.vessel_training.train --data DATA --recipe usual --out runs/infant_vessels [--minutes 40]

RUN/photographs/        the photographs at one scale; RUN/fit/ the fit; a run that was cut off goes on at its last whole epoch
RUN/progress.txt        a line an epoch, for whoever waits (of an unfinished fit: RUN/.work/fit/fit/epochs.csv)
RUN/result/vessels.pt   the weights, in half precision; seen.json, the photographs that taught; losses.csv
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from fundoscope.datasets import open_dataset
from fundoscope.errors import FundoscopeError, UsageError
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.learning import TrainingData, fit_batches
from fundoscope.learning.infant_crops import InfantVesselPhotograph, infant_crop_batches
from fundoscope.learning.trainer import read_rows, write_rows
from fundoscope.learning.vessel_fit import map_loss
from fundoscope.networks import VesselNet
from fundoscope.rop.vessel_training.recipe import InfantVesselRecipe, SimulatedInfants, read_infant_vessel_recipe
from fundoscope.simulate import infant
from fundoscope.studies import Study, command, write_json

WEIGHTS, SEEN, LOSSES, PROGRESS = "vessels.pt", "seen.json", "losses.csv", "progress.txt"

Named = tuple[str, InfantVesselPhotograph]


def draw_infant(look: SimulatedInfants, number: int) -> Named:
    """One simulated infant of a look, with a seed of its own."""
    seed = int(np.random.SeedSequence([look.seed, number, 13]).generate_state(1)[0])
    drawn = infant(seed, camera=look.camera, size=look.size)
    known = InfantVesselPhotograph.from_masks(drawn.pixels, drawn.truth.vessel, drawn.truth.disc, DIAMETER)
    return f"simulated {look.camera} {look.seed}/{number}", known


def gather_photographs(data: Path, recipe: InfantVesselRecipe) -> Iterator[Named]:
    """The photographs that teach, one after another: of the public sets, then simulated ones."""
    for each in recipe.sets:
        for source in open_dataset(data / each.folder).sources:
            record = source.reader(source)
            if record.vessel is None:
                raise UsageError(f"{source.path}: its vessels are not drawn. Give a set with vessels in the recipe.")
            known = InfantVesselPhotograph.from_masks(record.pixels, record.vessel, None, each.diameter)
            yield source.full_name, known
    for look in recipe.simulated:
        for number in range(look.photographs):
            yield draw_infant(look, number)


def read_infant_photographs(study: Study, data: Path, recipe: InfantVesselRecipe) -> list[Named]:
    """The photographs that teach; they are kept, so that a training that goes on need not draw them anew."""
    if not study.done("photographs"):
        with study.step("photographs") as folder:
            for number, (name, each) in enumerate(gather_photographs(data, recipe)):
                known = np.array(each.disc_known)
                path = folder / f"{number:04}.npz"
                np.savez_compressed(path, name=np.array(name), pixels=each.pixels, planes=each.planes, disc_known=known)
    photographs = []
    for path in sorted(study.result("photographs").glob("*.npz")):
        with np.load(path) as kept:
            known = InfantVesselPhotograph(kept["pixels"], kept["planes"], bool(kept["disc_known"]))
            photographs.append((str(kept["name"]), known))
    return photographs


def mix_infants(photographs: Sequence[Named], real_per_simulated: float) -> list[InfantVesselPhotograph]:
    """What crops are drawn from: simulated infants, and the real photographs so often that there are about so many for each."""
    drawn = [each for _, each in photographs if each.disc_known]
    real = [each for _, each in photographs if not each.disc_known]
    times = max(1, round(real_per_simulated * len(drawn) / len(real))) if real else 0
    return [*drawn, *real * times]


def train_infant_vessels(
    recipe: InfantVesselRecipe, data: Path, out: Path, minutes: float | None = None, workers: int = 0
) -> Path:
    """Train the network of a recipe, or go on with it; returns the folder of the result.

    With `minutes` the fit ends in time. Raises `UsageError` where a set is missing, `StudyError` where `out` holds another training.
    """
    manifest = {
        "task": "infant vessels",
        "recipe": recipe.model_dump(mode="json", exclude={"index"}),
        "commands": [command()],
    }
    study = Study.open(out, manifest, [data] if recipe.sets else [])
    photographs = read_infant_photographs(study, data, recipe)
    torch.manual_seed(recipe.seed)
    network = VesselNet(recipe.network)
    if not study.done("fit"):
        mixed = mix_infants(photographs, recipe.real_per_simulated)
        options = replace(recipe.fit.options, seconds=None if minutes is None else 60 * minutes)
        batches = infant_crop_batches(mixed, recipe.crops, options.batch, recipe.seed, workers)
        with study.step("fit") as folder:
            fit_batches(network, TrainingData(batches, map_loss), options, folder / "fit", recipe.seed)
            torch.save(network.state_dict(), folder / WEIGHTS)
    network.load_state_dict(torch.load(study.result("fit") / WEIGHTS, weights_only=True))
    with study.step("result") as folder:
        halves = {n: v.half() if v.is_floating_point() else v for n, v in network.state_dict().items()}
        torch.save(halves, folder / WEIGHTS)
        write_json(folder / SEEN, [name for name, _ in photographs])
        rows = read_rows(study.result("fit") / "fit" / "epochs.csv")
        write_rows(folder / LOSSES, [{k: row[k] for k in ("epoch", "train_loss", "lr")} for row in rows], ("epoch", "train_loss", "lr"))  # fmt: skip
    return study.result("result")


def read_infant_vessel_network(recipe: InfantVesselRecipe, folder: Path) -> VesselNet:
    """The trained network in the folder of a training's result; `UsageError` where it holds none."""
    network = VesselNet(recipe.network.without_pretraining())
    try:
        weights = torch.load(folder / WEIGHTS, weights_only=True)
        network.load_state_dict({n: v.float() if v.is_floating_point() else v for n, v in weights.items()})
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{folder / WEIGHTS}: cannot be read ({error}). Give the folder `result` of a training of infants' vessels, and its recipe."
        ) from error
    return network.eval()


def main() -> None:
    """The command `python -m fundoscope.rop.vessel_training.train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--recipe", default="usual", help="a recipe of infants' vessels: its name, or a TOML file")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the training; it goes on where it was cut off"
    )
    parser.add_argument("--minutes", type=float, help="end the fit after so many minutes at the latest")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw crops")
    given = parser.parse_args()
    kept = logging.FileHandler(given.out / PROGRESS, delay=True)  # a folder with a file in it would be no new one
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[logging.StreamHandler(sys.stdout), kept]
    )  # fmt: skip
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        recipe = read_infant_vessel_recipe(given.recipe)
        print(train_infant_vessels(recipe, given.data, given.out, given.minutes, given.workers), flush=True)
    except FundoscopeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
