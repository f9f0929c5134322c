import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
from test_nicking_widths import maps_of

from fundoscope.nicking.crossing_study import map_settings
from fundoscope.nicking.crossing_study.map_settings import (
    Mapped,
    best_votes,
    dice,
    fit_trust,
    hits,
    kinds_of,
    kinds_right,
    settled,
    vessel_threshold,
)
from fundoscope.nicking.crossing_study.vessel_maps import mixed, taken
from fundoscope.nicking.grading.crossing_candidates import FEATURES
from fundoscope.simulate import adult
from fundoscope.vessels.artery_vein import VoteWeights


def mapped(seed):
    """A simulated eye with the maps of a network that is unsure, blurs, and takes some stretches for the other kind."""
    truth = adult(seed, camera="drive", level="perfect", grade=0).truth
    rng = np.random.default_rng(seed)
    maps = maps_of(truth) * 0.55 + 0.15
    rows, columns = np.indices(truth.field.shape)
    for row, column in rng.uniform(100, 450, (30, 2)):
        patch = np.hypot(rows - row, columns - column) < 10
        maps[1, patch], maps[2, patch] = maps[2, patch], maps[1, patch].copy()
        maps[3] = np.maximum(maps[3], 0.3 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 25))
    at = np.array([[c.row, c.col] for c in truth.crossings])
    wide = np.array([min(c.artery_width_px, c.vein_width_px) >= 4 for c in truth.crossings])
    maps = (maps * truth.field).astype(np.float32)
    return Mapped(f"eye{seed}", maps, truth.field, truth.vessel, truth.artery, truth.vein, at, wide)


@pytest.fixture(scope="module")
def eyes():
    return [mapped(seed) for seed in range(50, 54)]


def test_the_threshold_is_where_dice_is_greatest(eyes):
    best = vessel_threshold(eyes)
    assert best == min(map_settings.THRESHOLDS, key=lambda t: -np.mean([dice(each, t) for each in eyes]))
    assert np.mean([dice(each, best) for each in eyes]) > 0.95


def test_the_votes_that_are_best_are_taken(eyes, monkeypatch):
    deaf = VoteWeights(evidence=1.0, onward=0.0, branch=0.0, across=0.0, pixel=0.0)
    monkeypatch.setattr(map_settings, "TRIED", (VoteWeights(evidence=-1.0, pixel=-1.0), deaf, VoteWeights()))
    best = best_votes(eyes[:2], 0.5)
    shares = {}
    for votes in map_settings.TRIED:
        right, asked = np.sum([kinds_right(each, kinds_of(each, 0.5, votes)) for each in eyes[:2]], axis=0)
        shares[votes] = right / asked
    assert shares[best] == max(shares.values()) > 0.9 > 0.3 > min(shares.values())


def test_pixels_of_both_kinds_or_outside_the_field_are_not_asked(eyes):
    each = eyes[0]
    _, asked = kinds_right(each, None)
    assert asked == ((each.artery ^ each.vein) & each.inside).sum()


def test_trust_follows_what_speaks_for_a_crossing(eyes, monkeypatch):
    monkeypatch.setattr(map_settings, "TRIED", map_settings.TRIED[:2])
    how, f1 = settled(eyes, "simulated eyes")
    assert f1 > 0.8 and len(how.confidence_weights) == 1 + len(FEATURES) and how.confidence_weights[1] > 0
    assert how.operating_point.data == "simulated eyes" and how.operating_point.n_positive == sum(
        len(e.crossings) for e in eyes
    )
    assert VoteWeights(**how.votes) in map_settings.TRIED


def test_trust_is_the_same_whatever_a_features_unit(eyes):
    from dataclasses import replace

    from fundoscope.nicking.grading.crossing_candidates import find_candidates

    found = [find_candidates(each.maps, kinds_of(each, 0.5, VoteWeights())) for each in eyes[:3]]
    labels = [hits(one, each) for one, each in zip(found, eyes, strict=False)]
    scaled = [replace(one, features=one.features * [1, 1, 1, 1, 1, 100]) for one in found]
    np.testing.assert_allclose(
        found[0].confidence(fit_trust(found, labels)), scaled[0].confidence(fit_trust(scaled, labels)), atol=1e-4
    )


def test_halves_share_nothing_and_make_the_whole():
    known = [f"p{k}" for k in range(7)]
    assert sorted([*taken(known, "even"), *taken(known, "odd")]) == taken(known, "all")


@pytest.mark.parametrize(("real", "drawn"), [(5, 20), (4, 0), (7, 7), (6, 40)])
def test_two_of_three_photographs_that_are_drawn_are_real(real, drawn):
    every = mixed(["r"] * real, ["s"] * drawn)
    if drawn:
        assert every.count("r") / len(every) == pytest.approx(2 / 3, abs=0.1)
    assert set(every) == ({"r", "s"} if drawn else {"r"})
