"""`fundoscope rop recalibrate`: the same network with thresholds of another place, and figures that are honest about them."""

import csv
import json

import cv2
import numpy as np
import pytest

from fundoscope.bundles import verify
from fundoscope.bundles.card import CardFigure, describe_doubts
from fundoscope.cohort import fingerprints
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.errors import CohortError, StudyError, UsageError
from fundoscope.evaluation.decisions import EyeRule, EyeViews, sensitivity_support
from fundoscope.findings import GradedPhotograph, RopFinding, Status
from fundoscope.rop.recalibration import run as module
from fundoscope.rop.recalibration.answers import LocalAnswers
from fundoscope.rop.recalibration.fit import calibrate_locally, cross_fit, eye_scores, refuse_too_few
from fundoscope.rop.recalibration.run import RecalibrationOptions, recalibrate
from fundoscope.rop.screening.grader import RopGrader


def answers(m, seed=0, size=3, apart=3.0, shuffled=False, refused=0):
    """Answers to m infants with ROP and m without, `size` photographs of one eye each, the first `refused` refused."""
    rng = np.random.default_rng(seed)
    infants = np.repeat(np.arange(2 * m), size)
    labels = (infants < m).astype(int)
    logits = apart * (labels - 0.5) + 0.7 * rng.normal(size=2 * m)[infants] + 0.7 * rng.normal(size=len(infants))
    if shuffled:
        labels = rng.permutation(labels[::size]).repeat(size)
    graded = np.arange(len(infants)) >= refused
    return LocalAnswers(
        labels, np.where(graded, logits, np.nan), graded, infants, EyeViews.from_keys(infants.tolist()), True
    )


def parts(given, k=5):
    """Rows of k parts by infant."""
    return [np.flatnonzero(given.groups % k == part) for part in range(k)]


def test_the_rule_for_eyes_that_is_measured_is_the_one_on_the_card():
    given = answers(30, refused=2)
    fitted = calibrate_locally(given, "second", 0.9, given.decides_eyes)
    truth, p_eye, groups = eye_scores(given, fitted.temperature, "second")
    rule = EyeRule("second", fitted.eye_point.threshold)
    assert fitted.eye_rule == rule and fitted.stated is fitted.eye_point
    called = rule.suspects(p_eye)
    assert called[truth == 1].sum() == pytest.approx(fitted.eye_point.called) and fitted.eye_point.called >= 27
    assert len(groups) == 60


def test_one_view_an_eye_leaves_the_rule_of_photographs():
    given = answers(30, size=1)
    fitted = calibrate_locally(given, "mean", 0.9, given.decides_eyes)
    assert fitted.eye_point is None and fitted.eye_rule == EyeRule("any", fitted.point.threshold)


def test_cross_fitted_figures_of_shuffled_labels_are_chance_and_of_real_ones_are_not():
    chance = cross_fit(answers(60, seed=2, shuffled=True), parts(answers(60)), "any", 0.9, True).photographs["auc"]
    assert chance.low < 0.5 < chance.high
    real = cross_fit(answers(60, seed=2), parts(answers(60)), "any", 0.9, True)
    assert real.photographs["auc"].low > 0.8 and set(real.eyes) == {"sensitivity", "specificity"}
    assert real.photographs["auc"].n == 360 and real.eyes["sensitivity"].n == 120


def test_thresholds_of_a_part_never_see_it():
    given = answers(40, seed=5)
    held_out = parts(given)[0]
    moved = given.logits.copy()
    moved[held_out] += 5.0  # shifts what is held out and nothing that is chosen
    other = LocalAnswers(given.labels, moved, given.graded, given.groups, given.eyes, True)
    one, two = (cross_fit(each, [held_out, *parts(given)[1:]], "any", 0.9, False) for each in (given, other))
    assert two.photographs["specificity"].value < one.photographs["specificity"].value


def test_too_few_are_refused_with_what_would_be_enough():
    with pytest.raises(
        StudyError, match=r"15 infants .* too few .* 0\.9: .*support 0\.95 \(bound 0\.78\)\. Enough for 0\.9 are 22"
    ):
        refuse_too_few(answers(15), 0.9, "infant")
    refuse_too_few(answers(15), 0.95, "infant")
    with pytest.raises(StudyError, match=r"9 infants with a graded photograph without ROP"):
        refuse_too_few(answers(9), 0.9, "infant")


def test_refused_photographs_with_rop_are_told():
    given = answers(20, refused=30)
    with pytest.raises(StudyError, match=r"10 infants .*30 photographs with ROP refused"):
        refuse_too_few(given, 0.9, "infant")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """A table of 48 infants, half with ROP, two views of an eye each: noise, since the answers are made up."""
    folder = tmp_path_factory.mktemp("clinic")
    rng = np.random.default_rng(0)
    with (folder / "clinic.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "infant", "eye"])
        for row in range(96):
            cv2.imwrite(str(folder / f"{row}.png"), rng.integers(0, 255, (32, 32, 3), np.uint8))
            table.writerow([f"{row}.png", ("normal", "rop")[row // 2 % 2], f"i{row // 2}", "left"])
    return folder / "clinic.csv"


@pytest.fixture
def answered(monkeypatch):
    """Screening answers .7 or so to what the table calls ROP, .3 to the rest, and refuses the first photograph."""

    def screen(self, paths):
        rng = np.random.default_rng(1)
        for path in paths:
            row = int(path.stem)
            p = float(1 / (1 + np.exp(-(2 * (row // 2 % 2) - 1 + 0.5 * rng.normal()))))
            graded = RopFinding(str(path), Status.OK, p_rop=p, rop=p >= 0.5, quality=0.9)
            yield GradedPhotograph((graded if row else RopFinding(str(path), Status.REJECTED, "blurred"),))

    monkeypatch.setattr(RopGrader, "screen_with_evidence", screen)


class Silent:
    """Progress that keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def follow(self, items, total, what, done=0):
        yield from items

    def stages(self):
        from contextlib import nullcontext

        return nullcontext(lambda stage, done, total: None)


def test_the_new_bundle_is_the_old_network_with_local_thresholds(clinic, answered, tiny_bundle, tmp_path):
    progress, out = Silent(), tmp_path / "clinic-2026"
    card = recalibrate(RecalibrationOptions(clinic, str(tiny_bundle), out), progress)
    assert verify(out) == card and card.name == "clinic-2026"
    assert (out / "model.int8.onnx").read_bytes() == (tiny_bundle / "model.int8.onnx").read_bytes()
    old, origin, point = verify(tiny_bundle), card.recalibration, card.stages[0].operating_point
    assert card.standard == old.standard and card.trained_on == old.trained_on
    assert (origin.source, origin.refused, origin.refused_positives, origin.positive_groups) == ("tiny", 1, 0, 24)
    assert origin.bound == pytest.approx(sensitivity_support(0.9, 24).bound) and "clinic.csv" in point.data
    assert card.eyes.measured and card.eyes.operating_point.n_positive == 24 and "infants" in point.rule
    assert {"local: auc", "local: sensitivity by eye"} <= {figure.name for figure in card.figures}
    assert "from clinic" not in (out / "card.md").read_text() and "## Recalibrated" in (out / "card.md").read_text()
    assert any("cross-fitted, sensitivity" in line for line in progress.lines)
    values = json.loads((out / "bundle.json").read_text())
    assert values["recalibration"]["target"] == 0.9 and values["schema_version"] == 5


def test_what_lies_at_out_is_never_replaced(clinic, answered, tiny_bundle, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        recalibrate(RecalibrationOptions(clinic, str(tiny_bundle), tmp_path / "there"), Silent())
    with pytest.raises(UsageError, match="Use up to 60 letters"):
        recalibrate(RecalibrationOptions(clinic, str(tiny_bundle), tmp_path / "my bundle"), Silent())


def test_photographs_that_the_bundle_learnt_from_are_refused_by_name(
    clinic, answered, tiny_bundle, tmp_path, monkeypatch
):
    hashes = PhotographHashes.of_photographs([clinic.with_name("7.png")])
    monkeypatch.setattr(module, "read_training_hashes", lambda folder, card: hashes)
    with pytest.raises(CohortError, match=r"learnt from 1 photograph of these.*: 7\.png\. Remove"):
        recalibrate(RecalibrationOptions(clinic, str(tiny_bundle), tmp_path / "out"), Silent())


def test_nothing_is_read_again_to_look_for_known_photographs(clinic, tiny_bundle, monkeypatch, tmp_path):
    hashes = PhotographHashes.of_photographs([clinic.with_name("7.png")])
    monkeypatch.setattr(module, "read_training_hashes", lambda folder, card: hashes)
    opened, really_read = [], fingerprints.read
    monkeypatch.setattr(fingerprints, "read", lambda path: opened.append(path) or really_read(path))
    with pytest.raises(CohortError, match="learnt from 1 photograph"):
        recalibrate(RecalibrationOptions(clinic, str(tiny_bundle), tmp_path / "out"), Silent())
    assert len(opened) == len(set(opened)) > 7


def test_a_table_of_one_label_is_refused(clinic, tiny_bundle, tmp_path):
    table = clinic.with_name("one.csv")
    table.write_text("image,label,infant\n0.png,rop,1\n1.png,rop,2\n")
    with pytest.raises(CohortError, match="one label"):
        recalibrate(RecalibrationOptions(table, str(tiny_bundle), tmp_path / "out"), Silent())


def test_a_grader_at_chance_here_is_doubted():
    figure = CardFigure(name="local: auc", value=0.52, low=0.41, high=0.63, n=90, on="90 photographs in a.csv")
    assert "no better than chance where it was recalibrated" in describe_doubts([figure])["rop"]
    assert describe_doubts([figure.model_copy(update={"low": 0.51})]) == {}
    assert module.PARTS > 2
