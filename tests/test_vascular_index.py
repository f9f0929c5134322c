"""The vascular index: percentiles, what is said of it, and its place in screening."""

import csv
import io
import json
import shutil

import cv2
import numpy as np
import pytest
from test_cli_screen import run
from test_eyes import RULE, ok

from fundoscope.errors import BundleError, UsageError
from fundoscope.findings import ROP_COLUMNS, VASCULAR_COLUMNS, VascularFinding
from fundoscope.rop.screening.eyes import EYE_COLUMNS, VASCULAR_EYE_COLUMNS, ScreenedEyes
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.rop.vascular.index import (
    FOLDER,
    INDEX_FILE,
    SURE_BUT_USUAL,
    WIDE_BUT_UNSEEN,
    VascularReference,
    VascularWeights,
    compare_witnesses,
    open_vascular_index,
)
from fundoscope.rop.vascular.network import LOOKS, NETWORK_FILE


def test_a_percentile_is_the_share_of_normal_photographs_below():
    reference = VascularReference((1.0, 2.0, 3.0, 4.0), 5, "drawn by hand")
    assert [reference.percentile(each) for each in (0.9, 1, 2, 2.5, 4, 4.1)] == [0, 12.5, 37.5, 50, 87.5, 100]
    scores = np.sort(np.random.default_rng(0).normal(size=200))
    found = [VascularReference(tuple(scores.tolist()), 200, "").percentile(each) for each in np.linspace(-3, 3, 50)]
    assert found == sorted(found)


def test_witnesses_are_compared_in_words_only_where_they_strongly_disagree():
    assert compare_witnesses(97.0, 0.1, False) == WIDE_BUT_UNSEEN.format(index=97)
    assert compare_witnesses(20.0, 0.95, True) == SURE_BUT_USUAL.format(index=20)
    for agreed in ((97.0, 0.95, True), (20.0, 0.1, False), (94.0, 0.1, False), (20.0, 0.6, True), (None, 0.9, True)):
        assert compare_witnesses(*agreed) == ""
    assert compare_witnesses(97.0, None, None) == ""


def test_what_ships_is_small_fitted_in_the_right_direction_and_says_whose_photographs_it_compares_with():
    assert (FOLDER / NETWORK_FILE).stat().st_size < 1_500_000
    index = open_vascular_index()
    assert min(index.weights.weight) >= 0 and max(index.weights.weight) > 0
    for camera, each in index.references.items():
        assert len(each.scores) >= 20 and list(each.scores) == sorted(each.scores), camera
        assert len(each.scores) <= each.photographs and "HVDROPDB" in each.source
    assert len(index.reference.scores) == sum(len(each.scores) for each in index.references.values())
    assert open_vascular_index("neo").reference == index.references["neo"]
    text = (FOLDER / INDEX_FILE).read_text()
    assert "/" not in text.replace("\\/", "")  # no path of a machine


def test_an_unknown_camera_and_a_changed_file_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'retcam'"):
        open_vascular_index("retcan")
    for name in (NETWORK_FILE, INDEX_FILE):
        shutil.copy(FOLDER / name, tmp_path)
    with (tmp_path / NETWORK_FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="was changed"):
        open_vascular_index(folder=tmp_path)
    (tmp_path / INDEX_FILE).write_text("{}")
    with pytest.raises(BundleError, match="cannot be used"):
        open_vascular_index(folder=tmp_path)


def test_wider_and_more_tortuous_vessels_score_higher():
    from test_posterior import DISC, draw_vessels, measure

    weights = VascularWeights((-2.3, -4.0), (0.2, 0.8), (1.0, 1.0), 0.005, "by hand")

    def score(width, wave, found=DISC):
        return weights.score(measure(draw_vessels(width, wave), found))

    assert score(3, 0) < score(5, 0) < score(5, 3)
    assert score(3, 0, None) is None


def test_the_looks_of_the_network_lie_on_one_another():
    class Echo:
        """Answers with two planes of what it was shown."""

        def run(self, names, shown):
            assert all(side % 16 == 0 for side in shown["contrast"].shape[2:])
            return [shown["contrast"][:, :2]]

    rng = np.random.default_rng(2)
    pixels = cv2.GaussianBlur(rng.integers(60, 200, (150, 170, 3)).astype(np.uint8), (0, 0), 4)
    inside = np.ones((150, 170), bool)
    plain = LOOKS[0].map(pixels, inside, Echo())
    assert plain.shape == (2, 150, 170) and len(set(LOOKS)) == len(LOOKS)
    for look in LOOKS[1:]:
        back = np.stack([cv2.resize(each, (170, 150)) for each in look.map(pixels, inside, Echo())])
        assert np.corrcoef(back.ravel(), plain.ravel())[0, 1] > 0.99, look


@pytest.fixture(scope="module")
def with_vessels(eyes, tiny_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("vessels") / "out"
    (out.parent / "broken.png").write_bytes(b"no picture")
    given = [*eyes[:2], out.parent / "broken.png"]
    done = run("rop", "screen", *given, "--bundle", tiny_bundle, "--vessels", "--camera", "neo", "--out", out, "--json")
    return done, given, out


def test_screening_adds_columns_at_the_end_and_leaves_the_others_as_they_are(with_vessels, eyes, tiny_bundle):
    done, given, out = with_vessels
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert done.returncode == 1 and tuple(rows[0]) == (*ROP_COLUMNS, *VASCULAR_COLUMNS)
    plain = RopGrader.open(tiny_bundle)
    for row, finding in zip(rows, plain.screen(given), strict=True):
        assert {k: row[k] for k in ROP_COLUMNS if k not in ("file", "seconds")} == {
            k: "" if v is None else str(v) for k, v in finding.as_row().items() if k not in ("file", "seconds")
        }
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[2]["status"] == "failed" and lines[2]["vascular_index"] is None
    for line in lines[:2]:
        known = line["vascular_index"] is not None
        assert line["vascular_reference"] == "neo" and known == (line["vessel_width_dd"] is not None)
        assert known or line["vascular_note"]
        if known:
            assert 0 <= line["vascular_index"] <= 100 and 0.03 < line["vessel_width_dd"] < 0.4
    assert lines[0]["vascular_index"] is not None  # a posterior view of good quality
    page = (out / "report.html").read_text()
    assert "Vascular index" in page and "Vessels measured around the disc" in page and "HVDROPDB, Neo" in page
    assert "treatment" not in page[page.index("The vascular index") : page.index("Below the threshold")]


def test_an_open_file_is_read_once_for_both_witnesses_and_the_pooled_reference_is_said(eyes, tiny_bundle):
    grader = RopGrader.open(tiny_bundle, vessels=True)
    (finding,) = grader.screen([io.BytesIO(eyes[0].read_bytes())])
    assert finding.vascular is not None and finding.vascular.index is not None
    assert finding.vascular.reference == "pooled" and "--camera" in finding.vascular.note
    assert grader.options["camera"] == "" and "vessels" not in RopGrader.open(tiny_bundle).options


def test_a_camera_without_vessels_is_a_wrong_call(eyes, tmp_path):
    done = run("rop", "screen", eyes[0], "--camera", "neo", "--out", tmp_path / "out")
    assert done.returncode == 2 and "--vessels" in done.stderr and not (tmp_path / "out").exists()


def view(index, witnesses=""):
    row = ok(0.1, False).as_row()
    return row | VascularFinding(index, "neo", witnesses=witnesses).as_row()


def test_eyes_are_followed_over_their_exams_in_order():
    eyes = ScreenedEyes(RULE, vascular=True)
    for exam, index in (("10", 80.0), ("2", 40.0), ("2", 50.0), ("9", None)):
        eyes.add("7", "left", exam, view(index))
    eyes.add("7", "right", "2024-03-05", view(30.0, "look at it"))
    eyes.add(None, "left", "1", view(20.0))
    rows = eyes.rows()
    assert tuple(rows[0]) == (*EYE_COLUMNS, *VASCULAR_EYE_COLUMNS)
    assert [(r["exam"], r["vascular_index"], r["vascular_views"], r["vascular_change"]) for r in rows] == [
        ("10", 80.0, 1, 35.0), ("2", 45.0, 2, None), ("9", None, 0, None), ("2024-03-05", 30.0, 1, None), ("1", 20.0, 1, None),
    ]  # fmt: skip
    assert "look at it" in rows[3]["flag"] and "infant unknown" in rows[4]["flag"]
