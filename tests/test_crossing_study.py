import csv
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from crosses import tiny_body
from PIL import Image
from typer.testing import CliRunner

from fundoscope.cli.console import Console
from fundoscope.cli.main import app
from fundoscope.datasets import open_dataset
from fundoscope.errors import LeakError, StudyError, UsageError
from fundoscope.evaluation.detection import Instances
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.networks import VesselNet
from fundoscope.networks.multiscale_bodies import build_multiscale_body, load_vessel_net_weights
from fundoscope.nicking.crossing_study import run
from fundoscope.nicking.crossing_study.detections import PhotographDetections, read_detections, write_detections
from fundoscope.nicking.crossing_study.evaluate import (
    BLIND,
    blind_boxes,
    describe_pictures,
    evaluate_study,
    leave_out_doubtful,
    mean_box,
)
from fundoscope.nicking.crossing_study.inputs import MarkedPhotograph, cut_test_patches
from fundoscope.nicking.crossing_study.pages import ALARM, HIT, MISS, colour_instances, mark_hits_and_misses
from fundoscope.nicking.crossing_study.plan import CrossingOptions, Pace, PhotographSplit, plan_study
from fundoscope.nicking.crossing_study.pyramid_figures import EVERY_WIDTH, cut_to_patches, match_class, width_classes
from fundoscope.nicking.crossing_study.run import run_study, train_and_predict
from fundoscope.nicking.crossing_study.train import build_detector
from fundoscope.nicking.crossing_study.vessel_maps import read_vessel_map_weights, write_vessel_map_weights
from fundoscope.nicking.recipes.crossings import read_crossing_recipe, read_map_recipe
from fundoscope.simulate import write_adults

TINY = read_crossing_recipe("tiny")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """A set with parts, five simulated photographs to train on and one to test."""
    folder = tmp_path_factory.mktemp("eyes")
    write_adults(5, folder / "training", seed=1, size=200)
    write_adults(1, folder / "test", seed=2, size=200)
    return folder


def options(eyes, out, **changed):
    return CrossingOptions((eyes / "training", eyes / "test"), out, TINY, **changed)


def both(eyes):
    return [open_dataset(eyes / part) for part in ("training", "test")]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def split_of(sets):
    return PhotographSplit.from_sets(sets, TINY.split)


def test_a_part_called_test_is_tested_and_the_rest_trains(eyes):
    split = split_of(both(eyes))
    assert [len(split.names[part]) for part in ("train", "inner", "test")] == [4, 1, 1]
    assert all(" test/" in name for name in split.names["test"])
    assert not any(" test/" in name for part in ("train", "inner") for name in split.names[part])


def test_of_a_set_without_parts_the_first_by_name_train(eyes, tmp_path):
    whole = tmp_path / "whole"
    whole.symlink_to(eyes / "training")
    split = split_of([open_dataset(whole)])
    names = [name.split("/")[1] for part in ("train", "inner") for name in split.names[part]]
    tested = [name.split("/")[1] for name in split.names["test"]]
    assert len(tested) == 2 and max(names) < min(tested)  # 5/8 of 5 train


def test_where_tests_stay_closed_they_are_left_out_and_the_training_part_is_divided(eyes, tmp_path):
    closed = TINY.model_copy(update={"split": TINY.split.model_copy(update={"tests_stay_closed": True})})
    plan = plan_study(CrossingOptions((eyes / "training", eyes / "test"), tmp_path / "s", closed), Console(True))
    assert not any(" test/" in name for names in plan.split.names.values() for name in names)
    assert [len(plan.split.names[part]) for part in ("train", "inner", "test")] == [2, 1, 2]


def test_a_set_too_small_to_split_is_refused(eyes):
    with pytest.raises(UsageError, match="leave none for the part 'train'"):
        split_of([open_dataset(eyes / "test")])


def test_a_split_is_kept_and_refuses_other_photographs(eyes, tmp_path):
    path = tmp_path / "split.json"
    first = PhotographSplit.read_or_write(path, both(eyes), TINY.split)
    assert PhotographSplit.read_or_write(path, both(eyes), TINY.split) == first
    with pytest.raises(UsageError, match="other photographs"):
        PhotographSplit.read_or_write(path, [both(eyes)[0][:3], both(eyes)[1]], TINY.split)


TINY_BODY = ("fundoscope.nicking.crossing_study.train.build_multiscale_body", tiny_body)


@pytest.fixture(scope="module")
def study(eyes, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*TINY_BODY)
        run_study(options(eyes, out), Console(quiet=True))
    return out


def test_both_pyramids_go_through_both_steps_to_tables_and_a_page(study):
    coco = rows(study / "tables/coco.csv")
    found = {(row["detector"], row["on"].split(",")[0], row["kind"]) for row in coco}
    wanted = {
        (p, on, kind) for p in ("safpn", "fpn") for on in ("whole photographs", "patches") for kind in ("bbox", "segm")
    }
    assert wanted | {(BLIND, "patches", kind) for kind in ("bbox", "segm")} == found
    assert {row["on"][-6:] for row in coco if row["detector"] != BLIND} == {"step 1", "step 2"}
    assert {row["detector"] for row in rows(study / "tables/detection.csv")} == {"safpn", "fpn"}
    for step, difference in enumerate(rows(study / "tables/difference.csv"), start=1):
        assert -1 <= float(difference["difference"]) <= 1 and difference["what"] == "F1, safpn less fpn"
        assert int(difference["step"]) == step <= 2
    compared = {
        (r["on"], r["diameter"], r["crossings"], r["step"], r["figure"]) for r in rows(study / "tables/pyramids.csv")
    }
    for on, diameter in (("whole photographs", "540"), ("whole photographs", "360"), ("patches", "540")):
        assert {(on, diameter, "all", step, figure) for step in "12" for figure in ("ap", "ap50")} <= compared
    assert any(name.startswith("vein") for _, _, name, _, _ in compared)
    assert len(rows(study / "tables/steps.csv")) == 2 * 6 * 2  # pyramids, comparisons, figures
    assert (study / "tables/coco.txt").read_text().count("IoU metric: bbox") == 9
    page = (study / "report.html").read_text()
    assert "false alarms" in page and page.count("data:image") >= 2
    manifest = json.loads((study / "study.json").read_text())
    assert manifest["recipe"] == TINY.model_dump(mode="json") and manifest["recipe"]["patches"]["epochs"] == 1
    log = rows(study / "fits/safpn-0/step_2/steps.csv")
    assert [int(row["step"]) % 10 for row in log] == [0] * len(log)


def test_run_again_nothing_is_trained_or_predicted_again(study, eyes, monkeypatch):
    before = (study / "results.json").read_text()
    monkeypatch.setattr(*TINY_BODY)
    for name in ("train.fit_step", "predict.detect_crossings"):
        monkeypatch.setattr(f"fundoscope.nicking.crossing_study.{name}", lambda *_: pytest.fail("done again"))
    run_study(options(eyes, study), Console(quiet=True))
    assert (study / "results.json").read_text() == before


def test_figures_are_read_off_the_files_of_detections(study, tmp_path):
    import shutil

    copy = tmp_path / "s"
    shutil.copytree(study, copy)
    for truth in (copy / "detections/truth").glob("*.jsonl"):
        shutil.copy(truth, copy / "detections/safpn-0/step_1")  # a detector that is always right after its first step
    results = evaluate_study(copy)
    perfect = [row for row in results["coco"] if row["detector"] == "safpn" and row["on"].endswith("1")]
    assert len(perfect) == 4 and all(row["ap"] == 1 for row in perfect)
    (row,) = [row for row in results["detection"] if row["detector"] == "safpn" and row["step"] == 1]
    assert row["f1"] == row["precision"] == row["recall"] == 1
    assert {row["safpn"] for row in results["pyramids"] if row["step"] == 1} == {1}
    parts = {row["what"]: row for row in results["steps"] if (row["detector"], row["figure"]) == ("safpn", "ap")}
    assert parts["of it: the same answers cut to patches, less uncut"]["later"] == 1
    total = parts.pop("patches after step 2 less whole photographs after step 1")["difference"]
    assert sum(r["difference"] for what, r in parts.items() if what.startswith("of it")) == pytest.approx(
        total, abs=2e-3
    )
    assert results["coco"] == json.loads((copy / "results.json").read_text())["coco"]
    (copy / "detections/fpn-0/step_2/test.jsonl").write_text("no json\n")
    with pytest.raises(StudyError, match="test.jsonl: holds no detections"):
        evaluate_study(copy)


def test_several_detectors_are_trained_at_once_and_one_that_fails_does_not_stop_the_others(
    eyes, tmp_path, monkeypatch, capsys
):
    def work(plan, marked, first_weights, progress):
        progress.say(f"{len(marked['train'])} photographs")
        if plan.arms[0][0] == "safpn":
            raise StudyError("the time is over")

    monkeypatch.setattr(run, "ProcessPoolExecutor", lambda fits, context, initializer: ThreadPoolExecutor(fits))
    monkeypatch.setattr(run, "_work_on", work)
    plan = plan_study(options(eyes, tmp_path / "s", seeds=2, pace=Pace(fits=2)), Console(True))
    with pytest.raises(StudyError, match="the time is over"):
        train_and_predict(plan, run.LinesOnly("study"))
    said = capsys.readouterr().out
    for arm in ("safpn-0", "safpn-1", "fpn-0", "fpn-1"):
        assert f"{arm}: 4 photographs" in said
    assert said.count("the time is over") == 2 and said.count("done") == 2
    assert len(read_detections(tmp_path / "s/detections/truth/test.jsonl")) == 1


def test_at_another_diameter_the_same_crossings_are_marked_smaller(study):
    plain, small = (read_detections(study / f"detections/truth/{part}.jsonl")[0] for part in ("test", "test_360"))
    assert (plain.scale, small.scale) == (1, 360 / 540) and plain.photograph == small.photograph
    np.testing.assert_allclose(small.instances.centres, plain.instances.centres * 2 / 3, atol=1.5)
    sides = small.instances.boxes[:, 2:] - small.instances.boxes[:, :2]
    assert np.median(sides) == 13
    np.testing.assert_allclose(small.vein_widths, plain.vein_widths, rtol=0.02)


def photograph(name, boxes, widths, scores=None, window=None, doubtful=()):
    """Crossings, true or found, with the widths of their veins."""
    boxes = np.array(boxes, float).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else np.array(scores)
    places = np.array(doubtful, float).reshape(-1, 2)
    return PhotographDetections(
        name, "s", Instances(boxes, scores), "s/p", 1.0, window, places, np.array(widths, float)
    )


def test_crossings_of_another_width_and_doubtful_places_are_neither_hits_nor_alarms():
    truth = photograph("p", [[0, 0, 20, 20], [50, 0, 70, 20], [100, 0, 120, 20]], [3, 5, 9], doubtful=[[9.5, 159.5]])
    found = photograph(
        "p", [[1, 0, 21, 20], [50, 0, 70, 20], [104, 0, 124, 20], [150, 0, 170, 20], [200, 0, 220, 20]], [], [0.9, 0.8, 0.7, 0.6, 0.5],
    )  # fmt: skip
    thin, middling, wide = width_classes((4, 6))
    for widths, hit in ((thin, 0), (middling, 1), (wide, 2)):
        outcome = match_class(found, truth, widths)
        assert outcome.truths == 1 and np.flatnonzero(outcome.hits[0]).tolist() == [hit]
        assert np.flatnonzero(outcome.alarms[0]).tolist() == [4]
    every = match_class(found, truth, EVERY_WIDTH)
    assert every.hits[0].tolist() == [True, True, True, False, False] and every.alarms[0].sum() == 1
    assert every.hits[-1].tolist() == [False, True, False, False, False]
    kept = leave_out_doubtful(found, truth).instances
    assert kept.scores.tolist() == [0.9, 0.8, 0.7, 0.5]


def test_answers_for_a_whole_photograph_are_cut_to_its_patches():
    whole = photograph("p", [[100, 60, 120, 80]], [5])
    found = photograph("p", [[100, 60, 120, 80], [150, 60, 170, 80], [10, 10, 30, 30]], [], [0.9, 0.8, 0.7])
    patch = photograph("p crossing 1", [], [], window=(55, 50, 64))
    (cut,) = cut_to_patches([found], [whole], [patch])
    assert cut.instances.boxes.tolist() == [[50, 5, 64, 25]] and cut.instances.scores.tolist() == [0.9]
    edge = match_class(cut, photograph("p", [[50, 5, 64, 25]], [5], window=(55, 50, 64)), EVERY_WIDTH, spare_edges=True)
    assert edge.truths == 0 and not edge.alarms.any()


def test_another_recipe_in_the_folder_is_refused(study, eyes):
    other = TINY.with_random_weights().model_copy(update={"labels": "scaled"})
    with pytest.raises(StudyError, match="recipe"):
        plan_study(CrossingOptions((eyes / "training", eyes / "test"), study, other), Console(quiet=True))


def test_detections_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((3, 20, 31)) > 0.5
    found = Instances(rng.random((3, 4)) * 30, rng.random(3), masks)
    nothing = Instances(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 20, 31), bool))
    boxes_only = Instances(found.boxes, found.scores)
    more = ("set/p", 1.5, (3, -4, 20), np.array([[4.0, 5.5]]), np.array([3.5, np.nan, 4]))
    write_detections(tmp_path / "t.jsonl", [PhotographDetections("p", "set", found, *more)])
    (true,) = read_detections(tmp_path / "t.jsonl")
    assert (true.photograph, true.scale, true.window) == more[:3]
    np.testing.assert_array_equal(true.doubtful, more[3])
    np.testing.assert_array_equal(true.vein_widths, more[4])
    rows = [PhotographDetections(f"p{k}", "set", each) for k, each in enumerate((found, nothing, boxes_only))]
    write_detections(tmp_path / "d.jsonl", rows)
    again = read_detections(tmp_path / "d.jsonl")
    assert [(each.name, each.dataset) for each in again] == [("p0", "set"), ("p1", "set"), ("p2", "set")]
    for one, other in zip(rows, again, strict=True):
        np.testing.assert_array_equal(one.instances.boxes, other.instances.boxes)
        np.testing.assert_array_equal(one.instances.scores, other.instances.scores)
    np.testing.assert_array_equal(again[0].instances.masks, masks)
    assert again[1].instances.masks.shape == (0, 20, 31) and again[2].instances.masks is None


def test_patches_hold_their_crossing_off_the_middle_and_as_many_hold_none(eyes):
    photograph, side = CrossingPhotograph.from_record(both(eyes)[1][0]), TINY.test_patches.side
    marked = MarkedPhotograph("a", "s", 540, photograph)
    numbers = TINY.test_patches.model_copy(update={"tries": 200})
    patches = list(cut_test_patches(marked, numbers, np.random.default_rng(1)))
    crossed = [patch.truth.instances for patch in patches if "crossing" in patch.truth.name]
    empty = [patch.truth.instances for patch in patches if "empty" in patch.truth.name]
    assert len(crossed) > 4 and 0 < len(empty) <= len(crossed)
    assert all(not len(truth.boxes) for truth in empty) and all(len(truth.boxes) for truth in crossed)
    away = [np.abs(truth.centres - side / 2).max(axis=1).min() for truth in crossed]
    assert max(away) <= side // 3 + 2 and max(away) > 10
    inner = PhotographDetections("i", "s", Instances(np.array([[0, 0, 10, 30], [5, 5, 35, 15]], float), np.ones(2)))
    assert mean_box([inner]) == (20, 20)
    (box,) = blind_boxes([PhotographDetections("a", "s", crossed[0])], side, (20, 24))
    assert box.instances.boxes.tolist() == [[52, 54, 76, 74]] and box.instances.masks.sum() == 480
    with pytest.raises(StudyError, match="hold no crossing"):
        mean_box([])


def test_a_set_whose_crossings_are_not_all_known_is_left_out_with_a_word(eyes, tmp_path):
    said = []

    class Loud(Console):
        def say(self, text):
            said.append(text)

    hrf = tmp_path / "hrf"
    for name in ("images", "av", "mask"):
        (hrf / name).mkdir(parents=True)
    record = open_dataset(eyes / "test")[0]
    Image.fromarray(record.pixels).save(hrf / "images/01_dr.jpg")
    colours = np.zeros((*record.field.shape, 3), np.uint8)
    colours[record.artery, 0], colours[record.vein, 2] = 255, 255
    Image.fromarray(colours).save(hrf / "av/01_dr.png")
    Image.fromarray(record.field).save(hrf / "mask/01_dr_mask.png")
    with pytest.raises(UsageError, match="None of the sets"):
        plan_study(CrossingOptions((hrf,), tmp_path / "s", TINY), Loud())
    assert any("left out" in line for line in said)


def test_pictures_show_each_instance_and_what_became_of_it():
    pixels = np.zeros((80, 80, 3), np.uint8)
    masks = np.zeros((3, 80, 80), bool)
    masks[0, 12:18, 12:18] = masks[1, 52:58, 52:58] = True
    found = Instances(np.array([[10.0, 10, 20, 20], [50, 50, 60, 60], [0, 0, 9, 9]]), np.array([0.9, 0.6, 0.2]), masks)
    truth = Instances.true([[11, 11, 21, 21], [30, 60, 40, 70]])
    described = describe_pictures(
        "d", [PhotographDetections("p", "p", found)], [PhotographDetections("p", "p", truth)], threshold=0.5
    )
    (shown,) = described["photographs"]
    assert shown["hits"] == [True, False] and shown["missed"] == [[64.5, 34.5]]
    picture = colour_instances(pixels, shown)
    assert len({tuple(picture[15, 15]), tuple(picture[55, 55]), (0, 0, 0)}) == 3
    marked = mark_hits_and_misses(pixels, shown)
    assert tuple(marked[10, 15]) == HIT and tuple(marked[50, 55]) == ALARM
    red, green, _ = marked[52:78, 22:48].astype(int).max(axis=(0, 1))  # around the one that was missed
    assert red > 100 > green, f"a ring in the colour {MISS}"
    assert not marked[:8, :8].any(), "below the threshold"


@pytest.fixture(scope="module")
def maps(eyes, tmp_path_factory):
    """An untrained network of maps in two folders: one says that it saw what trains, the other that it saw the test, too."""
    folder, network = tmp_path_factory.mktemp("maps"), VesselNet(read_map_recipe("tiny").network)
    training, tested = ([source.full_name for source in each.sources] for each in both(eyes))
    for name, seen in (("fair", training), ("leaky", training + tested)):
        (folder / name).mkdir()
        write_vessel_map_weights(network, seen, folder / name)
    return folder


def test_a_detector_starts_from_maps_and_refuses_those_that_saw_the_test(eyes, maps, tmp_path):
    weights, seen = read_vessel_map_weights(maps / "fair")
    assert len(seen) == 5
    plan = plan_study(options(eyes, tmp_path / "s"), Console(True))
    body, plain = (build_detector(plan, "safpn", w).backbone.body.network.state_dict() for w in (weights, None))
    shared = {name: weights[f"body.network.{name}"] for name in body if f"body.network.{name}" in weights}
    assert len(shared) > 100 and all(torch.equal(body[name], value) for name, value in shared.items())
    assert not all(torch.equal(plain[name], value) for name, value in shared.items())
    leaky = plan_study(options(eyes, tmp_path / "l", maps=maps / "leaky"), Console(True))
    with pytest.raises(LeakError, match="which is to be tested"):
        train_and_predict(leaky, Console(True))
    with pytest.raises(UsageError, match="Give a folder that the crossing task wrote"):
        read_vessel_map_weights(tmp_path)
    with pytest.raises(UsageError, match="start from ImageNet"):
        load_vessel_net_weights(build_multiscale_body("resnet18", pretrained=False), weights)


def test_the_command_says_what_is_wrong(eyes, tmp_path):
    call = ["nicking", "study-crossings", str(eyes / "training"), str(eyes / "test"), "--out", str(tmp_path / "s")]
    for more, words in (
        (["--recipe", "papr"], "did you mean 'paper'"),
        (["--pyramids", "safnp"], "did you mean 'safpn'"),
        (["--maps", "m", "--random-weights"], "Give only that one"),
    ):
        result = CliRunner().invoke(app, [*call, *more])
        assert result.exit_code != 0 and words in str(result.exception), result.exception
    assert not (tmp_path / "s").exists()
