"""Studies of several cameras and of renderings: pairs within a camera, a camera left out, and thresholds that hold when rendered."""

import csv
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pd = pytest.importorskip("pandas")

from test_rop_study import draw

from fundoscope.bundles.read import CARD_FILE, SHIPPED
from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort, Folds, make_groups
from fundoscope.errors import CohortError, UsageError
from fundoscope.evaluation import auc, estimates
from fundoscope.evaluation.controls import nuisance_table, predict_out_of_fold
from fundoscope.evaluation.decisions import target_sensitivity, worst_target_sensitivity
from fundoscope.evaluation.metrics.intervals import WITHIN_CAMERAS
from fundoscope.imaging import read
from fundoscope.imaging.renderings import RENDERINGS, render
from fundoscope.learning import Augment, Squares
from fundoscope.learning.distillation import TeacherAnswers, TeacherViews, distillation_batches
from fundoscope.learning.fit import ConsistentLoss
from fundoscope.learning.squares import training_batches
from fundoscope.rop.recipes import RenderingNumbers, read_recipe
from fundoscope.rop.study import data
from fundoscope.rop.study.plan import StudyOptions, make_plan
from fundoscope.rop.study.refit import calibrate_pooled
from fundoscope.rop.study.run import run_study
from fundoscope.rop.study.ship import (
    add_shipped_hashes,
    install_shipped_study,
    read_shipped_study,
    rewrite_shipped_card,
    shipped_cohort,
)

N = 40


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def camera_of(number):
    return "Neo" if number % 5 in (1, 2) else "RetCam"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two cameras; Neo took 16 of 40, and its photographs are darker."""
    folder = tmp_path_factory.mktemp("cameras")
    rows = []
    for number in range(N):
        label = ("normal", "rop")[number // 5 % 2]
        draw(folder / f"{number}.png", label, number)
        if camera_of(number) == "Neo":
            cv2.imwrite(str(folder / f"{number}.png"), cv2.imread(str(folder / f"{number}.png")) // 2)
        rows.append(f"{number}.png,{label},{camera_of(number)}")
    (folder / "cohort.csv").write_text("image,label,camera\n" + "\n".join(rows) + "\n")
    return folder / "cohort.csv"


@pytest.fixture(scope="module")
def study(table, tmp_path_factory):
    torch.set_num_threads(1)
    numbers = RenderingNumbers(augmentation=0.5, consistency=1.0, worst_operating_point=True)
    tiny = read_recipe("tiny").changed(epochs=1, size=32)
    small = tiny.squares.model_copy(update={"side": 96})
    recipe = tiny.model_copy(update={"renderings": numbers, "squares": small})
    out = tmp_path_factory.mktemp("study") / "s"
    with pytest.MonkeyPatch.context() as patch:  # as drawn they are too small for screening
        patch.setattr(data, "judge_quality", lambda photograph, expects: SimpleNamespace(gradable=True))
        options = StudyOptions(table, out, recipe, folds=2, independent=True, networks=("undistilled",))
        run_study(options, Console(quiet=True))
    return out


def test_an_auc_within_cameras_counts_pairs_by_one_camera():
    y, p = np.array([0, 1, 0, 1, 0]), np.array([0.1, 0.2, 0.8, 0.9, 0.95])
    cameras = np.array([0, 0, 1, 1, 1])
    assert auc(y, p, cameras) == pytest.approx((1 + 1 + 0) / (1 + 2))  # of three pairs, two are in order
    assert auc(y, p) == pytest.approx(3 / 6)
    rng = np.random.default_rng(0)
    camera = rng.random(400) < 0.5
    truth = (rng.random(400) < np.where(camera, 0.8, 0.2)).astype(int)
    both = [estimates(truth, camera * 1.0, metrics=("auc",), cameras=own)["auc"] for own in (None, camera)]
    assert both[0].value > 0.7 and both[1].value == both[1].low == both[1].high == 0.5
    assert WITHIN_CAMERAS in both[1].note and WITHIN_CAMERAS not in both[0].note


def test_folds_part_cameras_and_labels_alike_and_leave_a_camera_out(table):
    cohort = Cohort.read(table)
    groups = make_groups(cohort)
    folds = Folds.make(cohort, groups, 4)
    cameras = np.array(cohort.cameras)
    for fold in folds:
        test = np.array(fold.test)
        counts = [
            int(((cameras[test] == c) & (cohort.labels[test] == y)).sum()) for c in ("Neo", "RetCam") for y in (0, 1)
        ]
        assert counts == [2, 2, 3, 3]
        inner = list(fold.inner)
        assert len(set(zip(cameras[inner], cohort.labels[inner], strict=True))) == 4
    left = folds.leave_out(cohort, "Neo", 4, 0.22, 0)
    assert set(cameras[list(left.test)]) == {"Neo"} and set(cameras[[*left.train, *left.inner]]) == {"RetCam"}
    assert len(left.test) + len(left.train) + len(left.inner) == N
    records = [
        {"image": f"{k}.png", "label": r.label, "camera": r.extra["camera"], "infant": f"i{k // 6}"}
        for k, r in enumerate(cohort)
    ]
    infants = Cohort.from_rows(
        records, table.parent
    )  # most infants were seen by both cameras: nothing of them is learnt
    with pytest.raises(CohortError, match="one class only"):
        Folds.make(infants, make_groups(infants), 2).leave_out(infants, "Neo", 2, 0.22, 0)


def test_cameras_written_in_two_ways_are_named(tmp_path, table):
    rows = table.read_text().replace("0.png,normal,RetCam", "0.png,normal,retcam", 1)
    (table.parent / "two.csv").write_text(rows)
    with pytest.raises(CohortError, match="camera is written 'retcam'"):
        _ = Cohort.read(table.parent / "two.csv").cameras
    alone = Cohort.from_rows([{"image": "0.png", "label": "normal", "camera": "RetCam"}], table.parent)
    assert alone.cameras == ()


def test_cameras_that_tell_the_classes_apart_are_refused(tmp_path, table):
    lines = ["image,label,camera"] + [
        f"{table.parent / f'{k}.png'},{r.label},{r.label}" for k, r in enumerate(Cohort.read(table))
    ]
    (tmp_path / "apart.csv").write_text("\n".join(lines) + "\n")
    options = StudyOptions(tmp_path / "apart.csv", tmp_path / "s", read_recipe("tiny"), folds=2, independent=True)
    with pytest.raises(CohortError, match="no camera took photographs of both classes"):
        make_plan(options, Console(quiet=True))


def test_a_rendering_changes_the_field_and_nothing_around_it(table):
    standard = read_recipe("tiny").standard
    square = standard.square(read(table.parent / "5.png"), size=128)
    outside = square.max(axis=2) == 0
    assert len(RENDERINGS) == 12 and outside.any()
    for name in RENDERINGS:
        rendered = render(square, name)
        assert rendered.dtype == np.uint8 and rendered.shape == square.shape and not rendered[outside].any(), name
        assert np.abs(rendered.astype(int) - square)[~outside].mean() > 0.5, name
        np.testing.assert_array_equal(rendered, render(square, name))
    grey = render(square, "grey world")[~outside].mean(axis=0)
    assert 3 * np.ptp(grey) < np.ptp(square[~outside].mean(axis=0))  # the brightest are cut off at white
    assert np.ptp(render(square, "red-free"), axis=2).max() == 0
    light = cv2.cvtColor(render(square, "equalised"), cv2.COLOR_RGB2LAB)[..., 0][~outside]
    assert np.std(light) > np.std(cv2.cvtColor(square, cv2.COLOR_RGB2LAB)[..., 0][~outside])


def test_the_loss_asks_for_one_answer_to_both_renderings():
    zero = lambda logits, y: logits.sum() * 0  # noqa: E731
    p, q = torch.tensor([0.2, 0.8]), torch.tensor([0.6, 0.4])
    output = torch.stack([p.log(), q.log()])[None]
    apart = float(((p - q) * (p / q).log()).sum() / 2)
    assert float(ConsistentLoss(zero, 3.0)(output, torch.tensor([1]))) == pytest.approx(3 * apart)
    assert float(ConsistentLoss(zero, 3.0)(output[:, [0, 0]], torch.tensor([1]))) == 0
    labelled = torch.nn.functional.cross_entropy
    assert float(ConsistentLoss(labelled, 0.0)(output, torch.tensor([1]))) == pytest.approx(
        float(-(p[1].log() + q[1].log()) / 2)
    )


def test_pairs_are_one_view_in_two_renderings_and_the_view_is_what_it_was(table):
    standard = read_recipe("tiny").standard
    pixels = [standard.square(read(table.parent / f"{k}.png"), size=80) for k in (0, 5)]
    squares, rows = Squares(pixels, np.array([0, 1]), standard), np.array([0, 1])
    alone, pairs = (
        next(iter(training_batches(squares, rows, Augment(), 2, 3, pairs=asked)))[0] for asked in (False, True)
    )
    assert pairs.shape == (2, 2, 3, standard.size, standard.size)
    torch.testing.assert_close(pairs[:, 0], alone)
    assert (pairs[:, 1] - alone).abs().mean() > 0.01


def test_a_teachers_answer_to_a_view_holds_for_its_other_rendering(table, tmp_path):
    standard = read_recipe("tiny").standard
    pixels = [standard.square(read(table.parent / f"{k}.png"), size=80) for k in (0, 5)]
    squares, rows = Squares(pixels, np.array([0, 1]), standard), np.array([0, 1])
    teacher = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    views = TeacherViews(squares, Augment(), 2, 7)
    answers = TeacherAnswers(teacher, views, views.copies(rows, squares.labels), tmp_path)
    x, target = next(iter(distillation_batches(answers, rows, 2, pairs=True)))
    assert x.shape == (2, 2, 3, standard.size, standard.size)
    for inputs, told in zip(x, target, strict=True):
        torch.testing.assert_close(inputs[0], torch.from_numpy(views.input(0, int(told[0]))))
        with torch.no_grad():
            torch.testing.assert_close(teacher(inputs[:1])[0], told[1:], atol=1e-2, rtol=1e-2)


def test_a_threshold_keeps_the_sensitivity_on_the_worst_variant():
    y, p = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    variants = {"plain": (y, p), "dim": (y, p / 2), "bright": (y, np.sqrt(p))}
    worst = worst_target_sensitivity(variants, 1.0)
    assert worst.threshold == target_sensitivity(y, p / 2, 1.0).threshold < target_sensitivity(y, p, 1.0).threshold
    assert "worst of 3 renderings (dim)" in worst.rule and worst.rule in worst.text
    assert worst_target_sensitivity({"plain": (y, p)}, 0.9) == target_sensitivity(y, p, 0.9)
    pooled = {"plain": (np.arange(6), np.log(p / (1 - p))), "dim": (np.arange(6), np.log(p / (1 - p)) - 1)}
    found = calibrate_pooled(pooled, y, 1.0)  # the bundle's, from out-of-fold answers
    alone = calibrate_pooled({"plain": pooled["plain"]}, y, 1.0)
    assert found.temperature == alone.temperature and found.point.threshold < alone.point.threshold


def test_a_study_tells_its_figures_by_camera(study, table):
    cohort, rows = Cohort.read(table), rows_of(study / "tables/cameras.csv")
    cameras = np.array(cohort.cameras)
    graders = list(dict.fromkeys(row["grader"] for row in rows))
    assert graders == ["undistilled", "nuisance baseline"]
    known = {(row["grader"], row["photographs"]): row for row in rows}
    predictions = pd.read_parquet(study / "calibrated.parquet").query("precision == 'torch' and variant == 'plain'")
    undistilled = predictions.query("arm == 'undistilled' and part == 'test'").sort_values("row")
    p, y = undistilled.probability.to_numpy(), cohort.labels
    numbers = (cameras == "Neo").astype(np.int64)
    assert float(known["undistilled", "all, pairs by one camera"]["auc"]) == pytest.approx(auc(y, p, numbers), abs=6e-4)
    assert float(known["undistilled", "all, pairs of different cameras too"]["auc"]) == pytest.approx(
        auc(y, p), abs=6e-4
    )
    own = cameras == "Neo"
    assert float(known["undistilled", "Neo"]["auc"]) == pytest.approx(auc(y[own], p[own]), abs=6e-4)
    called = (p >= undistilled.threshold.to_numpy())[own & (y == 1)]
    assert float(known["undistilled", "Neo"]["sensitivity"]) == pytest.approx(called.mean(), abs=6e-4)
    results = {row["grader"]: row for row in rows_of(study / "tables/results_rop.csv")}
    assert results["undistilled"]["auc"] == known["undistilled", "all, pairs by one camera"]["auc"]
    assert results["undistilled"]["auc_note"].startswith(WITHIN_CAMERAS)


def test_the_camera_is_one_of_the_nuisances(study, table):
    cohort = Cohort.read(table)
    measured = nuisance_table(read(record.path, record.image) for record in cohort)
    flags = (np.array(cohort.cameras)[:, None] == ["Neo", "RetCam"]).astype(float)
    folds = [
        ([*f["train"]["rows"], *f["inner"]["rows"]], f["test"]["rows"])
        for f in json.loads((study / "folds.json").read_text())["folds"]
    ]
    groups = make_groups(cohort).numbers
    p = predict_out_of_fold(np.column_stack([measured, flags]), cohort.labels, folds, groups).p
    row = next(
        r
        for r in rows_of(study / "tables/cameras.csv")
        if r["grader"] == "nuisance baseline" and r["photographs"].endswith("by one camera")
    )
    assert float(row["auc"]) == pytest.approx(auc(cohort.labels, p, flags[:, 0].astype(np.int64)), abs=6e-4)


def test_each_camera_is_tested_by_networks_that_never_saw_it(study, table):
    cohort = Cohort.read(table)
    rows = rows_of(study / "tables/other_camera.csv")
    assert [(r["network"], r["learnt from"], r["tested on"], r["n"]) for r in rows] == [
        ("undistilled", "RetCam", "Neo", "16"), ("undistilled", "Neo", "RetCam", "24"),
    ]  # fmt: skip
    predictions = pd.read_parquet(study / "calibrated.parquet").query("part == 'other camera'")
    assert {len(part) for _, part in predictions.query("variant == 'plain'").groupby("arm")} == {N}
    for camera, number in (("Neo", 2), ("RetCam", 3)):
        folder = study / f"fits/rop/undistilled/seed-0/fold-{number}"
        kept = pd.read_parquet(folder / "predictions.parquet").query("variant == 'plain'")
        by_part = {part: {cohort[row].extra["camera"] for row in own.row} for part, own in kept.groupby("part")}
        assert by_part["test"] == {camera} and camera not in by_part["inner"]
        threshold = json.loads((folder / "calibration.json").read_text())["operating_point"]["threshold"]
        line = next(r for r in rows if r["network"] == "undistilled" and r["tested on"] == camera)
        assert float(line["threshold_lowest"]) == float(line["threshold_highest"]) == pytest.approx(threshold, abs=6e-4)
    division = json.loads((study / "results.json").read_text())["sample"]["checks"]
    assert all(check["passed"] for check in division)


def test_thresholds_hold_on_every_rendering_of_inner_photographs(study, table):
    labels = Cohort.read(table).labels
    for fold in (0, 1, 2):
        folder = study / f"fits/rop/undistilled/seed-0/fold-{fold}"
        kept = json.loads((folder / "calibration.json").read_text())
        inner = pd.read_parquet(folder / "predictions.parquet").query("part == 'inner'")
        odds = (inner.logit_1 - inner.logit_0) / kept["temperature"]["value"]
        called = 1 / (1 + np.exp(-odds)) >= kept["operating_point"]["threshold"]
        found = called[labels[inner.row] == 1].groupby(inner.variant).mean()
        rendered = found[[variant for variant in found.index if variant == "plain" or variant.startswith("rendered")]]
        assert len(rendered) == 13 and rendered.min() >= 0.9
    assert "on the worst of 13 renderings" in kept["operating_point"]["rule"]


def test_renderings_have_a_table_and_the_worst_is_told(study, table):
    rows = rows_of(study / "tables/renderings.csv")
    assert [row["rendering"] for row in rows] == ["as they are", *RENDERINGS]
    results = json.loads((study / "results.json").read_text())
    table_of = pd.read_parquet(study / "calibrated.parquet").query(
        "part == 'test' and precision == 'torch' and arm == 'undistilled'"
    )
    plain = table_of.query("variant == 'plain'").set_index("row").sort_index()
    hazy = table_of.query("variant == 'rendered: hazy'").set_index("row").sort_index()
    moved = ((plain.probability >= plain.threshold) != (hazy.probability >= hazy.threshold)).mean()
    row = next(row for row in rows if row["rendering"] == "hazy")
    assert (
        float(row["decisions that change"]) == pytest.approx(moved, abs=6e-4)
        and float(rows[0]["decisions that change"]) == 0
    )
    assert any(line.startswith("worst of 12 renderings") for line in results["summary"])
    page = (study / "report.html").read_text()
    for heading in ("Cameras", "A camera never seen", "Rendered otherwise"):
        assert f"{heading}</" in page, heading
    names = [figure["name"] for figure in results["card"]]
    assert {"Neo: sensitivity", "RetCam never seen: specificity", "worst rendering: auc"} <= set(names)


def test_the_shipped_study_reads_every_camera_and_never_touches_another_bundle(tmp_path, table):
    shipped = read_shipped_study()
    for each in shipped.photographs:
        for label, number in (("normal", 0), ("rop", 5)):
            folder = tmp_path / each.folder / label
            folder.mkdir(parents=True)
            (folder / f"{number}.png").write_bytes((table.parent / f"{number}.png").read_bytes())
    cohort = shipped_cohort(tmp_path, shipped)
    assert [record.extra["camera"] for record in cohort] == ["RetCam", "RetCam", "Neo", "Neo"]
    cohort.write(tmp_path / "runs.csv")
    assert Cohort.read(tmp_path / "runs.csv").cameras == cohort.cameras
    with pytest.raises(UsageError, match="hvdropdb_retcam is not there"):
        shipped_cohort(tmp_path / "nothing", shipped)
    with pytest.raises(UsageError, match="holds no finished study"):
        install_shipped_study(tmp_path / "s", tmp_path)
    place = tmp_path / "src/fundoscope/shipped/rop"
    shutil.copytree(SHIPPED / "rop", place)
    card = (place / CARD_FILE).read_text()
    if json.loads(card)["trained_on"] != list(
        shipped.origin.trained_on
    ):  # until the bundle from both cameras is installed
        for told in (lambda: rewrite_shipped_card(tmp_path), lambda: add_shipped_hashes(tmp_path, tmp_path)):
            with pytest.raises(UsageError, match="learnt from other photographs"):
                told()
    assert (place / CARD_FILE).read_text() == card
    made = tmp_path / "s/bundle/rop"
    made.mkdir(parents=True)
    (made / CARD_FILE).write_text("{}")
    (tmp_path / "s/tables").mkdir()
    (tmp_path / "s/results.json").write_text("[]")
    assert install_shipped_study(tmp_path / "s", tmp_path) == place and [p.name for p in place.iterdir()] == [CARD_FILE]
    assert (tmp_path / "docs/results/both_cameras/results.json").read_text() == "[]"
