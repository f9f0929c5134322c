from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from fundoscope.errors import CohortError, LeakError, UsageError
from fundoscope.evaluation import auc, compute_metrics
from fundoscope.evaluation.controls import (
    NUISANCE_FAMILIES,
    NUISANCE_FEATURES,
    majority_baseline,
    make_or_say_why,
    mean_colour_baseline,
    mean_colour_table,
    nuisance_baseline,
    nuisance_features,
    nuisance_table,
)
from fundoscope.evaluation.controls.baselines import fit_logistic, predict_out_of_fold
from fundoscope.imaging import Field, Photograph


def eye(seed=0, shape=(120, 160), radius=70.0, row=60.0, column=80.0, colour=(170, 80, 40), blur=0.0, n_bytes=0):
    """A disc of noise on black: nothing of an eye but its field."""
    rng = np.random.default_rng(seed)
    r, c = np.ogrid[: shape[0], : shape[1]]
    inside = (r - row) ** 2 + (c - column) ** 2 <= radius**2
    pixels = np.clip(rng.normal(colour, 12, (*shape, 3)), 20, 255)
    if blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
    pixels = np.where(inside[..., None], pixels, 0).astype(np.uint8)
    return Photograph(pixels, f"eye{seed}.png", n_bytes, "PNG" if n_bytes else "array")


def folds_of(n, k=5):
    rows = np.arange(n)
    return [(rows[rows % k != fold], rows[rows % k == fold]) for fold in range(k)]


def test_features_are_finite_and_named():
    features = nuisance_features(eye())
    assert tuple(features) == NUISANCE_FEATURES and all(np.isfinite(list(features.values())))
    assert (
        len(NUISANCE_FEATURES) == sum(map(len, NUISANCE_FAMILIES.values())) == nuisance_table([eye(), eye(1)]).shape[1]
    )
    assert nuisance_table([]).shape == (0, len(NUISANCE_FEATURES))


def test_features_move_with_what_they_measure():
    plain = nuisance_features(eye(n_bytes=10_000))
    assert nuisance_features(eye(n_bytes=20_000))["bytes_per_pixel"] > plain["bytes_per_pixel"]
    assert plain["bytes_per_pixel"] == pytest.approx(np.log1p(10_000 / (120 * 160)))
    small = nuisance_features(eye(radius=40.0))
    assert small["radius"] < plain["radius"] and small["cut_top"] == 0 < plain["cut_top"]
    assert small["seen"] > plain["seen"]
    assert plain["cut_top"] == pytest.approx(10 / 70, abs=0.03)
    assert nuisance_features(eye(colour=(170, 80, 120)))["mean_blue"] == pytest.approx(120 / 255, abs=0.02)
    soft = nuisance_features(eye(blur=1.5))
    assert soft["laplacian"] < plain["laplacian"] and soft["gradient_90"] < plain["gradient_90"]


def test_field_features_do_not_depend_on_the_number_of_pixels():
    small = nuisance_features(eye())
    large = nuisance_features(eye(shape=(480, 640), radius=280.0, row=240.0, column=320.0))
    for name in NUISANCE_FAMILIES["field"]:
        assert large[name] == pytest.approx(small[name], abs=0.03), name


def test_no_field_is_no_failure():
    grey = Photograph(np.full((60, 80, 3), 120, np.uint8), "grey", 0, "array")
    black = Photograph(np.zeros((60, 80, 3), np.uint8), "black", 0, "array")
    assert np.isfinite(nuisance_table([grey, black])).all()


def test_a_shortcut_is_found_in_its_family_and_nowhere_else():
    y = np.arange(40) % 2
    eyes = [eye(i, blur=1.2 if label else 0.0, n_bytes=20_000) for i, label in enumerate(y)]
    table, folds = nuisance_table(eyes), folds_of(40, 3)
    assert auc(y, nuisance_baseline(table, y, folds).p) > 0.95
    assert auc(y, nuisance_baseline(table, y, folds, families=("sharpness",)).p) > 0.95
    assert auc(y, nuisance_baseline(table, y, folds, families=("file",)).p) < 0.7
    with pytest.raises(UsageError, match="did you mean 'colour'"):
        nuisance_baseline(table, y, folds, families=("color",))


def test_mean_colour_is_that_of_the_field_alone():
    assert mean_colour_table([eye(radius=40.0)])[0] == pytest.approx([170, 80, 40], abs=2)
    y = np.arange(30) % 2
    eyes = [eye(i, colour=(170, 80 + 8 * label, 40)) for i, label in enumerate(y)]
    assert auc(y, mean_colour_baseline(eyes, y, folds_of(30)).p) > 0.95


def test_majority_class_is_the_training_share():
    y = np.array([1] * 15 + [0] * 5)
    found = majority_baseline(y, folds_of(20, 4))
    assert compute_metrics(y, found.p)["accuracy"] == 0.75
    assert found.p[0] == np.delete(y, np.arange(0, 20, 4)).mean()


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_logistic_model_is_the_least_of_the_penalised_loss(strength):
    rng = np.random.default_rng(0)
    features = rng.normal(3, [1, 5, 0.2, 1], (80, 4))
    y = (features[:, 0] + rng.normal(0, 1, 80) > 3).astype(float)
    design = (features - features.mean(axis=0)) / features.std(axis=0)

    def loss(b):
        eta = design @ b[1:] + b[0]
        return 0.5 * b[1:] @ b[1:] + strength * (np.logaddexp(0, eta) - y * eta).sum()

    least = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    p = fit_logistic(features, y, strength)(features)
    assert p == pytest.approx(expit(design @ least[1:] + least[0]), abs=1e-5)


def test_logistic_model_survives_constants_separation_and_one_class():
    rng = np.random.default_rng(0)
    features = np.column_stack([np.full(20, 7.0), np.repeat([-1, 1], 10), rng.normal(size=20)])
    probabilities = fit_logistic(features, np.repeat([0.0, 1.0], 10), 100.0)
    assert np.isfinite(probabilities(features)).all()
    moved = features + np.array([5, 0, 0])  # what was constant in training tells nothing in the held-out part
    assert probabilities(moved) == pytest.approx(probabilities(features))
    assert fit_logistic(features, np.ones(20), 1.0)(features) == pytest.approx(20.5 / 21)


def test_out_of_fold_learns_what_is_there_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2
    noise = rng.normal(size=(100, 5))
    assert abs(auc(y, predict_out_of_fold(noise, y, folds_of(100)).p) - 0.5) < 0.2
    signal = predict_out_of_fold(noise + y[:, None] * [2, 0, 0, 0, 0], y, folds_of(100))
    assert auc(y, signal.p) > 0.85 and len(signal.strengths) == 5


def test_held_out_labels_are_never_seen():
    rng = np.random.default_rng(0)
    y, features, folds = np.arange(50) % 2, rng.normal(size=(50, 3)), folds_of(50)
    before = predict_out_of_fold(features, y, folds).p
    test = folds[2][1]
    changed = y.copy()
    changed[test] = 1 - changed[test]
    assert (predict_out_of_fold(features, changed, folds).p[test] == before[test]).all()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 100))
def test_groups_stay_together(seed):
    rng = np.random.default_rng(seed)
    y, features = np.arange(30) % 2, rng.normal(size=(30, 2))
    groups = np.repeat(np.arange(15), 2)
    rows = np.arange(30)
    whole = [(rows[groups % 3 != k], rows[groups % 3 == k]) for k in range(3)]
    assert np.isfinite(predict_out_of_fold(features, y, whole, groups, seed).p).all()
    with pytest.raises(LeakError, match="both sides"):
        predict_out_of_fold(features, y, folds_of(30), groups)


def test_a_baseline_that_cannot_be_made_says_why_and_a_leak_is_no_such_thing():
    y, features = np.arange(10) % 2, np.zeros((10, 2))
    features[3:5, 1] = np.nan
    found = make_or_say_why(lambda: predict_out_of_fold(features, y, folds_of(10)))
    assert str(found).startswith("could not be made: 2 of 10 photographs lack a measure")
    found = make_or_say_why(lambda: predict_out_of_fold(features[:, :0], y, folds_of(10)))
    assert str(found).startswith("could not be made: nothing was measured")
    constant = make_or_say_why(lambda: predict_out_of_fold(np.full((10, 3), 7.0), y, folds_of(10)))
    assert np.isfinite(constant.p).all()  # columns that never vary tell nothing, and do no harm
    with pytest.raises(LeakError):
        make_or_say_why(lambda: predict_out_of_fold(features[:, :1], y, [(np.arange(10), np.arange(10))]))


def test_a_field_without_pixels_has_no_mean_colour(monkeypatch):
    dark = Photograph(np.zeros((40, 40, 3), np.uint8), "dark", 0, "array")
    monkeypatch.setattr(Field, "mask", lambda self, shrink=0.0: np.zeros(self.shape, bool))
    assert np.isnan(mean_colour_table([dark])).all()


def test_broken_folds_are_named():
    y, features = np.arange(10) % 2, np.zeros((10, 1))
    with pytest.raises(CohortError, match="once"):
        predict_out_of_fold(features, y, folds_of(10)[:-1])
    with pytest.raises(LeakError):
        predict_out_of_fold(features, y, [(np.arange(10), np.arange(10))])
