"""Arms, training, prediction and the whole study of grades; figures and calibration have files of their own."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")
from safetensors.torch import save_file
from typer.testing import CliRunner

from fundoscope.bundles import verify, write_nicking
from fundoscope.bundles.read_nicking import GRADES_FILE, MAPS_FILE, open_nicking_bundle
from fundoscope.cli.console import Console
from fundoscope.cli.main import app
from fundoscope.errors import FundoscopeError, LeakError, StudyError, UsageError
from fundoscope.evaluation.detection import Instances
from fundoscope.networks.nick_grader import GraderOptions, NickGrader, count_excitation
from fundoscope.nicking.grade_study import detection, export, pages, refit, train
from fundoscope.nicking.grade_study.arm_patches import patches_of_arm
from fundoscope.nicking.grade_study.batches import network_inputs
from fundoscope.nicking.grade_study.calibrate import fit_temperature, grade_probabilities
from fundoscope.nicking.grade_study.folds import GradeFoldData, PatchTables, make_grade_folds
from fundoscope.nicking.grade_study.grade_networks import (
    MDTNetGrader,
    build_network,
    predict_both_ways,
    training_losses,
)
from fundoscope.nicking.grade_study.patch_table import read_patch_table
from fundoscope.nicking.grade_study.plan import (
    GradeOptions,
    GradePlan,
    PlannedFit,
    arms_without_weights,
    plan_study,
)
from fundoscope.nicking.grade_study.predict import exchange_artery_and_vein, predict_network, predict_rule
from fundoscope.nicking.grade_study.prediction_table import EXCHANGED, OWN, PROBABILITIES, UNPERTURBED, VARIANTS
from fundoscope.nicking.grade_study.study_arms import (
    GRADER_NAMES,
    RULES,
    USUAL_GRADERS,
    GradeArm,
    build_arm,
    build_arms,
    parse_grader_names,
)
from fundoscope.nicking.grade_study.transfer import write_upstream
from fundoscope.nicking.grade_study.views import table_patches
from fundoscope.nicking.grading.grader import NickingGrader, PatchGrader
from fundoscope.nicking.grading.grades import median_grade
from fundoscope.nicking.recipes.grades import FewLabels, read_grade_recipe
from fundoscope.studies import Study

ARMS = ("ours", "majority", "nguyen")


@pytest.fixture(scope="session")
def recipe(grade_recipe_file):
    return read_grade_recipe(grade_recipe_file)


@pytest.fixture(scope="module")
def command(patch_table, grade_recipe_file):
    def build(out, *more, table=patch_table):
        usual = ["--recipe", str(grade_recipe_file), "--graders", ",".join(ARMS), "--folds", "2", "-q"]
        return ["nicking", "study-grades", str(table), "--out", str(out), *usual, *more]

    return build


@pytest.fixture(scope="module")
def study(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    result = CliRunner().invoke(app, command(out))
    assert result.exit_code == 0, result.exception
    return out


@pytest.fixture(scope="module")
def fold(study, patch_rows, fresh_upstream, recipe):
    """The study's first fold, with what it kept of the patches."""
    (first, _) = make_grade_folds(patch_rows, [fresh_upstream], 2, 0, recipe.folds, study / "folds_0.json")
    return GradeFoldData(PatchTables(patch_rows, [], {}), first, fresh_upstream, study / "patches", recipe)


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- arms


def test_each_arm_is_ours_or_the_published_one_but_for_one_part(recipe):
    ours, published = build_arm("ours", recipe), build_arm("published", recipe)
    assert ours == GradeArm("ours", recipe.network)
    whole = recipe.network.model_copy(update={"excited": True, "pyramid": "safpn", "head": "plain"})
    assert published == GradeArm("published", whole, transferred=True)
    assert build_arm("no-transfer", recipe) == replace(published, name="no-transfer", transferred=False)
    flags = {"pseudo": "pseudo", "few-labels": "few", "masked": "masked", "shuffled": "shuffled", "mdtnet": "team"}
    for name, flag in flags.items():
        assert build_arm(name, recipe) == replace(ours, name=name, **{flag: True})
    assert build_arm("few-pseudo", recipe) == replace(ours, name="few-pseudo", few=True, pseudo=True)
    networks = {
        "plain-pyramid": {"pyramid": "fpn"}, "no-excitation": {"excited": False}, "side-by-side": {"pooled": "side by side"},
        "ordinal-head": {"head": "ordinal"}, "one-stream": {"streams": 1},
    }  # fmt: skip
    for name, change in networks.items():
        assert build_arm(name, recipe) == replace(published, name=name, network=whole.model_copy(update=change))
    base = recipe.network.model_copy(update={"streams": 1, "excited": False, "pyramid": "none", "head": "plain"})
    assert build_arm("baseline", recipe) == GradeArm("baseline", base)
    assert all(build_arm(rule, recipe).network is None for rule in RULES)
    assert {build_arm(name, recipe).name for name in GRADER_NAMES} == set(GRADER_NAMES)


@pytest.mark.parametrize("arm", ["no-excitation", "baseline"])
def test_in_the_papers_recipe_these_arms_have_no_module_of_excitation_at_all(arm):
    def made(name):
        network = build_arm(name, read_grade_recipe("paper")).network.model_copy(update={"pretrained": False})
        with torch.device("meta"):
            return NickGrader(GraderOptions(**network.model_dump()))

    def modules(network):
        return [type(each).__name__ for each in network.modules()]

    assert count_excitation(made("published")) > 2 * 13
    without = made(arm)
    assert count_excitation(without) == 0 and without.options.body == "resnet50"
    assert not [name for name in modules(without) if name.startswith(("SE", "Squeeze", "EffectiveSE"))]
    assert modules(without).count("Bottleneck") == 13 * len(without.streams)


def test_a_body_with_excitation_of_its_own_is_refused_where_there_is_to_be_none():
    with pytest.raises(UsageError, match=r"'seresnet50' has 13 modules .*such as resnet50"), torch.device("meta"):
        NickGrader(GraderOptions(body="seresnet50", pretrained=False, excited=False))


def test_names_of_several_are_spelt_out_and_unknown_ones_name_the_nearest(recipe):
    assert parse_grader_names("usual") == USUAL_GRADERS == parse_grader_names("")
    assert set(parse_grader_names("all")) == set(GRADER_NAMES)
    assert parse_grader_names("roy, ours,roy") == ("roy", "ours")
    assert [arm.name for arm in build_arms(("roy", "ours", "roy"), recipe)] == ["ours", "roy"]
    with pytest.raises(UsageError, match="no way of grading 'our': did you mean 'ours'"):
        build_arm("our", recipe)


# --- training


@pytest.fixture
def fitted(monkeypatch):
    """The training patches and the folder of each fit, which is left out."""
    fits = []

    def record(network, fold, patches, options, folder):
        fits.append((patches.numbers, patches.grades, folder.name))
        return network

    monkeypatch.setattr(train, "_fit", record)
    return fits


def test_grades_are_dealt_anew_in_the_shuffled_arm_only(fold, tmp_path, fitted):
    for name, seed in (("ours", 0), ("shuffled", 0), ("shuffled", 0), ("shuffled", 1)):
        train.train_arm(build_arm(name, fold.recipe), fold, seed, tmp_path)
    numbers, grades = zip(*((numbers, grades) for numbers, grades, _ in fitted), strict=True)
    assert all(np.array_equal(each, fold.train) for each in numbers)
    np.testing.assert_array_equal(grades[0], fold.tables.grades[fold.train])
    np.testing.assert_array_equal(grades[1], grades[2])
    dealt = {tuple(each) for each in grades[1:]}
    assert dealt != {tuple(grades[0])} and all(Counter(each) == Counter(grades[0]) for each in dealt)


@pytest.mark.parametrize(("confidence", "learns"), [(0.9, True), (0.7, False)])
def test_pseudo_labels_are_given_to_unlabelled_patches_of_training_photographs(
    fold, tmp_path, fitted, monkeypatch, confidence, learns
):
    rest = (1 - confidence) / 2
    monkeypatch.setattr(
        train, "grade_probabilities", lambda logits, _: np.tile([rest, rest, confidence, 0], (logits.shape[1], 1))
    )
    train.train_arm(build_arm("pseudo", fold.recipe), fold, 0, tmp_path)
    (first, _, folder), (second, grades, other) = fitted
    np.testing.assert_array_equal(first, fold.train)
    assert folder != other and np.array_equal(second[: len(first)], first)
    added, rows = second[len(first) :], fold.tables.rows
    assert sorted(added) == (sorted(fold.unlabelled) if learns else [])
    assert all(rows[k].grade is None and fold.fold.part_of(rows[k]) == "train" for k in added)
    assert (grades[len(first) :] == 2).all()
    np.testing.assert_array_equal(grades[: len(first)], fold.tables.grades[first])


def test_few_labels_are_of_whole_crossings_the_same_for_each_arm_and_the_others_may_get_pseudo_labels(fold):
    rows = [replace(row, path=Path(f"0000_{k // 2:02d}_{k % 2:02d}.png")) for k, row in enumerate(fold.tables.rows)]
    extra = [
        replace(rows[k], photograph=name, grade=None)
        for k, name in enumerate((*fold.fold.test, *fold.fold.inner, "new"))
    ]
    paired = replace(
        fold, tables=PatchTables(rows, extra, {}), recipe=fold.recipe.model_copy(update={"few": FewLabels(kept=0.5)})
    )
    every, few, pseudo = (
        patches_of_arm(build_arm(n, fold.recipe), paired, 0) for n in ("pseudo", "few-labels", "few-pseudo")
    )
    np.testing.assert_array_equal(every.labelled, paired.train)
    assert [k for k in every.unlabelled if k >= len(rows)] == [len(rows) + len(extra) - 1], "only of the new photograph"
    np.testing.assert_array_equal(few.labelled, pseudo.labelled)
    told = {rows[k].crossing for k in few.labelled}
    assert 0 < len(few.labelled) < len(every.labelled)
    assert {k for k in every.labelled if rows[k].crossing in told} == set(few.labelled.tolist())
    assert set(pseudo.unlabelled) == set(every.unlabelled) | set(every.labelled) - set(few.labelled)
    seeds = {tuple(patches_of_arm(build_arm("few-labels", fold.recipe), paired, seed).labelled) for seed in range(5)}
    assert len(seeds) > 1


def test_a_seed_is_a_start_of_its_own(fold):
    heads = [build_network(build_arm("ours", fold.recipe), fold, seed).head.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_mdtnet_looks_at_the_patch_alone_and_every_body_learns(fold):
    from fundoscope.networks.mdtnet import mdtnet_loss

    network = build_network(build_arm("mdtnet", fold.recipe), fold, 0).eval()
    assert isinstance(network, MDTNetGrader)
    x = torch.randn(2, 6, 64, 64)
    other = torch.cat([x[:, :3], torch.randn(2, 3, 64, 64)], dim=1)
    with torch.no_grad():
        assert network(x).shape == (2, 4)
        torch.testing.assert_close(network(x), network(other))
        each = network.team.all_logits(x[:, :3])
        logits = torch.cat([each.joined[None], each.plain, each.focal]).transpose(0, 1)
        grades = torch.tensor([0, 3])
        torch.testing.assert_close(training_losses(network)[0](logits, grades), mdtnet_loss(each, grades))


def test_logits_are_of_the_patch_and_of_it_turned_round(fold):
    class Corner(torch.nn.Module):
        def forward(self, x):
            return x[:, :4, 0, 0]

    inputs = network_inputs(table_patches(fold, OWN, UNPERTURBED), fold.inner)
    straight, turned = predict_both_ways(Corner(), inputs, batch=3)
    np.testing.assert_array_equal(straight, inputs[:, :4, 0, 0])
    np.testing.assert_array_equal(turned, inputs[:, :4, -1, -1])


# --- prediction


def test_a_network_predicts_inner_patches_and_tested_ones_in_every_variant(fold, tmp_path):
    for name, same in (("ours", False), ("masked", True)):
        arm = build_arm(name, fold.recipe)
        torch.save(build_network(arm, fold, 0).state_dict(), tmp_path / "network.pt")
        frame = predict_network(PlannedFit(arm, 0, fold), tmp_path / "network.pt")
        counts = frame.groupby(["part", "variant"], sort=False).size().to_dict()
        assert counts == {
            ("inner", UNPERTURBED): len(fold.inner), **{("test", each): len(fold.tested(OWN)) for each in (*VARIANTS, EXCHANGED)}
        }  # fmt: skip
        assert frame[PROBABILITIES].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
        for row in frame.iloc[:: len(frame) // 5].to_dict("records"):
            of_table = fold.tables.rows[row["row"]]
            assert (row["patch"], row["photograph"]) == (of_table.path.name, of_table.photograph)
            assert row["grade"] == of_table.grade
        inputs = network_inputs(
            table_patches(fold, OWN, UNPERTURBED), fold.inner, fold.recipe.masked.radius if same else None
        )
        logits = predict_both_ways(build_network(arm, fold, 0), inputs, 32)
        np.testing.assert_allclose(frame["logit_2"][: len(fold.inner)], logits[0, :, 2], atol=1e-4)


def test_artery_and_vein_stand_in_each_others_place_and_nothing_else_is_changed():
    x = np.arange(12, dtype=np.float32).reshape(2, 6, 1, 1)
    assert exchange_artery_and_vein(x)[1].ravel().tolist() == [6, 7, 8, 9, 11, 10]
    np.testing.assert_array_equal(exchange_artery_and_vein(exchange_artery_and_vein(x)), x)


def test_rules_learn_from_training_and_inner_patches_and_predict_the_same_ones(fold):
    frame = predict_rule(PlannedFit(build_arm("majority", fold.recipe), 0, fold))
    known = np.concatenate([fold.fold.row_numbers(fold.tables.rows, "train"), fold.inner])
    shares = np.bincount(fold.tables.grades[known], minlength=4) / len(known)
    np.testing.assert_allclose(frame[PROBABILITIES], np.tile(shares, (len(frame), 1)))
    assert frame["part"].value_counts().to_dict() == {"inner": len(fold.inner), "test": len(fold.tested(OWN))}


# --- detection


def test_a_detector_is_scored_on_the_folds_own_patches_beside_a_box_in_the_middle(fold, tmp_path, monkeypatch):
    corner = Instances(np.array([[0.0, 0.0, 9.0, 9.0]]), np.ones(1))
    monkeypatch.setattr(detection, "_train_detector", lambda fold, study: None)
    monkeypatch.setattr(detection, "detect_crossings", lambda detector, contrast: corner)
    plan = GradePlan(Study(tmp_path, {}), [], {0: [fold]}, fold.recipe)
    detector, centre = lines(detection.detect_in_patches(plan, Console(quiet=True)))
    assert (float(detector["ap"]), float(centre["ap"])) == (0, 1)
    assert int(detector["patches"]) == int(centre["patches"]) == len(fold.tested(OWN))


# --- the graders that ship


def test_shipped_graders_are_calibrated_together_and_not_trained_twice(fold, tmp_path, monkeypatch):
    study, trained = Study(tmp_path, {}), []

    def train_arm(arm, fold, seed, folder):
        trained.append(seed)
        return build_network(arm, fold, seed)

    monkeypatch.setattr(refit, "train_arm", train_arm)
    arm, grades = build_arm("ours", fold.recipe), fold.tables.grades[fold.inner]
    graders, minimum = refit.refit_graders(arm, fold, (0, 1), study)
    inputs = network_inputs(table_patches(fold, OWN, UNPERTURBED), fold.inner)
    p = []
    for network, temperature in zip(graders.networks, graders.temperatures, strict=True):
        logits = predict_both_ways(network, inputs, 32)
        assert temperature == fit_temperature(logits, grades, fold.recipe.calibration)
        p.append(grade_probabilities(logits, temperature))
    confidence = np.mean(p, axis=0).max(axis=1)
    assert minimum == pytest.approx(np.quantile(confidence, 1 - fold.recipe.calibration.coverage))
    np.testing.assert_array_equal(graders.check, inputs[:16])
    again, same = refit.refit_graders(arm, fold, (0, 1), study)
    assert trained == [0, 1] and same == minimum and again.temperatures == graders.temperatures


# --- the whole study


def test_every_graded_patch_is_graded_once_by_each_arm(study, patch_rows):
    predictions = lines(study / "tables" / "out_of_fold.csv")
    graded = sorted(row.path.name for row in patch_rows if row.grade is not None)
    for arm in ARMS:
        own = [row for row in predictions if row["grader"] == arm]
        assert sorted(row["patch"] for row in own) == graded
        clear = 0
        for row in own:
            p = np.array([float(row[f"p{k}"]) for k in range(4)])
            assert p.sum() == pytest.approx(1, abs=3e-3)
            if np.abs(p.cumsum()[:3] - 0.5).min() > 3e-3:  # else four decimals do not tell the grade
                clear += 1
                assert int(row["predicted_grade"]) == median_grade(p)
        assert clear > len(own) / 2 or arm != "ours"  # shares of the majority may lie on a border


def test_no_patch_is_predicted_by_a_network_that_saw_its_photograph(study):
    folds = json.loads((study / "folds_0.json").read_text())
    frame = pd.read_parquet(study / "predictions.parquet")
    assert set(frame["arm"]) == set(ARMS)
    for (fold, part), rows in frame.groupby(["fold", "part"]):
        assert set(rows["photograph"]) <= set(folds[fold][part])


def test_tables_results_and_report_stand_there(study):
    tables = {path.stem: lines(path) for path in (study / "tables").glob("*.csv")}
    assert set(tables) == {
        "grades", "differences", "perturbed", "exchanged", "coverage", "by_width", "shams", "out_of_fold", "pointing",
        "deletion", "activation_changes",
    }  # fmt: skip
    assert [row["grader"] for row in tables["grades"]] == list(ARMS)
    assert [row["comparison"] for row in tables["differences"]] == ["ours less majority", "ours less nguyen"]
    assert [row["variant"] for row in tables["perturbed"]] == list(VARIANTS)[1:]
    results = json.loads((study / "results.json").read_text())
    for row, kept in zip(tables["grades"], results["grades"], strict=True):
        figure = kept["quadratic_kappa"]
        assert figure["value"] == pytest.approx(float(row["quadratic_kappa"]), abs=1e-3)
        assert (figure["n"], figure["groups"]) == (int(row["n"]), int(row["groups"]))
    assert np.sum(results["confusion"]["ours"]) == int(tables["grades"][0]["n"])
    recipe = json.loads((study / "study.json").read_text())["recipe"]
    assert recipe["network"]["body"] == "resnet10t" and recipe["views"]["camera"]["colour"] == 0.6
    page = (study / "report.html").read_text()
    for words in ("ours: truth by row", "Where the networks look", "papers_mix", "data:image", "grade 0, blurred"):
        assert words in page, words


def test_what_is_missing_is_made_again_alone_and_the_figures_stay(study, command):
    kept = (study / "tables" / "grades.csv").read_text()
    fits = {path: path.stat().st_mtime_ns for path in study.glob("fits/*/*/*/predictions.parquet")}
    weights = {path: path.stat().st_mtime_ns for path in study.glob("fits/*/*/*/network.pt")}
    assert (len(fits), len(weights)) == (2 * len(ARMS), 2)
    lost = study / "fits" / "majority" / "seed_0" / "fold_1"
    shutil.rmtree(lost)
    result = CliRunner().invoke(app, command(study))
    assert result.exit_code == 0, result.exception
    changed = [path for path, when in {**fits, **weights}.items() if path.stat().st_mtime_ns != when]
    assert changed == [lost / "predictions.parquet"]
    assert (study / "tables" / "grades.csv").read_text() == kept


@pytest.mark.services
@pytest.mark.parametrize("engine", ["ray", "local"])
def test_fits_beside_each_other_predict_as_those_of_one_process(study, command, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra cluster is not installed")
    out, threads = tmp_path / "s", str(torch.get_num_threads())
    result = CliRunner().invoke(app, command(out, "--engine", engine, "--workers", "2", "--threads", threads))
    assert result.exit_code == 0, result.exception
    ours, theirs = (pd.read_parquet(folder / "predictions.parquet") for folder in (out, study))
    assert set(ours.arm) == set(ARMS) and len(ours) == len(theirs)
    for column in ours:
        if ours[column].dtype.kind == "f":
            np.testing.assert_allclose(ours[column], theirs[column], atol=1e-6, err_msg=column)
        else:
            assert ours[column].equals(theirs[column]), column


def test_a_finished_study_exports_a_grader_of_all_patches_with_the_figures_of_its_folds(
    study, command, patch_table, recipe, graded, tmp_path, monkeypatch
):
    """Exporting to ONNX takes a while and has tests of its own: here the file of another untrained grader stands in."""
    grades = (graded[1] / GRADES_FILE).read_bytes()
    monkeypatch.setattr(write_nicking, "export_ensemble", lambda *given: given[-1].write_bytes(grades))
    monkeypatch.setattr(write_nicking, "_grades_difference", lambda *_: 0.0)
    out = shutil.copytree(study, tmp_path / "s", ignore=shutil.ignore_patterns(".lock"))
    said = Console(quiet=True)
    plan = plan_study(GradeOptions(patch_table, out, recipe, ARMS, 2), said)
    assert export.export_grader(plan, said) == export.export_grader(plan, said) == out / "bundle" / "own-nicking"
    card = verify(out / "bundle" / "own-nicking")
    shipped = open_nicking_bundle("nicking")
    maps = (out / "bundle" / "own-nicking" / MAPS_FILE).read_bytes()
    assert maps == (shipped.folder / MAPS_FILE).read_bytes() and card.crossings == shipped.card.crossings
    by_name = {row["grader"]: row for row in lines(study / "tables" / "grades.csv")}
    figures = {figure.name: figure for figure in card.figures}
    for name in ("quadratic_kappa", "accuracy", "kappa_covered"):
        assert str(round(figures[name].value, 3)) == by_name["ours"][name], "those of the folds"
        assert "out of fold: 2 folds by photograph" in figures[name].on and figures[name].low is None
    assert figures["accuracy of the commonest grade alone"].value == pytest.approx(0.25)
    assert card.grades.learnt_from == (
        "16 graded patches of 4 photographs (4 of grade 0, 4 of grade 1, 4 of grade 2, 4 of grade 3)"
    )
    assert card.grades.networks == 1 and 0.25 <= card.grades.minimum_confidence <= 1
    patch = patch_table.parent / lines(patch_table)[0]["patch"]
    (finding,) = PatchGrader(NickingGrader.open(out / "bundle" / "own-nicking")).grade_one(patch, "it").findings
    assert sum(finding.probabilities) == pytest.approx(1, abs=1e-3)
    rules = CliRunner().invoke(app, [*command(tmp_path / "r"), "--graders", "majority", "--export"])
    assert isinstance(rules.exception, UsageError) and "Add ours to --graders" in str(rules.exception)


def test_a_table_without_any_grade_says_which_cells_to_fill(command, patch_table, tmp_path):
    blank = [{**row, "grade": ""} for row in lines(patch_table)]
    table = patch_table.parent / "blank.csv"
    table.write_text("\n".join(["patch,grade,photograph", *(",".join(row.values()) for row in blank)]) + "\n")
    with pytest.raises(UsageError, match="holds no patch whose grade is known. Fill in grade; in a table for two readers settled"):  # fmt: skip
        CliRunner().invoke(app, command(tmp_path / "out", table=table), catch_exceptions=False)


def test_other_settings_in_the_same_folder_are_refused(study, command):
    result = CliRunner().invoke(app, command(study, "--folds", "3"))
    assert isinstance(result.exception, StudyError) and "folds: 2 there, 3 now" in str(result.exception)


def test_a_study_of_rules_alone_and_of_another_table_runs(command, patch_table, tmp_path):
    other = patch_table.parent / "other.csv"
    rows = read_patch_table(patch_table.parent / "patches.csv")[-6:]
    other.write_text("patch,grade,photograph\n" + "".join(f"{row.path},{row.grade},{row.photograph}\n" for row in rows))
    result = CliRunner().invoke(app, command(tmp_path / "s", "--graders", "majority,nguyen", "--also", str(other)))
    assert result.exit_code == 0, result.exception
    table = lines(tmp_path / "s" / "tables" / "other_tables.csv")
    assert [(row["table"], row["grader"]) for row in table] == [("other", "majority"), ("other", "nguyen")]
    assert int(table[0]["n"]) == len(rows)


def test_pseudo_without_unlabelled_patches_is_an_error_that_names_the_remedy(command, patch_table, tmp_path):
    graded = patch_table.with_name("graded.csv")
    graded.write_text("".join(line for line in patch_table.open() if line.split(",")[1]))
    call = command(tmp_path / "s", "--graders", "pseudo,majority", table=graded)
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, UsageError), result.exception
    words = str(result.exception)
    assert "exactly as ours" in words and "Add patches with a blank grade" in words and "leave pseudo out" in words


def test_how_much_is_transferred_is_measured_written_and_shown(patch_table, recipe, tmp_path, monkeypatch):
    upstream = tmp_path / "u"
    write_upstream(upstream, ["another photograph"], None)
    own = NickGrader(GraderOptions(**build_arm("published", recipe).network.model_dump())).streams[0].state_dict()
    kept = {f"backbone.{name}": value for name, value in own.items() if not name.startswith("norm.")}
    save_file(kept, upstream / "detector.safetensors")
    plan = plan_study(
        GradeOptions(patch_table, tmp_path / "s", recipe, ("published", "majority"), 2, upstream=(upstream,)),
        Console(quiet=True),
    )
    shares = json.loads((plan.study.folder / "transferred.json").read_text())
    share = sum(value.numel() for value in kept.values()) / sum(value.numel() for value in own.values())
    assert list(shares) == ["published"] and shares["published"]["u"] == pytest.approx(share, abs=1e-3)
    assert pages._transferred(shares) == f"published {share:.0%} (u)"
    assert pages._transferred({}) == "none was asked for"


def test_an_arm_without_weights_to_transfer_is_named(fresh_upstream, recipe):
    arms = [build_arm(name, recipe) for name in ("ours", "published", "no-transfer", "plain-pyramid")]
    assert arms_without_weights(arms, [fresh_upstream]) == ["published", "plain-pyramid"]
    trained = replace(fresh_upstream, detector=Path("detector.safetensors"))
    assert arms_without_weights(arms, [trained, fresh_upstream]) == ["published", "plain-pyramid"]
    assert arms_without_weights(arms, [trained]) == []


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--graders", "mine"], 2, "no way of grading 'mine'"),
        (["--recipe", "tinny"], 2, "did you mean 'tiny'"),
        (["--folds", "9"], 2, "4 photographs make no 9 folds"),
        (["--upstream", "none"], 2, "Give a folder that the crossing task wrote"),
        (["--bundle", "none"], 3, "none"),
        (["--also", "few.csv", "--also", "few.csv"], 2, "'few' would be the name of two"),
    ],
)
def test_wrong_calls_say_what_is_wrong_and_leave_with_their_code(command, patch_table, tmp_path, more, code, words):
    more = [str(patch_table) if each == "few.csv" else each for each in more]
    result = CliRunner().invoke(app, command(tmp_path / "s", *more))
    assert isinstance(result.exception, FundoscopeError) and words in str(result.exception)
    assert result.exception.exit_code == code


def test_a_patch_that_is_missing_is_named_and_one_that_is_broken_too(command, patch_table, tmp_path):
    for name, code in (("missing", 2), ("broken", 1)):
        copy = tmp_path / f"{name}.csv"
        text = [
            line.replace("patches/", f"{patch_table.parent}/patches/") for line in patch_table.read_text().splitlines()
        ]
        if name == "broken":
            (tmp_path / "broken.png").write_bytes(b"no picture")
        text[1] = f"{name}.png,0,{text[1].split(',')[2]}"
        copy.write_text("\n".join(text) + "\n")
        result = CliRunner().invoke(app, command(tmp_path / name, "--graders", "nguyen", table=copy))
        assert isinstance(result.exception, FundoscopeError) and f"{name}.png" in str(result.exception)
        assert result.exception.exit_code == code


def test_an_upstream_that_saw_a_patch_of_another_table_stops_the_study(patch_table, recipe, tmp_path):
    upstream = tmp_path / "u"
    upstream.mkdir()
    (upstream / "seen.json").write_text('["other"]')
    other = tmp_path / "other.csv"
    other.write_text(f"patch,grade,photograph\n{read_patch_table(patch_table)[0].path},1,other\n")
    options = GradeOptions(
        patch_table,
        tmp_path / "s",
        recipe,
        ("majority",),
        2,
        also=(other,),
        upstream=(upstream,),
    )
    with pytest.raises(LeakError, match="other was seen by every upstream"):
        plan_study(options, Console(quiet=True))
