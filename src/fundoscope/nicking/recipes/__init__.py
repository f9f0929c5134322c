"""Recipes of nicking: files in TOML beside this module that hold every number of a training, and what reads them.

`read_recipe_file` reads one into its model. A file of your own may be whole, or name a shipped recipe as its `base` and
hold only what it changes:

    base = "grades_lite"
    [fit]
    epochs = 30
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from fundoscope.errors import UsageError, nearest

FOLDER = Path(__file__).parent

R = TypeVar("R", bound=BaseModel)


class RecipeSection(BaseModel):
    """A part of a recipe. Its keys are fixed: one that is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_recipe_file(path: Path, model: type[R], changes: dict[str, Any] | None = None) -> R:
    """The recipe in a TOML file, checked by `model`; `changes` (nested like the file) are laid over what it says.

    Raises `UsageError` that names the file and the key, with the nearest known key or what is allowed there.
    """
    values = _merge(_read_values(path), changes or {})
    _refuse_unknown_keys(values, model, path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f" (it says {first['input']!r})"
        raise UsageError(f"{path}: {key}: {first['msg']}{given}. Correct this key of the recipe.") from error


def find_recipe_file(name: str | Path, prefix: str, names: Iterable[str]) -> Path:
    """The file of a shipped recipe (`names`, each stored as PREFIX_NAME.toml), or the path of one that ends in .toml.

    Raises `UsageError` for any other name, with the nearest known one.
    """
    if str(name) in names:
        return FOLDER / f"{prefix}_{name}.toml"
    if Path(name).suffix == ".toml":
        return Path(name)
    raise UsageError(f"There is no recipe '{name}': {nearest(str(name), names)} A file of your own ends in .toml.")


def _read_values(path: Path) -> dict[str, Any]:
    """What a recipe file says, laid over what its base says."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give the path of a recipe file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML ({error}). Correct the line that it names.") from error
    base = values.pop("base", None)
    if base is None:
        return values
    shipped = [file.stem for file in FOLDER.glob("*.toml")]
    if base not in shipped:
        raise UsageError(f"{path}: base: there is no recipe '{base}': {nearest(str(base), shipped)}")
    return _merge(_read_values(FOLDER / f"{base}.toml"), values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section."""
    both = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _merge(both[key], value) if nested else value
    return both


def _refuse_unknown_keys(values: dict[str, Any], model: type[BaseModel], path: Path, section: str = "") -> None:
    """Raise `UsageError` for the first key that the model does not have."""
    for key, value in values.items():
        if key not in model.model_fields:
            near = nearest(key, model.model_fields)
            raise UsageError(f"{path}: there is no key '{section}{key}': {near} Correct or remove it.")
        annotation = model.model_fields[key].annotation
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                for part in value if isinstance(value, list) else [value]:
                    if isinstance(part, dict):
                        _refuse_unknown_keys(part, kind, path, f"{section}{key}.")
