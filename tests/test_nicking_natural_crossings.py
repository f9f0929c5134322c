import importlib.util
from pathlib import Path

import numpy as np
import pytest
from test_nicking_grade import Perfect

from fundoscope.imaging import Prepared, read
from fundoscope.nicking.grade_study.natural_crossings import write_natural_crossings
from fundoscope.nicking.grade_study.patch_table import WIDE_SPAN, read_patch_table
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH
from fundoscope.nicking.grading.grades import measures_as_nicked
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import measure_crossings
from fundoscope.simulate import adult
from fundoscope.vessels.grade_rule import NICKED_FROM


@pytest.fixture(scope="module")
def eye():
    return adult(3, camera="drive", level="perfect", grade=3)


def test_a_crossing_is_grade_0_only_where_both_sides_measure_so(eye, tmp_path):
    bundle = Perfect(eye.truth)
    rows = read_patch_table(write_natural_crossings("drawn/eye", lambda: eye.pixels, bundle, tmp_path))
    photograph = map_photograph(Prepared.read(eye.pixels), bundle)
    candidates = find_candidates(photograph.maps, photograph.artery_vein)
    found = measure_crossings(photograph, candidates, bundle.card.crossings)
    quiet = [one for one in found if not measures_as_nicked(one.narrowing)]
    assert 0 < len(rows) == len(quiet) < len(found), "this eye has nicked veins, too"
    undisturbed = [one.narrowing is not None and one.narrowing.is_undisturbed(NICKED_FROM) for one in quiet]
    assert any(undisturbed) and not all(undisturbed), "of this eye some sides cannot be measured"
    assert [row.grade for row in rows] == [0 if known else None for known in undisturbed]
    for row, one in zip(rows, quiet, strict=True):
        assert (row.photograph, row.span, row.sham) == ("drawn/eye", WIDE_SPAN, "natural")
        patch = read(row.path).pixels
        assert patch.shape == (round(WIDE_SPAN * VEIN_WIDTH),) * 2 + (3,)
        middle = patch.shape[0] // 2
        seen = patch[middle - 4 : middle + 4, middle - 4 : middle + 4].mean(axis=(0, 1))
        r, c = np.round(one.place).astype(int)
        assert seen == pytest.approx(eye.pixels[r - 1 : r + 2, c - 1 : c + 2].mean(axis=(0, 1)), abs=14)
        assert row.vein_px == pytest.approx(one.map_vein_width, abs=0.01)
        slope = np.nan if one.vessels is None else one.vessels.second.slope(2 * row.vein_px, 5 * row.vein_px)
        assert row.slope == pytest.approx(slope, abs=1.5, nan_ok=True)
    assert np.isfinite([row.slope for row in rows]).mean() > 0.5
    few = read_patch_table(write_natural_crossings("drawn/eye", lambda: eye.pixels, bundle, tmp_path / "few", most=3))
    assert len(few) == 3 and {row.path.name for row in few} < {row.path.name for row in rows}


def test_of_an_eye_without_nicking_every_crossing_is_grade_0_measured_or_not(tmp_path):
    plain = adult(3, camera="drive", level="perfect", grade=0)
    bundle = Perfect(plain.truth)
    rows = read_patch_table(write_natural_crossings("plain", lambda: plain.pixels, bundle, tmp_path, True))
    photograph = map_photograph(Prepared.read(plain.pixels), bundle)
    found = measure_crossings(
        photograph, find_candidates(photograph.maps, photograph.artery_vein), bundle.card.crossings
    )
    assert len(rows) == len(found) > 3 and {row.grade for row in rows} == {0}


def test_a_photograph_that_was_cut_is_not_cut_again(eye, tmp_path):
    table = write_natural_crossings("drawn/eye", lambda: eye.pixels, Perfect(eye.truth), tmp_path)
    before = table.stat().st_mtime_ns
    assert (
        write_natural_crossings("drawn/eye", pytest.fail, None, tmp_path) == table
        and table.stat().st_mtime_ns == before
    )


def test_the_share_of_natural_crossings_resamples_photographs_and_says_what_was_measured():
    """All seven high grades lie in one eye of twenty: an interval over crossings would not know that."""
    path = Path(__file__).parent.parent / "benchmarks" / "natural_crossings.py"
    spec = importlib.util.spec_from_file_location("natural_crossings_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = [
        {"file": f"{eye}.tif", "status": "ok", "crossing": k, "grade": 2 if eye == 0 and k < 7 else None if k == 14 else 0,
         "narrowing_1": 0.0, "narrowing_2": 0.0 if k % 2 else None}
        for eye in range(20)
        for k in range(15)
    ]  # fmt: skip
    found = module.counts_by_grade("set", rows)
    share, measured = found["share_2_or_3"], found["measured_on_both_sides"]
    assert (share.n, share.positives, share.groups) == (280, 7, 20) and share.value == 7 / 280
    assert share.low == 0 and share.high > 0.06, "over crossings it would be 0.010 to 0.051"
    assert (measured.n, measured.positives) == (140, 3)
