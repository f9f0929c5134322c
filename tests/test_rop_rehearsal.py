import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from test_rop_study import rows_of, write_cohort

from fundoscope.bundles import open_bundle
from fundoscope.cli.console import Console
from fundoscope.cohort import Fold
from fundoscope.rop.recipes import RECIPES, Rehearsal, recipe_of
from fundoscope.rop.study.pretraining import rehearse, simulated_eyes, step_of
from fundoscope.rop.study.run import StudyOptions, run_study
from fundoscope.rop.study.train import Task, initial_network
from fundoscope.studies import Study


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    quick = replace(RECIPES["tiny"].student_fit, epochs=1)
    recipe = replace(RECIPES["tiny"], rehearsal=Rehearsal(24, 3, quick))
    study = Study.open(tmp_path_factory.mktemp("study") / "s", {"commands": []})
    rehearse(recipe, recipe.arm("undistilled"), study, Console(quiet=True))
    return recipe, study


def begun(recipe, study, seed):
    return initial_network(Task(recipe, recipe.arm("undistilled"), "rop", seed, Fold(0, (), (), ())), study)


def test_it_says_that_it_is_simulated_and_leaves_no_photographs(rehearsed):
    recipe, study = rehearsed
    folder = study.result(step_of(recipe.arm("undistilled")))
    told = json.loads((folder / "rehearsal.json").read_text())
    assert told["simulated"] is True and 0 < told["photographs"] < 24
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.safetensors",
        "done",
        "epochs.csv",
        "rehearsal.json",
    ]


def test_every_fit_starts_from_it_whatever_its_seed(rehearsed):
    recipe, study = rehearsed
    one, other = (begun(recipe, study, seed) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    bare = begun(replace(recipe, rehearsal=None), study, 0)
    assert not torch.equal(next(bare.parameters()), next(one.parameters()))


def test_it_is_done_once(rehearsed):
    recipe, study = rehearsed
    weights = study.result(step_of(recipe.arm("undistilled"))) / "best.safetensors"
    before = weights.stat().st_mtime_ns
    rehearse(recipe, recipe.arm("undistilled"), study, Console(quiet=True))
    assert weights.stat().st_mtime_ns == before


def test_the_eyes_of_the_rehearsal_are_kept_without_their_files(rehearsed):
    recipe, study = rehearsed
    eyes = simulated_eyes(recipe, study, Console(quiet=True))
    assert sorted(path.name for path in study.result("rehearsal/eyes").iterdir()) == ["known.npz", "squares.npy"]
    assert len(eyes.squares.pixels) == len(eyes.treatment) == len(eyes.infant)
    assert set(eyes.infant[eyes.held]).isdisjoint(eyes.infant[~eyes.held])
    assert (eyes.treatment[eyes.squares.labels == 0] == -1).all()


def test_recipes_can_be_written_down():
    for name, recipe in RECIPES.items():
        assert json.loads(json.dumps(recipe.as_json()))["name"] == name
        assert recipe_of(name) is recipe


def test_without_real_answers_the_second_stage_is_learnt_from_simulated_eyes(tmp_path):
    """What ships: stage 1 from the cohort, stage 2 from the rehearsal's eyes, measured on eyes drawn afresh."""
    quick = replace(RECIPES["tiny"].student_fit, epochs=2)
    recipe = replace(RECIPES["tiny"], rehearsal=Rehearsal(54, 14, quick), student_fit=quick)
    table = write_cohort(tmp_path, 24)
    out = tmp_path / "s"
    run_study(StudyOptions(table, out, recipe, folds=2, networks=("undistilled",), export=True), Console(quiet=True))
    card = open_bundle(out / "bundle" / "rop-tiny").card
    assert card.stage2 == "simulated" and "SIMULATED" in card.stages[1].operating_point.data
    assert all("SIMULATED" in figure.on for figure in card.figures if figure.name.startswith("treatment"))
    choice = json.loads((out / "final/simulated-treatment/choice.json").read_text())
    assert choice["chosen"] == min(choice["loss"], key=choice["loss"].get)
    rows = rows_of(out / "tables/treatment_simulated.csv")
    assert [row["photographs"] for row in rows[:2]] == ["all", "stage 1"] and {row["simulated"] for row in rows} == {
        "yes"
    }
    first, exam = (np.load(out / f"rehearsal/{name}/squares.npy", mmap_mode="r") for name in ("eyes", "exam"))
    seen = {square.tobytes() for square in first}
    assert not any(square.tobytes() in seen for square in exam)
