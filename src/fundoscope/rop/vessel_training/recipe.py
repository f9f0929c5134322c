"""Recipes of the network of infants' vessels and discs (`infant_vessels_*.toml`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from fundoscope.learning import CropOptions, FitOptions
from fundoscope.networks import VesselNetOptions
from fundoscope.recipe_files import RecipeSection, read_recipe_file, shipped_recipes

INFANT_VESSEL_RECIPES = shipped_recipes(Path(__file__).parent, "infant_vessels")


class InfantVesselSet(RecipeSection):
    """A public set of older eyes that teaches vessels: its `folder` under the data folder, and the `diameter` in pixels of its field at
    which its vessels are as wide as infants' are at the network's scale.
    """

    folder: str
    diameter: PositiveInt


class SimulatedInfants(RecipeSection):
    """Simulated infants that teach vessels and disc; `size` is the number of pixels along a photograph's longer side."""

    camera: str
    photographs: PositiveInt
    seed: int
    size: PositiveInt


class InfantVesselFit(RecipeSection):
    """The numbers of the fit; AdamW, a cosine schedule, to the last epoch."""

    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warm_up: float = Field(ge=0, le=1)  # share of the steps
    average: float = Field(ge=0, lt=1)  # decay of the running mean of the weights at each step
    bfloat16: bool

    @property
    def options(self) -> FitOptions:
        """The options that `learning.fit_batches` takes."""
        return FitOptions(**self.model_dump(), smoothing=0.0)


class NormalPhotographs(RecipeSection):
    """Normal photographs of a camera: their `folder` under the data folder, and their `source` in words."""

    camera: str
    folder: str
    source: str


class VascularIndexNumbers(RecipeSection):
    """What the vascular index is made with.

    `photographs` simulated eyes of the set `seed`, every second one with plus disease, choose among the `vessel_thresholds` and give the
    weights of the score, by a logistic regression with `inverse_regularisation` (scikit-learn's C). `floor` is added to tortuosities.
    """

    seed: int
    photographs: PositiveInt
    vessel_thresholds: tuple[float, ...] = Field(min_length=1)
    floor: PositiveFloat
    inverse_regularisation: PositiveFloat
    references: tuple[NormalPhotographs, ...]


class InfantVesselRecipe(RecipeSection):
    """Every number of the network of infants' vessels and discs: its photographs, first weights and fit; and of the index made with it.

    Photographs of the `sets` are repeated until there are `real_per_simulated` of them for each simulated one.
    """

    name: str
    seed: int
    real_per_simulated: PositiveFloat
    network: VesselNetOptions
    sets: tuple[InfantVesselSet, ...]
    simulated: tuple[SimulatedInfants, ...] = Field(min_length=1)
    crops: CropOptions
    fit: InfantVesselFit
    index: VascularIndexNumbers


def read_infant_vessel_recipe(name_or_path: str | Path) -> InfantVesselRecipe:
    """The recipe of that name (`INFANT_VESSEL_RECIPES`), or in that TOML file; `UsageError` if it is wrong."""
    return read_recipe_file(name_or_path, InfantVesselRecipe, INFANT_VESSEL_RECIPES)
