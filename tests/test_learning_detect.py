from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("faster_coco_eval")
from crosses import crossed, tiny_body
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file

from fundoscope.datasets import PhotographRecord
from fundoscope.errors import StudyError, UsageError
from fundoscope.evaluation.detection import coco_scores
from fundoscope.imaging.places import rescale_points
from fundoscope.learning import trainer
from fundoscope.learning.augment import Augment
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import (
    COLUMNS,
    DetectorFitOptions,
    detect_crossings,
    fit_detector,
    fit_step,
    read_steps,
)
from fundoscope.networks.mask_rcnn import CrossingDetector, DetectorOptions
from fundoscope.simulate import adult

CALM = Augment(rotation=0, scale=0, shift=0, field=0, colour=0, light=0, sharpness=0, noise=0, encoding=0)
SMALL = DetectorOptions(maps=24, hidden=24, rpn_samples=32, roi_samples=32, proposals=50, detections=20)
QUICK = DetectorFitOptions(epochs=3, learning_rate=3e-3, warm_up=4, augment=CALM)


def detector(options=SMALL):
    torch.manual_seed(0)
    return CrossingDetector(options, tiny_body())


def same(one, other):
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.masks, other.masks)


def drawn_where_marked(marked):
    """The marked pixels are those of dark crosses."""
    dark = marked.pixels[..., 1] == 30
    assert all(dark[mask].all() for mask in marked.masks)
    for (x1, y1, x2, y2), mask in zip(marked.boxes, marked.masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (y1, y2, x1, x2)


def test_turned_and_mirrored_the_marks_stay_on_the_crossings():
    marked = crossed(3, size=(96, 120))
    turned = marked.quarter_turned()
    assert turned.pixels.shape == (120, 96, 3)
    for each in (marked, turned, marked.mirrored(), turned.mirrored()):
        drawn_where_marked(each)
    same(turned.quarter_turned().quarter_turned().quarter_turned(), marked)
    same(marked.mirrored().mirrored(), marked)
    np.testing.assert_array_equal(turned.masks, np.rot90(marked.masks, axes=(1, 2)))


def test_doubtful_places_and_widths_of_veins_go_where_their_crossings_go():
    marked = crossed(3, size=(96, 120))
    known = replace(marked, doubtful=marked.boxes[:2].copy(), vein_widths=np.arange(3.0))
    for each in (known, known.quarter_turned(), known.mirrored(), known.cut(-10, 5, 60, 70)):
        widths = each.vein_widths.tolist()
        places = {width: tuple(box) for width, box in zip(widths, each.boxes.tolist(), strict=True)}
        assert [tuple(box) for box in each.doubtful.tolist()] == [places[w] for w in (0.0, 1.0) if w in places]
    assert np.isnan(marked.vein_widths).all() and len(marked.doubtful) == 0


@given(st.integers(-40, 110), st.integers(-40, 110), st.integers(20, 80))
def test_a_window_keeps_the_crossings_whose_middle_is_in_it(row, column, side):
    marked = crossed(5, masks=True)
    window = marked.cut(row, column, side, side)
    middles = (marked.boxes[:, :2] + marked.boxes[:, 2:]) / 2 - [column, row]
    kept = np.flatnonzero(((middles >= 0) & (middles < side)).all(axis=1))
    assert len(window.boxes) == len(kept)
    padded = np.pad(marked.masks, ((0, 0), (200, 200), (200, 200)))
    np.testing.assert_array_equal(
        window.masks, padded[kept, row + 200 : row + 200 + side, column + 200 : column + 200 + side]
    )
    assert window.inside.sum() == np.count_nonzero(window.pixels.any(axis=2))


def test_a_patch_looks_as_it_does_in_the_whole():
    marked = crossed(6, size=(180, 180))
    contrast, patch = marked.patch(90, 80, 64)
    assert contrast.shape == (3, 64, 64) and patch.inside.shape == (64, 64)
    whole = marked.contrast[:, 58:122, 48:112]
    assert np.corrcoef(contrast.numpy().ravel(), whole.numpy().ravel())[0, 1] > 0.97
    np.testing.assert_array_equal(patch.pixels, marked.pixels[58:122, 48:112])


def record(tmp_path, factor):
    """A simulated eye of DRIVE's camera, `factor` times as large."""
    eye = adult(3, camera="drive", level="perfect")
    truth = eye.truth
    shape = tuple(side * factor for side in truth.field.shape)

    def larger(picture):
        return cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_NEAREST)

    cv2.imwrite(str(tmp_path / "eye.png"), larger(eye.pixels[..., ::-1].copy()))
    field, artery, vein = (larger(m.astype(np.uint8)) > 0 for m in (truth.field, truth.artery, truth.vein))
    at = rescale_points(np.array([(c.row, c.col) for c in truth.crossings]), factor)
    widths = np.array([c.vein_width_px for c in truth.crossings]) * factor
    path = tmp_path / "eye.png"
    return PhotographRecord(
        "eye", "made", path, "eye", field, artery | vein, artery, vein, crossings=at, artery_widths=widths, vein_widths=widths
    )  # fmt: skip


def test_a_photograph_of_any_size_is_marked_at_one_scale(tmp_path):
    plain, large = (CrossingPhotograph.from_record(record(tmp_path, factor)) for factor in (1, 3))
    assert plain.scale == 1 and large.scale == pytest.approx(1 / 3, rel=0.04)
    assert len(plain.boxes) == len(large.boxes) > 5
    away = large.truth.centres - rescale_points(plain.truth.centres, 3 * large.scale)
    assert np.abs(away).max() <= 1.5
    inner = (plain.boxes.min(axis=1) > 0) & (plain.boxes[:, 2:] < plain.inside.shape[::-1]).all(axis=1)
    assert (plain.boxes[inner, 2:] - plain.boxes[inner, :2] == 20).all()
    known = record(tmp_path, 1)
    for (x1, y1, x2, y2), part in zip(plain.boxes, plain.parts, strict=True):
        np.testing.assert_array_equal(part, known.vessel[y1:y2, x1:x2])


def test_scaled_labels_grow_with_the_vein_and_hold_less(tmp_path):
    known = record(tmp_path, 1)
    paper, ours = CrossingPhotograph.from_record(known), CrossingPhotograph.from_record(known, "scaled")
    sides = [(each.boxes[:, 2:] - each.boxes[:, :2]).max(axis=1) for each in (paper, ours)]
    wide = np.flatnonzero(known.vein_widths > 6)
    assert len(wide) and (sides[1] >= sides[0]).all() and (sides[1][wide] > 30).all()
    same_side = np.flatnonzero(sides[0] == sides[1])
    assert all(not (ours.masks[k] & ~paper.masks[k]).any() for k in same_side)
    bare = CrossingPhotograph.from_record(replace(known, vessel=None, artery=None, vein=None))
    assert bare.parts is None and set(bare.target) == {"boxes", "labels"}
    with pytest.raises(UsageError, match="not all its crossings"):
        CrossingPhotograph.from_record(replace(known, complete=False))


def test_the_rate_warms_up_and_falls_in_steps():
    options = DetectorFitOptions(epochs=20, learning_rate=1.0, warm_up=4, drops=(0.5, 0.8), fall=0.1)
    assert [options.rate(step, 0) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [options.rate(99, epoch) for epoch in (9, 10, 15, 16, 19)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_patches_are_named_by_their_numbers_and_some_hold_no_crossing():
    options = DetectorFitOptions(side=48, anywhere=0.5)
    marked = crossed(7, size=(160, 160), sides=(20, 20))

    def taken(seed):
        return options.draw_example(marked, np.random.default_rng(seed))

    numbers = [len(taken(seed)[1]["boxes"]) for seed in range(40)]
    assert min(numbers) == 0 and 0.5 < np.mean(np.array(numbers) > 0) < 1
    for seed in range(3):
        (one, target), (two, _) = taken(seed), taken(seed)
        assert torch.equal(one, two) and one.shape == (3, 48, 48) and target["masks"].shape[1:] == (48, 48)
    near = replace(options, anywhere=0.0)
    assert all(len(near.draw_example(marked, np.random.default_rng(seed))[1]["boxes"]) for seed in range(20))


def test_a_few_steps_lower_the_losses_and_find_crossings_and_show_how_levels_are_weighed(tmp_path):
    photographs = [crossed(seed, sides=(14, 20, 36)) for seed in range(8)]
    model = fit_step(detector(), photographs, replace(QUICK, epochs=15), tmp_path / "fit", seed=0)
    rows = read_steps(tmp_path / "fit" / "steps.csv")
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60] and tuple(rows[0]) == COLUMNS
    for name in ("total", "classifier", "mask", "objectness", "rpn"):
        assert rows[-1][name] < 0.8 * rows[0][name], name
    losses = [sum(row[name] for name in ("classifier", "box", "mask", "objectness", "rpn")) for row in rows]
    assert losses == pytest.approx([row["total"] for row in rows], rel=1e-4)
    assert all(row["seconds"] > 0 and row["memory_mb"] > 50 for row in rows)
    unseen = [crossed(seed, sides=(14, 20, 36)) for seed in range(50, 56)]
    found = [detect_crossings(model, photograph.contrast) for photograph in unseen]
    truths = [photograph.truth for photograph in unseen]
    assert coco_scores(truths, found).ap50 > 0.5 and coco_scores(truths, found, "segm").ap50 > 0.3
    small, large = (weights_at_a_crossing(model, side) for side in (14, 36))
    apart = np.abs(small.mean(axis=0) - large.mean(axis=0)) / np.hypot(small.std(axis=0), large.std(axis=0)) * 12**0.5
    assert apart.max() > 4  # standard errors
    assert np.ptp(weights_at_a_crossing(detector(), 14)) == 0  # before any step: all alike


def weights_at_a_crossing(model, side):
    """Weights of all levels in each level at the middle of a crossing of that size, in 12 pictures: (12, 16)."""
    pictures = []
    for seed in range(70, 82):
        marked = crossed(seed, sides=(side,))
        row, column = np.rint(marked.truth.centres[0]).astype(int)
        levels = zip(model.level_weights(marked.contrast), (4, 8, 16, 32), strict=True)
        pictures.append(torch.cat([weights[:, row // s, column // s] for weights, s in levels]).numpy())
    return np.array(pictures)


class CutError(Exception):
    pass


class Breaker(Callback):
    """Stands for whatever ends a training after so many steps in all of its trainers."""

    def __init__(self, steps):
        self.left = steps

    def on_train_batch_end(self, *_):
        self.left -= 1
        if not self.left:
            raise CutError


PHOTOGRAPHS = [crossed(seed, (64, 64), (20, 14), masks=seed != 1) for seed in range(3)]
STEPS = [replace(QUICK, epochs=6), replace(QUICK, epochs=2, side=48, cuts=2)]  # 6 x 2 steps, 2 x 3 steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit_detector(detector(), PHOTOGRAPHS, STEPS, folder, seed=5).state_dict(), folder


@pytest.mark.parametrize(
    ("step", "broken"), [(11, "step_1"), (16, "step_2")]
)  # row 10 is written, its epoch is not over
def test_broken_off_in_an_epoch_it_goes_on_to_the_same_weights_and_log(whole, tmp_path, monkeypatch, step, broken):
    make, breaker = trainer.make_trainer, Breaker(step)

    def breaking(*args, callbacks=(), **options):
        return make(*args, callbacks=[*callbacks, breaker], **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "make_trainer", breaking)
        with pytest.raises(CutError):
            fit_detector(detector(), PHOTOGRAPHS, STEPS, tmp_path, seed=5)
    assert (tmp_path / broken / "last.ckpt").exists() and not (tmp_path / broken / "weights.safetensors").exists()
    again = fit_detector(detector(), PHOTOGRAPHS, STEPS, tmp_path, seed=5).state_dict()
    weights, folder = whole
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("*.part"))
    logs = [read_steps(each / "step_1" / "steps.csv") for each in (folder, tmp_path)]
    assert [row["step"] for row in logs[0]] == [10]
    for column in COLUMNS[:-2]:
        assert [row[column] for row in logs[0]] == [row[column] for row in logs[1]]


def test_examples_drawn_by_another_process_train_the_same_weights(whole, tmp_path):
    again = fit_step(detector(), PHOTOGRAPHS, STEPS[0], tmp_path, seed=5, workers=1).state_dict()
    first = load_file(whole[1] / "step_1/weights.safetensors")
    assert all(torch.equal(again[name], value) for name, value in first.items())


def test_a_training_stops_before_an_epoch_that_would_begin_too_late(tmp_path):
    with pytest.raises(StudyError, match="the time is over after 0 epochs"):
        fit_step(detector(), PHOTOGRAPHS, STEPS[0], tmp_path, seed=5, stop_at=0.0)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_finished_training_is_read(tmp_path):
    options = replace(QUICK, epochs=1)
    one = fit_step(detector(), [crossed(0)], options, tmp_path, seed=0).state_dict()
    two = fit_step(CrossingDetector(SMALL, tiny_body()), [crossed(9)], options, tmp_path, seed=3).state_dict()
    assert all(torch.equal(two[name], value) for name, value in one.items())


def test_what_cannot_be_trained_is_said(tmp_path):
    with pytest.raises(UsageError, match="no photographs"):
        fit_step(detector(), [], QUICK, tmp_path / "none", seed=0)
    with pytest.raises(StudyError, match="lower learning rate"):
        model = detector()
        torch.nn.init.constant_(model.rpn.head.cls_logits.bias, float("nan"))
        fit_step(model, [crossed(0, sides=())], QUICK, tmp_path / "nan", seed=0)
