import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from typer.testing import CliRunner

from fundoscope.cli.console import Console
from fundoscope.cli.main import app
from fundoscope.datasets import open_dataset
from fundoscope.errors import LeakError, UsageError
from fundoscope.evaluation.detection import Instances
from fundoscope.learning import CropOptions, FitOptions
from fundoscope.learning.detector_fit import DetectorFitOptions
from fundoscope.networks import VesselNetOptions
from fundoscope.networks.mask_rcnn import DetectorOptions
from fundoscope.networks.multiscale_bodies import build_multiscale_body, load_vessel_net_weights
from fundoscope.nicking.crossing_study.pages import coloured, hits_and_misses, surer
from fundoscope.nicking.crossing_study.run import PATCH, CrossingOptions, CrossingStudy, Shown, centre_box, run_study
from fundoscope.nicking.crossing_study.split import Split
from fundoscope.nicking.crossing_study.vessel_maps import MapRecipe, Round, fit_maps, taught
from fundoscope.simulate import write_adults
from fundoscope.studies import Study

SMALL = DetectorOptions(
    pretrained=False,
    maps=16,
    hidden=16,
    rpn_samples=16,
    roi_samples=16,
    proposals=20,
    detections=10,
    minimum_confidence=0.0,
)
STEPS = (
    DetectorFitOptions(epochs=1, batch=1),
    DetectorFitOptions(epochs=1, batch=2, side=PATCH, cuts=4, learning_rate=2e-4),
)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """A set with parts, six simulated photographs to train on and one to test."""
    folder = tmp_path_factory.mktemp("eyes")
    write_adults(6, folder / "training", seed=1, size=300)
    write_adults(1, folder / "test", seed=2, size=300)
    return folder


def options(eyes, out, **changed):
    return CrossingOptions((eyes / "training", eyes / "test"), out, **{"detector": SMALL, "steps": STEPS, **changed})


def both(eyes):
    return [open_dataset(eyes / part) for part in ("training", "test")]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_part_called_test_is_tested_and_the_rest_trains(eyes):
    split = Split.of(both(eyes))
    assert [len(split.names[part]) for part in ("train", "inner", "test")] == [5, 1, 1]
    assert all(" test/" in name for name in split.names["test"])
    assert not any(" test/" in name for part in ("train", "inner") for name in split.names[part])


def test_of_a_set_without_parts_the_first_by_name_train(eyes, tmp_path):
    whole = tmp_path / "whole"
    whole.symlink_to(eyes / "training")
    split = Split.of([open_dataset(whole)])
    names = [name.split("/")[1] for part in ("train", "inner") for name in split.names[part]]
    tested = [name.split("/")[1] for name in split.names["test"]]
    assert len(tested) == 2 and max(names) < min(tested)


def test_a_set_too_small_to_split_is_refused(eyes):
    with pytest.raises(UsageError, match="leave none for the part 'train'"):
        Split.of([open_dataset(eyes / "test")])


def test_a_split_is_kept_and_refuses_other_photographs(eyes, tmp_path):
    one = Split.kept(tmp_path / "split.json", both(eyes))
    assert Split.kept(tmp_path / "split.json", both(eyes)) == one
    with pytest.raises(UsageError, match="other photographs"):
        Split.kept(tmp_path / "split.json", [both(eyes)[0][:5], both(eyes)[1]])


@pytest.fixture(scope="module")
def study(eyes, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    run_study(options(eyes, out), Console(quiet=True))
    return out


def test_both_pyramids_go_through_both_steps_to_tables_and_a_page(study):
    coco = rows(study / "tables/coco.csv")
    told = {(row["detector"], row["on"].split(",")[0], row["kind"]) for row in coco}
    wanted = {
        (p, on, kind) for p in ("safpn", "fpn") for on in ("whole photographs", "patches") for kind in ("bbox", "segm")
    }
    assert wanted | {("centre box", "patches", kind) for kind in ("bbox", "segm")} == told
    assert {row["detector"] for row in rows(study / "tables/detection.csv")} == {"safpn", "fpn"}
    (apart,) = rows(study / "tables/difference.csv")
    assert -1 <= float(apart["difference"]) <= 1 and apart["what"] == "F1, safpn less fpn"
    page = (study / "report.html").read_text()
    assert "false alarms" in page and page.count("data:image") == 2 + 2 and "AP50" not in page[:200]
    log = rows(study / "fits/safpn-0/step_2/steps.csv")
    assert [int(row["step"]) % 10 for row in log] == [0] * len(log)
    assert (
        {"lr", "total", "classifier", "box", "mask", "objectness", "rpn", "seconds", "memory_mb"} <= set(log[0])
        if log
        else True
    )


def test_run_again_nothing_is_trained_again(study, eyes, monkeypatch):
    before = (study / "tables/coco.csv").read_text()
    monkeypatch.setattr(
        "fundoscope.learning.detector_fit._Training.run_epoch", lambda self: pytest.fail("trained again")
    )
    run_study(options(eyes, study), Console(quiet=True))
    assert (study / "tables/coco.csv").read_text() == before


def test_patches_hold_their_crossing_off_the_middle_and_as_many_hold_none(eyes, tmp_path):
    patches = CrossingStudy(options(eyes, tmp_path / "s"), Console(quiet=True)).patches
    crossed = [patch for patch in patches if "crossing" in patch.name]
    empty = [patch for patch in patches if "empty" in patch.name]
    assert len(crossed) > 4 and 0 < len(empty) <= len(crossed)
    assert all(not len(patch.truth.boxes) for patch in empty) and all(len(patch.truth.boxes) for patch in crossed)
    away = [np.abs(patch.truth.centres - PATCH / 2).max(axis=1).min() for patch in crossed]
    assert max(away) <= PATCH // 3 + 2 and max(away) > 10
    (box,) = centre_box(crossed[:1])
    assert box.boxes.tolist() == [[54, 54, 74, 74]] and box.masks.sum() == 400


def test_a_set_whose_crossings_are_not_all_known_is_left_out_with_a_word(eyes, tmp_path):
    said = []

    class Loud(Console):
        def say(self, text):
            said.append(text)

    hrf = tmp_path / "hrf"
    for name in ("images", "av", "mask"):
        (hrf / name).mkdir(parents=True)
    record = open_dataset(eyes / "test")[0]
    from PIL import Image

    Image.fromarray(record.pixels).save(hrf / "images/01_dr.jpg")
    colours = np.zeros((*record.field.shape, 3), np.uint8)
    colours[record.artery, 0], colours[record.vein, 2] = 255, 255
    Image.fromarray(colours).save(hrf / "av/01_dr.png")
    Image.fromarray(record.field).save(hrf / "mask/01_dr_mask.png")
    with pytest.raises(UsageError, match="None of the sets"):
        CrossingStudy(CrossingOptions((hrf,), tmp_path / "s"), Loud())
    assert any("left out" in line for line in said)


def test_pictures_show_each_instance_and_what_became_of_it():
    pixels = np.zeros((80, 80, 3), np.uint8)
    masks = np.zeros((2, 80, 80), bool)
    masks[0, 12:18, 12:18] = masks[1, 52:58, 52:58] = True
    found = Instances(np.array([[10.0, 10, 20, 20], [50, 50, 60, 60]]), np.array([0.9, 0.2]), masks)
    picture = coloured(pixels, found)
    assert len({tuple(picture[15, 15]), tuple(picture[55, 55]), (0, 0, 0)}) == 3
    shown = Shown("p", "p", pixels, None, Instances.true([[11, 11, 21, 21], [30, 60, 40, 70]]))
    _, counts = hits_and_misses(shown, found)
    assert counts == "1 hits, 1 missed, 1 false alarms"
    assert len(surer(found, 0.5).boxes) == 1


@pytest.fixture(scope="module")
def maps(eyes, tmp_path_factory):
    """Networks of maps of two short rounds: of the training photographs, and of the one that is tested."""
    study = Study.open(tmp_path_factory.mktemp("maps"), {"task": "crossings", "commands": []})
    crops, fit = CropOptions(side=32, number=4), FitOptions(epochs=1, batch=2, bfloat16=False, smoothing=0.0)
    drawn = Round(2, crops, fit, eyes=False)
    recipe = MapRecipe(VesselNetOptions(pretrained=False), (Round(1, crops, fit), drawn))
    (training, tested), nothing = both(eyes), []
    fit_maps(recipe, "all", [training], nothing, study)
    fit_maps(recipe.begun, "odd", [training, tested], nothing, study)
    fit_maps(recipe.begun, "even", [training, tested], nothing, study)
    return study.folder / "maps"


def test_a_detector_starts_from_maps_and_refuses_those_that_saw_the_test(eyes, maps, tmp_path):
    weights, seen = taught(maps / "all-2")
    assert len(seen) == 6 and taught(maps / "all")[1] == seen
    study = CrossingStudy(options(eyes, tmp_path / "s", maps=maps / "all-2"), Console(True))
    body = study.model("safpn", 0, 0).backbone.body.network.state_dict()
    shared = [name for name in body if name in weights]
    assert len(shared) > 100 and all(torch.equal(body[name], weights[name]) for name in shared)
    plain = (
        CrossingStudy(options(eyes, tmp_path / "p"), Console(True))
        .model("safpn", 0, 0)
        .backbone.body.network.state_dict()
    )
    assert not all(torch.equal(plain[name], weights[name]) for name in shared)
    with pytest.raises(LeakError, match="which is to be tested"):
        CrossingStudy(options(eyes, tmp_path / "l", maps=maps / "even"), Console(True))
    with pytest.raises(UsageError, match="Give a folder that the crossing task wrote"):
        taught(tmp_path)
    other = build_multiscale_body("resnet18", pretrained=False)
    with pytest.raises(UsageError, match="start from ImageNet"):
        load_vessel_net_weights(other, weights)


def test_the_command_says_what_is_wrong(eyes, tmp_path):
    call = ["nicking", "study-crossings", str(eyes / "training"), str(eyes / "test"), "--out", str(tmp_path / "s")]
    for more, words in (
        (["--epochs", "3"], "not two whole numbers"),
        (["--pyramids", "safnp"], "safpn"),
        (["--maps", "m", "--random-weights"], "Give only that one"),
    ):
        result = CliRunner().invoke(app, [*call, *more])
        assert result.exit_code != 0 and words in str(result.exception), result.exception
    assert not (tmp_path / "s").exists() or json.loads((tmp_path / "s/study.json").read_text())
