"""Calibration and figures of a study of grades, on predictions that are written by hand; where the networks look."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
from sklearn.metrics import accuracy_score, cohen_kappa_score, log_loss, roc_auc_score

from fundoscope.errors import StudyError
from fundoscope.nicking.grade_study.calibrate import calibrate, fit_temperature, grade_probabilities
from fundoscope.nicking.grade_study.evaluate import GradePredictions, evaluate
from fundoscope.nicking.grade_study.explain import (
    FlankActivation,
    colour_maps,
    draw_activation,
    measure_activation,
    venous_flanks,
)
from fundoscope.nicking.grade_study.prediction_table import DESCRIPTION, LOGITS, OWN, PROBABILITIES, TURNED_LOGITS
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, CrossingPatch
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.nicking.recipes.grades import read_grade_recipe

RECIPE = read_grade_recipe("tiny")
SETTINGS, EXPLANATION = RECIPE.calibration, RECIPE.explanation


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def drawn_logits(n, temperature, seed=0):
    """Logits (2, n, 4) that are too sure by a temperature, and grades drawn from what they mean."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 4))
    grades = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    return np.tile(logits * temperature, (2, 1, 1)).astype(np.float32), grades


# --- calibration


def test_the_temperature_by_which_logits_are_too_sure_is_found():
    for temperature in (0.5, 1.0, 2.5):
        assert fit_temperature(*drawn_logits(4000, temperature), SETTINGS) == pytest.approx(temperature, rel=0.1)
    logits, _ = drawn_logits(50, 1.0)
    right = logits[0].argmax(axis=1)
    coldest = np.exp(SETTINGS.lowest_log_temperature)
    assert fit_temperature(logits, right, SETTINGS) == pytest.approx(coldest, rel=1e-2)


def test_probabilities_are_the_mean_of_both_ways_round():
    logits, _ = drawn_logits(5, 1.0)
    logits[1] = logits[0, ::-1]
    expected = (softmax(logits[0] / 2) + softmax(logits[1] / 2)) / 2
    np.testing.assert_allclose(grade_probabilities(logits, 2.0), expected, atol=1e-6)
    above = np.array([[[2.0, 0.0, -2.0]]] * 2, np.float32)  # of an ordinal head: above 0, above 1, above 2
    high = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(
        grade_probabilities(above, 1.0), [[1 - high, high - 0.5, high - 0.5, 1 - high]], atol=1e-6
    )


def prediction_rows(arm, fold, part, grades, first=0, photographs=4):
    rows = [
        (arm, 0, fold, part, OWN, "unperturbed", first + k, f"{first + k}.png", f"{part}{fold}_{k % photographs}", int(g), "none", g > 0)
        for k, g in enumerate(grades)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(DESCRIPTION)).astype({"grade": "Int64"})


def with_logits(rows, logits):
    for columns, way in zip((LOGITS, TURNED_LOGITS), logits, strict=True):
        rows[columns] = way
    rows[PROBABILITIES] = grade_probabilities(logits, 1.0)
    return rows


def test_each_fit_is_calibrated_on_its_own_inner_patches_alone(tmp_path):
    parts = []
    for fold, temperature in enumerate((1.0, 2.5)):
        logits, grades = drawn_logits(2000, temperature, seed=fold)
        parts.append(with_logits(prediction_rows("ours", fold, "inner", grades), logits))
        other, _ = drawn_logits(30, 9.0, seed=9)
        parts.append(with_logits(prediction_rows("ours", fold, "test", np.zeros(30), 30 * fold), other))
    rule = prediction_rows("majority", 0, "inner", [0, 1, 2, 3])
    rule[PROBABILITIES] = [0.4, 0.3, 0.2, 0.1]
    path = tmp_path / "predictions.parquet"
    pd.concat([*parts, rule], ignore_index=True).to_parquet(path)
    calibrate(path, SETTINGS)
    fits = pd.read_csv(tmp_path / "calibration.csv")
    assert fits["temperature"].tolist() == pytest.approx([1.0, 2.5, 1.0], rel=0.1)
    assert fits["inner_patches"].tolist() == [2000, 2000, 4]
    calibrated = pd.read_parquet(tmp_path / "calibrated.parquet")
    for fit, part in zip(fits.itertuples(), (parts[0], parts[2]), strict=False):
        rows = calibrated[
            (calibrated["fold"] == fit.fold) & (calibrated["part"] == "inner") & (calibrated["arm"] == "ours")
        ]
        p = softmax(part[LOGITS].to_numpy() / fit.temperature)
        np.testing.assert_allclose(rows[PROBABILITIES], p, atol=1e-6)
        assert fit.inner_log_loss == pytest.approx(log_loss(part["grade"].astype(int), p, labels=range(4)), abs=1e-5)
        assert rows["confident"].mean() == pytest.approx(1 - SETTINGS.refused_share, abs=2e-3)
    assert not set(LOGITS) & set(calibrated)


# --- figures


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A network that is mostly right and a rule that calls all 0: 120 patches of 12 photographs, two seeds, no fit."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    grades = np.arange(120) % 4
    shams = np.where(grades == 0, np.where(np.arange(120) % 8 == 0, "none", "far"), "none")
    narrowed = (grades > 0) | (np.arange(120) % 24 == 4)  # a few of grade 0 by less than a grade's worth
    rows = []
    for arm, variants in (("ours", ("unperturbed", "blurred")), ("majority", ("unperturbed",))):
        for seed in (0, 1):
            for variant in variants:
                part = prediction_rows(arm, 0, "test", grades, photographs=12).assign(
                    seed=seed, variant=variant, sham=shams, narrowed=narrowed
                )
                noise = {"unperturbed": 1.0, "blurred": 3.0}[variant]
                p = softmax(3 * np.eye(4)[grades] + rng.normal(0, noise, (120, 4)))
                part[PROBABILITIES] = p if arm == "ours" else np.tile([0.7, 0.1, 0.1, 0.1], (120, 1))
                rows.append(part.assign(confident=part[PROBABILITIES].max(axis=1) >= 0.5))
    ungraded = rows[0].iloc[:3].assign(grade=pd.NA, row=[500, 501, 502])
    inner = rows[0].iloc[:5].assign(part="inner", row=range(600, 605))
    pd.concat([*rows, ungraded, inner]).astype({"grade": "Int64"}).to_parquet(folder / "calibrated.parquet")
    pd.DataFrame({"arm": ["ours", "ours", "majority"], "inner_log_loss": [0.4, 0.6, 1.3]}).to_csv(
        folder / "calibration.csv"
    )
    (folder / "explanations").mkdir()
    stream = {"grader": "ours", "stream": "patch", "fold": 0, "patch": "a", "mass": 0.3, "area": 0.1}
    pd.DataFrame([stream | {"photograph": f"p{k}"} for k in range(12)]).to_csv(folder / "explanations/activations.csv")
    return folder, evaluate(folder)


def expected_grades(folder, arm, variant="unperturbed"):
    """Truth, mean probabilities over the two seeds, and how many seeds are confident, computed another way."""
    rows = pd.read_parquet(folder / "calibrated.parquet").query(
        "arm == @arm and variant == @variant and part == 'test'"
    )
    means = rows.dropna(subset="grade").groupby("row")[["grade", *PROBABILITIES, "confident"]].mean()
    return means["grade"].to_numpy(int), means[PROBABILITIES].to_numpy(float), means["confident"].to_numpy(float)


def test_figures_are_those_of_the_mean_prediction_of_each_graded_test_patch(study):
    folder, _ = study
    results = json.loads((folder / "results.json").read_text())
    for row in results["grades"]:
        y, p, _ = expected_grades(folder, row["grader"])
        predicted = median_grades(p)
        kappa = cohen_kappa_score(y, predicted, weights="quadratic", labels=range(4))
        assert row["quadratic_kappa"]["value"] == pytest.approx(kappa, abs=1e-9)
        assert row["accuracy"]["value"] == pytest.approx(accuracy_score(y, predicted))
        assert row["nicked_auc"]["value"] == pytest.approx(roc_auc_score(y > 0, 1 - p[:, 0]))
        assert (row["accuracy"]["n"], row["accuracy"]["groups"]) == (120, 12)
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    assert [row["inner_log_loss"] for row in results["grades"]] == pytest.approx([0.5, 1.3])
    assert (
        results["grades"][0]["quadratic_kappa"]["value"] > 0.8 > 0.1 > results["grades"][1]["quadratic_kappa"]["value"]
    )
    (difference,) = results["differences"]
    assert difference["comparison"] == "ours less majority" and difference["quadratic_kappa"]["estimate"]["low"] > 0


def test_perturbed_patches_are_compared_with_the_unperturbed_grade_and_the_truth(study):
    folder, _ = study
    (row,) = json.loads((folder / "results.json").read_text())["perturbed"]
    y, p, _ = expected_grades(folder, "ours")
    _, blurred, _ = expected_grades(folder, "ours", "blurred")
    for name, against in (("kappa_to_unperturbed", median_grades(p)), ("kappa_to_truth", y)):
        kappa = cohen_kappa_score(against, median_grades(blurred), weights="quadratic", labels=range(4))
        assert row[name]["value"] == pytest.approx(kappa, abs=1e-9)


def test_shams_are_counted_among_confident_patches_only(study):
    folder, _ = study
    shares = {row["what"]: row["share"] for row in json.loads((folder / "results.json").read_text())["shams"]}
    y, p, seeds = expected_grades(folder, "ours")
    confident, predicted = seeds >= 0.5, median_grades(p)
    assert shares["graded at all"]["value"] == pytest.approx(confident.mean()) and 0 < confident.mean() < 1
    far = confident & (y == 0) & (np.arange(120) % 8 != 0) & (np.arange(120) % 24 != 4)
    assert shares["sham 'far' alone graded 0"]["value"] == pytest.approx((predicted[far] == 0).mean())
    assert shares["sham 'far' alone graded 0"]["n"] == far.sum()
    third = confident & (y == 3)
    assert shares["grade 3 graded 3"]["value"] == pytest.approx((predicted[third] == 3).mean())


def test_what_pages_draw_lies_in_the_results(study):
    folder, said = study
    results = json.loads((folder / "results.json").read_text())
    y, p, _ = expected_grades(folder, "ours")
    counts = np.zeros((4, 4))
    np.add.at(counts, (y, median_grades(p)), 1)
    np.testing.assert_array_equal(results["confusion"]["ours"], counts)
    assert results["nicked_share"] == pytest.approx(0.75)
    x, height = np.array(results["curves"]["ours"]["roc"])
    assert np.trapezoid(height, x) == pytest.approx(roc_auc_score(y > 0, 1 - p[:, 0]))
    (pointing,) = results["pointing"]
    assert pointing["over_chance"]["value"] == pytest.approx(3) and pointing["mass"]["value"] == pytest.approx(0.3)
    assert said[0].startswith("ours: quadratic kappa 0.") and said[2].startswith("own: ours less majority")


def test_without_predictions_the_missing_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"calibrated.parquet is not there. Run the study's command again"):
        GradePredictions.read(tmp_path)


# --- where networks look


def crossing():
    maps = np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8)
    maps[59:69, :, :2] = 255
    maps[:, 59:69] = 255, 0, 255
    pixels = np.full((PATCH_SIDE, PATCH_SIDE, 3), 120, np.uint8)
    return CrossingPatch(pixels, maps, np.ones((PATCH_SIDE, PATCH_SIDE), bool))


def test_flanks_are_the_vein_beside_the_artery():
    there = venous_flanks(crossing(), EXPLANATION)
    rows, columns = np.nonzero(there)
    assert (np.abs(columns - (PATCH_SIDE - 1) / 2) < 9).all()
    assert np.abs(rows - (PATCH_SIDE - 1) / 2).max() < 2.5 * VEIN_WIDTH + 3
    assert there[64 - 20, 64] and there[64 + 20, 64] and not there[64, 64] and not there[64, 64 + 20]


def test_activation_on_the_flanks_is_measured_as_such_and_elsewhere_not():
    patch, flanks = crossing(), venous_flanks(crossing(), EXPLANATION)

    def measure(activation, patch=patch):
        return measure_activation(activation.astype(np.float32), patch, EXPLANATION)

    assert measure(flanks) == FlankActivation(pytest.approx(1), pytest.approx(flanks.mean()))
    assert measure(3 * flanks) == measure(flanks)
    everywhere = measure(np.ones((PATCH_SIDE, PATCH_SIDE)))
    assert everywhere.mass == pytest.approx(everywhere.area)
    assert measure(~flanks).mass == 0
    assert measure(np.zeros((PATCH_SIDE, PATCH_SIDE))) is None
    assert measure(flanks, replace(patch, maps=0 * patch.maps)) is None


def test_pictures_show_patch_maps_and_activation_beside_each_other():
    patch = crossing()
    flanks = venous_flanks(patch, EXPLANATION)
    shown = draw_activation(patch, np.stack([flanks, np.zeros((PATCH_SIDE, PATCH_SIDE))]).astype(np.float32))
    assert shown.shape == (PATCH_SIDE, 4 * PATCH_SIDE, 3)
    np.testing.assert_array_equal(shown[:, :PATCH_SIDE], patch.pixels)
    maps = colour_maps(patch)
    assert maps[64, 10].tolist() == [255, 63, 63] and maps[10, 64].tolist() == [63, 63, 255]
    assert (shown[44, 2 * PATCH_SIDE + 64] != patch.pixels[44, 64]).any()
