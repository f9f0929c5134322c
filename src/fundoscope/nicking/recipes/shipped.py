"""The recipe of the nicking bundle that ships (`shipped_*.toml`): its data, halves, seeds, recipes of its parts, and card."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from fundoscope.bundles.card import Attribution
from fundoscope.recipe_files import RecipeSection, read_recipe_file, shipped_recipes

SHIPPED_RECIPES = shipped_recipes(Path(__file__).parent, "shipped")


class PhotographSet(RecipeSection):
    """Photographs of a public set: its `folder` under the data folder, from the number `first`, from 0, to `last`, not with it.

    Without `last` to the end. `settings` tells whether thresholds and confidence may be chosen on its held-out half.
    """

    folder: str
    first: int = 0
    last: int | None = None
    settings: bool = False


class HeldOutSet(RecipeSection):
    """A set on which the maps are measured once, for the card; `name` is what the card calls it."""

    name: str
    folder: str
    first: int = 0
    last: int | None = None


class TrainingEyes(RecipeSection):
    """Simulated adults that join the training of the maps; `size` in pixels, where it is not the camera's own."""

    camera: str
    photographs: PositiveInt
    seed: int
    size: PositiveInt | None = None


class NaturalEyes(RecipeSection):
    """Simulated adults without nicking, whose crossings train the graders as they are found; seeds from `first_seed` on."""

    camera: str
    size: PositiveInt
    first_seed: int
    photographs: PositiveInt


class GraderTraining(RecipeSection):
    """The graders: the recipe of grades, their arm, seeds, and into how many parts patches are dealt, of which one chooses.

    `transfer` is the recipe of the crossing detector that stands in the upstream's folder for `study-grades`.
    """

    recipe: str
    arm: str
    seeds: tuple[int, ...] = Field(min_length=1)
    parts: int = Field(ge=2)
    transfer: str
    transfer_seed: int


class ShippedCard(RecipeSection):
    """What the card says that cannot be measured."""

    name: str
    intended_use: str
    trained_on: tuple[str, ...]
    never_tested_on: tuple[str, ...]
    settings_data: str  # on which photographs thresholds and confidence were chosen, in words
    grading_rule: str
    initial_weights: Attribution
    attributions: tuple[Attribution, ...]
    command: str


class ShippedRecipe(RecipeSection):
    """Everything of the shipped bundle.

    A second network of maps learns from the `trained_half` of the photographs; the other half chooses its settings. The first
    `check_photographs` photographs compare torch with the exported file.
    """

    name: str
    maps: str
    trained_half: Literal["even", "odd"]
    check_photographs: PositiveInt
    sets: tuple[PhotographSet, ...] = Field(min_length=1)
    tested: tuple[HeldOutSet, ...]
    simulated: tuple[TrainingEyes, ...]
    natural: tuple[NaturalEyes, ...]
    graders: GraderTraining
    card: ShippedCard

    @property
    def held_out_half(self) -> Literal["even", "odd"]:
        """The half of the photographs that the second network does not see."""
        return "odd" if self.trained_half == "even" else "even"


def read_shipped_recipe(name_or_path: str | Path) -> ShippedRecipe:
    """The recipe of that name (`SHIPPED_RECIPES`), or in that TOML file; `UsageError` if it is wrong."""
    return read_recipe_file(name_or_path, ShippedRecipe, SHIPPED_RECIPES)
