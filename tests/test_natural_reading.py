import importlib.util
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fundoscope.cohort.sheet import read_sheet, write_sheet
from fundoscope.errors import UsageError
from fundoscope.nicking.grade_study.chosen_crossings import read_candidates

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def reading():
    path = ROOT / "benchmarks" / "natural_reading.py"
    spec = importlib.util.spec_from_file_location("natural_reading_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def crossings(reading, tmp_path):
    """Twelve photographs of each set with two crossings, veins 10 px wide; reader 2 sees one grade more in each second one."""
    rows = []
    for k in range(48):
        photograph = f"{'HRF' if k < 24 else 'RITE test'}/{k // 2:02d}"
        grade = k // 2 % 3
        other = grade + k % 2
        rows.append((k + 1, photograph, 100 + 200 * (k % 2), 50, 10, grade, other, "" if k % 2 == 0 else grade))
    rows[5] = (*rows[5][:6], "", "")  # the second reader could not read it
    return reading.read_reading(write_sheet(tmp_path / "reading.csv", reading.COLUMNS, rows))


def _findings(tmp_path, rows):
    return read_sheet(write_sheet(tmp_path / "results.csv", ("file", "crossing", "row", "col", "grade"), rows)).rows


def test_the_list_in_the_repository_is_the_one_that_is_drawn(reading):
    drawn, listed = reading.draw_list(read_candidates()), reading.read_reading(reading.READING)
    assert Counter(each.photograph.split("/")[0] for each in drawn) == {"RITE test": 50, "HRF": 50}
    assert len({(each.photograph, each.row, each.column) for each in drawn}) == 100
    assert {"narrowed", "blurred"} <= {verdict for each in drawn for verdict in each.verdicts}, "none is left out"
    for one, other in zip(drawn, listed, strict=True):
        assert (one.photograph, one.row, one.column, one.vein_px) == (other.photograph, other.row, other.column, other.vein_px)  # fmt: skip


def test_the_tool_answers_with_its_nearest_crossing_within_one_vein_width(reading, crossings, tmp_path):
    first, second = crossings[:2]  # of one photograph
    found = _findings(
        tmp_path,
        [("a/00.JPG", 1, 106, 50, 3), ("a/00.JPG", 2, 100, 52, 1), ("a/00.JPG", 3, 300, 60.5, 2), ("b/01.JPG", 1, 100, 50, 0)],
    )  # fmt: skip
    near, far = reading.match_tool([first, second], found)
    assert (near.found, near.grades["tool"]) == (True, 1)
    assert (far.found, far.grades["tool"]) == (False, None)
    ungraded, none = reading.match_tool([first, second], _findings(tmp_path, [("00.tif", 1, 100, 50, ""), ("00.tif", 2, 0, 0, 1)]))  # fmt: skip
    assert (ungraded.found, ungraded.grades["tool"], none.found) == (True, None, False)
    with pytest.raises(UsageError, match="HRF/00 has no row"):
        reading.match_tool([first], _findings(tmp_path, [("elsewhere.tif", 1, 100, 50, 0)]))


def test_agreement_counts_what_both_graded_and_resamples_photographs(reading, crossings):
    assert [each.grades["settled"] for each in crossings[:4]] == [0, 0, 1, 1], "where readers agree, it is their grade"
    asked = [
        replace(each, found=k % 4 != 0, grades=each.grades | {"tool": each.grades["settled"] if k % 4 else None})
        for k, each in enumerate(crossings)
    ]
    rows = {(row["data"], row["first"], row["second"]): row for row in reading.agreements(asked)}
    readers, tool = rows["all", "reader_1", "reader_2"], rows["all", "settled", "tool"]
    assert (readers["listed"], readers["coverage"].positives, readers["found"]) == (48, 47, None)
    assert readers["confusion"] == "8 8 0 0 | 0 8 8 0 | 0 0 8 7 | 0 0 0 0"
    assert readers["same_grade"].value == pytest.approx(24 / 47) and readers["same_grade"].groups == 24
    assert 0.5 < readers["quadratic_kappa"].low < readers["quadratic_kappa"].value < 0.9
    assert (tool["found"], tool["coverage"].positives, tool["quadratic_kappa"].value) == (36, 35, 1.0)
    assert readers["second_2_or_3"].positives == 8 + 8 + 7 and readers["first_2_or_3"].positives == 15
    assert rows["HRF", "reader_1", "reader_2"]["listed"] == 24
    alone = [replace(each, grades=each.grades | {"reader_2": None}) for each in crossings]
    assert {(row["first"], row["second"]) for row in reading.agreements(alone)} == set(), "nobody to compare with yet"


def test_a_grade_that_is_none_is_refused(reading, tmp_path):
    path = write_sheet(tmp_path / "reading.csv", reading.COLUMNS, [(1, "HRF/01_h", 1, 1, 1, 4, "", "")])
    with pytest.raises(UsageError, match="'4' in 'reader_1' is no grade"):
        reading.read_reading(path)
