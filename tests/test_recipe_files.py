import tomllib

import pytest

pytest.importorskip("torch")
from fundoscope.errors import UsageError
from fundoscope.learning import FitOptions
from fundoscope.nicking.recipes.crossings import (
    CROSSING_RECIPES,
    MAP_RECIPES,
    CrossingRecipe,
    MapRecipe,
    read_crossing_recipe,
    read_map_recipe,
)
from fundoscope.nicking.recipes.shipped import SHIPPED_RECIPES, ShippedRecipe


def keys(values, place=""):
    """All keys of nested sections, the places of list entries left out."""
    if isinstance(values, dict):
        return {key for name, value in values.items() for key in {f"{place}{name}"} | keys(value, f"{place}{name}.")}
    if isinstance(values, list | tuple) and values and isinstance(values[0], dict):
        return {key for value in values for key in keys(value, place)}
    return set()


@pytest.mark.parametrize(
    ("path", "model", "left_out"),
    [
        (
            CROSSING_RECIPES["paper"],
            CrossingRecipe,
            {"whole_photographs.side", "whole_photographs.augment.rendering", "patches.augment.rendering"},
        ),  # whole: no side; renderings are for ROP
        (
            MAP_RECIPES["usual"],
            MapRecipe,
            {"teacher.crops.augment.rendering", "student.crops.augment.rendering", "network.maps"},
        ),  # three maps, as ever
        (SHIPPED_RECIPES["nicking"], ShippedRecipe, {"tested.first", "tested.last", "card.initial_weights.citation"}),
    ],
)
def test_a_shipped_recipe_that_stands_alone_writes_every_number(path, model, left_out):
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    assert keys(model.model_validate(values).model_dump(mode="json")) - keys(values) == left_out


@pytest.mark.parametrize("name", CROSSING_RECIPES)
def test_every_crossing_recipe_is_read_and_bears_its_name(name):
    recipe = read_crossing_recipe(name)
    assert recipe.name == name and [step.side for step in recipe.steps] == [None, recipe.test_patches.side]
    assert CrossingRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("name", MAP_RECIPES)
def test_every_recipe_of_maps_is_read_and_ends_on_real_photographs(name):
    recipe = read_map_recipe(name)
    assert recipe.name == name
    assert recipe.teacher[0].simulated
    for rounds in (recipe.teacher, recipe.student):
        assert not rounds[-1].simulated
        assert isinstance(rounds[0].fit.options, FitOptions) and rounds[0].steps >= rounds[0].fit.epochs
        assert rounds[0].fit.options.learning_rate == rounds[0].fit.learning_rate


def test_a_file_of_ones_own_changes_what_it_names_and_keeps_the_rest(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "paper"\n[patches]\nepochs = 3\n[patches.augment]\ncolour = 0.1\n')
    mine, base = read_crossing_recipe(path), read_crossing_recipe("paper")
    assert (mine.name, mine.patches.epochs, mine.patches.augment.colour) == ("mine", 3, 0.1)
    assert mine.patches.batch == base.patches.batch and mine.whole_photographs == base.whole_photographs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "paper"\n[patches]\nepoch = 1', r"no key 'patches.epoch': did you mean 'epochs'\? Correct or remove"),
        ('base = "paper"\n[patches.augment]\ncolor = 1.0', r"no key 'patches.augment.color': did you mean 'colour'\?"),
        ('base = "paper"\n[split]\ninner_evry = 2', r"no key 'split.inner_evry': did you mean 'inner_every'\?"),
        ('base = "paper"\nlables = "paper"', r"no key 'lables': did you mean 'labels'\?"),
        ('base = "papr"', r"base: there is no recipe 'papr': did you mean 'paper'\?"),
        ('base = "paper"\n[patches]\nepochs = "x"', r"patches.epochs: .*valid integer.*it says 'x'.*Correct this key"),
        ('base = "paper"\n[split]\ninner_every = 1', r"split.inner_every: .*greater than or equal to 2"),
        ('name = "x"', r"labels: Field required\. Correct this key"),
        ("name = ", r"is not TOML .*Correct the line"),
    ],
)
def test_what_is_wrong_is_told_with_file_key_and_remedy(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"mine\.toml: .*{words}"):
        read_crossing_recipe(path)


def test_keys_of_a_list_of_sections_are_checked_too(tmp_path):
    path, values = tmp_path / "mine.toml", MAP_RECIPES["usual"].read_text(encoding="utf-8")
    path.write_text(values.replace("simulated = true", "simulate = true", 1))
    with pytest.raises(UsageError, match=r"no key 'teacher.0.simulate': did you mean 'simulated'\?"):
        read_map_recipe(path)


def test_a_recipe_that_is_nowhere_is_told():
    with pytest.raises(UsageError, match="There is no recipe 'shrt': did you mean 'short'"):
        read_crossing_recipe("shrt")
    with pytest.raises(UsageError, match=r"gone\.toml: cannot be read .*Give the path"):
        read_crossing_recipe("gone.toml")
