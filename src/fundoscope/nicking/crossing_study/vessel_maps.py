"""Training of the network of vessel maps: vessels, arteries, veins and crossings, from real photographs and simulated eyes.

The training goes in rounds (`nicking/recipes/maps_usual.toml`). Besides the network that learns from all photographs, one learns from
half of them: what is fitted on its maps of the other half (confidence, grades) is fitted on maps of photographs that the
network has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from fundoscope.datasets import Dataset, PhotographRecord
from fundoscope.errors import UsageError
from fundoscope.learning import VesselPhotograph, fit_vessels
from fundoscope.networks import VesselNet
from fundoscope.nicking.grade_study.transfer import read_seen_photographs, write_upstream
from fundoscope.nicking.recipes.crossings import MapRecipe
from fundoscope.studies import Study

WEIGHTS = "maps.pt"

#: Which photographs of each set a network learns from: all, or those of even or of odd rank.
Half = Literal["all", "even", "odd"]

T = TypeVar("T")


def train_vessel_maps(
    recipe: MapRecipe,
    half: Half,
    sets: Iterable[Dataset],
    simulated: Iterable[PhotographRecord],
    study: Study,
    workers: int = 0,
) -> VesselNet:
    """The network of vessel maps, trained on a half of the photographs of all sets, and on simulated ones.

    Each round leaves a folder `maps/<half>/round_<number>` in the study. A finished round is read, a broken-off one goes on.
    """
    sets = list(sets)
    rounds = [each for each in recipe.rounds if half == "all" or each.in_halves]
    torch.manual_seed(recipe.seed)
    network = VesselNet(recipe.network)
    photographs: dict[bool, list[VesselPhotograph]] = {}
    for number, one_round in enumerate(rounds, start=1):
        step = f"maps/{half}/round_{number}"
        if study.done(step):
            network.load_state_dict(torch.load(study.result(step) / WEIGHTS, weights_only=True))
            continue
        if one_round.simulated not in photographs:
            real = [VesselPhotograph.from_record(record) for dataset in sets for record in take_half(dataset, half)]
            drawn = [VesselPhotograph.from_record(record) for record in simulated] if one_round.simulated else []
            photographs[one_round.simulated] = [*drawn, *repeat_real(real, len(drawn), recipe.real_per_simulated)]
        with study.step(step) as folder:
            network = fit_vessels(
                network, photographs[one_round.simulated], one_round.crops, one_round.fit.options, folder / "fit",
                one_round.seed, workers,
            )  # fmt: skip
            torch.save(network.state_dict(), folder / WEIGHTS)
            write_upstream(folder, names_of_half(sets, half), None)
    return network


def take_half(dataset: Dataset, half: Half) -> Dataset:
    """The photographs of a set that belong to a half; none is read yet."""
    first, step = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}[half]
    return dataset[first::step]


def names_of_half(sets: Iterable[Dataset], half: Half) -> tuple[str, ...]:
    """The names of the photographs of a half of all sets, as `<set>/<photograph>`; none is read for it."""
    return tuple(source.full_name for dataset in sets for source in take_half(dataset, half).sources)


def repeat_real(real: list[T], simulated: int, real_per_simulated: float) -> list[T]:
    """The real photographs, repeated until there are about so many for each of the simulated ones."""
    if not real or not simulated:
        return real
    return real * max(1, round(real_per_simulated * simulated / len(real)))


def read_vessel_map_weights(folder: Path) -> tuple[dict[str, Tensor], frozenset[str]]:
    """The weights that `train_vessel_maps` left in a round's folder, and the names of the photographs that they were trained on.

    Raises `UsageError` where the folder holds none.
    """
    seen = read_seen_photographs(folder)
    try:
        return torch.load(folder / WEIGHTS, weights_only=True), seen
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{folder / WEIGHTS}: cannot be read ({error}). Give the folder of a round that training maps wrote."
        ) from error
