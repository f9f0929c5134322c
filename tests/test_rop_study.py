import csv
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from fundoscope.bundles import open_bundle
from fundoscope.errors import CohortError, LeakError, StudyError, UsageError

torch = pytest.importorskip("torch")
pd = pytest.importorskip("pandas")

from fundoscope.cli.console import Console
from fundoscope.rop.recipes import recipe_of
from fundoscope.rop.study.run import StudyOptions, run_study

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


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


def options(table, out, **changes):
    usual = {"recipe": recipe_of("tiny").changed(epochs=3), "folds": 2, "networks": ("student", "undistilled")}
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
    assert json.loads((study / "study.json").read_text())["versions"]["torch"]


def test_the_bundle_of_a_study_opens_and_says_where_it_comes_from(study):
    bundle = open_bundle(study / "bundle" / "rop-tiny")
    assert bundle.card.trained_on == ("the cohort cohort.csv",)
    assert bundle.card.parity.fp32_max_abs_logit <= 1e-4
    assert {figure.name for figure in bundle.card.figures} >= {"auc", "sensitivity", "auc of the nuisance baseline"}


def test_the_same_command_again_trains_nothing(cohort, study):
    weights = study / "fits/rop/student/seed-0/fold-0/network.safetensors"
    before, table = weights.stat().st_mtime_ns, (study / "tables/out_of_fold.csv").read_text()
    run_study(options(cohort, study), Console(quiet=True))
    assert weights.stat().st_mtime_ns == before
    assert (study / "tables/out_of_fold.csv").read_text() == table


def test_other_settings_in_the_same_folder_are_refused(cohort, study):
    with pytest.raises(StudyError, match="seeds: 1 there, 2 now"):
        run_study(options(cohort, study, seeds=2), Console(quiet=True))


def test_without_infants_it_runs_only_when_told_and_says_so(tmp_path):
    table = write_cohort(tmp_path, 24, infants=False)
    with pytest.raises(UsageError, match="--images-are-independent"):
        run_study(options(table, tmp_path / "s"), Console(quiet=True))
    run_study(options(table, tmp_path / "s", independent=True), Console(quiet=True))
    assert "Images assumed independent" in (tmp_path / "s" / "report.html").read_text()


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


def test_a_dry_run_trains_nothing_and_says_how_long(cohort, tmp_path, capsys):
    run_study(options(cohort, tmp_path / "s"), Console(), dry_run=True)
    assert not (tmp_path / "s").exists()
    assert "minutes on this machine" in capsys.readouterr().err


def test_killed_it_goes_on_and_ends_with_the_same_answers(cohort, study, tmp_path):
    command = [sys.executable, "-m", "fundoscope.cli.main", "rop", "study", str(cohort), "--out", str(tmp_path / "s"),
               "--recipe", "tiny", "--epochs", "3", "--folds", "2", "--networks", "student,undistilled", "-q"]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    log = tmp_path / "s/.work/fits/rop/student/seed-0/fold-1/epochs.csv"
    limit = time.monotonic() + 240
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


def test_unknown_recipes_and_networks_name_the_nearest(cohort, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'lite'"):
        recipe_of("litee")
    with pytest.raises(UsageError, match="tiny"):
        run_study(options(cohort, tmp_path / "s", networks=("tinny",)), Console(quiet=True))
