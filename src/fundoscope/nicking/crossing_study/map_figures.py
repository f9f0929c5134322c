"""The figures of vessel maps on photographs that nothing was fitted to or chosen on. Pure: maps and truth in, estimates out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CrossingSettings
from fundoscope.evaluation.detection import detection_estimates, score_points
from fundoscope.evaluation.metrics import Estimate, bootstrap
from fundoscope.nicking.crossing_study.map_settings import (
    MapsAndTruth,
    count_right_pixels,
    score_candidates,
    vessel_dice,
)
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.vessels.artery_vein import VoteWeights


def measure_maps(photographs: Sequence[MapsAndTruth], settings: CrossingSettings) -> dict[str, Estimate]:
    """Every figure of these photographs by its name, with intervals by photograph; what the set does not know is left out.

    Dice of vessels; the share of artery and vein pixels that are classified right, by the maps alone and after the vote; precision,
    recall and F1 of crossings, and of those crossings alone at which both vessels are wide.
    """
    figures: dict[str, Estimate] = {}
    votes = VoteWeights(**settings.votes)
    classified = [each.classify(settings.vessel_threshold, votes) for each in photographs]

    dice = np.array([vessel_dice(each, settings.vessel_threshold) for each in photographs if each.vessel is not None])
    if len(dice):
        figures["vessels, Dice"] = _bootstrap_ratio(dice, np.ones(len(dice)))
    known = [(each, own) for each, own in zip(photographs, classified, strict=True) if each.artery is not None]
    if known:
        by_pixel = np.array([count_right_pixels(each, None) for each, _ in known], float)
        after_vote = np.array([count_right_pixels(each, own) for each, own in known], float)
        figures["artery or vein right, by pixel"] = _bootstrap_ratio(*by_pixel.T)
        figures["artery or vein right, after the vote"] = _bootstrap_ratio(*after_vote.T)

    outcomes, wide = [], []
    for each, own in zip(photographs, classified, strict=True):
        if each.crossings is None:
            continue
        candidates = find_candidates(each.maps, own)
        outcome = score_candidates(candidates, settings.confidence_weights, each)
        outcomes.append(outcome)
        if each.wide is not None:
            # detections of other crossings than the wide ones do not count
            others = np.concatenate([each.crossings[~each.wide], each.doubtful])
            confidence = candidates.confidence(settings.confidence_weights)
            wide.append(score_points(candidates.places, confidence, each.crossings[each.wide], doubtful=others))
    for name, scored in (("crossings", outcomes), ("crossings of wide vessels", wide)):
        if scored:
            estimates = detection_estimates(scored, settings.operating_point.threshold)
            figures.update({f"{name}, {what}": estimate for what, estimate in estimates.items()})
    return figures


def _bootstrap_ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Estimate:
    """Sum over sum, with its interval by photograph."""
    return bootstrap(
        lambda weights: {"ratio": (weights @ numerators) / (weights @ denominators)}, np.ones(len(numerators))
    )["ratio"]
