"""Teaching the network of maps: vessels, arteries, veins and crossings, from drawn photographs and simulated eyes.

Two thirds of the crops come from real photographs, one from simulated eyes, whose truth is exact and whose cameras differ. Two
more networks see one half of the photographs each: what is built on their maps of the other half (the trust in a
crossing, the grades) is built on maps as a new photograph has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from fundoscope.datasets import Dataset, Record
from fundoscope.learning import Crops, Drawn, FitOptions, fit_vessels
from fundoscope.learning.patches import CAMERAS
from fundoscope.networks import VesselNet, VesselNetOptions
from fundoscope.studies import Study

#: Milder than for patches: thin vessels, and which is which, do not survive more.
_CAMERAS = replace(CAMERAS, colour=0.5, sharpness=0.2, noise=0.2, encoding=0.1)

#: Which photographs a network learns from: all of them, or those of even or odd rank in their set.
PARTS = ("all", "even", "odd")


@dataclass(frozen=True)
class MapRecipe:
    """Every number of the teaching; `seed` of the weights and of the crops. Each of the `rounds` begins with the weights of
    the one before and the full rate (warm restarts, Loshchilov 2017, ICLR).
    """

    network: VesselNetOptions = field(default_factory=VesselNetOptions)
    crops: Crops = field(default_factory=lambda: Crops(side=192, number=400, zoom=0.3, augment=_CAMERAS))
    fit: FitOptions = field(
        default_factory=lambda: FitOptions(
            epochs=30, batch=4, learning_rate=1.5e-3, average=0.995, bfloat16=True, smoothing=0.0
        )
    )
    seed: int = 1
    rounds: int = 1


def fit_maps(
    recipe: MapRecipe, part: str, sets: Iterable[Dataset], eyes: Iterable[Record], study: Study, workers: int = 0
) -> VesselNet:
    """Teach the network of a part (`PARTS`) of the photographs; it resumes, and is read where it is done."""
    step = f"maps/{part}" if recipe.rounds == 1 else f"maps/{part}-{recipe.rounds}"
    model = VesselNet(recipe.network)
    if study.done(step):
        model.load_state_dict(torch.load(study.result(step) / "maps.pt", weights_only=True))
        return model
    real = [Drawn.of(record) for known in sets for record in taken(known, part)]
    every = mixed(real, [Drawn.of(record) for record in eyes])
    torch.manual_seed(recipe.seed)
    model = VesselNet(recipe.network)
    if recipe.rounds > 1:
        model = fit_maps(replace(recipe, rounds=recipe.rounds - 1), part, sets, eyes, study, workers)
    with study.step(step) as folder:
        seed = recipe.seed + recipe.rounds - 1
        model = fit_vessels(model, every, recipe.crops, recipe.fit, folder / "fit", seed, workers)
        torch.save(model.state_dict(), folder / "maps.pt")
    return model


def taken(known: Dataset, part: str) -> list[Record]:
    """The photographs of a set that the network of this part learns from."""
    first, step = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}[part]
    return [known[k] for k in range(first, len(known), step)]


def mixed(real: Sequence[Any], simulated: Sequence[Any]) -> list[Any]:
    """Both, the real ones repeated until they give about two thirds."""
    if not real or not simulated:
        return [*real, *simulated]
    return [*simulated, *(list(real) * max(1, round(2 * len(simulated) / len(real))))]
