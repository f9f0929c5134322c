"""The shipped bundle is made from its recipe, end to end: here from two small simulated sets, in tiny steps."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from fundoscope.bundles import write_nicking
from fundoscope.bundles.read_nicking import open_nicking_bundle
from fundoscope.errors import UsageError
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.nicking import shipped
from fundoscope.nicking.crossing_study.map_photographs import read_photographs
from fundoscope.nicking.crossing_study.vessel_maps import MapTraining
from fundoscope.nicking.recipes.crossings import read_map_recipe
from fundoscope.nicking.recipes.grades import read_grade_recipe
from fundoscope.nicking.recipes.shipped import ShippedRecipe, read_shipped_recipe
from fundoscope.simulate import write_adults
from fundoscope.studies import Study

PATCH_COLUMNS = ("patch", "grade", "photograph")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two simulated sets whose fields are as wide as DRIVE's, and tables of graded patches of their photographs."""
    folder = tmp_path_factory.mktemp("data")
    write_adults(4, folder / "eyes/training", seed=11, camera="drive")
    write_adults(2, folder / "eyes/test", seed=12, camera="drive")
    write_adults(1, folder / "eyes/other", seed=15, camera="drive")
    tables = {name: [] for name in ("real", "eyes")}
    for part in ("training", "test"):
        with (folder / "eyes" / part / "patches.csv").open(newline="") as file:
            patches = list(csv.DictReader(file))
        names = sorted({row["image"] for row in patches})
        for name in names:
            table = tables["real" if part == "training" else "eyes"]
            for grade, row in enumerate(row for row in patches if row["image"] == name):
                if grade < 4:
                    path = f"eyes/{part}/{row['patch']}"
                    table.append({"patch": path, "grade": grade, "photograph": f"simulated {part}/{Path(name).stem}"})
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, PATCH_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    return folder


MAPS = """
base = "tiny"
turns = 1
sets = [
    {camera = "one", folder = "eyes/training", settings = true, natural = true},
    {camera = "two", folder = "eyes/other", settings = true},
]
simulated = [{camera = "drive", photographs = 1, seed = 13, size = 200}]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    maps = tmp_path_factory.mktemp("recipe") / "maps.toml"
    maps.write_text(MAPS)
    whole = read_shipped_recipe("nicking").model_dump()
    changes = {
        "name": "small", "maps": str(maps), "left_out": [["one"], ["two"]], "check_photographs": 1,
        "tested": [{"name": "the test", "folder": "eyes/test"}],
        "natural": [{"camera": "drive", "size": 200, "first_seed": 14, "photographs": 1}],
        "graders": {**whole["graders"], "recipe": "tiny", "parts": 3},
    }  # fmt: skip
    return ShippedRecipe.model_validate(whole | changes)


@pytest.fixture(scope="module")
def maps(recipe, data, tmp_path_factory):
    """A network of maps as its training leaves it; here the same one stands for those without a camera."""
    folder, own = tmp_path_factory.mktemp("maps"), read_map_recipe(recipe.maps)
    photographs, body = read_photographs([data], own, 1)
    training = MapTraining(own, photographs, Study.open(folder / "all", {"commands": []}), body=body)
    training.write_result(training.train(), [])
    for name in ("without_one", "without_two"):
        shutil.copytree(folder / "all/result", folder / name / "result")
    return folder


@pytest.fixture
def exported(graded, monkeypatch):
    """Exporting takes a minute and has tests of its own: here files of other untrained networks stand in."""
    _, folder, _ = graded
    for name, file in (("export_maps", write_nicking.MAPS_FILE), ("export_ensemble", write_nicking.GRADES_FILE)):
        content = (folder / file).read_bytes()
        monkeypatch.setattr(write_nicking, name, lambda *given, content=content: given[-1].write_bytes(content))
    monkeypatch.setattr(write_nicking, "_maps_difference", lambda *_: 0.0)
    monkeypatch.setattr(write_nicking, "_grades_difference", lambda *_: 0.0)


def test_a_recipe_goes_all_the_way_to_a_bundle_that_maps_and_grades(recipe, data, maps, exported, tmp_path):
    with pytest.raises(UsageError, match="all: holds no trained network of maps. Make it: python -m .* --out "):
        shipped.read_networks(recipe, read_map_recipe(recipe.maps), tmp_path)
    bundle = open_nicking_bundle(shipped.make_shipped_bundle(recipe, data, maps, data, tmp_path / "run", workers=1))
    card = bundle.card
    assert len(set(card.photographs)) == 5 and card.name == "nicking" and card.recipe == "tiny"
    assert {figure.on for figure in card.figures} == {"the test"}
    assert {figure.name for figure in card.figures} >= {"vessels, Dice", "artery or vein right, after the vote"}
    assert card.crossings.diameter == DIAMETER and card.crossings.operating_point.n_positive > 0
    assert (
        card.grades is not None
        and card.grades.networks == 1
        and "measure as not nicked on both sides" in card.grades.learnt_from
    )
    assert bundle.map_vessels(np.zeros((3, 64, 64), np.float32)).shape == (4, 64, 64)
    assert bundle.grade_patches(np.zeros((1, 6, 128, 128), np.float32))[0].sum() == pytest.approx(1)
    unseen = open_nicking_bundle(tmp_path / "run/upstream/without_one/maps").card
    assert len(unseen.photographs) == 1 and set(unseen.photographs) < set(card.photographs) and unseen.grades is None
    assert "vessels, Dice" in (tmp_path / "run" / shipped.FIGURES_FILE).read_text()


def test_recipes_of_what_ships_name_recipes_that_exist():
    recipe = read_shipped_recipe("nicking")
    assert read_map_recipe(recipe.maps).name == recipe.maps
    assert read_grade_recipe(recipe.graders.recipe).name == recipe.graders.recipe
    cameras = set(read_map_recipe(recipe.maps).cameras)
    assert {camera for group in recipe.left_out for camera in group} == cameras
    with pytest.raises(UsageError, match="did you mean 'nicking'"):
        read_shipped_recipe("nickin")
