"""Calibration and figures of a study of grades, on predictions that are written by hand."""

import json

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
from sklearn.metrics import accuracy_score, cohen_kappa_score, log_loss, roc_auc_score

from fundoscope.errors import StudyError
from fundoscope.evaluation.metrics import Difference, Estimate
from fundoscope.nicking.grade_study.calibrate import calibrate, fit_temperature, grade_probabilities
from fundoscope.nicking.grade_study.evaluate import evaluate
from fundoscope.nicking.grade_study.grade_predictions import GradePredictions
from fundoscope.nicking.grade_study.grade_tables import tell_apart
from fundoscope.nicking.grade_study.prediction_table import (
    DESCRIPTION,
    EXCHANGED,
    LOGITS,
    OWN,
    PROBABILITIES,
    TURNED_LOGITS,
)
from fundoscope.nicking.grading.grades import median_grades
from fundoscope.nicking.recipes.grades import read_grade_recipe

RECIPE = read_grade_recipe("tiny")
SETTINGS = RECIPE.calibration


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
        (arm, 0, fold, part, OWN, "unperturbed", first + k, f"{first + k}.png", f"{part}{fold}_{k % photographs}", int(g), "none", g > 0, f"{part}{fold}_{k % (2 * photographs)}", 4.5)
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
        assert (rows["margin"] >= 0).mean() == pytest.approx(SETTINGS.coverage, abs=2e-3)
        np.testing.assert_allclose(rows["margin"], p.max(axis=1) - fit.minimum_confidence, atol=1e-6)
        wrong = median_grades(p) != part["grade"].to_numpy()
        assert fit.inner_error == pytest.approx(wrong.mean())
        assert fit.inner_error_covered == pytest.approx(wrong[rows["margin"] >= 0].mean(), abs=2e-3)
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
    for arm, variants in (("ours", ("unperturbed", "blurred", EXCHANGED)), ("majority", ("unperturbed",))):
        for seed in (0, 1):
            for variant in variants:
                part = prediction_rows(arm, 0, "test", grades, photographs=12).assign(
                    seed=seed, variant=variant, sham=shams, narrowed=narrowed, vein_px=np.where(grades < 2, 2.5, 5.0)
                )
                noise = {"unperturbed": 1.0, "blurred": 3.0, EXCHANGED: 5.0}[variant]
                p = softmax(3 * np.eye(4)[grades] + rng.normal(0, noise, (120, 4)))
                part[PROBABILITIES] = p if arm == "ours" else np.tile([0.7, 0.1, 0.1, 0.1], (120, 1))
                rows.append(part.assign(margin=part[PROBABILITIES].max(axis=1) - 0.6))
    ungraded = rows[0].iloc[:3].assign(grade=pd.NA, row=[500, 501, 502])
    inner = rows[0].iloc[:5].assign(part="inner", row=range(600, 605))
    pd.concat([*rows, ungraded, inner]).astype({"grade": "Int64"}).to_parquet(folder / "calibrated.parquet")
    pd.DataFrame({"arm": ["ours", "ours", "majority"], "inner_log_loss": [0.4, 0.6, 1.3]}).to_csv(
        folder / "calibration.csv"
    )
    (folder / "explanations").mkdir()
    stream = {"grader": "ours", "stream": "patch", "fold": 0, "patch": "a", "mass": 0.3, "area": 0.1}
    named = [{"photograph": f"p{k}", "crossing": f"p{k}/{k}"} for k in range(12)]
    pd.DataFrame([stream | each for each in named]).to_csv(folder / "explanations/activations.csv")
    falls = {"grader": "ours", "before": 0.9, "marked": 0.5, "elsewhere": 0.2, "least": 0.1}
    pd.DataFrame([falls | each for each in named]).to_csv(folder / "explanations/deletions.csv")
    stays = {"grader": "ours", "stream": "maps", "change": "darker", "stays_0": np.nan, "stays_1": 0.6, "stays_2": 0.8}
    pd.DataFrame([stays | each for each in named]).to_csv(folder / "explanations/changes.csv")
    return folder, evaluate(folder)


def rows_of(folder, table, **wanted):
    found = json.loads((folder / "results.json").read_text())[table]
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def expected_grades(folder, arm, variant="unperturbed"):
    """Truth, the probabilities (2, n, 4) of the two seeds, and where each is confident, computed another way."""
    rows = pd.read_parquet(folder / "calibrated.parquet").query(
        "arm == @arm and variant == @variant and part == 'test'"
    )
    seeds = [each.sort_values("row") for _, each in rows.dropna(subset="grade").groupby("seed")]
    y = seeds[0]["grade"].to_numpy(int)
    return y, np.stack([each[PROBABILITIES] for each in seeds]), np.stack([each["margin"] >= 0 for each in seeds])


def kappa_of(y, grades):
    return cohen_kappa_score(y, grades, weights="quadratic", labels=range(4))


def test_figures_of_an_arm_are_means_over_its_seeds_and_its_seeds_together_are_a_grader_besides(study):
    folder, _ = study
    for row in rows_of(folder, "grades"):
        y, p, confident = expected_grades(folder, row["grader"].split(",")[0])
        if row["grader"] == "ours, 2 seeds together":
            p, confident = p.mean(axis=0)[None], np.mean(p.max(axis=2) - 0.6, axis=0)[None] >= 0
        assert row["seeds"] == 2
        predicted = [median_grades(each) for each in p]
        assert row["quadratic_kappa"]["value"] == pytest.approx(np.mean([kappa_of(y, each) for each in predicted]))
        assert row["accuracy"]["value"] == pytest.approx(np.mean([accuracy_score(y, each) for each in predicted]))
        covered = [kappa_of(y[sure], each[sure]) for sure, each in zip(confident, predicted, strict=True)]
        assert row["kappa_covered"]["value"] == pytest.approx(np.mean(covered), nan_ok=True)
        assert row["coverage"]["value"] == pytest.approx(confident.mean())
        for name, least in (("2_or_3_auc", 2), ("nicked_auc", 1)):
            auc = [roc_auc_score(y >= least, each[:, least:].sum(axis=1)) for each in p]
            assert row[name]["value"] == pytest.approx(np.mean(auc))
        assert (row["accuracy"]["n"], row["accuracy"]["groups"], row["crossings"]) == (120, 12, 24)
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    assert [row["grader"] for row in rows_of(folder, "grades")] == ["ours", "majority", "ours, 2 seeds together"]
    ours, majority, together = (row["quadratic_kappa"] for row in rows_of(folder, "grades"))
    assert together["value"] > ours["value"] > 0.8 > 0.1 > majority["value"]


def test_what_can_be_told_apart_is_said_in_a_sentence(study):
    folder, said = study
    (row,) = rows_of(folder, "differences")
    assert row["comparison"] == "ours less majority" and row["quadratic_kappa"]["estimate"]["low"] > 0
    sentence = "ours is ahead of majority; behind none; not to be told apart from none."
    assert sentence in said[-1] and sentence in json.loads((folder / "results.json").read_text())["sentences"][0]

    def found(first, other, low, high):
        difference = Difference(Estimate(0.0, low, high, 9, 3, 10), 0.0, 0.0, (first, other), "quadratic_kappa")
        return {"table": OWN, "quadratic_kappa": difference}

    rows = [found("ours", "a", -0.2, -0.1), found("ours", "b", -0.1, 0.1), found("ours", "c", np.nan, np.nan)]
    rows += [found("ours, 2 seeds together", "d, 2 seeds together", 1, 2), found("few-pseudo", "few-labels", 1, 2)]
    assert "ours is ahead of none; behind a; not to be told apart from b, c." in tell_apart(rows)
    assert tell_apart(rows, "other") == ""


def test_perturbed_patches_are_compared_with_the_unperturbed_grade_and_the_truth(study):
    folder, _ = study
    (row,) = rows_of(folder, "perturbed", grader="ours")
    y, p, sure = expected_grades(folder, "ours")
    _, blurred, sure_blurred = expected_grades(folder, "ours", "blurred")
    before, after = ([median_grades(each) for each in of] for of in (p, blurred))
    to_truth = np.mean([kappa_of(y, each) for each in after])
    assert row["kappa_to_truth"]["value"] == pytest.approx(to_truth)
    assert row["kappa_to_unperturbed"]["value"] == pytest.approx(np.mean([*map(kappa_of, before, after)]))
    both = [kappa_of(one[m], two[m]) for one, two, m in zip(before, after, sure & sure_blurred, strict=True)]
    assert row["kappa_to_unperturbed_covered"]["value"] == pytest.approx(np.mean(both))


def test_it_is_told_how_far_grades_move_where_artery_and_vein_are_exchanged(study):
    folder, _ = study
    (row,) = rows_of(folder, "exchanged", grader="ours")
    (_, p, _), (_, other, _) = (expected_grades(folder, "ours", each) for each in ("unperturbed", EXCHANGED))
    moved = np.abs(np.array([median_grades(a) - median_grades(b) for a, b in zip(p, other, strict=True)]))
    assert row["mean_absolute_difference"]["value"] == pytest.approx(moved.mean())
    assert row["share_changed"]["value"] == pytest.approx((moved > 0).mean())
    assert not rows_of(folder, "perturbed", variant=EXCHANGED)


def test_shams_are_counted_among_all_and_among_confident_patches(study):
    folder, _ = study
    shams = {row["sham"]: row for row in rows_of(folder, "shams", grader="ours")}
    y, p, confident = expected_grades(folder, "ours")
    right = np.array([median_grades(each) == 0 for each in p])
    far = (y == 0) & (np.arange(120) % 8 != 0) & (np.arange(120) % 24 != 4)
    assert shams["far"]["told_as_0"]["value"] == pytest.approx(right[:, far].mean())
    assert shams["far"]["told_as_0"]["n"] == far.sum()
    sure = [each[far & m].mean() for each, m in zip(right, confident, strict=True)]
    assert shams["far"]["told_as_0_covered"]["value"] == pytest.approx(np.mean(sure))
    assert list(shams) == ["none", "far", "every sham", "narrowed by less than 0.15"]


def test_the_surest_share_is_graded_by_the_graders_own_confidence(study):
    folder, _ = study
    y, p, _ = expected_grades(folder, "ours")
    curve = rows_of(folder, "coverage", grader="ours")
    half = [np.argsort(-each.max(axis=1), kind="stable")[:60] for each in p]
    kappas = [kappa_of(y[k], median_grades(each)[k]) for k, each in zip(half, p, strict=True)]
    assert curve[-1]["coverage"] == 0.5 and curve[-1]["quadratic_kappa"]["value"] == pytest.approx(np.mean(kappas))
    (grades, *_) = rows_of(folder, "grades", grader="ours")
    assert curve[0]["quadratic_kappa"] == grades["quadratic_kappa"]
    assert curve[-1]["error"]["value"] < curve[0]["error"]["value"]


def test_veins_of_a_width_are_judged_apart(study):
    folder, _ = study
    thin, wide = rows_of(folder, "by_width", grader="ours")
    assert (thin["vein"], wide["vein"]) == ("under 3 px", "4 to under 6 px")
    y, p, _ = expected_grades(folder, "ours")
    kappas = [kappa_of(y[y < 2], median_grades(each)[y < 2]) for each in p]
    assert thin["quadratic_kappa"]["value"] == pytest.approx(np.mean(kappas)) and thin["quadratic_kappa"]["n"] == 60


def test_what_pages_draw_and_what_networks_look_at_lies_in_the_results(study):
    folder, _ = study
    results = json.loads((folder / "results.json").read_text())
    y, p, _ = expected_grades(folder, "ours")
    counts = np.zeros((4, 4))
    np.add.at(counts, (y, median_grades(p.mean(axis=0))), 1)
    np.testing.assert_array_equal(results["confusion"]["ours"], counts)
    assert results["positive_share"] == pytest.approx(0.5)
    x, height = np.array(results["curves"]["ours"]["roc"])
    assert np.trapezoid(height, x) == pytest.approx(roc_auc_score(y > 1, p.mean(axis=0)[:, 2:].sum(axis=1)))
    (pointing,), (deletion,), (change,) = (results[name] for name in ("pointing", "deletion", "activation_changes"))
    assert pointing["over_chance"]["value"] == pytest.approx(3) and pointing["mass"]["value"] == pytest.approx(0.3)
    assert deletion["marked_less_elsewhere"]["value"] == pytest.approx(0.3)
    assert change["stays"]["value"] == pytest.approx(0.7) and change["stays_0"]["value"] is None


def test_without_predictions_the_missing_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"calibrated.parquet is not there. Run the study's command again"):
        GradePredictions.read(tmp_path)
