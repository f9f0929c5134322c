"""Recipes of crossing detectors (`crossings_*.toml`) and of the network of vessel maps (`maps*.toml`).

Their sections hold the option classes of the networks and fits themselves, so that a file and the code share one name for
each number.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from fundoscope.learning import CropOptions, FitOptions
from fundoscope.learning.detector_fit import DetectorFitOptions
from fundoscope.networks import VesselNetOptions
from fundoscope.networks.mask_rcnn import DetectorOptions
from fundoscope.recipe_files import RecipeSection, read_recipe_file, shipped_recipes

_FOLDER = Path(__file__).parent
CROSSING_RECIPES = shipped_recipes(_FOLDER, "crossings")
MAP_RECIPES = shipped_recipes(_FOLDER, "maps")

Name = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)


class SplitNumbers(RecipeSection):
    """Who is tested and who chooses the confidence.

    A set without parts `training` and `test` is tested on all but its first `training_share` by name. Where
    `tests_stay_closed` the parts `test` are not touched, and the parts `training` are divided so, too. Every
    `inner_every`-th training photograph is not trained on but chooses the confidence from which on a detection counts.
    """

    training_share: float = Field(gt=0, lt=1)
    inner_every: int = Field(ge=2)
    tests_stay_closed: bool


class PatchTestNumbers(RecipeSection):
    """The patches on which the last step is tested: `side` pixels; in each photograph `tries` places are looked at for
    patches without a crossing.
    """

    side: PositiveInt
    tries: PositiveInt


class PhotographTestNumbers(RecipeSection):
    """Tests of whole photographs beside the plain one: with fields of other `diameters` in pixels, and by the vein's width,
    between whose `width_bounds` (pixels of a field of 540) the thin, middling and wide crossings lie.
    """

    diameters: tuple[PositiveInt, ...]
    width_bounds: tuple[PositiveFloat, PositiveFloat]


class CrossingRecipe(RecipeSection):
    """Every number of a study of crossing detectors; the two steps of the training are paper 002's.

    Boxes are labelled as in the `paper` (20 pixels of DRIVE's 540), or `scaled` by the vein's width. The pyramid of
    `detector` is that of the arm that is trained.
    """

    name: str = Name
    labels: Literal["paper", "scaled"]
    split: SplitNumbers
    detector: DetectorOptions
    whole_photographs: DetectorFitOptions
    patches: DetectorFitOptions
    test_patches: PatchTestNumbers
    test_photographs: PhotographTestNumbers

    @property
    def steps(self) -> tuple[DetectorFitOptions, DetectorFitOptions]:
        """The two steps of the training, in their order."""
        return self.whole_photographs, self.patches

    def with_random_weights(self) -> CrossingRecipe:
        """The same recipe from random weights instead of ImageNet's."""
        return self.model_copy(update={"detector": replace(self.detector, pretrained=False)})


class MapFitNumbers(RecipeSection):
    """The numbers of one round's fit; AdamW, a cosine schedule, to the last epoch."""

    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: float = Field(ge=0)
    warm_up: float = Field(ge=0, le=1)  # share of the steps
    average: float = Field(ge=0, lt=1)  # decay of the running mean of the weights at each step; 0 for none
    bfloat16: bool

    @property
    def options(self) -> FitOptions:
        """The options that `learning.fit_vessels` takes."""
        return FitOptions(**self.model_dump(), smoothing=0.0)


class MapSet(RecipeSection):
    """A public set that teaches the maps: its `folder` under the data folder, and the `camera` with which it is left out.

    `settings` tells whether thresholds and confidence may be chosen on it, by a network that learnt without its camera;
    `natural` whether its crossings that measure as not nicked teach the graders.
    """

    camera: str = Name
    folder: str
    settings: bool = False
    natural: bool = False


class SimulatedLook(RecipeSection):
    """Simulated adults that teach the maps; `size` in pixels, where it is not the camera's own."""

    camera: str
    photographs: PositiveInt
    seed: int
    size: PositiveInt | None = None


class MapRound(RecipeSection):
    """One round of the training of vessel maps: crops, drawn by `seed`, and their fit.

    With `simulated` eyes they join the real photographs.
    """

    seed: int
    simulated: bool
    crops: CropOptions
    fit: MapFitNumbers

    @property
    def steps(self) -> int:
        """How many batches it takes."""
        return self.fit.epochs * max(1, self.crops.number // self.fit.batch)


class MapSettingNumbers(RecipeSection):
    """What is tried where thresholds and votes are chosen on held-out photographs.

    `vessel_thresholds` are compared by Dice; all combinations of the vote weights (`vessels.artery_vein.VoteWeights`) by the
    share of vessel pixels that are classified right. The confidence model is a logistic regression with
    `inverse_regularisation` (scikit-learn's C).
    """

    vessel_thresholds: tuple[float, ...]
    evidence: tuple[float, ...]
    onward: tuple[float, ...]
    branch: tuple[float, ...]
    across: tuple[float, ...]
    pixel: tuple[float, ...]
    inverse_regularisation: PositiveFloat


class MapRecipe(RecipeSection):
    """Every number of the network of vessel maps: its photographs, first weights and rounds, and the settings found on it.

    A teacher of so many `members` goes through the rounds `teacher`; a single network, which ships, goes through the rounds
    `student` and learns from the truth and, with the share `soft_share`, from the mean of the teacher's members over so many `turns` and
    mirrorings. Each round begins with the weights of
    the one before and the full rate (warm restarts, Loshchilov 2017, ICLR). Where simulated eyes join, real photographs are
    repeated until there are `real_per_simulated` of them for each.
    """

    name: str = Name
    seed: int
    members: PositiveInt
    turns: int = Field(ge=1, le=8)
    soft_share: float = Field(ge=0, lt=1)
    real_per_simulated: PositiveFloat
    network: VesselNetOptions
    sets: tuple[MapSet, ...] = Field(min_length=1)
    simulated: tuple[SimulatedLook, ...]
    teacher: tuple[MapRound, ...] = Field(min_length=1)
    student: tuple[MapRound, ...] = Field(min_length=1)
    settings: MapSettingNumbers

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras of the sets, each once."""
        return tuple(dict.fromkeys(each.camera for each in self.sets))


def read_crossing_recipe(name_or_path: str | Path) -> CrossingRecipe:
    """The recipe of crossing detectors of that name (`CROSSING_RECIPES`), or in that TOML file; `UsageError` if it is wrong."""
    return read_recipe_file(name_or_path, CrossingRecipe, CROSSING_RECIPES)


def read_map_recipe(name_or_path: str | Path) -> MapRecipe:
    """The recipe of vessel maps of that name (`MAP_RECIPES`), or in that TOML file; `UsageError` if it is wrong."""
    return read_recipe_file(name_or_path, MapRecipe, MAP_RECIPES)
