import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
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
from fundoscope.nicking.crossing_study.detections import PhotographDetections, read_detections, write_detections
from fundoscope.nicking.crossing_study.evaluate import BLIND, blind_boxes, describe_pictures, evaluate_study, mean_box
from fundoscope.nicking.crossing_study.pages import ALARM, HIT, MISS, colour_instances, mark_hits_and_misses
from fundoscope.nicking.crossing_study.plan import CrossingOptions, PhotographSplit, plan_study
from fundoscope.nicking.crossing_study.predict import cut_test_patches
from fundoscope.nicking.crossing_study.run import run_study
from fundoscope.nicking.crossing_study.train import build_detector, train_detectors
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


def test_a_set_too_small_to_split_is_refused(eyes):
    with pytest.raises(UsageError, match="leave none for the part 'train'"):
        split_of([open_dataset(eyes / "test")])


def test_a_split_is_kept_and_refuses_other_photographs(eyes, tmp_path):
    path = tmp_path / "split.json"
    first = PhotographSplit.read_or_write(path, both(eyes), TINY.split)
    assert PhotographSplit.read_or_write(path, both(eyes), TINY.split) == first
    with pytest.raises(UsageError, match="other photographs"):
        PhotographSplit.read_or_write(path, [both(eyes)[0][:3], both(eyes)[1]], TINY.split)


@pytest.fixture(scope="module")
def study(eyes, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    run_study(options(eyes, out), Console(quiet=True))
    return out


def test_both_pyramids_go_through_both_steps_to_tables_and_a_page(study):
    coco = rows(study / "tables/coco.csv")
    found = {(row["detector"], row["on"].split(",")[0], row["kind"]) for row in coco}
    wanted = {
        (p, on, kind) for p in ("safpn", "fpn") for on in ("whole photographs", "patches") for kind in ("bbox", "segm")
    }
    assert wanted | {(BLIND, "patches", kind) for kind in ("bbox", "segm")} == found
    assert {row["detector"] for row in rows(study / "tables/detection.csv")} == {"safpn", "fpn"}
    (difference,) = rows(study / "tables/difference.csv")
    assert -1 <= float(difference["difference"]) <= 1 and difference["what"] == "F1, safpn less fpn"
    assert (study / "tables/coco.txt").read_text().count("IoU metric: bbox") == 5
    page = (study / "report.html").read_text()
    assert "false alarms" in page and page.count("data:image") >= 2
    manifest = json.loads((study / "study.json").read_text())
    assert manifest["recipe"] == TINY.model_dump(mode="json") and manifest["recipe"]["patches"]["epochs"] == 1
    log = rows(study / "fits/safpn-0/step_2/steps.csv")
    assert [int(row["step"]) % 10 for row in log] == [0] * len(log)


def test_run_again_nothing_is_trained_or_predicted_again(study, eyes, monkeypatch):
    before = (study / "results.json").read_text()
    for name in ("train.fit_step", "predict.detect_crossings"):
        monkeypatch.setattr(f"fundoscope.nicking.crossing_study.{name}", lambda *_: pytest.fail("done again"))
    run_study(options(eyes, study), Console(quiet=True))
    assert (study / "results.json").read_text() == before


def test_figures_are_read_off_the_files_of_detections(study, tmp_path):
    import shutil

    copy = tmp_path / "s"
    shutil.copytree(study, copy)
    for part in ("inner", "test", "patches"):
        truth = copy / f"detections/truth/{part}.jsonl"
        shutil.copy(truth, copy / f"detections/safpn-0/{part}.jsonl")  # a detector that is always right
    results = evaluate_study(copy)
    perfect = [row for row in results["coco"] if row["detector"] == "safpn"]
    assert len(perfect) == 4 and all(row["ap"] == 1 for row in perfect)
    (row,) = [row for row in results["detection"] if row["detector"] == "safpn"]
    assert row["f1"] == row["precision"] == row["recall"] == 1
    assert results["coco"] == json.loads((copy / "results.json").read_text())["coco"]
    (copy / "detections/fpn-0/test.jsonl").write_text("no json\n")
    with pytest.raises(StudyError, match="test.jsonl: holds no detections"):
        evaluate_study(copy)


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
    numbers = TINY.test_patches.model_copy(update={"tries": 200})
    patches = list(cut_test_patches("a", "s", photograph, numbers, np.random.default_rng(1)))
    crossed = [patch for patch in patches if "crossing" in patch.name]
    empty = [patch for patch in patches if "empty" in patch.name]
    assert len(crossed) > 4 and 0 < len(empty) <= len(crossed)
    assert all(not len(patch.truth.boxes) for patch in empty) and all(len(patch.truth.boxes) for patch in crossed)
    away = [np.abs(patch.truth.centres - side / 2).max(axis=1).min() for patch in crossed]
    assert max(away) <= side // 3 + 2 and max(away) > 10
    inner = PhotographDetections("i", "s", Instances(np.array([[0, 0, 10, 30], [5, 5, 35, 15]], float), np.ones(2)))
    assert mean_box([inner]) == (20, 20)
    (box,) = blind_boxes([PhotographDetections("a", "s", crossed[0].truth)], side, (20, 24))
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
        train_detectors(leaky, Console(True))
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
