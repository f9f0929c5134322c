"""The recipe of patches with known nicking (`nicked_patches_*.toml`): its fields, with units and ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from fundoscope.recipe_files import RecipeSection, read_recipe_file, shipped_recipes
from fundoscope.simulate.pinch import Sham, Sides
from fundoscope.vessels.grade_rule import GRADES

NICKED_PATCH_RECIPES = shipped_recipes(Path(__file__).parent, "nicked_patches")


class DrawingNumbers(RecipeSection):
    """Which crossings are taken, and at which scale their masks are."""

    largest_field: PositiveFloat  # times DRIVE's field: crossings of a larger photograph are sought at DRIVE's size
    smallest_simulated_artery: (
        PositiveFloat  # pixels of width: crossings of thinner vessels in simulated eyes are left out
    )
    smallest_simulated_vein: PositiveFloat  # pixels


class PlannedLesion(RecipeSection):
    """A patch for each of `shams` at every crossing: what is done besides the lesion of `grade`, whose sides are drawn as
    `simulate.pinch.SIDES` says. `drawn` takes a sham by chance; `turn` the next of all shams, from one crossing of a set to
    the other, so that each occurs equally often.
    """

    grade: int = Field(ge=0, lt=GRADES)
    sides: Sides
    shams: tuple[Sham | Literal["drawn", "turn"], ...] = Field(min_length=1)


class LesionTable(RecipeSection):
    """The plans of every crossing of the real photographs, carried out by one renderer: TABLE.csv."""

    table: str
    renderer: Literal["pinch", "second renderer", "oblique profile"]
    seed: int
    plans: tuple[PlannedLesion, ...] = Field(min_length=1)


class DrawnSet(RecipeSection):
    """Photographs whose arteries and veins are drawn: a `folder` below the data."""

    name: str
    folder: str


class SimulatedSet(RecipeSection):
    """Simulated adults of one camera, `size` pixels wide, with seeds from `first_seed` on."""

    camera: str
    size: PositiveInt
    first_seed: int
    photographs: PositiveInt


class SimulatedPatches(RecipeSection):
    """The patches of simulated eyes: eyes.csv."""

    keep_every_grade_0: PositiveInt
    drawn: tuple[SimulatedSet, ...]


class NickedPatchRecipe(RecipeSection):
    """Everything of `make nicked-patches`."""

    name: str
    drawing: DrawingNumbers
    photographs: tuple[DrawnSet, ...]
    lesions: tuple[LesionTable, ...]
    eyes: SimulatedPatches


def read_nicked_patch_recipe(name_or_path: str | Path = "usual") -> NickedPatchRecipe:
    """The recipe of that name (`NICKED_PATCH_RECIPES`), or in that TOML file; `UsageError` if it is wrong."""
    return read_recipe_file(name_or_path, NickedPatchRecipe, NICKED_PATCH_RECIPES)
