"""The settings with which vessel maps are read, chosen on photographs that the network of maps had not seen.

In order: the probability from which on a pixel is vessel; the vote weights by which vessels become arteries and veins; the
logistic model of a candidate's confidence; the confidence from which on a candidate counts as a crossing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fundoscope.bundles.card import CrossingSettings, DecisionThreshold
from fundoscope.datasets import PhotographRecord
from fundoscope.evaluation.detection import (
    DetectionOutcome,
    best_worst_f1,
    detection_estimates,
    match_detections,
    near_any,
    score_points,
)
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.imaging.places import rescale_points
from fundoscope.learning import predict_vessel_maps
from fundoscope.networks import VesselNet
from fundoscope.nicking.grading.crossing_candidates import CrossingCandidates, find_candidates
from fundoscope.nicking.recipes.crossings import MapSettingNumbers
from fundoscope.vessels import vessel_graph
from fundoscope.vessels.artery_vein import ArteryVeinMap, VoteWeights, classify_graph, classify_vessels

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class MapsAndTruth:
    """A photograph's maps (4, rows, columns) and what is truly there, both at the maps' scale.

    `inside` is the field. The masks `vessel`, `artery`, `vein`, the places of `crossings` (n, 2) and whether both of their
    vessels are `wide` (n,) are None where they are not known; what is found at `doubtful` places (k, 2) does not count.
    """

    name: str
    maps: NDArray[np.float32]
    inside: Mask
    vessel: Mask | None
    artery: Mask | None
    vein: Mask | None
    crossings: NDArray[np.float64] | None
    wide: Mask | None
    doubtful: NDArray[np.float64]

    @classmethod
    def predict(cls, network: VesselNet, record: PhotographRecord) -> MapsAndTruth:
        """The maps that a network makes of a photograph, beside what its set knows of it."""
        return cls.from_maps(record, *predict_vessel_maps(network, record.pixels))

    @classmethod
    def from_maps(cls, record: PhotographRecord, maps: NDArray[np.float32], inside: Mask, scale: float) -> MapsAndTruth:
        """Maps that are there already, with `scale` pixels of the photograph for each of theirs."""
        masks = [_at_size(mask, inside.shape) for mask in (record.vessel, record.artery, record.vein)]
        crossings = None
        if record.complete and record.crossings is not None:
            crossings = rescale_points(record.crossings, 1 / scale)
        doubtful = np.zeros((0, 2)) if record.doubtful is None else rescale_points(record.doubtful, 1 / scale)
        return cls(record.name, maps, inside, *masks, crossings, record.wide, doubtful)

    def classify(self, threshold: float, votes: VoteWeights) -> ArteryVeinMap:
        """Its arteries and veins by a vessel threshold and vote weights."""
        return classify_vessels(self.maps[0] >= threshold, self.maps[1], self.maps[2], votes)


def _at_size(mask: Mask | None, shape: tuple[int, ...]) -> Mask | None:
    """A mask at another size: a pixel belongs to it where at least half of what it covers does."""
    if mask is None or mask.shape == shape:
        return mask
    resized = cv2.resize(mask.astype(np.uint8) * 255, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8) > 127


def choose_settings(
    cameras: Mapping[str, Sequence[MapsAndTruth]], numbers: MapSettingNumbers, data: str
) -> tuple[CrossingSettings, dict[str, float]]:
    """The settings that are best on these photographs, and at them the F1 of crossings by camera.

    `cameras` holds the photographs by camera, each with the maps of a network that never saw its camera; `data` says in words
    which they are. A camera is judged with a confidence that was fitted on the others, and the operating point is the one at
    which the worst camera does best: what carries over to the next camera cannot be more.
    """
    photographs = [each for own in cameras.values() for each in own]
    threshold = choose_vessel_threshold(photographs, numbers.vessel_thresholds)
    votes = choose_votes(photographs, threshold, numbers)
    found = {
        name: [
            (find_candidates(each.maps, each.classify(threshold, votes)), each)
            for each in own
            if each.crossings is not None
        ]
        for name, own in cameras.items()
    }
    found = {name: own for name, own in found.items() if own}
    labelled = {name: [label_candidates(*each) for each in own] for name, own in found.items()}
    outcomes = {}
    for name, own in found.items():
        others = [each for other, labels in labelled.items() if other != name for each in labels]
        weights = fit_confidence(others or labelled[name], numbers.inverse_regularisation)
        outcomes[name] = [score_candidates(candidates, weights, each) for candidates, each in own]
    point = best_worst_f1(outcomes)
    settings = CrossingSettings(
        diameter=DIAMETER, vessel_threshold=threshold, votes=asdict(votes),
        confidence_weights=fit_confidence(
            [each for own in labelled.values() for each in own], numbers.inverse_regularisation
        ),
        operating_point=DecisionThreshold(
            threshold=point.threshold, rule="greatest F1 of the worst camera, each left out in turn", data=data,
            n_positive=sum(each.truths for own in outcomes.values() for each in own), sensitivity_bound=point.text,
        ),
    )  # fmt: skip
    f1 = {name: float(detection_estimates(own, point.threshold)["f1"].value) for name, own in outcomes.items()}
    return settings, f1


def choose_vessel_threshold(photographs: Iterable[MapsAndTruth], thresholds: Sequence[float]) -> float:
    """The probability from which on pixels are vessel: that of the greatest mean Dice."""
    scores = [[vessel_dice(each, t) for t in thresholds] for each in photographs if each.vessel is not None]
    return float(thresholds[int(np.mean(scores, axis=0).argmax())])


def vessel_dice(photograph: MapsAndTruth, threshold: float) -> float:
    """Dice of the vessel pixels inside the field, 0 to 1."""
    assert photograph.vessel is not None
    found = photograph.maps[0][photograph.inside] >= threshold
    true = photograph.vessel[photograph.inside]
    return float(2 * (found & true).sum() / max(1, found.sum() + true.sum()))


def choose_votes(photographs: Sequence[MapsAndTruth], threshold: float, numbers: MapSettingNumbers) -> VoteWeights:
    """The vote weights with the largest share of vessel pixels classified right, of all combinations."""
    known = [each for each in photographs if each.artery is not None]
    masks = [each.maps[0] >= threshold for each in known]
    graphs = [vessel_graph(mask) for mask in masks]

    def share_right(votes: VoteWeights) -> float:
        classified = [
            classify_graph(graph, mask, each.maps[1], each.maps[2], votes)
            for graph, mask, each in zip(graphs, masks, known, strict=True)
        ]
        counts = [count_right_pixels(each, own) for each, own in zip(known, classified, strict=True)]
        return float(np.sum(counts, axis=0) @ [1, 0]) / sum(n for _, n in counts)

    tried = product(numbers.evidence, numbers.onward, numbers.branch, numbers.across, numbers.pixel)
    return max((VoteWeights(*weights) for weights in tried), key=share_right)


def count_right_pixels(photograph: MapsAndTruth, artery_vein: ArteryVeinMap | None) -> tuple[int, int]:
    """How many of the pixels that are artery or vein, and not both, are classified right, and how many there are.

    Without an `ArteryVeinMap` by the higher probability; with one by its masks, and where these have neither or both, by the
    higher probability.
    """
    assert photograph.artery is not None and photograph.vein is not None
    counted = (photograph.artery ^ photograph.vein) & photograph.inside
    is_artery = photograph.maps[1] > photograph.maps[2]
    if artery_vein is not None:
        is_artery = np.where(artery_vein.artery ^ artery_vein.vein, artery_vein.artery, is_artery)
    return int((is_artery == photograph.artery)[counted].sum()), int(counted.sum())


def label_candidates(candidates: CrossingCandidates, photograph: MapsAndTruth) -> tuple[NDArray[np.float64], Mask]:
    """The features (n, f) of a photograph's candidates, and which of them are true crossings, (n,).

    Those with the highest crossing map are matched first; candidates at doubtful places are left out.
    """
    assert photograph.crossings is not None
    true = match_detections(candidates.places, candidates.features[:, 0], photograph.crossings) >= 0
    known = true | ~near_any(candidates.places, photograph.doubtful)
    return candidates.features[known], true[known]


def fit_confidence(
    labelled: Sequence[tuple[NDArray[np.float64], Mask]], inverse_regularisation: float = 1.0
) -> tuple[float, ...]:
    """The weights of the logistic model of candidates that are true crossings: an offset, then a weight a feature.

    `labelled` holds features (n, f) and labels (n,) of each photograph's candidates.
    """
    x, y = (np.concatenate(each) for each in zip(*labelled, strict=True))
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    model = LogisticRegression(C=inverse_regularisation, max_iter=1000).fit((x - mean) / spread, y)
    weights = model.coef_[0] / spread
    return (float(model.intercept_[0] - weights @ mean), *(float(w) for w in weights))


def score_candidates(
    candidates: CrossingCandidates, weights: tuple[float, ...], photograph: MapsAndTruth
) -> DetectionOutcome:
    """Hits and misses of a photograph's candidates at their confidences."""
    assert photograph.crossings is not None
    confidence = candidates.confidence(weights)
    return score_points(candidates.places, confidence, photograph.crossings, doubtful=photograph.doubtful)
