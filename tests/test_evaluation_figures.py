from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

from fundoscope.errors import MissingExtraError, StudyError, UsageError
from fundoscope.evaluation import compute_metrics, estimate
from fundoscope.evaluation.metrics import FALSE_POSITIVE_RATES, pr_points, reliability_bins, roc_band, roc_points
from fundoscope.reports import plots as figures


def scored(n=98, seed=0, distance=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return y, np.round(1 / (1 + np.exp(-(rng.normal(0, 1, n) + distance * (y - 0.5)))), 2)


def drawn(path):
    """Size of a PNG, once it is sure that something coloured is on it."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert np.ptp(pixels, axis=2).max() > 60
        return picture.size


def test_roc_points_agree_with_scikit_learn():
    y, p = scored()
    fpr, tpr, _ = reference.roc_curve(y, p, drop_intermediate=False)
    found = roc_points(y, p)
    assert found[0] == pytest.approx(fpr) and found[1] == pytest.approx(tpr)
    assert np.trapezoid(found[1], found[0]) == pytest.approx(compute_metrics(y, p)["auc"])


def test_pr_points_agree_with_scikit_learn():
    y, p = scored()
    precision, recall, _ = reference.precision_recall_curve(y, p)
    found = pr_points(y, p)
    assert found[0] == pytest.approx(recall[:-1][::-1]) and found[1] == pytest.approx(precision[:-1][::-1])
    assert np.sum(np.diff(found[0], prepend=0) * found[1]) == pytest.approx(compute_metrics(y, p)["average_precision"])


def test_a_band_holds_its_curve_and_narrows_with_numbers():
    y, p = scored()
    low, high = roc_band(y, p)
    middle = np.interp(FALSE_POSITIVE_RATES, *roc_points(y, p))
    assert np.mean((low <= middle + 1e-9) & (middle <= high + 1e-9)) > 0.97
    wide = (high - low).mean()
    low, high = roc_band(*scored(1000))
    assert (high - low).mean() < 0.5 * wide


def test_reliability_bins_add_up_to_the_calibration_error():
    y, p = scored(500)
    bins = reliability_bins(y, p)
    assert len(bins) == 10 and sum(b.n for b in bins) == 500
    assert all(b.low <= b.share <= b.high for b in bins)
    assert sum(b.n * abs(b.score - b.share) for b in bins) / 500 == pytest.approx(compute_metrics(y, p)["ece"])
    assert sum(b.n for b in reliability_bins([0, 1, 1], [0.5, 0.5, 0.5])) == 3


def test_every_figure_is_drawn(tmp_path):
    y, p = scored()
    other = np.array([scored(seed=s, distance=1.0)[1] for s in (1, 2, 3)])
    curves = [figures.Curve("ours", y, p), figures.Curve("nuisance", y, other, groups=np.arange(98) // 2)]
    found = {
        figures.roc(tmp_path / "new" / "roc.png", curves),
        figures.precision_recall(tmp_path / "pr.png", curves),
        figures.confusion(tmp_path / "confusion.png", y, p >= 0.5),
        figures.reliability(tmp_path / "reliability.png", y, p),
        figures.comparison(
            tmp_path / "comparison.png",
            {"ours": estimate(y, p), "by clinic": estimate(y, p, "accuracy", groups=np.arange(98) // 20)},
            "AUC",
            reference=0.5,
        ),
    }
    assert len(found) == 5 and all(min(drawn(path)) > 100 for path in found)


def test_a_learning_curve_puts_the_rows_of_an_epoch_together(tmp_path):
    epochs = tmp_path / "metrics.csv"
    rows = ["epoch,step,train_loss,inner_loss,inner_auc,seconds"]
    for epoch in range(6):
        rows += [
            f"{epoch},{9 * epoch},{1 / (1 + epoch):.3f},,,3",
            f"{epoch},{9 * epoch},,{(epoch - 3) ** 2},{epoch / 9},",
        ]
    epochs.write_text("\n".join(rows))
    both = drawn(figures.learning_curve(tmp_path / "both.png", epochs, title="fold 0"))
    losses = drawn(figures.learning_curve(tmp_path / "loss.png", epochs, columns=["train_loss", "inner_loss"]))
    assert both[1] > 1.5 * losses[1]
    with pytest.raises(StudyError, match="no number"):
        figures.learning_curve(tmp_path / "x.png", epochs, columns=["f1"])
    epochs.write_text("epoch,train_loss\n")
    with pytest.raises(StudyError, match="no epoch"):
        figures.learning_curve(tmp_path / "x.png", epochs)
    assert not (tmp_path / "x.png").exists()


def test_equal_figures_are_equal_files_and_the_style_stays_inside(tmp_path):
    before = {name: value for name, value in mpl.rcParams.items() if name != "backend"}
    y, p = scored()
    one, two = (figures.roc(tmp_path / f"{k}.png", [figures.Curve("ours", y, p)]) for k in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert {name: mpl.rcParams[name] for name in before} == before


def test_wrong_calls_are_named(tmp_path):
    with pytest.raises(UsageError, match="at least one"):
        figures.roc(tmp_path / "x.png", [])
    with pytest.raises(UsageError, match="both classes"):
        figures.roc(tmp_path / "x.png", [figures.Curve("one class", [1, 1], [0.2, 0.4])])
    with pytest.raises(UsageError, match="operating point"):
        figures.confusion(tmp_path / "x.png", [0, 1], [0.2, 0.7])


def test_without_matplotlib_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"fundoscope\[train\]"):
        figures.confusion(tmp_path / "x.png", [0, 1], [0, 1])


def test_importing_evaluation_loads_nothing_heavy():
    heavy = ("torch", "timm", "lightning", "sklearn", "matplotlib", "pandas", "scipy", "cv2")
    code = f"import sys, fundoscope.evaluation; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = (
        f"import sys; from fundoscope.evaluation import controls, decisions, detection, forensics;"
        f"print([name for name in {heavy[:6]} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
