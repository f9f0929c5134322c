import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_maps_bundle import small_vessel_net

from fundoscope.datasets import PhotographRecord
from fundoscope.imaging.local_contrast import DIAMETER, local_contrast, scale_to_diameter
from fundoscope.learning import Augment, FitOptions
from fundoscope.learning.vessel_crops import CropOptions, VesselPhotograph, crop_batches
from fundoscope.learning.vessel_fit import fit_vessels, predict_vessel_probabilities, vessel_loss
from fundoscope.networks import VESSEL_MAPS, VesselNet, VesselNetOptions, count_parameters
from fundoscope.simulate import adult

SMALL = VesselNetOptions(widths=(8, 8, 8, 8, 12, 16), dropout=0.0, pretrained=False)
CALM = Augment(rotation=0, scale=0, shift=0, field=0, colour=0.2, light=0, sharpness=0, noise=0, encoding=0)
CROPS = CropOptions(side=32, number=24, augment=CALM)


def eye(side=200):
    """A photograph with a field of `side` pixels, one artery (red) across and one vein (dark) down."""
    centre = (side / 2, side / 2)
    pixels = np.zeros((side + 8, side + 8, 3), np.uint8)
    cv2.circle(pixels, (int(centre[0]) + 4, int(centre[1]) + 4), side // 2, (170, 90, 50), -1)
    field = pixels[..., 0] > 0
    artery, vein = np.zeros((2, *field.shape), bool)
    artery[side // 3 : side // 3 + 3], vein[:, side // 2 : side // 2 + 5] = True, True
    pixels[artery & field], pixels[vein & field] = (150, 50, 40), (110, 40, 35)
    return pixels, field, artery & field, vein & field


def record(folder, side=200, **changed):
    """The record of that eye, its photograph in a file."""
    pixels, field, artery, vein = eye(side)
    path = folder / f"{side}.png"
    cv2.imwrite(str(path), pixels[..., ::-1])
    known = {"vessel": artery | vein, "artery": artery, "vein": vein, "crossing_map": artery & vein}
    at = np.argwhere(artery & vein).mean(axis=0, keepdims=True)
    return PhotographRecord(path.stem, "drawn", path, path.stem, field, **{**known, "crossings": at, **changed})


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (1, 9)])
def test_every_pixel_gets_a_logit_a_kind(shape):
    model = VesselNet(SMALL).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, *shape)).shape == (2, len(VESSEL_MAPS), *shape)


def test_the_usual_network_is_small_and_sees_a_window():
    model = VesselNet(VesselNetOptions(pretrained=False)).eval()
    assert count_parameters(model) == 1_480_436
    x = torch.randn(1, 3, 256, 256, requires_grad=True)
    model(x)[0, 0, 128, 128].backward()
    seen = x.grad.abs().sum(1)[0].nonzero()
    reach = (seen.max(0).values - seen.min(0).values).min()
    assert reach > 100  # pixels: wide enough to tell an artery from its vein by what runs beside it


@pytest.mark.parametrize(("shape", "whole"), [((63, 40), (64, 64)), ((32, 65), (32, 96))])
def test_edges_are_repeated_up_to_a_multiple_of_the_stride(shape, whole):
    torch.manual_seed(0)
    model = VesselNet(SMALL).eval()
    x = torch.randn(1, 3, *shape)
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (0, whole[0] - shape[0]), (0, whole[1] - shape[1])), mode="edge")
    assert model.stride == 32
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(torch.from_numpy(wide))[..., : shape[0], : shape[1]])


def targets(rows=8):
    """A vein across, all else empty; the last two columns outside the field."""
    truth, counts = torch.zeros(2, 1, 4, rows, rows)
    truth[:, [0, 2], 3], counts[..., :6] = 1, 1
    return truth, counts


def test_a_good_answer_costs_less_and_unknown_places_cost_nothing():
    truth, counts = targets()
    both, good = torch.cat([truth, counts], 1), (truth * 2 - 1) * 6
    assert vessel_loss(good, both) < 0.05 < 1 < vessel_loss(-good, both)
    outside = good.clone()
    outside[..., 6:] *= -1
    torch.testing.assert_close(vessel_loss(outside, both), vessel_loss(good, both))


def test_a_kind_that_is_known_nowhere_costs_nothing():
    truth, counts = targets()
    counts[:, 3] = 0
    both, logits = torch.cat([truth, counts], 1), torch.randn(1, 4, 8, 8)
    other = logits.clone()
    other[:, 3] += 5
    torch.testing.assert_close(vessel_loss(other, both), vessel_loss(logits, both))


def test_which_of_the_two_a_vessel_is_counts_however_few_its_pixels_are():
    truth, weight = torch.zeros(1, 4, 32, 32), torch.ones(1, 4, 32, 32)
    truth[:, :2, 3, 4:8] = 1  # four pixels of an artery among a thousand
    targets = torch.cat([truth, weight], dim=1)
    right = torch.where(truth > 0, 6.0, -6.0)
    wrong = right.clone()
    wrong[:, 1:3] = right[:, [2, 1]]
    both = right.clone()
    both[:, 2] = right[:, 1]
    assert vessel_loss(right, targets) + 5 < vessel_loss(wrong, targets)
    assert vessel_loss(right, targets) + 0.6 < vessel_loss(both, targets) < vessel_loss(wrong, targets) - 4
    unknown = torch.cat([truth, weight * torch.tensor([1, 0, 0, 1])[None, :, None, None]], dim=1)
    torch.testing.assert_close(vessel_loss(right, unknown), vessel_loss(wrong, unknown))


def test_a_vessel_of_unknown_kind_teaches_no_kind(tmp_path):
    *_, artery, vein = eye(540)
    unknown = record(tmp_path, 540, artery=artery & ~vein, vein=np.zeros_like(vein))
    _, y = CropOptions(side=400, augment=CALM).draw_crop(
        VesselPhotograph.from_record(unknown), np.random.default_rng(4)
    )
    vessel, counts = y[0] > 0.9, y[4:]
    inside = counts[0] == 1
    alone = vessel & (y[1] < 0.1) & inside
    assert alone.any() and counts[1:3, alone].max() < 0.1
    assert counts[1:3][:, (y[0] == 0) & inside].min() == 1


@pytest.mark.parametrize(
    ("changed", "known"),
    [({}, (True, True, True)), ({"complete": False}, (True, True, False)), ({"artery": None, "vein": None}, (True, False, True)),
     ({"vessel": None, "artery": None, "vein": None}, (False, False, True)), ({"crossings": None}, (True, True, False))],
)  # fmt: skip
def test_what_a_set_does_not_say_counts_nothing(tmp_path, changed, known):
    drawn = VesselPhotograph.from_record(record(tmp_path, 540, **changed))
    _, y = CropOptions(side=400, augment=CALM).draw_crop(drawn, np.random.default_rng(1))
    assert (bool(y[4].any()), bool(y[5].any()), bool(y[7].any())) == known
    assert bool(y[6].any()) == known[1]


def test_where_both_kinds_may_mean_doubt_neither_is_taught(tmp_path):
    sure, unsure = (VesselPhotograph.from_record(record(tmp_path, 540, complete=whole)) for whole in (True, False))
    both = [(d.planes[..., 1] > 127) & (d.planes[..., 2] > 127) for d in (sure, unsure)]
    assert both[0].any() and not both[1].any()
    np.testing.assert_array_equal(sure.planes[..., 0], unsure.planes[..., 0])


def test_a_crossing_is_a_bump_where_both_kinds_lie(tmp_path):
    drawn, seen = VesselPhotograph.from_record(record(tmp_path, 900)), 0
    for seed in range(12):
        _, y = CropOptions(side=400, augment=CALM).draw_crop(drawn, np.random.default_rng(seed))
        if y[3].max() > 0.95:
            seen += 1
            row, column = np.unravel_index(y[3].argmax(), y[3].shape)
            near = (slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3))
            assert y[1][near].max() > 0.5 and y[2][near].max() > 0.5
            assert y[7][row, column] > 5 * y[7][y[4] > 0.99].min()
    assert seen > 3


@pytest.mark.parametrize("size", [900, 300])
def test_scaled_brings_the_field_to_one_diameter(size):
    pixels, *_ = eye(size)
    small, inside = scale_to_diameter(pixels)
    assert np.hypot(*np.ptp(np.argwhere(inside), axis=0)) / np.sqrt(2) == pytest.approx(0.98 * DIAMETER, rel=0.02)
    assert small.shape[:2] == inside.shape
    assert small[inside].min() > 20  # nothing of the black surround


def test_evened_forgets_light_and_colour():
    photograph = adult(3, camera="drive", level="perfect", size=300)
    inside = photograph.truth.field
    gains = np.array([0.6, 0.9, 0.7])
    other = np.round(photograph.pixels * gains + 5 * inside[..., None]).astype(np.uint8)
    one, two = (local_contrast(pixels, inside)[1][inside] for pixels in (photograph.pixels, other))
    assert np.corrcoef(one, two)[0, 1] > 0.98
    assert abs(one.mean()) < 0.1
    assert local_contrast(photograph.pixels, inside)[:, ~inside].max() == 0


def test_evened_does_not_see_outside_the_field():
    pixels, *_ = eye(300)
    inside = scale_to_diameter(pixels)[1]
    small = scale_to_diameter(pixels)[0].copy()
    before = local_contrast(small, inside)
    small[~inside] = 255
    np.testing.assert_allclose(local_contrast(small, inside), before, atol=1e-5)


def test_crops_are_named_by_their_numbers_and_do_not_depend_on_workers(tmp_path):
    drawn = [VesselPhotograph.from_record(record(tmp_path, side)) for side in (200, 240)]
    drawn_batches = []
    for workers in (0, 1):
        batches = crop_batches(drawn, CROPS, 6, seed=3, workers=workers)
        batches.sampler.set_epoch(2)
        drawn_batches.append([(x.sum().item(), y.sum().item()) for x, y in batches])
    assert drawn_batches[0] == drawn_batches[1]
    assert len(set(drawn_batches[0])) == 4


def test_a_crop_and_its_targets_lie_over_each_other(tmp_path):
    drawn, with_vessels = VesselPhotograph.from_record(record(tmp_path, 540)), 0
    for seed in range(12):
        x, y = CropOptions(side=96, augment=CALM).draw_crop(drawn, np.random.default_rng(seed))
        assert x.shape == (3, 96, 96) and y.shape == (8, 96, 96)
        vessel, field = y[0] > 0.9, y[4] > 0.9
        if vessel.sum() > 50:
            with_vessels += 1
            assert x[1][vessel & field].mean() < x[1][(y[0] < 0.1) & field].mean() - 1
    assert with_vessels >= 3


def test_a_few_steps_learn_a_simulated_eye(tmp_path):
    photograph = adult(5, camera="drive", level="perfect")
    truth = photograph.truth
    path = tmp_path / "eye.png"
    cv2.imwrite(str(path), photograph.pixels[..., ::-1])
    masks = {"vessel": truth.vessel, "artery": truth.artery, "vein": truth.vein}
    drawn = [VesselPhotograph.from_record(PhotographRecord("eye", "simulated", path, "eye", truth.field, **masks))]
    torch.manual_seed(0)
    options = FitOptions(epochs=12, batch=4, learning_rate=1e-2, average=0.8)
    crops = CropOptions(side=64, number=48, augment=CALM)
    model = fit_vessels(small_vessel_net(), drawn, crops, options, tmp_path / "f", 0)
    losses = [float(line.split(",")[1]) for line in (tmp_path / "f" / "epochs.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.75 * losses[0]
    found = predict_vessel_probabilities(model, photograph.pixels)
    assert found.shape == (4, *truth.field.shape)
    hit = (found[0] > 0.5) & truth.vessel
    assert 2 * hit.sum() / ((found[0] > 0.5).sum() + truth.vessel.sum()) > 0.5
