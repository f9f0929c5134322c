import json

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from test_rop_study import rows_of, write_cohort

from fundoscope.bundles import open_bundle
from fundoscope.cli.console import Console
from fundoscope.cohort import Fold
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.recipes.schema import PretrainingNumbers
from fundoscope.rop.study.plan import FitTask, StudyOptions
from fundoscope.rop.study.pretraining import pretrain, pretraining_step, simulated_eyes
from fundoscope.rop.study.run import run_study
from fundoscope.rop.study.train import initial_network
from fundoscope.studies import Study

QUIET = Console(quiet=True)


def recipe_with_pretraining(photographs, seed, epochs):
    """Recipe tiny, begun on a few simulated infants."""
    tiny = read_recipe("tiny")
    quick = tiny.student_fit.model_copy(update={"epochs": epochs})
    numbers = PretrainingNumbers(photographs=photographs, seed=seed, side=400, held_out_every=8, fit=quick)
    return tiny.model_copy(update={"pretraining": numbers, "student_fit": quick})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    recipe = recipe_with_pretraining(24, 3, epochs=1)
    study = Study.open(tmp_path_factory.mktemp("study") / "s", {"commands": []})
    pretrain(recipe, [recipe.arm("undistilled")], study, QUIET)
    return recipe, study


def begun(recipe, study, seed):
    return initial_network(FitTask(recipe.arm("undistilled"), "rop", seed, Fold(0, (), (), ())), recipe, study)


def test_it_says_that_it_is_simulated_and_leaves_no_photographs(pretrained):
    recipe, study = pretrained
    folder = study.result(pretraining_step(recipe.arm("undistilled")))
    facts = json.loads((folder / "pretraining.json").read_text())
    assert facts["simulated"] is True and 0 < facts["photographs"] < 24
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.safetensors",
        "done",
        "epochs.csv",
        "pretraining.json",
    ]


def test_every_fit_starts_from_it_whatever_its_seed(pretrained):
    recipe, study = pretrained
    one, other = (begun(recipe, study, seed) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    without = begun(recipe.changed(pretraining=False), study, 0)
    assert not torch.equal(next(without.parameters()), next(one.parameters()))


def test_it_is_done_once(pretrained):
    recipe, study = pretrained
    weights = study.result(pretraining_step(recipe.arm("undistilled"))) / "best.safetensors"
    before = weights.stat().st_mtime_ns
    pretrain(recipe, [recipe.arm("undistilled")], study, QUIET)
    assert weights.stat().st_mtime_ns == before


def test_the_simulated_eyes_are_kept_without_their_files(pretrained):
    recipe, study = pretrained
    eyes = simulated_eyes(recipe, study, QUIET)
    assert sorted(path.name for path in study.result("pretraining/eyes").iterdir()) == ["known.npz", "squares.npy"]
    assert len(eyes.squares.pixels) == len(eyes.treatment) == len(eyes.infant)
    assert set(eyes.infant[eyes.held_out]).isdisjoint(eyes.infant[~eyes.held_out])
    assert (eyes.treatment[eyes.squares.labels == 0] == -1).all()


def test_without_real_answers_the_second_stage_is_learnt_from_simulated_eyes(tmp_path):
    """What ships: stage 1 from the cohort, stage 2 from the pretraining's eyes, measured on eyes drawn afresh."""
    recipe = recipe_with_pretraining(54, 14, epochs=1)
    table = write_cohort(tmp_path, 24)
    out = tmp_path / "s"
    run_study(StudyOptions(table, out, recipe, folds=2, networks=("undistilled",), export=True), QUIET)
    card = open_bundle(out / "bundle" / "rop-tiny").card
    assert card.stage2 == "simulated" and "SIMULATED" in card.stages[1].operating_point.data
    assert all("SIMULATED" in figure.on for figure in card.figures if figure.name.startswith("treatment"))
    choice = json.loads((out / "refit/simulated-treatment/choice.json").read_text())
    assert choice["chosen"] == min(choice["loss"], key=choice["loss"].get)
    rows = rows_of(out / "tables/treatment_simulated.csv")
    assert [row["photographs"] for row in rows[:2]] == ["all", "stage 1"]
    assert {row["simulated"] for row in rows} == {"yes"}
    assert all(0 <= float(row["auc of vessel width and tortuosity alone"]) <= 1 for row in rows if row["auc"])
    assert rows[0]["auc"] and rows[0]["auc less that of vessels_verdict"]  # the same photographs, paired
    (beside,) = (figure for figure in card.figures if "vessel" in figure.name)
    assert beside.value == pytest.approx(float(rows[0]["auc of vessel width and tortuosity alone"]), abs=1e-3)
    first, fresh = (
        np.load(out / f"pretraining/{name}/squares.npy", mmap_mode="r") for name in ("eyes", "held_out_set")
    )
    known = {square.tobytes() for square in first}
    assert not any(square.tobytes() in known for square in fresh)
