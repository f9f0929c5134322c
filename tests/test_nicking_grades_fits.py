"""In which order the fits of a study are carried out, and what is done where time runs out."""

import math
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

from fundoscope.cli.console import Console
from fundoscope.errors import StudyError
from fundoscope.nicking.grade_study import fits
from fundoscope.nicking.grade_study.folds import GradeFold, GradeFoldData, PatchTables
from fundoscope.nicking.grade_study.plan import GradePlan
from fundoscope.nicking.grade_study.prediction_table import PREDICTIONS
from fundoscope.nicking.grade_study.study_arms import build_arms
from fundoscope.nicking.recipes.grades import read_grade_recipe
from fundoscope.runs.workers import WorkEngine
from fundoscope.studies import Study

TINY = read_grade_recipe("tiny")


@pytest.fixture
def plan(tmp_path, fresh_upstream):
    """Three arms in two folds of two seeds."""
    tables = PatchTables([], [], {})
    parts = [GradeFold(k, 0, frozenset(), frozenset()) for k in range(2)]
    folds = [GradeFoldData(tables, part, fresh_upstream, tmp_path, TINY) for part in parts]
    return GradePlan(
        Study(tmp_path, {}), build_arms(("majority", "baseline", "ours"), TINY), {0: folds, 1: folds}, TINY
    )


@pytest.fixture
def done(monkeypatch):
    """The names of the fits that are carried out, of which each takes no time."""
    names = []

    def carry_out(fit, study, threads):
        names.append(fit.name)
        path = Path(study.folder) / fit.step / PREDICTIONS
        path.parent.mkdir(parents=True)
        path.touch()
        return fit.name

    monkeypatch.setattr(fits, "carry_out", carry_out)
    return names


def test_what_matters_most_comes_first_and_nothing_twice(plan, done):
    assert fits.run_fits(plan, Console(quiet=True), WorkEngine()) == plan
    arms = ("ours", "baseline", "majority")
    assert done == [f"{arm}, seed {seed}, fold {fold}" for seed in (0, 1) for arm in arms for fold in (0, 1)]
    fits.run_fits(plan, Console(quiet=True), WorkEngine())
    assert len(done) == len(plan.fits) == 12


def test_what_is_not_whole_in_time_is_named_and_left_out(plan, done, monkeypatch):
    said, console = [], Console(quiet=True)
    monkeypatch.setattr(Console, "say", lambda self, text: said.append(text))
    monkeypatch.setattr(time, "monotonic", lambda: float(len(done)))
    with pytest.raises(StudyError, match="no grader is done in every fold. Run the study's command again"):
        fits.run_fits(plan, console, WorkEngine(), deadline=1)
    whole = fits.run_fits(plan, console, WorkEngine(), deadline=3)
    assert {(fit.arm.name, fit.seed) for fit in whole.fits} == {("ours", 0)} and len(done) == 3
    assert "9 fits not done in time: ours, seed 1, fold 0; ours, seed 1, fold 1; majority, seed 0, fold 0" in said[-1]
    whole = fits.run_fits(plan, console, WorkEngine(), deadline=math.inf)
    assert whole == plan and len(done) == 12
