"""The network of infants' vessels: its crops, its training that goes on, and its size."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.learning import CropOptions
from fundoscope.learning.infant_crops import InfantVesselPhotograph, draw_infant_crop
from fundoscope.learning.vessel_fit import map_loss
from fundoscope.networks import VesselNet, VesselNetOptions, count_parameters
from fundoscope.rop.vessel_training import train
from fundoscope.rop.vessel_training.plus_eyes import read_plus_eyes
from fundoscope.rop.vessel_training.recipe import read_infant_vessel_recipe
from fundoscope.simulate import infant


@pytest.fixture(scope="module")
def photograph():
    drawn = infant(0, camera="retcam", level="good", size=400)
    return InfantVesselPhotograph.from_masks(drawn.pixels, drawn.truth.vessel, drawn.truth.disc, DIAMETER)


def test_a_network_with_fewer_levels_is_smaller_and_takes_any_size():
    small = VesselNet(VesselNetOptions((4, 4, 4, 8), 0.0, False, ("vessel", "disc"))).eval()
    assert (
        small.stride == 8
        and count_parameters(small) < count_parameters(VesselNet(VesselNetOptions(pretrained=False))) / 10
    )
    with torch.no_grad():
        assert small(torch.zeros(1, 3, 37, 50)).shape == (1, 2, 37, 50)


def test_crops_hold_the_truth_where_it_is_known(photograph):
    crops = CropOptions(side=96, cut=0.0)
    contrast, targets = draw_infant_crop(photograph, crops, np.random.default_rng(1))
    assert contrast.shape == (3, 96, 96) and targets.shape == (4, 96, 96)
    again = draw_infant_crop(photograph, crops, np.random.default_rng(1))
    np.testing.assert_array_equal(contrast, again[0])
    np.testing.assert_array_equal(targets[2], targets[3])
    drawn = [draw_infant_crop(photograph, crops, np.random.default_rng(k)) for k in range(12)]
    green, known = np.stack([each[0][1] for each in drawn]), np.stack([each[1] for each in drawn])
    inside = known[:, 2] > 0.99
    vessel, beside = inside & (known[:, 0] > 0.7), inside & (known[:, 0] < 0.01)
    assert (
        vessel.sum() > 50 and green[vessel].mean() < green[beside].mean() - 0.2
    )  # vessels are darker than what lies around
    grown = InfantVesselPhotograph(photograph.pixels, photograph.planes, False)
    assert not draw_infant_crop(grown, crops, np.random.default_rng(1))[1][3].any()


def test_the_loss_counts_only_what_is_known():
    truth = (torch.rand(2, 2, 16, 16) > 0.7).float()
    weight = torch.ones_like(truth)
    weight[:, 1] = 0
    good, bad = 8 * (2 * truth - 1), 8 * (1 - 2 * truth)
    mixed = torch.stack([good[:, 0], bad[:, 1]], dim=1)
    targets = torch.cat([truth, weight], dim=1)
    assert map_loss(good, targets) < 0.1 < 1 < map_loss(bad, targets)
    torch.testing.assert_close(map_loss(mixed, targets), map_loss(good, targets))


def test_a_training_goes_on_and_ends_as_one_that_was_not_cut_off(tmp_path, photograph, monkeypatch):
    monkeypatch.setattr(train, "draw_infant", lambda look, number: (f"drawn {number}", photograph))
    recipe = read_infant_vessel_recipe("tiny")
    first = train.train_infant_vessels(recipe, tmp_path, tmp_path / "one")
    fit_batches = train.fit_batches

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train_infant_vessels(recipe, tmp_path, tmp_path / "two")
    monkeypatch.setattr(train, "fit_batches", fit_batches)
    monkeypatch.setattr(train, "gather_photographs", killed)  # they are kept
    second = train.train_infant_vessels(recipe, tmp_path, tmp_path / "two")
    weights = [torch.load(each / train.WEIGHTS, weights_only=True) for each in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (second / train.SEEN).read_text().count("drawn") == 2
    read = train.read_infant_vessel_network(recipe, second)
    assert sum(p.numel() for p in read.parameters()) > 0
    from fundoscope.errors import UsageError

    with pytest.raises(UsageError, match="cannot be read"):
        train.read_infant_vessel_network(recipe, tmp_path)


def test_eyes_with_plus_disease_are_kept_and_differ_from_those_without(tmp_path, monkeypatch):
    from fundoscope.rop.vessel_training import plus_eyes

    monkeypatch.setattr(plus_eyes, "_SIZE", 240)
    first = list(read_plus_eyes(tmp_path, 5, 2))
    monkeypatch.setattr(plus_eyes, "draw_plus_photograph", None)  # kept ones are not drawn again
    again = list(read_plus_eyes(tmp_path, 5, 2))
    assert [eye.file for eye in first] == [eye.file for eye in again] and first[0].file != first[1].file
    assert first[0].plus == "none" and first[0].planes.shape[2] == 3


def test_the_recipe_that_ships_never_opens_the_test_photographs():
    folders = [each.folder for each in read_infant_vessel_recipe("usual").sets]
    assert folders == ["drive_av/training", "chase_db1"]
