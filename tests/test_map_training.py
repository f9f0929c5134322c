"""The networks of vessel maps: photographs and packs, the ensemble that teaches, soft maps, rounds, and what is counted."""

import argparse
import csv
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from crosses import tiny_body
from test_maps_bundle import SMALL, small_vessel_net

from fundoscope.errors import UsageError
from fundoscope.learning import FitOptions
from fundoscope.learning.fit import TrainingData, fit_batches
from fundoscope.learning.vessel_crops import CropOptions, VesselPhotograph, vessel_widths
from fundoscope.learning.vessel_fit import ensemble_loss, learn_from_both, predict_turned_maps, vessel_loss
from fundoscope.networks import VesselEnsemble, vessel_net
from fundoscope.networks.vessel_net import SYMMETRIES, turn, turn_back
from fundoscope.nicking.crossing_study.map_counts import choose_threshold, count_maps
from fundoscope.nicking.crossing_study.map_photographs import MapPhotograph, draw_simulated, read_pack, write_pack
from fundoscope.nicking.crossing_study.vessel_maps import (
    COUNTS,
    WEIGHTS,
    Deadline,
    leave_out,
    mix_photographs,
    read_vessel_map_weights,
    train_one,
)
from fundoscope.nicking.recipes.crossings import read_map_recipe

MAPS = """
base = "tiny"
sets = [{camera = "drive", folder = "a"}, {camera = "stare", folder = "b"}]
simulated = [{camera = "drive", photographs = 1, seed = 1, size = 120}, {camera = "clipped", photographs = 1, seed = 2, size = 120}]
"""


def drawn_photograph(known=(True, True), side=96):
    """A vein of six and an artery of two pixels on grey."""
    rng = np.random.default_rng(0)
    planes = np.zeros((side, side, 4), np.uint8)
    row, column = side // 3, side * 5 // 8
    planes[row : row + 6, :, [0, 2]], planes[:, column : column + 2, [0, 1]], planes[..., 3] = 255, 255, 255
    pixels = (rng.normal(150, 3, (side, side, 3)) - 0.2 * planes[..., :1]).clip(0, 255).astype(np.uint8)
    return VesselPhotograph(pixels, planes, np.array([[row + 2.5, column + 0.5]]) if known[1] else None, known)


@pytest.fixture(scope="module")
def photographs():
    """One of each camera, and the simulated ones of the recipe, which look like DRIVE and like no camera of the sets."""
    alone = MapPhotograph("s/1", "stare", "s/1", False, drawn_photograph((True, False)))
    recipe = read_map_recipe("tiny").model_copy(update={"simulated": read_map_recipe("tiny").simulated[1:]})
    (cut,) = draw_simulated(recipe)
    own = MapPhotograph("d/1", "drive", "d/1", False, drawn_photograph())
    return [own, alone, cut, replace(own, name="simulated drive", simulated=True)]


def test_a_pack_gives_back_what_was_packed(photographs, tmp_path):
    body = small_vessel_net().body.state_dict()
    assert write_pack(tmp_path / "p.zip", photographs, body) == 4
    found, weights = read_pack(tmp_path / "p.zip")
    for one, two in zip(photographs, found, strict=True):
        assert (one.name, one.camera, one.group, one.simulated) == (two.name, two.camera, two.group, two.simulated)
        assert one.photograph.known == two.photograph.known
        assert np.array_equal(one.photograph.planes, two.photograph.planes)
        assert np.abs(one.photograph.pixels.astype(int) - two.photograph.pixels).mean() < 3
        if one.photograph.crossings is not None:
            np.testing.assert_allclose(one.photograph.crossings, two.photograph.crossings, atol=0.01)
    assert found[1].photograph.crossings is None
    assert all(torch.allclose(weights[name].float(), value.float(), atol=1e-2) for name, value in body.items())
    (tmp_path / "no.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match="is no pack of photographs"):
        read_pack(tmp_path / "no.zip")


def test_nothing_is_on_the_maps_of_a_cut_field_beyond_it(photographs):
    cut = photographs[2].photograph
    outside = cut.planes[..., 3] == 0
    rows = np.flatnonzero((~outside).any(axis=1))
    assert cut.planes[outside][:, :3].mean() < 2  # the rim's own blur apart
    assert (~outside)[rows[0]].sum() > 0.5 * (~outside).sum(axis=1).max(), "flat above, so wide at once"


def test_a_camera_is_left_out_with_its_look_and_kinds_weigh_twice(photographs):
    assert [each.name for each in leave_out(photographs, ["drive"])] == ["s/1", photographs[2].name]
    assert leave_out(photographs, []) == photographs
    mixed = mix_photographs(photographs, False, 2.0)
    assert [each.known[1] for each in mixed] == [True, False, True]
    assert len(mix_photographs(photographs, True, 2.0)) == 2 + 3


@pytest.mark.parametrize("way", range(SYMMETRIES))
def test_each_way_is_undone_and_differs_from_all_others(way):
    x = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    assert torch.equal(turn_back(turn(x, way), way), x)
    square = x.reshape(1, 1, 24)[..., :16].reshape(1, 1, 4, 4)
    assert sum(torch.equal(turn(square, way), turn(square, other)) for other in range(SYMMETRIES)) == 1


def test_an_ensemble_answers_with_the_mean_and_each_member_is_taught_alike():
    torch.manual_seed(0)
    members = [small_vessel_net() for _ in range(2)]
    ensemble, x = VesselEnsemble(members), torch.randn(2, 3, 32, 32)
    assert ensemble.train()(x).shape == (4, 4, 32, 32)
    y = torch.cat([(torch.rand(2, 4, 32, 32) > 0.8).float(), torch.ones(2, 4, 32, 32)], dim=1)
    logits = torch.randn(4, 4, 32, 32)
    torch.testing.assert_close(ensemble_loss(2, logits, y), vessel_loss(logits[:2], y) + vessel_loss(logits[2:], y))
    ensemble.eval()
    with torch.no_grad():
        mean = torch.stack([torch.sigmoid(member(x)) for member in members]).mean(0)
        torch.testing.assert_close(torch.sigmoid(ensemble(x)), mean, atol=1e-5, rtol=0)


def test_maps_of_all_ways_are_the_mean_of_each():
    network, x = small_vessel_net().eval(), np.random.default_rng(1).normal(size=(3, 40, 64)).astype(np.float32)
    each = [predict_turned_maps(network, x, (way,)) for way in range(SYMMETRIES)]
    np.testing.assert_allclose(predict_turned_maps(network, x, range(SYMMETRIES)), np.mean(each, axis=0), atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(each[0], torch.sigmoid(network(torch.from_numpy(x)[None]))[0].numpy(), atol=1e-5)
    assert np.abs(each[0] - each[3]).max() > 1e-4


def test_soft_maps_teach_where_no_truth_is_known():
    soft = torch.full((1, 4, 8, 8), 0.02)
    soft[:, 0, 3], soft[:, 1, 3], soft[:, 2, 3] = 0.9, 0.7, 0.2
    unknown, known = torch.zeros(1, 8, 8, 8), torch.ones(1, 1, 8, 8)
    targets = torch.cat([unknown, soft, known], dim=1)
    loss = [float(learn_from_both(0.5, torch.logit(p), targets)) for p in (soft, soft[:, [0, 2, 1, 3]], soft * 0 + 0.5)]
    assert loss[0] < loss[1] and loss[0] < loss[2]
    none = torch.cat([unknown, soft, 0 * known], dim=1)
    assert float(learn_from_both(0.5, torch.randn(1, 4, 8, 8), none)) < 0.51  # soft Dice of nothing aside


def test_soft_maps_are_warped_as_the_truth_is():
    own = drawn_photograph(side=300)
    soft = np.dstack([own.planes[..., :3], np.zeros((300, 300), np.uint8)])
    for seed in range(4):
        _, y = CropOptions(side=96).draw_crop(replace(own, soft=soft), np.random.default_rng(seed))
        assert y.shape == (13, 96, 96)
        np.testing.assert_array_equal(y[8:11], y[:3])
        np.testing.assert_array_equal(y[12], y[4])


def test_beyond_a_cut_there_is_no_vessel_but_the_place_counts():
    own, crops = drawn_photograph(side=300), CropOptions(side=96, cut=1.0)
    seen = 0
    for seed in range(24):
        plain = replace(crops, cut=0.0)
        (_, cut), (_, whole) = (each.draw_crop(own, np.random.default_rng(seed)) for each in (crops, plain))
        assert cut[4].sum() == whole[4].sum() and (cut[:4] <= whole[:4] + 1e-6).all()
        seen += cut[0].sum() < whole[0].sum()
    assert seen > 2


def test_thin_vessels_weigh_more_in_the_kinds_alone():
    own = drawn_photograph(side=300)
    one, plain = (
        CropOptions(side=288, thin=thin, zoom=0).draw_crop(own, np.random.default_rng(3))[1] for thin in (0.5, 0.0)
    )
    np.testing.assert_array_equal(one[[0, 1, 2, 3, 4, 7]], plain[[0, 1, 2, 3, 4, 7]])
    thin, wide = ((plain[k] > 0.7) & (plain[3] < 0.01) & (plain[5] > 0) for k in (1, 2))
    assert thin.any() and wide.any()
    ratio = one[5] / np.maximum(plain[5], 1e-6)
    assert ratio[thin].mean() > 1.2 > 1.0 > ratio[wide].mean() > 0.7
    empty = (plain[0] == 0) & (plain[5] > 0)
    assert (ratio[empty] == 1).all()


@pytest.mark.parametrize("width", [1, 3, 5, 7])
def test_the_width_of_a_straight_vessel(width):
    vessel = np.zeros((40, 40), np.float32)
    vessel[10 : 10 + width] = 1
    assert vessel_widths(vessel)[vessel > 0] == pytest.approx(width, abs=0.3)


def test_the_time_that_is_left_is_shared_by_cost(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    deadline = Deadline.after(2.0)
    assert deadline.seconds_for([3, 1]) == pytest.approx(90)
    now[0] = 200.0
    assert deadline.seconds_for([3, 1]) == pytest.approx(15)
    now[0] = 300.0
    assert deadline.seconds_for([1]) == 1.0 and Deadline.after(None).seconds_for([1]) is None


def test_a_fit_with_a_deadline_ends_then_with_a_low_rate(tmp_path):
    data = torch.utils.data.TensorDataset(torch.randn(64, 4, 1, 1), torch.randint(0, 2, (64,)))
    batches = torch.utils.data.DataLoader(data, batch_size=2)
    options = FitOptions(epochs=100_000, batch=2, seconds=1.0, average=0.5)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    fit_batches(model, TrainingData(batches, torch.nn.functional.cross_entropy), options, tmp_path, 0)
    rows = list(csv.DictReader((tmp_path / "epochs.csv").open()))
    assert 0 < len(rows) < 1000 and float(rows[-1]["lr"]) < 0.02 * options.learning_rate
    assert max(float(row["lr"]) for row in rows) > 0.5 * options.learning_rate


def test_right_maps_count_fully_and_exchanged_kinds_do_not():
    own = drawn_photograph()
    maps = np.concatenate([own.planes[..., :3].transpose(2, 0, 1) / 255, np.zeros((1, 96, 96))]).astype(np.float32)
    counts = count_maps(maps, own.planes, (True, True), 0.5)
    assert counts["both"] == counts["found"] == counts["true"] > 0
    assert counts["right"] == counts["kinds"] > counts["thin_right"] == counts["thin"] > 0
    exchanged = count_maps(maps[[0, 2, 1, 3]], own.planes, (True, True), 0.5)
    assert exchanged["right"] == 0 and exchanged["both"] == counts["both"]
    assert count_maps(maps, own.planes, (False, False), 0.5)["right"] == ""
    cut = own.planes.copy()
    cut[:40, :, 3] = 0
    assert count_maps(maps, cut, (True, True), 0.5)["beyond_most"] == 1.0
    assert choose_threshold([(0.6 * maps[0] + 0.3, own.planes)], (0.2, 0.5, 0.95)) == 0.5


@pytest.fixture
def quick(monkeypatch):
    """Networks on a body of a few convolutions, and one small photograph of a cut field."""
    monkeypatch.setattr(vessel_net, "build_multiscale_body", tiny_body)
    small = {"size": 120, "photographs": 1}
    name = "fundoscope.nicking.crossing_study.vessel_maps.CUT_FLAT"
    monkeypatch.setattr(name, read_map_recipe("tiny").simulated[1].model_copy(update=small))


def test_a_training_leaves_weights_what_they_saw_and_what_was_counted(quick, photographs, tmp_path):
    (tmp_path / "maps.toml").write_text(MAPS)
    write_pack(tmp_path / "p.zip", photographs)
    given = argparse.Namespace(
        recipe=str(tmp_path / "maps.toml"), without=["drive"], minutes=None, out=tmp_path / "run",
        data=[tmp_path / "p.zip"], workers=0,
    )  # fmt: skip
    result = train_one(given)
    weights, seen = read_vessel_map_weights(result)
    assert seen == {"s/1"}
    rounds = [torch.load(tmp_path / f"run/student_{k}" / WEIGHTS, weights_only=True) for k in (1, 2)]
    assert not torch.equal(rounds[0]["head.weight"], rounds[1]["head.weight"])
    torch.testing.assert_close(weights["head.weight"], rounds[1]["head.weight"], atol=1e-3, rtol=1e-2)
    rows = list(csv.DictReader((result / COUNTS).open()))
    assert len(rows) == 2 * 2 * 2 and {row["network"] for row in rows} == {"teacher", "student"}
    assert {row["photograph"] for row in rows} == {"d/1", "simulated clipped 2/0"}
    assert [row["round"] for row in csv.DictReader((result / "losses.csv").open())] == [
        "teacher_1", "teacher_2", "student_1", "student_2"
    ]  # fmt: skip
    before = (tmp_path / "run/student_2" / WEIGHTS).stat().st_mtime
    assert torch.equal(read_vessel_map_weights(train_one(given))[0]["head.weight"], weights["head.weight"])
    assert (tmp_path / "run/student_2" / WEIGHTS).stat().st_mtime == before
    with pytest.raises(UsageError, match="no camera 'driv': did you mean 'drive'"):
        train_one(argparse.Namespace(**{**vars(given), "without": ["driv"]}))


def test_the_body_of_a_pack_starts_every_member(quick, photographs, tmp_path):
    from fundoscope.nicking.crossing_study.vessel_maps import MapTraining
    from fundoscope.studies import Study

    recipe = read_map_recipe("tiny")
    recipe = recipe.model_copy(update={"network": replace(SMALL, pretrained=True)})
    body = {name: torch.full_like(value, 2) for name, value in small_vessel_net().body.state_dict().items()}
    study = Study.open(tmp_path / "s", {"commands": []})
    network = MapTraining(recipe, photographs, study, body=body).first_network()
    assert all(torch.equal(value, body[name]) for name, value in network.body.state_dict().items())


def test_depthwise_convolutions_work_in_32_bits_only_within():
    from fundoscope.learning.fit import depthwise_in_32_bits

    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.Conv2d(4, 4, 1))
    x = torch.randn(1, 4, 8, 8)

    def kinds():
        with torch.autocast("cpu", torch.bfloat16):
            return [network[0](x).dtype, network[1](x).dtype]

    with depthwise_in_32_bits(network):
        assert kinds() == [torch.float32, torch.bfloat16]
    assert kinds() == [torch.bfloat16, torch.bfloat16]
