"""Recipes: files that hold every number, read whole or laid over another, refused by key."""

import json
import tomllib

import pytest

from fundoscope.errors import UsageError
from fundoscope.rop.recipes import ARM_NAMES, FOLDER, RECIPE_NAMES, ShippedStudy, read_recipe, recipe_from_json


def written(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [name for name in RECIPE_NAMES if name not in ("robust", "nano")])
def test_every_number_stands_in_the_file_and_in_the_study(name):
    recipe = read_recipe(name)
    values = json.loads(json.dumps(recipe.as_json()))
    assert recipe_from_json(values, "study.json") == recipe
    file = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    given = file if "pretraining" in file else file | {"pretraining": None}
    assert given == values  # nothing is filled in by code


def test_robust_is_lite_with_renderings():
    robust, lite = read_recipe("robust"), read_recipe("lite")
    assert robust.renderings is not None and "renderings" in robust.as_json()
    assert robust.model_copy(update={"name": "lite", "renderings": None}) == lite
    assert "renderings" not in lite.as_json()  # studies from before this key go on


def test_nano_is_a_smaller_network_taught_by_what_lite_ships():
    nano, lite = read_recipe("nano"), read_recipe("lite")
    teacher, student = nano.arm("teacher"), nano.arm("student")
    as_shipped = lite.arm("undistilled")  # the arm of `lite` that ships
    assert teacher.network == as_shipped.network and nano.standard_of(teacher) == lite.standard
    assert teacher.fit.model_copy(update={"bfloat16": False}) == as_shipped.fit
    assert nano.standard_of(student) == nano.standard and nano.sizes == [nano.standard.size, 256]
    assert read_recipe("lite").sizes == [256]
    kept = nano.as_json()
    assert (kept["networks"]["teacher_size"], kept["refit"]["teacher"]) == (256, "rop")
    assert recipe_from_json(json.loads(json.dumps(kept)), "study.json") == nano
    assert "teacher_size" not in lite.as_json()["networks"]  # studies from before these keys go on
    assert "teacher" not in lite.as_json()["refit"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("shipped*.toml")), ids=lambda path: path.stem)
def test_the_study_of_a_shipped_bundle_names_a_recipe_its_arms_and_who_made_its_photographs(path):
    study = ShippedStudy.model_validate(tomllib.loads(path.read_text()))
    assert study.recipe in RECIPE_NAMES and set(study.arms) <= set(ARM_NAMES)
    assert all("CC BY" in each.licence for each in study.origin.attributions)
    for each in study.photographs:  # the card says of every camera that its photographs were learnt from
        assert any("HVDROPDB" in told and each.camera in told for told in study.origin.trained_on)
        assert each.camera in study.origin.attributions[0].name
    small = study.origin.name == "nano"
    assert study.simulated_stage != small and study.origin.commands == (f"make weights-{study.origin.name}",)


def test_one_number_is_changed_by_naming_a_base(tmp_path):
    path = written(
        tmp_path / "longer.toml", 'base = "lite"\n[student_fit]\nepochs = 30\n[student_fit.augment]\nnoise = 0.5\n'
    )
    longer, lite = read_recipe(path), read_recipe("lite")
    assert longer.name == "longer" and longer.student_fit.epochs == 30 and longer.student_fit.augment.noise == 0.5
    same = {"epochs": lite.student_fit.epochs, "augment": lite.student_fit.augment}
    assert longer.model_copy(update={"name": "lite", "student_fit": longer.student_fit.model_copy(update=same)}) == lite


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('base = "lite"\n[student_fit]\nepoch = 30\n', r"r\.toml.*'student_fit\.epoch'.*did you mean 'epochs'"),
        ('base = "lite"\n[student_fit.augment]\nnoize = 0.1\n', r"'student_fit\.augment\.noize'.*'noise'"),
        ('base = "lite"\n[pretraining]\nphotos = 9\n', r"'pretraining\.photos'.*'photographs'"),
        ('base = "lite"\n[student_fit]\noptimiser = "sgd"\n', r"student_fit\.optimiser.*'adamw' or 'adam'.*'sgd'"),
        (
            'base = "lite"\n[decision]\ntarget_sensitivity = 1.5\n',
            r"decision\.target_sensitivity.*less than or equal to 1",
        ),
        ('base = "light"\n', "did you mean 'lite'"),
        ('name = "bare"\n', "standard: Field required"),
        ("epochs: 3", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_key(tmp_path, text, says):
    with pytest.raises(UsageError, match=says):
        read_recipe(written(tmp_path / "r.toml", text))


def test_an_unknown_name_and_a_missing_file_say_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"did you mean 'lite'.*\.toml"):
        read_recipe("litee")
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_changes_of_the_command_line_reach_what_they_name():
    lite = read_recipe("lite")
    short = lite.changed(epochs=2, size=160, random_weights=True)
    assert short.student_fit.epochs == short.teacher_fit.patience == short.distillation.views == 2
    assert short.standard.size == 160 and not short.networks.pretrained and short.pretraining is None
    assert lite.changed(pretraining=False).networks.pretrained
