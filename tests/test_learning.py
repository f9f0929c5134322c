import csv
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from fundoscope.errors import UsageError
from fundoscope.imaging import Standard
from fundoscope.learning import SQUARE, UNLABELLED, Augment, FitOptions, Squares, fit, predict_logits
from fundoscope.learning.squares import Order, training_batches
from fundoscope.networks import build

STANDARD = Standard(size=32, clahe_when="never")
QUICK = FitOptions(epochs=4, patience=4, batch=8, learning_rate=2e-2, average=0.5, augment=Augment(field=0, colour=0.2))


def squares(n=24, seed=0):
    """Discs on black; class 1 carries a bright bar."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    pictures = []
    for label in labels:
        picture = np.full((SQUARE, SQUARE, 3), (160, 90, 60), np.uint8)
        picture = picture + rng.integers(0, 20, picture.shape).astype(np.uint8)
        if label:
            picture[140:180, 40:280] = 250
        pictures.append(picture)
    return Squares(pictures, labels.astype(np.int64), STANDARD)


def test_augmentation_is_named_by_its_generator():
    picture = squares(2).pixels[1]
    augment = Augment()
    one, same = (augment(picture, np.random.default_rng((3, 1, 4))) for _ in range(2))
    other = augment(picture, np.random.default_rng((3, 1, 5)))
    assert one.dtype == np.uint8 and one.shape == picture.shape
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_augmentation_off_changes_nothing_but_by_a_mirror():
    off = Augment(rotation=0, scale=0, shift=0, field=0, colour=0, light=0, sharpness=0, noise=0, encoding=0)
    picture = squares(2).pixels[1]
    assert np.abs(off(picture, np.random.default_rng(0)).astype(int) - picture).max() <= 1


def test_field_shapes_only_blacken():
    only = Augment(rotation=0, scale=0, shift=0, field=1, colour=0, light=0, sharpness=0, noise=0, encoding=0)
    picture = squares(2).pixels[0]
    shares = []
    for seed in range(20):
        out = only(picture, np.random.default_rng(seed))
        black = (out == 0).all(axis=2)
        shares.append(black.mean())
        assert np.array_equal(out[~black], picture[~black])
    assert 0.1 < min(shares) < max(shares) < 0.6


def test_batches_are_even_and_do_not_depend_on_workers():
    data = squares(20)
    rows = [*np.arange(20)[data.labels[:20] == 0].tolist(), 1, 3]  # ten of class 0, two of class 1
    drawn = []
    for workers in (0, 1):
        batches = training_batches(data, np.array(rows), Augment(), 5, seed=7, workers=workers)
        batches.sampler.set_epoch(3)
        drawn.append([(x.sum().item(), y.tolist()) for x, y in batches])
    assert drawn[0] == drawn[1]
    labels = [label for _, ys in drawn[0] for label in ys]
    assert labels.count(0) == labels.count(1) == 10


def test_fit_learns_what_is_there_and_logs_each_epoch(tmp_path):
    data = squares(32)
    torch.manual_seed(0)
    model = fit(build("tiny"), data, np.arange(24), np.arange(24, 32), QUICK, tmp_path / "f", seed=0)
    logits = predict_logits(model, data.inputs(np.arange(24, 32)))
    assert ((logits[:, 1] > logits[:, 0]) == data.labels[24:32]).all()
    rows = list(csv.DictReader((tmp_path / "f" / "epochs.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(len(rows)))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert not (tmp_path / "f" / "last.ckpt").exists()


def test_a_good_network_costs_less_than_a_bad_one(tmp_path):
    data = squares(32)
    labels = {"true": data.labels, "false": 1 - data.labels}
    losses = {}
    for name, y in labels.items():
        torch.manual_seed(0)
        given = replace(data, labels=np.concatenate([y[:24], data.labels[24:]]))
        fit(build("tiny"), given, np.arange(24), np.arange(24, 32), QUICK, tmp_path / name, seed=0)
        rows = list(csv.DictReader((tmp_path / name / "epochs.csv").open()))
        losses[name] = float(rows[-1]["inner_loss"])
    assert losses["true"] < losses["false"]


def test_without_inner_rows_it_trains_to_the_end(tmp_path):
    data = squares(16)
    fit(build("tiny"), data, np.arange(16), np.array([], np.int64), QUICK, tmp_path / "f", seed=0)
    rows = list(csv.DictReader((tmp_path / "f" / "epochs.csv").open()))
    assert len(rows) == QUICK.epochs and rows[-1]["inner_loss"] == "nan"


KILLED = """
    import os, sys
    sys.path.insert(0, {tests!r})
    import numpy as np, torch
    from pathlib import Path
    from lightning.pytorch.callbacks import Callback
    import importlib
    module = importlib.import_module("fundoscope.learning.fit")
    from test_learning import QUICK, squares
    from fundoscope.networks import build
    torch.set_num_threads(1)
    if sys.argv[2] == "kill":
        class Stop(Callback):
            def on_train_batch_end(self, trainer, *_):
                if trainer.current_epoch == 2 and trainer.fit_loop.batch_idx == 1:
                    os.kill(os.getpid(), 9)
        trainer = module._trainer
        def killed(*args, **kw):
            made = trainer(*args, **kw)
            made.callbacks.append(Stop())
            return made
        module._trainer = killed
    torch.manual_seed(0)
    data = squares(32)
    model = module.fit(build("tiny"), data, np.arange(24), np.arange(24, 32), QUICK, Path(sys.argv[1]), seed=5)
    np.save(sys.argv[1] + ".npy", module.predict_logits(model, data.inputs(np.arange(24, 32))))
"""


def test_killed_in_an_epoch_it_goes_on_and_ends_the_same(tmp_path):
    from pathlib import Path

    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(KILLED.format(tests=str(Path(__file__).parent))))

    def run(folder, how):
        return subprocess.run(
            [sys.executable, str(script), str(tmp_path / folder), how], capture_output=True, text=True
        )

    whole = run("whole", "run")
    assert whole.returncode == 0, whole.stderr
    assert run("cut", "kill").returncode == -9
    assert (tmp_path / "cut" / "last.ckpt").exists()
    again = run("cut", "run")
    assert again.returncode == 0, again.stderr
    np.testing.assert_allclose(np.load(tmp_path / "cut.npy"), np.load(tmp_path / "whole.npy"), atol=1e-6)
    assert (tmp_path / "cut" / "epochs.csv").read_text() == (tmp_path / "whole" / "epochs.csv").read_text()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_options_are_plain_json(smoothing):
    import json

    values = json.loads(json.dumps(FitOptions(smoothing=smoothing).as_json()))
    assert values["smoothing"] == smoothing and values["augment"]["rotation"] == 180.0


def test_both_classes_come_equally_often_and_copies_are_told_apart():
    labels = np.array([0] * 7 + [1] * 3)
    order = Order(np.arange(10), labels, seed=1)
    drawn = list(order)
    assert len(drawn) == len(order) == 14
    assert len(set(drawn)) == 14  # a repeated row has another number of copy, and so another view
    assert sum(labels[row] for _, row, _ in drawn) == 7
    assert {copy for _, row, copy in drawn if labels[row] == 1} == {0, 1, 2}
    assert {copy for _, row, copy in drawn if labels[row] == 0} == {0}


def test_photographs_without_a_label_come_as_often_as_labelled_ones():
    labels = np.array([0, 0, 1, *([UNLABELLED] * 20)])
    order = Order(np.arange(23), labels, seed=1)
    first = [row for _, row, _ in order]
    assert len(first) == len(order) == 8 and sum(row > 2 for row in first) == 4
    order.set_epoch(1)
    assert {row for _, row, _ in order if row > 2} != {row for row in first if row > 2}


def test_a_copy_of_the_rarer_class_stands_turned():
    pixels = [np.arange(48 * 48 * 3, dtype=np.uint32).reshape(48, 48, 3).astype(np.uint8)]
    squares = Squares(pixels, np.array([1]), Standard(size=48, clahe_when="never"))
    for turns in range(3):
        np.testing.assert_array_equal(squares.input(0, turns=turns), np.rot90(squares.input(0), turns, axes=(1, 2)))


def test_an_unknown_tracker_names_the_nearest(tmp_path):
    data = squares(32)
    with pytest.raises(UsageError, match="tensorboard"):
        fit(
            build("tiny"),
            data,
            np.arange(24),
            np.arange(24, 32),
            replace(QUICK, tracker="tensorbord"),
            tmp_path,
            seed=0,
        )
