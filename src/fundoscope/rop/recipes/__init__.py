"""The recipes of a study of ROP: files in TOML that hold every number, read and checked here.

`paper`, `lite`, `robust`, `nano` and `tiny` lie beside this module. A file of your own may be whole, or name another recipe as its `base`
and hold what it changes:

    base = "lite"
    [student_fit]
    epochs = 30

An unknown key is refused by name, and so is a value that is out of range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fundoscope.recipe_files import check_recipe, read_recipe_file
from fundoscope.rop.recipes.schema import (
    ARM_NAMES,
    RANDOM,
    RANDOM_DISTILLED,
    STUDENT,
    TEACHER,
    UNDISTILLED,
    USUAL_ARMS,
    BundleOrigin,
    FitNumbers,
    PretrainingNumbers,
    RenderingNumbers,
    RopRecipe,
    ShippedStudy,
    ShuffledLabelNumbers,
    StudyArm,
    teachers_first,
)

FOLDER = Path(__file__).parent
#: Names of the recipes that come with the program.
RECIPE_NAMES = ("paper", "lite", "robust", "nano", "tiny")


def read_recipe(name: str | Path) -> RopRecipe:
    """The recipe of that name, or in the TOML file of that path.

    Raises `UsageError` that names the file, the key, the nearest known key or what is allowed there, and what to do.
    """
    return read_recipe_file(name, RopRecipe, {each: FOLDER / f"{each}.toml" for each in RECIPE_NAMES})


def recipe_from_json(values: dict[str, Any], source: str) -> RopRecipe:
    """The recipe whose plain values `RopRecipe.as_json` gave; `source` is what errors call them."""
    return check_recipe(values, RopRecipe, source)


__all__ = [
    "ARM_NAMES",
    "RANDOM",
    "RANDOM_DISTILLED",
    "RECIPE_NAMES",
    "STUDENT",
    "TEACHER",
    "UNDISTILLED",
    "USUAL_ARMS",
    "BundleOrigin",
    "FitNumbers",
    "PretrainingNumbers",
    "RenderingNumbers",
    "RopRecipe",
    "ShippedStudy",
    "ShuffledLabelNumbers",
    "StudyArm",
    "read_recipe",
    "recipe_from_json",
    "teachers_first",
]
