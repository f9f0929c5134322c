from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
from test_nicking_widths import maps_of

from fundoscope.nicking.crossing_study.map_settings import (
    MapsAndTruth,
    choose_settings,
    choose_vessel_threshold,
    choose_votes,
    count_right_pixels,
    fit_confidence,
    label_candidates,
    score_candidates,
    vessel_dice,
)
from fundoscope.nicking.crossing_study.vessel_maps import repeat_real
from fundoscope.nicking.grading.crossing_candidates import FEATURES, find_candidates
from fundoscope.nicking.recipes.crossings import read_map_recipe
from fundoscope.simulate import adult
from fundoscope.vessels.artery_vein import VoteWeights

NUMBERS = read_map_recipe("usual").settings


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
    return MapsAndTruth(
        f"eye{seed}", maps, truth.field, truth.vessel, truth.artery, truth.vein, at, wide, np.zeros((0, 2))
    )


@pytest.fixture(scope="module")
def eyes():
    return [mapped(seed) for seed in range(50, 53)]


def test_the_threshold_is_where_dice_is_greatest(eyes):
    thresholds = (0.1, 0.4, 0.9)  # all pixels are above the first, none above the last
    scores = {t: np.mean([vessel_dice(each, t) for each in eyes]) for t in thresholds}
    assert choose_vessel_threshold(eyes, thresholds) == max(scores, key=scores.get) == 0.4
    assert scores[0.4] > 0.95 and scores[0.1] < 0.5 and scores[0.9] == 0


def test_the_votes_that_classify_most_pixels_right_are_chosen(eyes):
    numbers = NUMBERS.model_copy(
        update={"evidence": (-1.0, 1.0), "onward": (2.0,), "branch": (0.4,), "across": (0.6,), "pixel": (-1.0, 0.7)}
    )
    best = choose_votes(eyes[:2], 0.5, numbers)
    shares = {}
    for evidence in numbers.evidence:
        for pixel in numbers.pixel:
            votes = VoteWeights(evidence, 2.0, 0.4, 0.6, pixel)
            counts = [count_right_pixels(each, each.classify(0.5, votes)) for each in eyes[:2]]
            right, counted = np.sum(counts, axis=0)
            shares[votes] = right / counted
    assert shares[best] == max(shares.values()) > 0.9 > 0.3 > min(shares.values())


def test_pixels_of_both_kinds_or_outside_the_field_do_not_count(eyes):
    each = eyes[0]
    _, counted = count_right_pixels(each, None)
    assert counted == ((each.artery ^ each.vein) & each.inside).sum()


def test_confidence_follows_what_speaks_for_a_crossing(eyes):
    numbers = NUMBERS.model_copy(update={"onward": (2.0,), "across": (0.6,), "pixel": (0.7, 1.5)})
    settings, f1 = choose_settings({"first": eyes[:1], "others": eyes[1:]}, numbers, "simulated eyes")
    assert (
        min(f1.values()) > 0.8
        and list(f1) == ["first", "others"]
        and len(settings.confidence_weights) == 1 + len(FEATURES)
        and settings.confidence_weights[1] > 0
    )
    point = settings.operating_point
    assert point.data == "simulated eyes" and point.n_positive == sum(len(each.crossings) for each in eyes)
    assert VoteWeights(**settings.votes) in [VoteWeights(1.4, 2.0, 0.2, 0.6, pixel) for pixel in (0.7, 1.5)]


def test_confidence_is_the_same_whatever_a_features_unit(eyes):
    found = [find_candidates(each.maps, each.classify(0.5, VoteWeights())) for each in eyes[:1]]
    scaled = [replace(own, features=own.features * [1, 1, 1, 1, 1, 100]) for own in found]
    weights = [
        fit_confidence([label_candidates(own, each) for own, each in zip(some, eyes, strict=False)])
        for some in (found, scaled)
    ]
    np.testing.assert_allclose(found[0].confidence(weights[0]), scaled[0].confidence(weights[1]), atol=1e-4)


def test_a_doubtful_place_is_neither_a_crossing_nor_a_false_alarm(eyes):
    own = find_candidates(eyes[0].maps, eyes[0].classify(0.5, VoteWeights()))
    features, true = label_candidates(own, eyes[0])
    doubt = replace(eyes[0], crossings=eyes[0].crossings[1:], doubtful=eyes[0].crossings[:1])
    fewer, still = label_candidates(own, doubt)
    assert len(features) == len(own.places) and len(fewer) < len(features) and still.sum() == true.sum() - 1
    weights = fit_confidence([(features, true)])
    known, unknown = (score_candidates(own, weights, each).counts(0.0) for each in (eyes[0], doubt))
    assert unknown[0] == known[0] - 1 and unknown[1] <= known[1] and unknown[2] == known[2]


@pytest.mark.parametrize(("real", "simulated"), [(5, 20), (4, 0), (7, 7), (6, 40), (40, 7)])
def test_real_photographs_are_repeated_to_two_for_each_simulated_one(real, simulated):
    repeated = repeat_real(list(range(real)), simulated, 2.0)
    assert set(repeated) == set(range(real)) and len(repeated) % real == 0
    assert len(repeated) == real or len(repeated) / simulated == pytest.approx(2, rel=0.3)
