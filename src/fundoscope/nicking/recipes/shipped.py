"""The recipe of the nicking bundle that ships (`shipped_*.toml`): what is left out, seeds, recipes of its parts, and card."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from fundoscope.bundles.card import Attribution
from fundoscope.recipe_files import RecipeSection, read_recipe_file, shipped_recipes

SHIPPED_RECIPES = shipped_recipes(Path(__file__).parent, "shipped")


class HeldOutSet(RecipeSection):
    """A set on which the maps are measured once, for the card; `name` is what the card calls it.

    Of the set in `folder` under the data folder, the photographs from the number `first`, from 0, to `last`, not with it;
    without `last` to the end.
    """

    name: str
    folder: str
    first: int = 0
    last: int | None = None


class NaturalEyes(RecipeSection):
    """Simulated adults without nicking, whose crossings train the graders as they are found; seeds from `first_seed` on."""

    camera: str
    size: PositiveInt
    first_seed: int
    photographs: PositiveInt


class GraderTraining(RecipeSection):
    """The graders: the recipe of grades, their arm, seeds, and into how many parts patches are dealt, of which one chooses.

    At most `natural_crossings` of each photograph join, drawn at random.
    """

    recipe: str
    arm: str
    seeds: tuple[int, ...] = Field(min_length=1)
    parts: int = Field(ge=2)
    natural_crossings: PositiveInt


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

    Besides the network of maps that ships, one learns without each of the groups of cameras `left_out`; on the cameras that they
    have not seen the settings are chosen, and their maps show the graders each patch. The first `check_photographs` photographs compare torch with the exported file.
    """

    name: str
    maps: str
    left_out: tuple[tuple[str, ...], ...] = Field(min_length=1)
    check_photographs: PositiveInt
    tested: tuple[HeldOutSet, ...]
    natural: tuple[NaturalEyes, ...]
    graders: GraderTraining
    card: ShippedCard


def read_shipped_recipe(name_or_path: str | Path) -> ShippedRecipe:
    """The recipe of that name (`SHIPPED_RECIPES`), or in that TOML file; `UsageError` if it is wrong."""
    return read_recipe_file(name_or_path, ShippedRecipe, SHIPPED_RECIPES)
