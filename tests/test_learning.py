import csv
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fundoscope.errors import UsageError
from fundoscope.imaging import Standard
from fundoscope.learning import SQUARE, UNLABELLED, Augment, FitOptions, Squares, fit, predict_logits
from fundoscope.learning.fit import TrainingData, fit_batches
from fundoscope.learning.squares import Order, training_batches
from fundoscope.networks import Classifier, build
from fundoscope.networks.tiny import TinyBody

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


def test_fit_learns_what_is_there_logs_each_epoch_and_true_labels_cost_less(tmp_path):
    data = squares(32)
    rows = {}
    for name, y in (("true", data.labels), ("false", 1 - data.labels)):
        torch.manual_seed(0)
        given = replace(data, labels=np.concatenate([y[:24], data.labels[24:]]))
        model = fit(build("tiny"), given, np.arange(24), np.arange(24, 32), QUICK, tmp_path / name, seed=0)
        rows[name] = list(csv.DictReader((tmp_path / name / "epochs.csv").open()))
        logits = predict_logits(model, data.inputs(np.arange(24, 32)))
        if name == "true":
            assert ((logits[:, 1] > logits[:, 0]) == data.labels[24:32]).all()
    assert [int(row["epoch"]) for row in rows["true"]] == list(range(len(rows["true"])))
    assert float(rows["true"][-1]["train_loss"]) < float(rows["true"][0]["train_loss"])
    assert float(rows["true"][-1]["inner_loss"]) < float(rows["false"][-1]["inner_loss"])
    assert not (tmp_path / "true" / "last.ckpt").exists()


def test_without_inner_rows_it_trains_to_the_end(tmp_path):
    data = squares(16)
    fit(build("tiny"), data, np.arange(16), np.array([], np.int64), QUICK, tmp_path / "f", seed=0)
    rows = list(csv.DictReader((tmp_path / "f" / "epochs.csv").open()))
    assert len(rows) == QUICK.epochs and rows[-1]["inner_loss"] == "nan"


@pytest.mark.parametrize("decay", [0.0, 0.75])
def test_the_mean_of_the_weights_holds_the_last_step_too(tmp_path, decay):
    """The same steps by torch alone beside it: one batch an epoch, a known number of steps."""
    torch.manual_seed(0)
    model, x, y = torch.nn.Linear(2, 2, bias=False), torch.tensor([[1.0, -2.0]]), torch.tensor([1])
    by_hand = model.weight.detach().clone()
    options = replace(QUICK, epochs=3, batch=1, learning_rate=0.1, weight_decay=0.0, schedule="constant",
                      optimiser="adam", average=decay)  # fmt: skip
    optimiser, mean = torch.optim.Adam([by_hand.requires_grad_()], 0.1), None
    for _ in range(options.epochs):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(x @ by_hand.T, y).backward()
        optimiser.step()
        now = by_hand.detach().clone()
        mean = now if mean is None else decay * mean + (1 - decay) * now
    data = torch.utils.data.TensorDataset(x.reshape(1, 2, 1, 1), y)
    given = TrainingData(torch.utils.data.DataLoader(data), torch.nn.functional.cross_entropy)
    found = fit_batches(Flat(model), given, options, tmp_path / "f", seed=0).inner.weight
    torch.testing.assert_close(found, mean, atol=1e-6, rtol=0)
    if not decay:
        torch.testing.assert_close(found, by_hand, atol=1e-6, rtol=0)  # 0 is none: what the last step left


class Flat(torch.nn.Module):
    """A linear layer that takes its two numbers as a picture of one pixel."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.flatten(1))


def dropping():
    """The tiny network with dropout, so that a restart must also find torch's random numbers again."""
    torch.manual_seed(0)
    body = TinyBody()
    return Classifier(body, body.channels, dropout=0.3)


def fit_both_parts(folder):
    data = squares(32)
    return fit(dropping(), data, np.arange(24), np.arange(24, 32), replace(QUICK, epochs=3), Path(folder), seed=5)


KILLED = """
    import os, sys
    sys.path.insert(0, {tests!r})
    import torch
    from lightning.pytorch.callbacks import Callback
    from fundoscope.learning import trainer
    from test_learning import fit_both_parts
    torch.set_num_threads(1)

    class Kill(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.current_epoch == 1 and trainer.fit_loop.batch_idx == 1:
                os.kill(os.getpid(), 9)

    make = trainer.make_trainer
    trainer.make_trainer = lambda *a, callbacks, **k: make(*a, callbacks=[*callbacks, Kill()], **k)
    fit_both_parts({folder!r})
"""


def test_killed_in_an_epoch_it_goes_on_and_ends_the_same(tmp_path):
    torch.set_num_threads(1)  # as in the process that is killed: sums in another order differ in the last digits
    whole = fit_both_parts(tmp_path / "whole").state_dict()
    script = textwrap.dedent(KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "cut")))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert (tmp_path / "cut" / "last.ckpt").exists() and not (tmp_path / "cut" / "done").exists()
    again = fit_both_parts(tmp_path / "cut").state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, atol=1e-6, rtol=0)
    assert (tmp_path / "cut" / "epochs.csv").read_text() == (tmp_path / "whole" / "epochs.csv").read_text()
    assert not (tmp_path / "cut" / "last.ckpt").exists()


def test_a_fit_reports_its_header_and_an_aligned_row_an_epoch(tmp_path, caplog):
    with caplog.at_level("INFO", logger="fundoscope.training"):
        fit(dropping(), squares(8), np.arange(6), np.arange(6, 8), replace(QUICK, epochs=2), tmp_path, seed=0)
    header, titles, *rows = [record.getMessage() for record in caplog.records]
    assert "Classifier" in header and "0.02 M weights" in header and "2 epochs at most, seed 0" in header
    assert titles.split() == ["epoch", "train", "loss", "inner", "loss", "rate"]
    assert [row.split()[0] for row in rows] == ["0", "1"] and {len(row) for row in rows} == {len(titles)}


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
