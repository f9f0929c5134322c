"""Recipe files: TOML that holds every number of a training, read into a pydantic model and checked.

A recipe may be whole, or name another one as its `base` and hold what it changes:

    base = "paper"
    [patches]
    epochs = 2

Lists, also lists of sections, are replaced as a whole.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError
from pydantic import Field as Key

from fundoscope.errors import UsageError, nearest

R = TypeVar("R", bound=BaseModel)

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's, for models and for dataclasses


class RecipeSection(BaseModel):
    """A recipe or a section of it: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FitSection(RecipeSection):
    """The numbers that every fit has, as `learning.FitOptions` has them."""

    epochs: PositiveInt  # at most
    patience: PositiveInt  # epochs without a lower inner loss after which it stops
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    optimiser: Literal["adamw", "adam"]
    schedule: Literal["cosine", "constant"]
    warm_up: float = Key(ge=0, le=1)  # share of the steps
    average: float = Key(ge=0, lt=1)  # decay of the running mean of the weights at each step; 0 for none
    bfloat16: bool


def shipped_recipes(folder: Path, prefix: str) -> dict[str, Path]:
    """The recipes of a kind that come with the program, by name: NAME for the file PREFIX_NAME.toml."""
    return {path.stem.removeprefix(f"{prefix}_"): path for path in sorted(folder.glob(f"{prefix}_*.toml"))}


def read_recipe_file(
    name_or_path: str | Path, model: type[R], shipped: dict[str, Path], changes: dict[str, Any] | None = None
) -> R:
    """The recipe that is `shipped` under that name, or lies in the TOML file of that path.

    `changes`, nested like the file, are laid over what it says. Raises `UsageError` that names the file, the key, the nearest
    known key or what is allowed there, and what to do.
    """
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if path.suffix != ".toml":
        near = nearest(str(name_or_path), shipped)
        raise UsageError(f"There is no recipe '{name_or_path}': {near} A file of your own ends in .toml.")
    return check_recipe(_merge(_read_values(path, shipped), changes or {}), model, str(path))


def check_recipe(values: dict[str, Any], model: type[R], source: str) -> R:
    """The recipe with these values; `source` is what errors call it."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        unknown = [each for each in error.errors() if each["type"] in _UNKNOWN_KEY]
        first = (unknown or error.errors())[0]  # a misspelt key is also a missing one: name the misspelling
        *section, key = (str(part) for part in first["loc"])
        place = ".".join((*section, key))
        if unknown:
            near = nearest(key, _keys_of_section(model, section))
            raise UsageError(f"{source}: there is no key '{place}': {near} Correct or remove it.") from error
        given = "" if first["type"] == "missing" else f" (it says {first['input']!r})"
        raise UsageError(f"{source}: {place}: {first['msg']}{given}. Correct this key of the recipe.") from error


def _read_values(path: Path, shipped: dict[str, Path]) -> dict[str, Any]:
    """The values of a file, laid over those of its base."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Give the path of a recipe file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not TOML ({error}). Correct the line that it names.") from error
    base = values.pop("base", None)
    if base is None:
        return values
    bases = {**{file.stem: file for file in shipped.values()}, **shipped}
    if base not in bases:
        raise UsageError(f"{path}: base: there is no recipe '{base}': {nearest(str(base), bases)} Give one of these.")
    return _merge(_read_values(bases[base], shipped) | {"name": path.stem}, values)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section."""
    merged = dict(below)
    for key, value in above.items():
        both_sections = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both_sections else value
    return merged


def _keys_of_section(model: Any, section: list[str]) -> list[str]:
    """The keys of a section of a model; sections are pydantic models or dataclasses, or lists of them."""
    for part in section:
        if part.isdigit():  # a place in a list: its sections are all of one kind
            continue
        annotation = get_type_hints(model)[part]
        kinds = (annotation, *get_args(annotation))
        model = next(k for k in kinds if isinstance(k, type) and (issubclass(k, BaseModel) or is_dataclass(k)))
    return list(model.model_fields) if issubclass(model, BaseModel) else [field.name for field in fields(model)]
