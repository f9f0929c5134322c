import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from fundoscope.errors import UsageError
from fundoscope.imaging import Standard
from fundoscope.learning import Augment, Squares
from fundoscope.learning.device_squares import DeviceSquares

STANDARD = Standard(size=64, clahe_when="never", mean=(0.1, 0.2, 0.3), deviation=(0.5, 0.6, 0.7))
MOVED = Augment(field=0, colour=0, light=0, sharpness=0, noise=0, encoding=0)
COLOURED = Augment(field=0, colour=0.8, light=0, sharpness=0, noise=0, encoding=0)


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    return [cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (0, 0), 3) for _ in range(4)]


def test_plain_photographs_are_the_same_on_a_device(pixels):
    squares, rows = Squares(pixels, np.zeros(4, np.int64), STANDARD), np.array([2, 0])
    np.testing.assert_allclose(DeviceSquares(pixels, STANDARD, "cpu").inputs(rows), squares.inputs(rows), atol=1e-5)


@pytest.mark.parametrize(("augment", "levels"), [(MOVED, 1.5), (COLOURED, 5)])
def test_views_are_those_that_the_processor_draws_but_for_rounding(pixels, augment, levels):
    squares, device = Squares(pixels, np.zeros(4, np.int64), STANDARD), DeviceSquares(pixels, STANDARD, "cpu")
    drawn = [(epoch, row, copy) for epoch in range(3) for row in range(4) for copy in range(4)]
    found = device.views(drawn, augment, seed=7).numpy()
    for x, (epoch, row, copy) in zip(found, drawn, strict=True):
        wanted = squares.input(row, np.random.default_rng((7, epoch, row, copy)), augment, turns=copy)
        apart = np.abs(x - wanted) * 0.7 * 255
        assert np.median(apart) < 1 and np.quantile(apart, 0.98) < levels  # OpenCV rounds places to 1/32 px at the edge


def test_maps_move_with_their_photographs(pixels):
    spots = [np.where(np.hypot(*(np.mgrid[:64, :64] - 20 - 5 * k)) < 9, 255, 0).astype(np.uint8) for k in range(4)]
    plain = STANDARD.model_copy(update={"mean": (0.0,) * 3, "deviation": (1.0,) * 3})
    device = DeviceSquares([np.repeat(spot[..., None], 3, 2) for spot in spots], plain, "cpu")
    drawn = [(1, row, copy) for row in range(4) for copy in (0, 1, 3)]
    views = device.views(drawn, MOVED, seed=3)[:, 0]
    small = torch.from_numpy(
        np.stack([cv2.resize(spot, (32, 32), interpolation=cv2.INTER_AREA) for spot in spots]) > 127
    )
    maps = torch.nn.functional.interpolate(device.moved(small, drawn, MOVED, seed=3)[:, None], size=64, mode="bilinear")
    assert ((maps[:, 0] > 0.5) != (views > 0.5)).float().mean() < 0.02 < (views > 0.5).float().mean() / 2


def test_what_it_cannot_draw_is_refused(pixels):
    with pytest.raises(UsageError, match="noise"):
        DeviceSquares(pixels, STANDARD, "cpu").views([(0, 0, 0)], Augment(), 0)
    with pytest.raises(UsageError, match="128 px"):
        DeviceSquares(pixels, STANDARD.model_copy(update={"size": 128}), "cpu")
    with pytest.raises(UsageError, match="Enhance"):
        DeviceSquares(pixels, STANDARD.model_copy(update={"clahe_when": "after resize"}), "cpu")
