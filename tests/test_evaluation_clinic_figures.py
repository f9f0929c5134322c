from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from fundoscope.errors import UsageError
from fundoscope.evaluation.decisions import coverage_risk, decision_curve
from fundoscope.reports import clinic_plots


def scored(n=98, seed=0, distance=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, 1 / (1 + np.exp(-(rng.normal(0, 1, n) + distance * (y - 0.5))))


@pytest.fixture
def texts(monkeypatch):
    """All words on the figures drawn in a test."""
    found = []
    save = clinic_plots._figure.__wrapped__

    def watched(path, size):
        with_figure = save(path, size)
        figure = next(with_figure)
        yield figure
        found.extend(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))
        next(with_figure, None)

    monkeypatch.setattr(clinic_plots, "_figure", contextmanager(watched))
    return found


def drawn(path):
    """Size of a PNG, once it is sure that something coloured is on it."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert np.ptp(pixels, axis=2).max() > 60
        return picture.size


def test_curves_are_drawn(tmp_path, texts):
    y, p = scored()
    other = scored(distance=0.5)[1]
    curves = {"ours": decision_curve(y, p), "nuisance": decision_curve(y, other)}
    assert min(drawn(clinic_plots.decision(tmp_path / "new" / "decision.png", curves))) > 100
    kept = {"ours": coverage_risk(y, p), "nuisance": coverage_risk(y, other)}
    assert min(drawn(clinic_plots.coverage(tmp_path / "coverage.png", kept))) > 100
    assert f"ours: area {kept['ours'].aurc:.3f}, all kept {kept['ours'].error[-1]:.3f}" in texts


def test_histograms_count_by_class_and_tell_the_unknown(tmp_path, texts):
    grams, weeks = ["800", "900", "", "1500", "1600"], [25.0, 26.5, math.nan, 30.0, math.nan]
    columns = {"birth weight": (grams, "g"), "gestational age": (weeks, "weeks")}
    path = clinic_plots.histograms(tmp_path / "h.png", columns, ["ROP", "ROP", "ROP", "normal", "normal"])
    wide, high = drawn(path)
    assert wide > 1.8 * high
    assert "n=4, 1 unknown" in texts and "n=3, 2 unknown" in texts
    assert "ROP (n=2, median 850)" in texts and "normal (n=1, median 30)" in texts
    blank = {"birth weight": ([None, None], "g")}
    clinic_plots.histograms(tmp_path / "blank.png", blank, ["ROP", "normal"])
    assert "ROP (n=0, none known)" in texts


def test_confusions_stand_side_by_side_with_counts_and_row_shares(tmp_path, texts):
    y, called = [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]
    one = drawn(clinic_plots.confusions(tmp_path / "1.png", [("photographs", y, called)]))
    two = drawn(clinic_plots.confusions(tmp_path / "2.png", [("photographs", y, called), ("eyes", [1, 1], [1, 0])]))
    assert two[0] == 2 * one[0] and two[1] == one[1]
    assert {"3\n75%", "1\n25%", "1\n100%", "0\n0%", "photographs (n=5)", "eyes (n=2)"} <= set(texts)
    assert texts.count("0") >= 2  # no normal eye: counts, but no share


def test_equal_figures_are_equal_files(tmp_path):
    y, p = scored()
    one, two = (clinic_plots.confusions(tmp_path / f"{k}.png", [("x", y, p >= 0.5)]) for k in "ab")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda path: clinic_plots.decision(path, {}), "at least one"),
        (lambda path: clinic_plots.coverage(path, {}), "at least one"),
        (lambda path: clinic_plots.histograms(path, {}, []), "at least one"),
        (lambda path: clinic_plots.confusions(path, []), "at least one"),
        (lambda path: clinic_plots.histograms(path, {"weight": ([1, 2], "g")}, ["a"]), "'weight' has 2"),
        (lambda path: clinic_plots.histograms(path, {"weight": (["x"], "g")}, ["a"]), "no number"),
        (lambda path: clinic_plots.confusions(path, [("x", [0, 1], [0.2, 0.7])]), "operating point"),
    ],
)
def test_wrong_calls_are_named_and_leave_no_file(tmp_path, call, says):
    with pytest.raises(UsageError, match=says):
        call(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
