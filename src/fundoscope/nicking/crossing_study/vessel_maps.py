"""Teaching the network of maps: vessels, arteries, veins and crossings, from drawn photographs and simulated eyes.

Two thirds of the crops come from real photographs, one from simulated eyes, whose truth is exact and whose cameras differ;
in the last rounds all come from real ones, whose shades tell an artery from a vein. Two more networks see one half of the
photographs each: what is built on their maps of the other half (the trust in a crossing, the grades) is built on maps
as a new photograph has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fundoscope.datasets import Dataset, PhotographRecord
from fundoscope.errors import UsageError
from fundoscope.learning import CropOptions, FitOptions, VesselPhotograph, fit_vessels
from fundoscope.learning.vessel_crops import CAMERAS
from fundoscope.networks import VesselNet, VesselNetOptions
from fundoscope.nicking.grade_study.transfer import read_seen_photographs, write_upstream
from fundoscope.studies import Study

#: Milder than for patches: thin vessels, and which is which, do not survive more.
_CAMERAS = replace(CAMERAS, colour=0.5, sharpness=0.2, noise=0.2, encoding=0.1)
#: Milder still: what tells an artery from a vein is a shade.
_SHADES = replace(CAMERAS, colour=0.2, light=0.2, sharpness=0.1, noise=0.1, encoding=0.1)

WEIGHTS = "maps.pt"
#: Which photographs a network learns from: all of them, or those of even or odd rank in their set.
PARTS = ("all", "even", "odd")


@dataclass(frozen=True)
class Round:
    """Crops, drawn by `seed`, and fit of one round, with simulated `eyes` among the photographs or without."""

    seed: int = 1
    crops: CropOptions = field(default_factory=lambda: CropOptions(side=192, number=400, zoom=0.3, augment=_CAMERAS))
    fit: FitOptions = field(
        default_factory=lambda: FitOptions(
            epochs=30, batch=4, learning_rate=1.5e-3, average=0.995, bfloat16=True, smoothing=0.0
        )
    )
    eyes: bool = True


def _alone(seed: int, side: int, number: int, epochs: int) -> Round:
    """On drawn photographs alone, their colours nearly as they are."""
    usual = Round()
    crops = replace(usual.crops, side=side, number=number, augment=_SHADES)
    return Round(seed, crops, replace(usual.fit, learning_rate=1e-3, epochs=epochs), eyes=False)


#: Crops widen from round to round: what a vessel is also shows in where it comes from.
_ALONE = (_alone(11, 192, 400, 30), _alone(12, 288, 200, 24))


@dataclass(frozen=True)
class MapRecipe:
    """Every number of the teaching; `seed` of the weights. Each round begins with the weights of the one before and the full
    rate (warm restarts, Loshchilov 2017, ICLR).
    """

    network: VesselNetOptions = field(default_factory=VesselNetOptions)
    rounds: tuple[Round, ...] = field(default_factory=lambda: (*map(Round, (1, 2, 3)), *_ALONE))
    seed: int = 1

    @property
    def begun(self) -> MapRecipe:
        """The same without its last round."""
        return replace(self, rounds=self.rounds[:-1])

    @property
    def short(self) -> MapRecipe:
        """The same with one round among simulated eyes: enough for half of the photographs."""
        return replace(self, rounds=(self.rounds[0], *(each for each in self.rounds if not each.eyes)))


def fit_maps(
    recipe: MapRecipe,
    part: str,
    sets: Iterable[Dataset],
    eyes: Iterable[PhotographRecord],
    study: Study,
    workers: int = 0,
) -> VesselNet:
    """Teach the network of a part (`PARTS`) of the photographs; it resumes, and is read where it is done."""
    number = len(recipe.rounds)
    step = f"maps/{part}" if number == 1 else f"maps/{part}-{number}"
    if study.done(step):
        model = VesselNet(recipe.network)
        model.load_state_dict(torch.load(study.result(step) / WEIGHTS, weights_only=True))
        return model
    if number > 1:
        model = fit_maps(recipe.begun, part, sets, eyes, study, workers)
    else:
        torch.manual_seed(recipe.seed)
        model = VesselNet(recipe.network)
    last = recipe.rounds[-1]
    real = [VesselPhotograph.from_record(record) for known in sets for record in taken(known, part)]
    every = mixed(real, [VesselPhotograph.from_record(record) for record in eyes] if last.eyes else [])
    with study.step(step) as folder:
        model = fit_vessels(model, every, last.crops, last.fit, folder / "fit", last.seed, workers)
        torch.save(model.state_dict(), folder / WEIGHTS)
        write_upstream(folder, names_of(sets, part), None)
    return model


def names_of(sets: Iterable[Dataset], part: str) -> tuple[str, ...]:
    """The photographs of a part, by their names; none is read for it."""
    return tuple(source.full_name for known in sets for source in taken(known, part).sources)


def taught(folder: Path) -> tuple[dict[str, Tensor], frozenset[str]]:
    """The weights that `fit_maps` wrote to a folder, and which photographs they have seen; `UsageError` where there are none."""
    seen = read_seen_photographs(folder)
    try:
        return torch.load(folder / WEIGHTS, weights_only=True), seen
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{folder / WEIGHTS}: cannot be read ({error}). Give a folder that teaching maps wrote."
        ) from error


def taken(known: Dataset, part: str) -> Dataset:
    """The photographs of a set that the network of this part learns from; none is read yet."""
    first, step = {"all": (0, 1), "even": (0, 2), "odd": (1, 2)}[part]
    return known[first::step]


def mixed(real: Sequence[Any], simulated: Sequence[Any]) -> list[Any]:
    """Both, the real ones repeated until they give about two thirds."""
    if not real or not simulated:
        return [*real, *simulated]
    return [*simulated, *(list(real) * max(1, round(2 * len(simulated) / len(real))))]
