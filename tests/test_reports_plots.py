"""Figures are drawn as they are given: no plot computes what it shows."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from fundoscope.errors import MissingExtraError, StudyError, UsageError
from fundoscope.reports import clinic_plots, plots
from fundoscope.reports.plots import PlottedCurve, ReliabilityPoints

RISING = PlottedCurve("ours: AUC 0.950 (0.90 to 0.98)", [([0, 0, 1], [0, 0.9, 1]), ([0, 0.1, 1], [0, 0.8, 1])])
BANDED = PlottedCurve("nuisance", [([0, 1], [0, 1])], ([0, 1], [0, 0.8], [0.2, 1]))
BINS = ReliabilityPoints([0.1, 0.6, 0.9], [0.2, 0.5, 0.9], [0.1, 0.4, 0.7], [0.3, 0.6, 1.0], [40, 30, 28])


@pytest.fixture
def texts(monkeypatch):
    """All words on the figures drawn in a test."""
    found = []
    save = plots.styled_figure.__wrapped__

    def watched(path, size):
        with_figure = save(path, size)
        figure = next(with_figure)
        yield figure
        found.extend(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))
        next(with_figure, None)

    for module in (plots, clinic_plots):
        monkeypatch.setattr(module, "styled_figure", contextmanager(watched))
    return found


def drawn(path):
    """Size of a PNG, once it is sure that something coloured is on it."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert np.ptp(pixels, axis=2).max() > 60
        return picture.size


def test_curves_carry_their_legends(tmp_path, texts):
    assert min(drawn(plots.draw_roc(tmp_path / "new" / "roc.png", [RISING, BANDED], "n=98, 49 positive"))) > 100
    drawn(plots.draw_precision_recall(tmp_path / "pr.png", [RISING], 0.5, "n=98, 49 positive"))
    assert {RISING.legend, "nuisance", "chance: prevalence 0.50", "n=98, 49 positive"} <= set(texts)


def test_graders_become_curves_with_their_figures(tmp_path, texts):
    y = np.arange(98) % 2
    p = np.clip(0.5 + 0.3 * (y - 0.5) + np.random.default_rng(0).normal(0, 0.2, 98), 0, 1)
    drawn(plots.roc(tmp_path / "roc.png", [plots.Curve("ours", y, p, groups=np.arange(98) // 2)]))
    assert any(text.startswith("ours: AUC 0.") and " to " in text for text in texts)
    assert "n=98, 49 positive, 49 groups" in texts
    drawn(plots.precision_recall(tmp_path / "pr.png", [plots.Curve("ours", y, p)]))
    with pytest.raises(UsageError, match="both classes"):
        plots.roc(tmp_path / "x.png", [plots.Curve("one class", [1, 1], [0.2, 0.4])])


def test_reliability_shows_its_bins_and_notes(tmp_path, texts):
    drawn(plots.draw_reliability(tmp_path / "reliability.png", BINS, ["ECE 0.049 (0.03 to 0.12)"], "n=98"))
    assert {"n=40", "n=30", "n=28", "ECE 0.049 (0.03 to 0.12)"} <= set(texts)


def test_net_benefit_and_coverage_are_drawn(tmp_path, texts):
    at = np.linspace(0.01, 0.99, 9)
    model, everyone = PlottedCurve("ours", [(at, 0.4 - 0.3 * at)]), PlottedCurve("treat all", [(at, 0.4 - at)])
    nobody = PlottedCurve("treat none", [(at, 0 * at)])
    path = clinic_plots.draw_net_benefit(tmp_path / "decision.png", [model], [everyone, nobody], 0.4)
    assert min(drawn(path)) > 100 and {"ours", "treat all", "treat none", "prevalence 0.40"} <= set(texts)
    kept = PlottedCurve("ours: area 0.100, all kept 0.200", [(at, 0.2 * at)])
    drawn(clinic_plots.draw_coverage(tmp_path / "coverage.png", [kept], [kept], "n=98"))
    assert {kept.legend, "n=98"} <= set(texts)


def test_histograms_count_by_class_and_tell_the_unknown(tmp_path, texts):
    ill = {"n": 2, "median": 850.0, "counts": [2, 0]}
    well = {"n": 1, "median": None, "counts": [0, 0]}
    weight = {"unit": "g", "edges": [800, 1200, 1600], "unknown": 2, "classes": {"ROP": ill, "normal": well}}
    age = weight | {"unit": "weeks", "unknown": 0}
    wide, high = drawn(
        clinic_plots.draw_histograms(tmp_path / "h.png", {"birth weight": weight, "gestational age": age})
    )
    assert wide > 1.8 * high
    assert {"n=3, 2 unknown", "n=3", "ROP (n=2, median 850)", "normal (n=1, none known)"} <= set(texts)


def test_confusions_stand_side_by_side_with_counts_and_row_shares(tmp_path, texts):
    first, second = [[1, 0], [1, 3]], [[0, 0], [1, 1]]
    one = drawn(clinic_plots.draw_confusions(tmp_path / "1.png", {"photographs": first}))
    two = drawn(clinic_plots.draw_confusions(tmp_path / "2.png", {"photographs": first, "eyes": second}))
    assert two[0] == 2 * one[0] and two[1] == one[1]
    assert {"3\n75%", "1\n25%", "1\n100%", "0\n0%", "photographs (n=5)", "eyes (n=2)"} <= set(texts)
    assert texts.count("0") >= 2  # no normal eye: counts, but no share


def test_a_learning_curve_puts_the_rows_of_an_epoch_together(tmp_path):
    epochs = tmp_path / "metrics.csv"
    rows = ["epoch,step,train_loss,inner_loss,inner_auc,seconds"]
    for epoch in range(6):
        rows += [
            f"{epoch},{9 * epoch},{1 / (1 + epoch):.3f},,,3",
            f"{epoch},{9 * epoch},,{(epoch - 3) ** 2},{epoch / 9},",
        ]
    epochs.write_text("\n".join(rows))
    both = drawn(plots.learning_curve(tmp_path / "both.png", epochs, title="fold 0"))
    losses = drawn(plots.learning_curve(tmp_path / "loss.png", epochs, columns=["train_loss", "inner_loss"]))
    assert both[1] > 1.5 * losses[1]
    with pytest.raises(StudyError, match="no number"):
        plots.learning_curve(tmp_path / "x.png", epochs, columns=["f1"])
    epochs.write_text("epoch,train_loss\n")
    with pytest.raises(StudyError, match="no epoch"):
        plots.learning_curve(tmp_path / "x.png", epochs)
    assert not (tmp_path / "x.png").exists()


def test_equal_figures_are_equal_files_and_the_style_stays_inside(tmp_path):
    before = {name: value for name, value in mpl.rcParams.items() if name != "backend"}
    one, two = (plots.draw_roc(tmp_path / f"{name}.png", [RISING], "") for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert {name: mpl.rcParams[name] for name in before} == before


@pytest.mark.parametrize(
    "call",
    [
        lambda path: plots.draw_roc(path, [], ""),
        lambda path: plots.draw_precision_recall(path, [], 0.5, ""),
        lambda path: plots.roc(path, []),
        lambda path: clinic_plots.draw_net_benefit(path, [], [], 0.5),
        lambda path: clinic_plots.draw_coverage(path, [], []),
        lambda path: clinic_plots.draw_histograms(path, {}),
        lambda path: clinic_plots.draw_confusions(path, {}),
    ],
)
def test_nothing_to_draw_is_named_and_leaves_no_file(tmp_path, call):
    with pytest.raises(UsageError, match="at least one"):
        call(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_without_matplotlib_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"fundoscope\["):
        plots.draw_roc(tmp_path / "x.png", [RISING], "")
