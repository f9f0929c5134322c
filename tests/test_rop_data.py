"""The squares of a study on disk: what streaming writes is what the controls make of all photographs at once."""

import re

import numpy as np
import pytest
from test_rop_study import crop_to_strips, write_cohort

from fundoscope.cli.console import Console
from fundoscope.evaluation.controls import mean_colour_table, nuisance_table
from fundoscope.evaluation.controls.matched_photographs import KINDS, Controls
from fundoscope.imaging import Photograph, clahe, read
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.study import data as module
from fundoscope.rop.study.plan import StudyOptions, make_plan

QUIET = Console(quiet=True)
SIDE = 96


def planned(folder, monkeypatch, when="after resize"):
    monkeypatch.setattr(module, "_CHUNK", 5)  # several chunks, the last one not full
    tiny = read_recipe("tiny")
    recipe = tiny.model_copy(
        update={
            "squares": tiny.squares.model_copy(update={"side": SIDE}),
            "standard": tiny.standard.model_copy(update={"clahe_when": when}),
        }
    )
    return make_plan(StudyOptions(write_cohort(folder, 12), folder / "s", recipe, folds=2), QUIET)


@pytest.mark.parametrize("when", ["after resize", "before resize"])
def test_streamed_squares_and_measures_are_those_of_all_photographs_at_once(tmp_path, monkeypatch, when):
    plan = planned(tmp_path, monkeypatch, when)
    found = module.prepare_squares(plan, QUIET)
    photographs = [read(record.path, record.image) for record in plan.cohort]
    standard = plan.recipe.standard
    np.testing.assert_array_equal(found.pixels(), [standard.square(each, size=SIDE) for each in photographs])
    for name, kinds in [*((kind, (kind,)) for kind in KINDS), ("all", KINDS)]:
        controls = Controls.fit(photographs, kinds, side=SIDE)
        alike = [controls.apply(each) for each in photographs]
        wanted = [clahe(each.pixels, 2.0, 8) if when == "before resize" else each.pixels for each in alike]
        np.testing.assert_array_equal(found.pixels(name), wanted)
    np.testing.assert_array_equal(found.measures("nuisance"), nuisance_table(photographs))
    np.testing.assert_array_equal(found.measures("colour"), mean_colour_table(photographs))
    bare = [Photograph(np.array(each.pixels), "alike", 0, "array") for each in alike]  # the last: alike in all
    np.testing.assert_array_equal(found.measures("alike"), nuisance_table(bare))
    np.testing.assert_array_equal(found.pixels(module.SCREENED), [standard.square(each) for each in photographs])
    assert isinstance(found.pixels(), np.memmap)
    names = {path.stem for path in (plan.folder / "squares").iterdir()}
    assert names == {*module.VARIANTS, module.SCREENED, "measures"}


def test_they_are_made_once(tmp_path, monkeypatch):
    plan = planned(tmp_path, monkeypatch)
    module.prepare_squares(plan, QUIET)
    monkeypatch.setattr(module, "read", None)
    module.prepare_squares(plan, QUIET)


def test_fields_that_share_too_little_leave_that_control_out_and_say_why(tmp_path, monkeypatch):
    plan = planned(tmp_path, monkeypatch)
    crop_to_strips(tmp_path, 3, 8)
    found = module.prepare_squares(plan, QUIET)
    assert found.variants == ("plain", "colour", "encoding") and set(found.not_made) == {"field", "all"}
    why = str(found.not_made["field"])
    assert re.fullmatch(
        r"could not be made: the fields of view of all photographs share only \d+% of the square, and 20% are needed; "
        r"the narrowest is that of [38]\.png\. Leave it out, or do without one field for all\.", why,
    ), why  # fmt: skip
    assert {path.stem for path in (plan.folder / "squares").iterdir()} == {
        "plain", "screened", "colour", "encoding", "measures", "not_made",
    }  # fmt: skip
    assert np.isfinite(found.measures("nuisance")).all() and not found.measures("alike").size
