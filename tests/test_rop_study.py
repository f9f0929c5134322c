import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from processes import workers_at_work

from fundoscope.bundles import open_bundle
from fundoscope.errors import CohortError, LeakError, StudyError, UsageError

torch = pytest.importorskip("torch")
pd = pytest.importorskip("pandas")
load_file = pytest.importorskip("safetensors.torch").load_file

from fundoscope.bundles.training_hashes import write_training_hashes
from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.evaluation import auc
from fundoscope.learning.distillation import fingerprint
from fundoscope.rop.external.run import ExternalOptions, evaluate_bundle
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.screening.likeness import read_likeness
from fundoscope.rop.study import refit, shuffled_labels
from fundoscope.rop.study.data import StudyData
from fundoscope.rop.study.pages import write_report
from fundoscope.rop.study.plan import StudyOptions, make_plan
from fundoscope.rop.study.refit import BundleTeacher
from fundoscope.rop.study.run import run_study
from fundoscope.runs.workers import WorkEngine

SIDE = 160


def draw(path, label, seed):
    """A disc with dark branching lines of its own; ROP has a bright band across it."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    cv2.circle(
        picture, (SIDE // 2, SIDE // 2), 76, tuple(int(v) for v in rng.normal((50, 90, 190), 12).clip(20, 235)), -1
    )
    for _ in range(9):
        walk = np.cumsum(rng.normal(0, 9, (14, 2)) + rng.normal(0, 5, 2), axis=0) + SIDE / 2
        cv2.polylines(picture, [walk.astype(np.int32)], False, (20, 30, 110), int(rng.integers(1, 4)), cv2.LINE_AA)
    if label == "rop":
        at = int(rng.integers(45, 60))
        cv2.ellipse(
            picture,
            (SIDE // 2, SIDE // 2),
            (at, at + 8),
            float(rng.integers(0, 360)),
            0,
            150,
            (190, 220, 240),
            7,
            cv2.LINE_AA,
        )
    outside = np.hypot(*np.indices((SIDE, SIDE)) - SIDE / 2 + 0.5) > 76
    picture[outside] = 0
    cv2.imwrite(str(path), picture)


def write_cohort(folder, n=32, infants=True):
    rows = []
    for number in range(n):
        label = ("normal", "rop")[number % 2]
        draw(folder / f"{number}.png", label, number)
        rows.append(f"{number}.png,{label}" + (f",i{number // 2 * 2 + number % 2}" if infants else ""))
    table = folder / "cohort.csv"
    table.write_text("image,label" + (",infant" if infants else "") + "\n" + "\n".join(rows) + "\n")
    return table


def crop_to_strips(folder, lying, standing):
    """Of one photograph a lying strip is left, of the other a standing one: they share a small middle."""
    for seed, (number, shape) in enumerate(((lying, (36, 300, 3)), (standing, (300, 36, 3)))):
        noise = np.random.default_rng(seed).normal((60, 90, 200), 9, shape)
        cv2.imwrite(str(folder / f"{number}.png"), noise.clip(30, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


def options(table, out, **changes):
    usual = {"recipe": read_recipe("tiny").changed(epochs=3), "folds": 2, "networks": ("student", "undistilled")}
    return StudyOptions(table, out, **(usual | changes))


@pytest.fixture(scope="module")
def study(cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    torch.set_num_threads(1)  # as the one that is killed below: sums in another order differ in the last digits
    run_study(options(cohort, out, export=True), Console(quiet=True))
    return out


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_photograph_is_graded_once_by_a_network_that_never_saw_it(study):
    rows = [row for row in rows_of(study / "tables" / "out_of_fold.csv") if row["variant"] == "plain"]
    for network in ("teacher", "student", "undistilled"):
        own = [row for row in rows if row["network"] == network]
        assert len(own) == 32 == len({row["image"] for row in own})
    assert all(0 <= float(row["p"]) <= 1 for row in rows)
    folds = json.loads((study / "folds.json").read_text())["folds"]
    assert sorted(row for fold in folds for row in fold["test"]["rows"]) == list(range(32))
    for fold in folds:
        assert set(fold["test"]["rows"]).isdisjoint(fold["train"]["rows"] + fold["inner"]["rows"])


def test_tables_baselines_and_report_stand_there(study):
    graders = [row["grader"] for row in rows_of(study / "tables" / "results_rop.csv")]
    assert graders == ["teacher", "undistilled", "student", "nuisance baseline", "mean colour", "majority class"]
    controls = rows_of(study / "tables" / "controls.csv")
    assert len(controls) == 5 and all(row["auc"] and row["auc_low"] for row in controls)
    page = (study / "report.html").read_text()
    assert "nuisance baseline" in page and "independent" not in page.lower().split("<body")[0]
    manifest = json.loads((study / "study.json").read_text())
    assert manifest["versions"]["torch"] and manifest["recipe"] == read_recipe("tiny").changed(epochs=3).as_json()


def test_the_bundle_of_a_study_opens_and_says_where_it_comes_from(cohort, study):
    bundle = open_bundle(study / "bundle" / "rop-tiny")
    assert bundle.card.trained_on == ("the cohort cohort.csv",)
    assert bundle.card.parity.fp32_max_abs_logit <= 1e-4
    assert read_likeness(bundle.folder, bundle.card).n == len(pd.read_csv(cohort))
    assert {figure.name for figure in bundle.card.figures} >= {"auc", "sensitivity", "auc of the nuisance baseline"}


def test_a_student_on_a_smaller_input_is_taught_by_a_larger_one_and_what_ships_by_a_bundle(cohort, study, tmp_path):
    tiny, teacher = read_recipe("tiny").changed(epochs=1), study / "bundle" / "rop-tiny"
    networks = tiny.networks.model_copy(update={"teacher": "tiny", "teacher_size": 96})
    numbers = tiny.refit.model_copy(update={"teacher": str(teacher)})
    recipe, out = tiny.model_copy(update={"networks": networks, "refit": numbers}), tmp_path / "s"
    run_study(options(cohort, out, recipe=recipe, networks=("student",), export=True), Console(quiet=True))
    assert {path.name for path in (out / "squares").glob("screened*")} == {"screened.npy", "screened-96.npy"}
    assert [(row["network"], row["input"]) for row in rows_of(out / "networks.csv")] == [
        ("teacher", "96 x 96"),
        ("student", "64 x 64"),
    ]
    card = open_bundle(out / "bundle" / "rop-tiny").card
    told = f"answers of the bundle 'rop-tiny' of {card.created} to these photographs"
    assert card.standard.size == 64 and card.trained_on == ("the cohort cohort.csv", told)
    bundle = open_bundle(teacher)
    asked, x = BundleTeacher(bundle), np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    np.testing.assert_array_equal(asked(torch.from_numpy(x)).numpy(), bundle.run(x)[0])
    assert fingerprint(asked) != fingerprint(BundleTeacher(open_bundle(out / "bundle" / "rop-tiny")))
    (kept,) = (out / "teacher_logits" / "refit").glob("*.npy")
    assert kept.name.startswith(fingerprint(asked)) and np.load(kept).shape[1] == 2


def test_a_bundle_may_do_without_a_second_stage_from_simulated_eyes(cohort, monkeypatch):
    asked = []
    monkeypatch.setattr(refit, "learn_from_simulated_eyes", lambda *given: asked.append(given))
    for wanted in (False, True):
        chosen = options(cohort, cohort.parent, recipe=read_recipe("nano"), simulated_stage=wanted)
        plan = SimpleNamespace(questions=[SimpleNamespace(name="rop")], recipe=chosen.recipe, options=chosen)
        half = SimpleNamespace(plan=plan, arm="student", network=lambda question: question)
        assert refit._second_stage(half, Console(quiet=True)) is None and bool(asked) is wanted


def test_the_same_command_again_repeats_no_step(cohort, study):
    files = [path for path in study.rglob("*") if path.is_file() and path.name != "study.json"]
    before = {path: path.stat().st_mtime_ns for path in files}
    run_study(options(cohort, study, export=True), Console(quiet=True))
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_what_was_calibrated_is_kept_row_by_row(study):
    table = pd.read_parquet(study / "calibrated.parquet")
    assert list(table) == [
        "question", "arm", "seed", "fold", "part", "variant", "precision", "row", "logit_0", "logit_1", "probability",
        "threshold",
    ]  # fmt: skip
    tested = table[(table.part == "test") & (table.precision == "torch")]
    assert {(arm, variant): len(part) for (arm, variant), part in tested.groupby(["arm", "variant"])} == {
        ("teacher", "plain"): 32, ("undistilled", "plain"): 32,
        **{("student", variant): 32 for variant in ("plain", "field", "colour", "encoding", "all")},
    }  # fmt: skip
    for (arm, fold), part in table[table.precision == "torch"].groupby(["arm", "fold"]):
        kept = json.loads((study / f"fits/rop/{arm}/seed-0/fold-{fold}/calibration.json").read_text())
        odds = (part.logit_1 - part.logit_0) / kept["temperature"]["value"]
        np.testing.assert_allclose(part.probability, 1 / (1 + np.exp(-odds)), atol=1e-9)
        assert (part.threshold == kept["operating_point"]["threshold"]).all()
    assert set(table[table.precision == "int8"].row) == set(range(32))


def test_results_hold_every_figure_with_its_basis(study):
    results = json.loads((study / "results.json").read_text())
    (question,) = results["questions"]
    rows = {row["grader"]: row for row in rows_of(study / "tables" / "results_rop.csv")}
    for row in question["graders"]:
        auc = row["auc"]
        assert (
            auc["n"] == 32
            and auc["positives"] == 16
            and f"{auc['value']:.3f}" == f"{float(rows[row['grader']]['auc']):.3f}"
        )
        assert auc["low"] <= auc["value"] <= auc["high"]
    assert results["exported"] in ("student", "undistilled") and question["reference"] == "student"
    assert sum(map(sum, question["confusions"]["student"])) == 32
    curves = pd.read_csv(study / "tables" / "curves.csv")
    roc = curves[(curves.curve == "roc") & (curves.grader == "student")]
    student = next(row for row in question["graders"] if row["grader"] == "student")
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(student["auc"]["value"], abs=1e-4)


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
from pathlib import Path
"""
_NETWORKS = ("torch", "timm", "lightning", "safetensors")


def test_the_page_is_drawn_from_files_alone(study, tmp_path):
    """Without any network: only results.json, tables, logs and the explained pictures."""
    copy = tmp_path / "s"
    shutil.copytree(study, copy)
    for gone in ("report.html", "calibrated.parquet"):
        (copy / gone).unlink()
    for gone in ("figures", "squares", "int8"):
        shutil.rmtree(copy / gone)
    script = (
        BLOCKED.format(blocked=_NETWORKS)
        + f"""
from fundoscope.rop.study.pages import write_report
print(write_report(Path({str(copy)!r})))
"""
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (copy / "report.html").read_bytes() == (study / "report.html").read_bytes()


def test_an_evaluation_of_a_folds_bundle_gives_what_the_study_predicted_there(study, cohort, tmp_path):
    """`rop evaluate` on the photographs that a fold held out, in fp32: the study's own predictions to 1e-4.

    The bundle is told the hashes of what it learnt from, and of one of these photographs besides: that one is named.
    """
    fold = json.loads((study / "folds.json").read_text())["folds"][0]
    rows, whole = fold["test"]["rows"], Cohort.read(cohort)
    table = tmp_path / "held_out.csv"
    Cohort([replace(whole[row], row=at) for at, row in enumerate(rows)], "held out").write(table)
    bundle = shutil.copytree(study / "int8" / "fold-0" / "bundle", tmp_path / "bundle")
    learnt = [whole[row].path for row in (*fold["train"]["rows"][:6], rows[3])]
    write_training_hashes(bundle, PhotographHashes.of_photographs(learnt))
    options = ExternalOptions(table, str(bundle), tmp_path / "out", precision="fp32")
    found = evaluate_bundle(options, Console(quiet=True))
    ours = pd.read_parquet(tmp_path / "out" / "predictions.parquet").sort_values("row")
    table = pd.read_parquet(study / "calibrated.parquet").query("fold == 0 and part == 'test' and variant == 'plain'")
    exported = table[table.precision == "fp32"].arm.iloc[0]
    study_rows = table[(table.precision == "torch") & (table.arm == exported)].set_index("row").loc[rows]
    np.testing.assert_allclose(ours.probability, study_rows.probability, atol=1e-4)
    np.testing.assert_allclose(ours.threshold, study_rows.threshold, atol=1e-12)
    y = whole.labels[rows]
    assert found.questions[0].graders[0]["auc"].value == pytest.approx(auc(y, study_rows.probability), abs=1e-9)
    assert [row["image"].endswith(whole[rows[3]].image) for row in found.overlap.photographs] == [True]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "without those it learnt from" in page and "What became of every photograph" in page


def test_evaluation_needs_neither_networks_nor_drawing(study, cohort, tmp_path):
    copy = tmp_path / "s"
    shutil.copytree(study, copy)
    (copy / "results.json").unlink()
    shutil.rmtree(copy / "tables")
    script = (
        BLOCKED.format(blocked=(*_NETWORKS, "matplotlib", "jinja2"))
        + f"""
from fundoscope.cohort import Cohort, Folds
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.study.data import StudyData
from fundoscope.rop.study.evaluate import evaluate_study
from fundoscope.rop.study.plan import StudyOptions, StudyPlan
from fundoscope.rop.study.questions import rop_question
from fundoscope.studies import Study
out = Path({str(copy)!r})
options = StudyOptions(Path({str(cohort)!r}), out, read_recipe("tiny"), folds=2, networks=("student", "undistilled"))
cohort = Cohort.read(options.cohort)
folds = Folds.read(out / "folds.json", cohort)
missing = "The table does not say of any ROP whether it requires treatment: stage 2 was not trained."
plan = StudyPlan(options, Study(out, {{}}), cohort, folds.groups, folds, [rop_question(cohort)], missing)
evaluate_study(plan, StudyData(out / "squares", options.recipe.standard))
"""
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (copy / "results.json").read_text() == (study / "results.json").read_text()
    for table in (copy / "tables").iterdir():
        assert table.read_text() == (study / "tables" / table.name).read_text(), table.name


def test_a_study_of_an_earlier_version_is_refused_with_the_command_that_remakes_it(cohort, study, tmp_path):
    manifest = json.loads((study / "study.json").read_text())
    del manifest["layout"]
    manifest["commands"] = ["fundoscope rop study old.csv --out s"]
    (tmp_path / "s" / "rehearsal").mkdir(parents=True)
    (tmp_path / "s" / "study.json").write_text(json.dumps(manifest))
    with pytest.raises(StudyError, match="another version.*fundoscope rop study old.csv --out s"):
        run_study(options(cohort, tmp_path / "s"), Console(quiet=True))


def test_other_settings_in_the_same_folder_are_refused(cohort, study):
    with pytest.raises(StudyError, match="seeds: 1 there, 2 now"):
        run_study(options(cohort, study, seeds=2), Console(quiet=True))


def test_without_infants_it_runs_only_when_told_and_says_so(study, tmp_path):
    table = write_cohort(tmp_path, 24, infants=False)
    with pytest.raises(UsageError, match="--images-are-independent"):
        run_study(options(table, tmp_path / "s"), Console(quiet=True))
    plan = make_plan(options(table, tmp_path / "s", independent=True), Console(quiet=True))
    assert "infants unknown" in plan.groups.rule and plan.study.manifest["images_are_independent"] is True
    copy = tmp_path / "page"
    shutil.copytree(study, copy)
    results = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(results | {"sample": results["sample"] | {"infants": None}}))
    assert "Images assumed independent" in write_report(copy).read_text()


def test_a_planted_leak_stops_the_study_and_names_the_photographs(cohort, tmp_path):
    table = write_cohort(tmp_path, 16)
    cv2.imwrite(str(tmp_path / "copy.png"), cv2.rotate(cv2.imread(str(tmp_path / "3.png")), cv2.ROTATE_90_CLOCKWISE))
    table.write_text(table.read_text() + "copy.png,rop,another\n")
    with pytest.raises(LeakError, match=r"3\.png.*copy\.png"):
        run_study(options(table, tmp_path / "s"), Console(quiet=True))


def test_a_photograph_that_cannot_be_read_stops_the_study(tmp_path):
    table = write_cohort(tmp_path, 12)
    (tmp_path / "5.png").write_bytes(b"")
    with pytest.raises(CohortError, match=r"unreadable: .*5\.png"):
        run_study(options(table, tmp_path / "s"), Console(quiet=True))


def test_an_infant_in_two_spellings_stops_the_study(tmp_path):
    table = write_cohort(tmp_path, 12)
    table.write_text(table.read_text().replace("5.png,rop,i5", "5.png,rop,I-03"))
    with pytest.raises(CohortError, match=r"the infant is written .i3. \(row 5\) and .I-03. \(row 7\)"):
        run_study(options(table, tmp_path / "s"), Console(quiet=True))


def test_a_dry_run_trains_nothing_and_says_how_long(cohort, tmp_path, capsys):
    run_study(options(cohort, tmp_path / "s"), Console(), dry_run=True)
    assert not (tmp_path / "s").exists()
    told = capsys.readouterr().err
    assert "on this machine at most: less than a minute; nothing was trained" in told and " epochs, " in told


def test_killed_it_goes_on_and_ends_with_the_same_answers(cohort, study, tmp_path):
    command = [sys.executable, "-m", "fundoscope.cli.main", "rop", "study", str(cohort), "--out", str(tmp_path / "s"),
               "--recipe", "tiny", "--epochs", "3", "--folds", "2", "--networks", "student,undistilled", "-q"]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    log = tmp_path / "s/.work/fits/rop/student/seed-0/fold-1/epochs.csv"
    limit = time.monotonic() + 600
    while not (log.exists() and len(log.read_text().splitlines()) >= 2):
        assert running.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "s/tables").exists()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for fold in range(2):
        cut, whole = (
            pd.read_parquet(folder / f"fits/rop/student/seed-0/fold-{fold}/predictions.parquet")
            for folder in (tmp_path / "s", study)
        )
        np.testing.assert_allclose(cut[["logit_0", "logit_1"]], whole[["logit_0", "logit_1"]], atol=1e-6, rtol=0)
    cut, whole = ((folder / "tables/out_of_fold.csv").read_text() for folder in (tmp_path / "s", study))
    assert cut == whole


def test_controls_that_cannot_be_made_end_no_study_and_are_told_in_their_place(tmp_path, monkeypatch, capsys):
    table = write_cohort(tmp_path, 16)
    crop_to_strips(tmp_path, 3, 8)
    measured = StudyData.measures

    def without_colour(self, prefix):
        return measured(self, prefix) * (np.nan if prefix == "colour" else 1)

    monkeypatch.setattr(StudyData, "measures", without_colour)
    monkeypatch.setattr(shuffled_labels, "auc_on_folds", lambda *_: float("nan"))
    recipe, out = read_recipe("tiny").changed(epochs=1), tmp_path / "s"
    run_study(StudyOptions(table, out, recipe, folds=2, networks=("student",), shuffles=1), Console())
    results = json.loads((out / "results.json").read_text())
    controls = {row["photographs"]: row for row in results["controls"]}
    for name in ("one field mask for all", "field, colour and encoding alike", "(minus nuisance, alike)"):
        assert "share only" in controls[name]["could not be made"]
    assert controls["one encoding for all"]["minus nuisance"]["value"] is not None
    graders = {row["grader"]: row for row in results["questions"][0]["graders"]}
    assert "16 of 16 photographs lack a measure" in graders["mean colour"]["could not be made"]
    assert "all of one class" in results["shuffled_labels"]["text"]
    page, printed = (out / "report.html").read_text(), capsys.readouterr().err
    for text in ("share only", "16 of 16 photographs lack a measure", "all of one class"):
        assert text in page
    assert "share only" in printed and "16 of 16 photographs lack a measure" in printed
    rows = {row["photographs"]: row for row in rows_of(out / "tables/controls.csv")}
    assert "share only" in rows["one field mask for all"]["could not be made"]


def test_an_unknown_network_names_the_nearest(cohort, tmp_path):
    with pytest.raises(UsageError, match="tiny"):
        run_study(options(cohort, tmp_path / "s", networks=("tinny",)), Console(quiet=True))


@pytest.mark.services
@pytest.mark.parametrize("engine", ["ray", "local"])
def test_fits_beside_each_other_give_the_figures_of_one_process_also_where_a_worker_is_killed(
    cohort, study, tmp_path, engine
):
    """`study` is one process's; here two workers share the fits, and one is killed within a fit."""
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra cluster is not installed")
    out, killed = tmp_path / "s", []

    def kill_one():
        while not killed:
            time.sleep(0.02)
            if list((out / ".work").glob("fits/*/*/*/*/epochs.csv")):
                killed.extend(workers_at_work(os.getpid())[:1])
                os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    torch.set_num_threads(1)
    run_study(options(cohort, out, engine=WorkEngine(engine, 2)), Console(quiet=True))
    assert killed
    ours, theirs = (pd.read_parquet(folder / "calibrated.parquet") for folder in (out, study))
    for column in ours:
        if ours[column].dtype.kind == "f":
            np.testing.assert_allclose(ours[column], theirs[column], atol=1e-6, err_msg=column)
        else:
            assert ours[column].equals(theirs[column]), column
    weights = {path.relative_to(study) for path in study.glob("fits/**/network.safetensors")}
    assert weights == {path.relative_to(out) for path in out.glob("fits/**/network.safetensors")} and len(weights) == 6
    for path in weights:
        networks = [load_file(folder / path) for folder in (out, study)]
        for name, value in networks[0].items():
            torch.testing.assert_close(value, networks[1][name], atol=1e-6, rtol=0)
