"""The fit of the quality network: what is known of pictures, limits on held-out ones, training that goes on, and the files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

torch = pytest.importorskip("torch")

from fundoscope.imaging import Prepared
from fundoscope.imaging.quality import QualityNetwork
from fundoscope.learning import quality_fit
from fundoscope.learning.quality_fit import QualityPictures, fit_appeal, predict, train, write_network
from fundoscope.learning.quality_pictures import QualityPicture, enhanced, ring_removed
from fundoscope.networks.quality_net import QualityNet
from fundoscope.simulate import infant

RECIPE = tomllib.loads(quality_fit.RECIPE.read_text(encoding="utf-8"))
RECIPE["network"] |= {"side": 32, "width": 4}
RECIPE["training"] |= {"epochs": 10, "batch": 32, "rate": 2e-2}
RECIPE["held_out"] |= {"sources": ["cups"]}
EYE = infant(1, camera="full-circle", level="good", size=300).pixels


def coloured(n: int = 240) -> QualityPictures:
    """Squares whose colour says what they are: red retinas (bright: infants), blue other things, and green ones out of focus."""
    kinds = np.array(["infant", "adult", "foreign", "blurred-infant"])[np.arange(n) % 4]
    levels = {
        "infant": (220, 20, 20),
        "adult": (110, 10, 10),
        "foreign": (20, 20, 200),
        "blurred-infant": (20, 200, 20),
    }
    rng = np.random.default_rng(0)
    squares = np.array([np.full((32, 32, 3), levels[kind]) for kind in kinds]) + rng.integers(0, 20, (n, 32, 32, 3))
    groups = np.array(
        [("cups", "saucers")[i // 4 % 2] if kind == "foreign" else f"eye-{i // 8}" for i, kind in enumerate(kinds)]
    )
    teacher = np.stack([kinds != "foreign", kinds != "blurred-infant", kinds != "adult"], 1).astype(np.float32)
    return QualityPictures(squares.astype(np.uint8), kinds, groups, teacher)


def test_what_is_known_of_a_picture_follows_from_how_it_was_made():
    data = QualityPictures(
        np.zeros((5, 1, 1, 3), np.uint8), np.array(["infant", "thin", "blurred-adult", "foreign", "enhanced-adult"]),
        np.array(["a"] * 5), np.zeros((5, 3), np.float32),
    )  # fmt: skip
    answers, known = data.answers()
    assert known.tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert (answers * known).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0]]


def test_no_photograph_and_no_held_out_source_is_on_both_sides():
    data = coloured()
    held_out = data.held_out(RECIPE)
    assert 0 < held_out.mean() < 0.6
    assert not set(data.group[held_out]) & set(data.group[~held_out])
    assert set(data.group[held_out & (data.kind == "foreign")]) == {"cups"}


def test_training_learns_goes_on_where_it_stopped_and_writes_a_network_that_is_read_back(tmp_path, monkeypatch):
    data = coloured()
    network = train(data, RECIPE, tmp_path / "whole")
    made, augmented = [], quality_fit._augmented

    def stopped_in_the_seventh_epoch(squares, rng):
        made.append(1)
        if len(made) > 6 * (np.count_nonzero(~data.held_out(RECIPE)) // 32) + 1:
            raise KeyboardInterrupt
        return augmented(squares, rng)

    monkeypatch.setattr(quality_fit, "_augmented", stopped_in_the_seventh_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(data, RECIPE, tmp_path / "cut")
    assert torch.load(tmp_path / "cut" / "network.pt", weights_only=True)["epoch"] == 5
    monkeypatch.setattr(quality_fit, "_augmented", augmented)
    resumed = train(data, RECIPE, tmp_path / "cut")
    np.testing.assert_allclose(predict(resumed, data.squares), predict(network, data.squares), atol=1e-5)
    answers, known = data.answers()
    right = (predict(network, data.squares) > 0.5) == (answers > 0.5)
    assert right[known].mean() > 0.9
    card = write_network(network, data, RECIPE, tmp_path)
    facts = json.loads(card.read_text(encoding="utf-8"))
    shipped = QualityNetwork.open(card)
    expected = predict(network, np.stack([quality_fit.judged.network_square(Prepared.read(EYE).square(256), 32)]))[0]
    found = shipped.probabilities(Prepared.read(EYE))
    assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-4)
    assert facts["held_out"]["kinds"]["foreign"]["n"] == np.count_nonzero(data.group == "cups")
    assert facts["recipe"]["held_out"]["sources"] == ["cups"]


def test_an_appeal_weighs_both_and_lets_nothing_else_pass():
    rng = np.random.default_rng(1)
    kind = np.array(["infant", "foreign", "enhanced-adult", "blurred-adult"] * 40)
    eye = np.where(kind == "foreign", 0.0, 1.0)
    p = np.stack([expit(3 * eye - 1 + rng.normal(0, 1, 160))] * 3, axis=1)
    teacher = np.stack([expit(2 * eye - 3 + rng.normal(0, 1, 160)), np.full(160, 0.9), np.full(160, 0.5)], axis=1)
    data = QualityPictures(np.zeros((160, 1, 1, 3), np.uint8), kind, kind, teacher.astype(np.float32))
    appeal = fit_appeal(p, data, RECIPE)
    a, b, _ = appeal.weights
    assert a > b > 0
    both = appeal.probability(p[:, 0], teacher[:, 0])
    assert both[(kind == "foreign") & (teacher[:, 0] < 0.5)].max() < appeal.limit
    assert (both[kind == "enhanced-adult"] >= appeal.limit).mean() > 0.2
    blurred = replace(data, teacher=np.where(np.arange(3) == 1, 0.1, teacher).astype(np.float32))
    free = fit_appeal(p, blurred, RECIPE).limit  # other things that are not sharp are refused anyway: they set no limit
    assert free == pytest.approx(expit(RECIPE["held_out"]["margin"]), abs=1e-4)


def test_enhancement_changes_a_photograph_and_keeps_its_size():
    made = enhanced(EYE, np.random.default_rng(0))
    assert made.shape == EYE.shape
    assert made.dtype == np.uint8
    assert np.abs(made.astype(int) - EYE).mean() > 2
    without = ring_removed(EYE, 0.1)
    assert without[:5, :5].min() > 20  # the black surround is painted over
    assert np.abs(without.astype(int) - EYE)[130:170, 130:170].max() <= 1


def test_squares_are_kept_and_not_made_twice(tmp_path, monkeypatch):
    made = []

    def one_eye():
        made.append(1)
        yield QualityPicture("infant", "eye", EYE)

    monkeypatch.setattr(quality_fit.pictures, "infants", one_eye)
    for name in ("adults", "simulated", "drawn", "foreign"):
        monkeypatch.setattr(
            quality_fit.pictures, name, lambda *_: iter([QualityPicture("foreign", "cups", EYE[:, ::-1].copy())])
        )
    monkeypatch.setattr(quality_fit.pictures, "shipped_pictures", list)
    for _ in range(2):
        quality_fit.make_squares([], tmp_path, RECIPE)
    assert made == [1]
    data = QualityPictures.load(tmp_path, 32)
    assert data.squares.shape == (5, 32, 32, 3)
    assert data.teacher[data.kind == "infant"][0, 0] > 0.5


def test_a_network_is_small():
    assert sum(part.numel() for part in QualityNet(16).parameters()) < 60_000
