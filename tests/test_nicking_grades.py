import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")
from typer.testing import CliRunner

from fundoscope.cli.console import Console
from fundoscope.cli.main import app
from fundoscope.errors import FundoscopeError, LeakError, StudyError, UsageError
from fundoscope.nicking.grade_study import train
from fundoscope.nicking.grade_study.evaluate import Said, called
from fundoscope.nicking.grade_study.folds import make_grade_folds
from fundoscope.nicking.grade_study.pages import kinds_picture, side_by_side
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.nicking.grade_study.perturbed import VARIANTS
from fundoscope.nicking.grade_study.pointing import Pointed, flanks, pointed
from fundoscope.nicking.grade_study.run import GradeOptions, _untransferred, run_study
from fundoscope.nicking.grade_study.study_arms import NAMES, RULES, USUAL, build_arm, build_arms, names_of, recipe_of
from fundoscope.nicking.grade_study.train import GradeFoldData, Network, PatchTables, Team, run_arm
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, CrossingPatch
from fundoscope.nicking.grading.grades import median_grade

TINY = recipe_of("tiny")
ARMS = ("ours", "majority", "nguyen")


@pytest.fixture(scope="module")
def fold(patch_rows, fresh_upstream, tmp_path_factory):
    """The first of two folds, with what is shown in it."""
    folder = tmp_path_factory.mktemp("fold")
    made = make_grade_folds(patch_rows, [fresh_upstream], 2, 0, folder / "folds.json")
    return GradeFoldData(PatchTables(patch_rows, [], {}), made[0], fresh_upstream, folder / "shown", TINY)


def command(table, out, bundle, *more):
    usual = ["--recipe", "tiny", "--graders", ",".join(ARMS), "--folds", "2", "--bundle", str(bundle), "-q"]
    return ["nicking", "study-grades", str(table), "--out", str(out), *usual, *more]


@pytest.fixture(scope="module")
def study(patch_table, graded, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    result = CliRunner().invoke(app, command(patch_table, out, graded[1]))
    assert result.exit_code == 0, result.exception
    return out


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def patch(seed=0, side=PATCH_SIDE):
    rng = np.random.default_rng(seed)
    pixels, maps = rng.integers(20, 255, (2, side, side, 3), dtype=np.uint8)
    return CrossingPatch(pixels, maps, rng.random((side, side)) > 0.2)


# --- arms


def test_each_arm_is_ours_or_the_published_one_but_for_one_part():
    ours = build_arm("ours", TINY)
    assert ours.network == TINY.network and ours == replace(build_arm("masked", TINY), name="ours", masked=False)
    published = build_arm("published", TINY)
    whole = replace(TINY.network, excited=True, pyramid="safpn", head="plain")
    assert published.transferred and published.network == whole and not ours.transferred
    assert build_arm("no-transfer", TINY) == replace(published, name="no-transfer", transferred=False)
    changed = {
        "pseudo": {"pseudo": True}, "masked": {"masked": True}, "shuffled": {"shuffled": True},
    }  # fmt: skip
    for name, change in changed.items():
        assert build_arm(name, TINY) == replace(ours, name=name, **change)
    networks = {
        "plain-pyramid": {"pyramid": "fpn"}, "no-excitation": {"excited": False}, "side-by-side": {"pooled": "side by side"},
        "ordinal-head": {"head": "ordinal"}, "one-stream": {"streams": 1},
    }  # fmt: skip
    for name, change in networks.items():
        assert build_arm(name, TINY) == replace(published, name=name, network=replace(whole, **change))
    assert all(build_arm(rule, TINY).network is None for rule in RULES)
    assert {build_arm(name, TINY).name for name in NAMES} == set(NAMES)


def test_names_of_several_are_spelt_out_and_unknown_ones_name_the_nearest():
    assert names_of("usual") == USUAL == names_of("") and set(names_of("all")) == set(NAMES)
    assert names_of("roy, ours,roy") == ("roy", "ours")
    assert [arm.name for arm in build_arms(("roy", "ours", "roy"), TINY)] == ["ours", "roy"]
    with pytest.raises(UsageError, match="no way of grading 'our': did you mean 'ours'"):
        build_arm("our", TINY)
    with pytest.raises(UsageError, match="no recipe 'tinny': did you mean 'tiny'"):
        recipe_of("tinny")


def test_grades_are_called_alike_in_studies_and_in_screening():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    assert [median_grade(each) for each in p] == called(p).tolist()


# --- fits


class Recorder:
    """Stands for a network: keeps what it was taught, and is sure that every patch is of grade 2."""

    taught: list

    def __init__(self, arm, fold, seed):
        self.arm, self.model, self.temperature = arm, torch.nn.Identity(), 1.0

    def fit(self, grades, ranks, options, folder):
        Recorder.taught.append((grades.copy(), ranks.copy(), folder.name))

    def answers(self, asked, ranks):
        return np.tile([0.05, 0.05, 0.9, 0.0], (len(ranks), 1))


def taught(name, fold, seed, tmp_path, monkeypatch):
    Recorder.taught = []
    monkeypatch.setattr(train, "Network", Recorder)
    run_arm(build_arm(name, TINY), fold, seed, ("usual",), tmp_path)
    return Recorder.taught


def test_grades_are_dealt_anew_in_the_shuffled_arm_only(fold, tmp_path, monkeypatch):
    ((plain, ranks, _),) = taught("ours", fold, 0, tmp_path, monkeypatch)
    np.testing.assert_array_equal(plain, fold.tables.labelled)
    np.testing.assert_array_equal(ranks, fold.train)
    dealt = [taught("shuffled", fold, seed, tmp_path, monkeypatch)[0][0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dealt[0], dealt[1])
    assert (dealt[0] != dealt[2]).any() and (dealt[0][ranks] != plain[ranks]).any()
    assert Counter(dealt[0][ranks]) == Counter(plain[ranks])
    others = np.setdiff1d(np.arange(len(plain)), ranks)
    np.testing.assert_array_equal(dealt[0][others], plain[others])


def test_pseudo_labels_are_given_to_unlabelled_patches_of_training_photographs_only(fold, tmp_path, monkeypatch):
    first, second = taught("pseudo", fold, 0, tmp_path, monkeypatch)
    np.testing.assert_array_equal(first[1], fold.train)
    added = np.setdiff1d(second[1], first[1])
    rows = fold.tables.rows
    assert len(added) and all(rows[k].grade is None for k in added)
    assert not {rows[k].photograph for k in added} & (fold.fold.test | fold.fold.inner)
    assert (second[0][added] == 2).all() and (first[0][added] == -1).all()
    assert (second[0][fold.train] == fold.tables.labelled[fold.train]).all() and second[2] != first[2]
    monkeypatch.setattr(train, "_SURE", 0.95)
    unsure = taught("pseudo", fold, 0, tmp_path, monkeypatch)[1]
    np.testing.assert_array_equal(unsure[1], fold.train)
    assert len(taught("ours", fold, 0, tmp_path, monkeypatch)) == 1


def test_a_masked_network_is_asked_about_masked_patches(fold):
    class Tell(torch.nn.Module):
        def forward(self, x):
            return x[:, :4, PATCH_SIDE // 2, PATCH_SIDE // 2]

    asked, ranks = fold.asked("", "usual"), fold.inner
    told = []
    for name in ("ours", "masked"):
        network = Network(build_arm(name, TINY), fold, 0)
        network.model = Tell()
        told.append(network.answers(asked, ranks))
    np.testing.assert_allclose(told[1], 0.25)
    assert np.abs(told[0] - 0.25).max() > 0.01


def test_the_temperature_is_that_of_the_least_loss(fold):
    assert train._temperature(lambda t: (np.log(t) - 0.7) ** 2) == pytest.approx(np.exp(0.7), rel=1e-3)
    assert train._temperature(lambda t: t) == pytest.approx(np.exp(-1.5), rel=1e-2)
    network = Network(build_arm("ours", TINY), fold, 0)
    inputs = fold.asked("", "usual").inputs(fold.inner)
    told = fold.tables.labelled[fold.inner]
    network.temperature = 2.0
    p = network.answers(fold.asked("", "usual"), fold.inner)
    assert network._loss_at(inputs, told, 2.0) == pytest.approx(-np.log(p[np.arange(len(told)), told]).mean(), rel=1e-5)


def test_a_seed_is_a_start_of_its_own(fold):
    heads = [Network(build_arm("ours", TINY), fold, seed).model.head.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_mdtnet_looks_at_the_patch_alone_and_everyone_is_taught():
    from fundoscope.networks.mdtnet import LIGHT, mdtnet_loss

    torch.manual_seed(0)
    team = Team(replace(LIGHT, pretrained=False)).eval()
    x = torch.randn(2, 6, 64, 64)
    other = torch.cat([x[:, :3], torch.randn(2, 3, 64, 64)], dim=1)
    with torch.no_grad():
        assert team(x).shape == (2, 4)
        torch.testing.assert_close(team(x), team(other))
        said = team.team.all_logits(x[:, :3])
        logits = torch.cat([said.joined[None], said.plain, said.focal]).transpose(0, 1)
        grades = torch.tensor([0, 3])
        torch.testing.assert_close(team.loss(logits, grades), mdtnet_loss(said, grades))


# --- what was said


def test_only_patches_with_a_grade_that_were_asked_about_are_counted():
    rows = [PatchRow("a", 0, "p"), PatchRow("b", None, "p"), PatchRow("c", 3, "q"), PatchRow("d", 2, "r")]
    p = np.array([[0.9, 0.1, 0, 0], [1, 0, 0, 0], [np.nan] * 4, [0.1, 0.1, 0.7, 0.1]])
    said = Said(rows, p, np.ones(4, bool))
    assert said.known.tolist() == [0, 3] and said.truth.tolist() == [0, 2] == said.told.tolist()
    assert said.groups == ["p", "r"]


# --- where networks look


def crossing():
    maps = np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8)
    maps[59:69, :, :2] = 255
    maps[:, 59:69] = 255, 0, 255
    return CrossingPatch(
        np.full((PATCH_SIDE, PATCH_SIDE, 3), 120, np.uint8), maps, np.ones((PATCH_SIDE, PATCH_SIDE), bool)
    )


def test_flanks_are_the_vein_beside_the_artery():
    there = flanks(crossing())
    rows, columns = np.nonzero(there)
    assert (np.abs(columns - (PATCH_SIDE - 1) / 2) < 9).all() and np.abs(
        rows - (PATCH_SIDE - 1) / 2
    ).max() < 2.5 * VEIN_WIDTH + 3
    assert there[64 - 20, 64] and there[64 + 20, 64] and not there[64, 64] and not there[64, 64 + 20]


def test_pointing_at_the_flanks_scores_more_than_chance_and_elsewhere_less():
    patch, there = crossing(), flanks(crossing())
    on = pointed(there.astype(np.float32), patch)
    assert on == pointed(3 * there.astype(np.float32), patch) or on.score == pytest.approx(1 / there.mean())
    assert on.mass == pytest.approx(1) and on.area == pytest.approx(there.mean())
    assert pointed(np.ones((PATCH_SIDE, PATCH_SIDE), np.float32), patch).score == pytest.approx(1)
    assert pointed((~there).astype(np.float32), patch).score == 0
    assert pointed(np.zeros((PATCH_SIDE, PATCH_SIDE), np.float32), patch) is None
    assert pointed(np.ones((PATCH_SIDE, PATCH_SIDE), np.float32), replace(patch, maps=0 * patch.maps)) is None
    assert Pointed(0.3, 0.1).score == pytest.approx(3)


def test_pictures_show_patch_kinds_and_activation_beside_each_other():
    patch = crossing()
    shown = side_by_side(patch, np.stack([flanks(patch), np.zeros((PATCH_SIDE, PATCH_SIDE))]).astype(np.float32))
    assert shown.shape == (PATCH_SIDE, 4 * PATCH_SIDE, 3)
    np.testing.assert_array_equal(shown[:, :PATCH_SIDE], patch.pixels)
    kinds = kinds_picture(patch)
    assert kinds[64, 10].tolist() == [255, 63, 63] and kinds[10, 64].tolist() == [63, 63, 255]
    assert (shown[44, 2 * PATCH_SIDE + 64] != patch.pixels[44, 64]).any()


# --- the whole study


def test_every_graded_patch_is_told_once_by_each_arm(study, patch_rows):
    told = lines(study / "tables" / "predictions.csv")
    graded = sorted(row.path.name for row in patch_rows if row.grade is not None)
    for arm in ARMS:
        own = [row for row in told if row["grader"] == arm]
        assert sorted(row["patch"] for row in own) == graded
        for row in own:
            p = np.array([float(row[f"p{k}"]) for k in range(4)])
            assert p.sum() == pytest.approx(1, abs=3e-3)
            if np.abs(p.cumsum()[:3] - 0.5).min() > 3e-3:
                assert int(row["told"]) == median_grade(p)


def test_what_a_network_said_of_a_patch_stands_in_its_row(study, patch_rows):
    told = {row["patch"]: row for row in lines(study / "tables" / "predictions.csv") if row["grader"] == "ours"}
    for number, fold in enumerate(json.loads((study / "folds_0.json").read_text())):
        tested = [row for row in patch_rows if row.photograph in fold["test"] and row.grade is not None]
        with np.load(study / "fits" / "ours" / "seed_0" / f"fold_{number}" / "answers.npz") as kept:
            p = kept["|usual"]
        for row, chances in zip(tested, p, strict=True):
            line = told[row.path.name]
            assert [float(line[f"p{k}"]) for k in range(4)] == pytest.approx(chances.tolist(), abs=1e-3)
            assert int(line["grade"]) == row.grade and line["photograph"] == row.photograph


def test_tables_and_report_stand_there(study):
    tables = {path.stem: lines(path) for path in (study / "tables").glob("*.csv")}
    assert set(tables) >= {"grades", "differences", "spoilt", "shams", "predictions", "pointing"}
    assert [row["grader"] for row in tables["grades"]] == list(ARMS)
    assert all(row["quadratic_kappa"] and row["papers_mix_accuracy"] and row["nicked_auc"] for row in tables["grades"])
    assert [row["what"] for row in tables["differences"]] == ["ours less majority", "ours less nguyen"]
    assert [row["variant"] for row in tables["spoilt"]] == list(VARIANTS)[1:]
    assert {row["grader"] for row in tables["shams"]} == {"ours"}
    majority = tables["grades"][1]
    assert float(majority["quadratic_kappa"]) == 0 and float(majority["accuracy"]) == pytest.approx(0.25, abs=0.05)
    page = (study / "report.html").read_text()
    for words in ("ours: truth by row", "Where the networks look", "papers_mix", "data:image"):
        assert words in page, words


def test_the_figures_are_those_of_the_predictions(study):
    from sklearn.metrics import cohen_kappa_score

    told = [row for row in lines(study / "tables" / "predictions.csv") if row["grader"] == "ours"]
    y, called = ([int(row[name]) for row in told] for name in ("grade", "told"))
    figures = lines(study / "tables" / "grades.csv")[0]
    assert float(figures["accuracy"]) == pytest.approx(np.mean(np.array(y) == called), abs=1e-3)
    if len(set(called)) > 1:
        kappa = cohen_kappa_score(y, called, weights="quadratic", labels=range(4))
        assert float(figures["quadratic_kappa"]) == pytest.approx(kappa, abs=1e-3)


def test_the_loss_that_chooses_is_that_of_the_inner_patches(study, patch_rows):
    told = []
    for number, fold in enumerate(json.loads((study / "folds_0.json").read_text())):
        inner = [row.grade for row in patch_rows if row.grade is not None and row.photograph in fold["inner"]]
        with np.load(study / "fits" / "majority" / "seed_0" / f"fold_{number}" / "answers.npz") as kept:
            told.append(np.mean([-np.log(p[grade]) for p, grade in zip(kept["inner"], inner, strict=True)]))
    majority = lines(study / "tables" / "grades.csv")[1]
    assert float(majority["inner_log_loss"]) == pytest.approx(np.mean(told), abs=1e-3)


def test_the_same_command_again_fits_nothing(study, patch_table, graded):
    answers = sorted(study.rglob("answers.npz"))
    assert len(answers) == 2 * len(ARMS)
    before = [path.stat().st_mtime_ns for path in answers]
    kept = (study / "tables" / "grades.csv").read_text()
    result = CliRunner().invoke(app, command(patch_table, study, graded[1]))
    assert result.exit_code == 0, result.exception
    assert [path.stat().st_mtime_ns for path in answers] == before
    assert (study / "tables" / "grades.csv").read_text() == kept


def test_a_fit_that_is_missing_is_made_again_alone(study, patch_table, graded):
    import shutil

    answers = sorted(study.rglob("answers.npz"))
    lost = study / "fits" / "majority" / "seed_0" / "fold_1"
    before = {path: path.stat().st_mtime_ns for path in answers}
    with np.load(lost / "answers.npz") as kept:
        told = kept["|usual"]
    shutil.rmtree(lost)
    assert CliRunner().invoke(app, command(patch_table, study, graded[1])).exit_code == 0
    changed = [path for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed == [lost / "answers.npz"]
    with np.load(lost / "answers.npz") as kept:
        np.testing.assert_array_equal(kept["|usual"], told)


def test_other_settings_in_the_same_folder_are_refused(study, patch_table, graded):
    result = CliRunner().invoke(app, command(patch_table, study, graded[1], "--folds", "3"))
    assert isinstance(result.exception, StudyError) and "folds: 2 there, 3 now" in str(result.exception)


def test_a_study_of_rules_alone_and_of_another_table_runs(patch_table, graded, tmp_path):
    more = ("--graders", "majority,nguyen", "--also", str(patch_table.parent / "patches.csv"))
    result = CliRunner().invoke(app, command(patch_table, tmp_path / "s", graded[1], *more))
    assert result.exit_code == 0, result.exception
    elsewhere = lines(tmp_path / "s" / "tables" / "elsewhere.csv")
    assert [(row["on"], row["grader"]) for row in elsewhere] == [("eyes", "majority"), ("eyes", "nguyen")]
    assert int(elsewhere[0]["n"]) == len(read_patch_table(patch_table.parent / "patches.csv"))


def test_an_arm_without_weights_to_transfer_is_told(fresh_upstream):
    arms = [build_arm(name, TINY) for name in ("ours", "published", "no-transfer", "plain-pyramid")]
    assert _untransferred(arms, [fresh_upstream]) == ["published", "plain-pyramid"]
    taught = replace(fresh_upstream, detector=Path("detector.safetensors"))
    assert _untransferred(arms, [taught, fresh_upstream]) == ["published", "plain-pyramid"]
    assert _untransferred(arms, [taught]) == []


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--graders", "mine"], 2, "no way of grading 'mine'"),
        (["--recipe", "tinny"], 2, "did you mean 'tiny'"),
        (["--folds", "9"], 2, "6 photographs make no 9 folds"),
        (["--upstream", "none"], 2, "Give a folder that the crossing task wrote"),
        (["--bundle", "none"], 3, "none"),
        (["--also", "few.csv", "--also", "few.csv"], 2, "'few' would be the name of two"),
    ],
)
def test_wrong_calls_are_told_and_leave_with_their_code(patch_table, graded, tmp_path, more, code, words):
    more = [str(patch_table) if each == "few.csv" else each for each in more]
    result = CliRunner().invoke(app, command(patch_table, tmp_path / "s", graded[1], *more))
    assert isinstance(result.exception, FundoscopeError) and words in str(result.exception)
    assert result.exception.exit_code == code


def test_a_patch_that_is_missing_is_named_and_one_that_is_broken_too(patch_table, graded, tmp_path):
    for name, code in (("missing", 2), ("broken", 1)):
        copy = tmp_path / f"{name}.csv"
        text = [
            line.replace("patches/", f"{patch_table.parent}/patches/") for line in patch_table.read_text().splitlines()
        ]
        if name == "broken":
            (tmp_path / "broken.png").write_bytes(b"no picture")
        text[1] = f"{name}.png,0,{text[1].split(',')[2]}"
        copy.write_text("\n".join(text) + "\n")
        result = CliRunner().invoke(app, command(copy, tmp_path / name, graded[1], "--graders", "nguyen"))
        assert isinstance(result.exception, FundoscopeError) and f"{name}.png" in str(result.exception)
        assert result.exception.exit_code == code


def test_an_upstream_that_saw_a_patch_of_another_table_stops_the_study(patch_table, graded, tmp_path):
    upstream = tmp_path / "u"
    upstream.mkdir()
    (upstream / "maps").symlink_to(graded[1])
    (upstream / "seen.json").write_text('["other"]')
    other = tmp_path / "other.csv"
    other.write_text(f"patch,grade,photograph\n{read_patch_table(patch_table)[0].path},1,other\n")
    options = GradeOptions(
        patch_table, tmp_path / "s", TINY, ("majority",), 2, also=(other,), upstream=(upstream,), bundle=str(graded[1])
    )
    with pytest.raises(LeakError, match="other was seen by every upstream"):
        run_study(options, Console(quiet=True))
