"""The squares of a study on disk: what streaming writes is what the controls make of all photographs at once."""

import cv2
import numpy as np
import pytest
from test_rop_study import write_cohort

from fundoscope.cli.console import Console
from fundoscope.errors import UsageError
from fundoscope.evaluation.controls import mean_colour_table, nuisance_table
from fundoscope.evaluation.controls.matched_photographs import KINDS, Controls
from fundoscope.imaging import Photograph, read
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
        np.testing.assert_array_equal(found.pixels(name), [controls.apply(each).pixels for each in photographs])
    np.testing.assert_array_equal(found.measures("nuisance"), nuisance_table(photographs))
    np.testing.assert_array_equal(found.measures("colour"), mean_colour_table(photographs))
    alike = [Photograph(np.array(pixels), "alike", 0, "array") for pixels in found.pixels("all")]
    np.testing.assert_array_equal(found.measures("alike"), nuisance_table(alike))
    assert isinstance(found.pixels(), np.memmap)
    names = {path.stem for path in (plan.folder / "squares").iterdir()}
    assert names == {*module.VARIANTS, "measures"}


def test_they_are_made_once(tmp_path, monkeypatch):
    plan = planned(tmp_path, monkeypatch)
    module.prepare_squares(plan, QUIET)
    monkeypatch.setattr(module, "read", None)
    module.prepare_squares(plan, QUIET)


def test_fields_that_share_too_little_name_the_narrowest(tmp_path, monkeypatch):
    plan = planned(tmp_path, monkeypatch)
    picture = np.full((36, 300, 3), (60, 90, 200), np.uint8)  # a strip: no circle, and little of the square
    cv2.imwrite(str(tmp_path / "7.png"), picture)
    with pytest.raises(UsageError, match=r"Leave out 7\.png"):
        module.prepare_squares(plan, QUIET)
