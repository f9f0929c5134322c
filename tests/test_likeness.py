"""Whether photographs look like those that a bundle learnt from: told without labels, on the page and in results.json."""

import json

import numpy as np
import pytest

from fundoscope.errors import BundleError, ControlError
from fundoscope.evaluation.likeness import (
    LIKENESS_FEATURES,
    LikenessReference,
    fit_likeness,
    judge_beyond,
    judge_likeness,
)
from fundoscope.findings import GradedPhotograph, Mention, RopFinding, Status
from fundoscope.rop.screening import likeness as module
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.rop.screening.likeness import UNKNOWN, LikenessTally, read_likeness
from fundoscope.rop.screening.screener import RopEvidence
from fundoscope.runs import run

K = len(LIKENESS_FEATURES)
MIXING = np.random.default_rng(9).normal(size=(K, K)) / np.sqrt(K) + np.eye(K)


def photographs(n, seed=0, moved=0.0):
    """Measurements of n photographs: correlated normal numbers, one combination of them moved."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n, K)) @ MIXING + moved * np.sign(MIXING[0])
    return [dict(zip(LIKENESS_FEATURES, row, strict=True)) for row in table]


def reference(n=200, **shares):
    return fit_likeness(photographs(n), **shares)


def test_one_in_twenty_of_the_same_kind_lies_beyond_and_others_do():
    known = reference(400)
    same = judge_likeness([known.distance(each) for each in photographs(600, seed=1)], known.limit)
    assert 0.02 < same.share < 0.09 and not same.unlike
    other = judge_likeness([known.distance(each) for each in photographs(40, seed=2, moved=1.5)], known.limit)
    assert other.share > 0.9 and other.unlike


def test_a_shift_that_no_single_measurement_shows_is_seen():
    known = reference(400)
    covariance = MIXING.T @ MIXING
    thin = np.linalg.eigh(covariance)[1][:, 0]  # the direction in which photographs differ least
    table = np.array([list(each.values()) for each in photographs(60, seed=3)]) + 2.0 * thin
    deviations = np.abs(table.mean(axis=0) - known.mean) / known.deviation
    assert deviations.max() < 1 and judge_likeness(known.distances(table), known.limit).unlike


def test_it_is_quiet_in_nineteen_of_twenty_sets_of_the_same_kind():
    known = reference(400)
    sets = [photographs(20, seed=seed) for seed in range(100, 160)]
    warned = [judge_likeness([known.distance(each) for each in one], known.limit).unlike for one in sets]
    assert np.mean(warned) <= 0.05


@pytest.mark.parametrize(
    ("n", "beyond", "unlike"),
    [(0, 0, False), (1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), (8, 2, False), (8, 3, True), (400, 100, False), (400, 101, True)],
)  # fmt: skip
def test_few_photographs_need_more_of_them_beyond(n, beyond, unlike):
    assert judge_beyond(n, beyond).unlike is unlike


def test_too_few_make_no_reference_and_json_brings_it_back():
    with pytest.raises(ControlError, match="19 photographs are too few"):
        fit_likeness(photographs(19))
    known = reference(60, refused=0.1)
    back = LikenessReference.from_json(json.loads(json.dumps(known.to_json())))
    one = photographs(1, seed=5)[0]
    assert back.distance(one) == pytest.approx(known.distance(one), rel=1e-4) and back.limit == known.limit
    assert back.refused == 0.1 and np.isnan(back.called)
    with pytest.raises(ValueError, match="do not fit"):
        LikenessReference.from_json({**known.to_json(), "mean": [0.0]})


def test_the_tally_goes_on_where_a_run_was_cut_off(tmp_path):
    known = reference(60, refused=0.0, called=0.5)
    mention, path = Mention("a.png"), tmp_path / "likeness.txt"

    def graded(distance, p=0.2):
        finding = RopFinding("a.png", Status.OK, p_rop=p, rop=p > 0.5, quality=0.9)
        return GradedPhotograph((finding,), RopEvidence(distance=distance)), [finding.as_row()]

    given = [graded(9.0), graded(0.5), graded(None), graded(9.0, 0.9)]
    whole = LikenessTally(tmp_path / "whole.txt", known)
    for number, (photograph, rows) in enumerate(given):
        whole.add(number, mention, photograph, rows)
    first = LikenessTally(path, known)
    for number, (photograph, rows) in enumerate(given[:3]):
        first.add(number, mention, photograph, rows)
    position = first.position
    first.add(3, mention, *graded(7.0))  # written, but not noted in the journal: it is cut away
    first.close(False)
    second = LikenessTally(path, known, position)
    for _, rows in given[:3]:
        second.recount(mention, rows)
    second.add(3, mention, *given[3])
    second.close(True)
    assert second.describe() == whole.describe() and second.verdict == whole.verdict
    assert (second.verdict.n, second.verdict.beyond) == (3, 2) and second.warnings
    assert "2 of 3 (67 %)" in second.describe() and "25 % of the graded called ROP" in second.describe()
    assert path.read_text() == (tmp_path / "whole.txt").read_text()
    assert "rop recalibrate" in second.describe()
    elsewhere = LikenessTally(tmp_path / "elsewhere.txt", known, threshold_of="clinic.csv")
    elsewhere.add(0, mention, *given[0])
    assert "set anew on clinic.csv" in elsewhere.describe() and "rop recalibrate" not in elsewhere.describe()


@pytest.fixture
def bundle_that_knows(tiny_bundle, tmp_path, monkeypatch):
    """A copy of the tiny bundle with a reference of made-up photographs, which simulated eyes are unlike."""
    import shutil

    folder = tmp_path / "knows"
    shutil.copytree(tiny_bundle, folder)
    made = iter(photographs(30))
    monkeypatch.setattr(module, "_look", lambda bundle, path: (next(made), 0.9, True))
    module.write_likeness(folder, [folder] * 30)
    return folder


def test_a_screening_warns_on_the_page_and_in_the_json(bundle_that_knows, eyes, tmp_path):
    grader = RopGrader.open(bundle_that_knows)
    summary = run(grader, [Mention(str(eye)) for eye in eyes[:2]], tmp_path / "out")
    page, values = (
        (tmp_path / "out" / "report.html").read_text(),
        json.loads((tmp_path / "out" / "results.json").read_text()),
    )
    assert (
        "2 of 2 (100 %) are further away from them" in page and "look unlike the 30 that the bundle learnt from" in page
    )
    assert values["warnings"] == summary.warnings and len(values["rows"]) == 2
    assert "look unlike" in values["warnings"][0] and "rop recalibrate" in values["warnings"][0]


def test_a_bundle_without_a_reference_says_that_nothing_is_known(tiny_bundle, eyes, tmp_path):
    run(RopGrader.open(tiny_bundle), [Mention(str(eyes[0]))], tmp_path / "out")
    assert UNKNOWN in (tmp_path / "out" / "report.html").read_text()
    assert "warnings" not in json.loads((tmp_path / "out" / "results.json").read_text())


def test_a_reference_that_was_changed_is_refused(bundle_that_knows):
    card = RopGrader.open(bundle_that_knows).bundle.card
    path = bundle_that_knows / module.LIKENESS_FILE
    path.write_text(path.read_text().replace("0.9", "0.8"))
    with pytest.raises(BundleError, match=r"likeness\.json was changed"):
        read_likeness(bundle_that_knows, card)


def test_the_shipped_bundle_knows_what_its_photographs_look_like_and_that_simulated_ones_do_not(eyes):
    grader = RopGrader.open("rop")
    assert grader.likeness.n == 98 and grader.likeness.refused == 0
    distances = [graded.evidence.distance for graded in grader.screen_with_evidence(eyes)]
    assert judge_likeness(distances, grader.likeness.limit).unlike
