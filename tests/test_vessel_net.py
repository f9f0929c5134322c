import importlib

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from lightning.pytorch.callbacks import Callback

from fundoscope.imaging.evened import DIAMETER, evened, scaled
from fundoscope.learning import Augment, FitOptions
from fundoscope.learning.patches import Crops, Drawn, crop_batches
from fundoscope.learning.segment import fit_vessels, vessel_loss, vessel_probabilities
from fundoscope.networks import KINDS, VesselNet, VesselNetOptions, count_parameters
from fundoscope.simulate import adult

SMALL = VesselNetOptions(widths=(8, 16), dropout=0.0)
CALM = Augment(rotation=0, scale=0, shift=0, field=0, colour=0.2, light=0, sharpness=0, noise=0, encoding=0)
QUICK = FitOptions(epochs=3, batch=4, learning_rate=1e-2, average=0.5)
CROPS = Crops(side=32, number=24, augment=CALM)


def eye(side=200):
    """A photograph with a field of `side` pixels, one artery (red) across and one vein (dark) down."""
    centre = (side / 2, side / 2)
    pixels = np.zeros((side + 8, side + 8, 3), np.uint8)
    cv2.circle(pixels, (int(centre[0]) + 4, int(centre[1]) + 4), side // 2, (170, 90, 50), -1)
    field = pixels[..., 0] > 0
    artery, vein = np.zeros((2, *field.shape), bool)
    artery[side // 3 : side // 3 + 3], vein[:, side // 2 : side // 2 + 5] = True, True
    pixels[artery & field], pixels[vein & field] = (150, 50, 40), (110, 40, 35)
    return pixels, (artery | vein) & field, artery & field, vein & field


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (1, 9)])
def test_every_pixel_gets_three_logits(shape):
    model = VesselNet(SMALL).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, *shape)).shape == (2, len(KINDS), *shape)


def test_the_usual_network_is_small_and_sees_a_window():
    model = VesselNet().eval()
    assert 0.5e6 < count_parameters(model) < 1e6
    x = torch.randn(1, 3, 256, 256, requires_grad=True)
    model(x)[0, 0, 128, 128].backward()
    seen = x.grad.abs().sum(1)[0].nonzero()
    reach = (seen.max(0).values - seen.min(0).values).min()
    assert reach > 100  # pixels: wide enough to tell an artery from its vein by what runs beside it


def test_padding_changes_nothing_far_from_the_edge():
    torch.manual_seed(0)
    model = VesselNet(SMALL).eval()
    x = torch.randn(1, 3, 63, 63)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[..., :40, :40], model(x[..., :62, :62])[..., :40, :40])


def test_a_good_answer_costs_less_and_unknown_places_cost_nothing():
    truth = torch.zeros(1, 4, 8, 8)
    truth[:, [0, 2], 3], truth[:, 3, :, :6] = 1, 1
    good = (truth[:, :3] * 2 - 1) * 6
    assert vessel_loss(good, truth) < 0.05 < 1 < vessel_loss(-good, truth)
    outside = good.clone()
    outside[..., 6:] *= -1
    torch.testing.assert_close(vessel_loss(outside, truth), vessel_loss(good, truth))


def test_a_vessel_of_unknown_kind_teaches_no_kind():
    truth = torch.zeros(1, 4, 8, 8)
    truth[:, 0, 3], truth[:, 3] = 1, 1
    logits = torch.randn(1, 3, 8, 8)
    other = logits.clone()
    other[:, 1:, 3] += 5
    torch.testing.assert_close(vessel_loss(other, truth), vessel_loss(logits, truth))


@pytest.mark.parametrize("size", [900, 300])
def test_scaled_brings_the_field_to_one_diameter(size):
    pixels, *_ = eye(size)
    small, inside = scaled(pixels)
    assert np.hypot(*np.ptp(np.argwhere(inside), axis=0)) / np.sqrt(2) == pytest.approx(0.98 * DIAMETER, rel=0.02)
    assert small.shape[:2] == inside.shape
    assert small[inside].min() > 20  # nothing of the black surround


def test_evened_forgets_light_and_colour():
    photograph = adult(3, camera="drive", level="perfect", size=300)
    inside = photograph.truth.field
    gains = np.array([0.6, 0.9, 0.7])
    other = np.round(photograph.pixels * gains + 5 * inside[..., None]).astype(np.uint8)
    one, two = (evened(pixels, inside)[1][inside] for pixels in (photograph.pixels, other))
    assert np.corrcoef(one, two)[0, 1] > 0.98
    assert abs(one.mean()) < 0.1
    assert evened(photograph.pixels, inside)[:, ~inside].max() == 0


def test_evened_does_not_see_outside_the_field():
    pixels, *_ = eye(300)
    inside = scaled(pixels)[1]
    small = scaled(pixels)[0].copy()
    before = evened(small, inside)
    small[~inside] = 255
    np.testing.assert_allclose(evened(small, inside), before, atol=1e-5)


def test_crops_are_named_by_their_numbers_and_do_not_depend_on_workers():
    drawn = [Drawn.of(*eye(side)) for side in (200, 240)]
    drawn_batches = []
    for workers in (0, 1):
        batches = crop_batches(drawn, CROPS, 6, seed=3, workers=workers)
        batches.sampler.set_epoch(2)
        drawn_batches.append([(x.sum().item(), y.sum().item()) for x, y in batches])
    assert drawn_batches[0] == drawn_batches[1]
    assert len(set(drawn_batches[0])) == 4


def test_a_crop_and_its_targets_lie_over_each_other():
    drawn = Drawn.of(*eye(540))
    for seed in range(12):
        x, y = Crops(side=96, augment=CALM).take(drawn, np.random.default_rng(seed))
        assert x.shape == (3, 96, 96) and y.shape == (4, 96, 96)
        vessel, field = y[0] > 0.9, y[3] > 0.9
        if vessel.sum() > 50:
            assert x[1][vessel & field].mean() < x[1][(y[0] < 0.1) & field].mean() - 1


def test_a_few_steps_learn_a_simulated_eye(tmp_path):
    photograph = adult(5, camera="drive", level="perfect")
    truth = photograph.truth
    drawn = [Drawn.of(photograph.pixels, truth.vessel, truth.artery, truth.vein)]
    torch.manual_seed(0)
    options = FitOptions(epochs=6, batch=4, learning_rate=1e-2, average=0.8)
    model = fit_vessels(VesselNet(SMALL), drawn, Crops(side=64, number=48, augment=CALM), options, tmp_path / "f", 0)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "f" / "epochs.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.75 * losses[0]
    found = vessel_probabilities(model, photograph.pixels)
    assert found.shape == (3, *truth.field.shape)
    hit = (found[0] > 0.5) & truth.vessel
    assert 2 * hit.sum() / ((found[0] > 0.5).sum() + truth.vessel.sum()) > 0.5


class CutError(Exception):
    pass


class Breaker(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == 1 and trainer.fit_loop.batch_idx == 1:
            raise CutError


def test_broken_off_in_an_epoch_it_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    drawn = [Drawn.of(*eye())]

    def run(folder):
        torch.manual_seed(0)
        return fit_vessels(VesselNet(SMALL), drawn, CROPS, QUICK, tmp_path / folder, seed=5).state_dict()

    whole = run("whole")
    module = importlib.import_module("fundoscope.learning.fit")
    trainer = module._trainer

    def breaking(*args, **options):
        made = trainer(*args, **options)
        made.callbacks.append(Breaker())
        return made

    with monkeypatch.context() as patch:
        patch.setattr(module, "_trainer", breaking)
        with pytest.raises(CutError):
            run("cut")
    assert (tmp_path / "cut" / "last.ckpt").exists() and not (tmp_path / "cut" / "done").exists()
    for name, value in run("cut").items():
        torch.testing.assert_close(value, whole[name], atol=1e-6, rtol=0)
