"""What stands on the network of maps, settled on photographs that it had not seen: thresholds, votes, trust.

Every training photograph gets its maps from the network of the other half (`maps.PARTS`), so that what is fitted here
meets maps as good, and as bad, as a new photograph has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fundoscope.bundles.card import CrossingSettings, DecisionThreshold
from fundoscope.datasets import PhotographRecord
from fundoscope.evaluation.detection import HIT_RADIUS, DetectionOutcome, best_f1, match_detections, score_points
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.imaging.places import rescale_points
from fundoscope.learning import predict_vessel_maps
from fundoscope.networks import VesselNet
from fundoscope.nicking.grading.crossing_candidates import CrossingCandidates, find_candidates
from fundoscope.vessels import vessel_graph
from fundoscope.vessels.artery_vein import ArteryVeinMap, VoteWeights, classify_graph, classify_vessels

THRESHOLDS = np.round(np.arange(0.2, 0.71, 0.05), 2)

#: Weights of the votes that are tried.
TRIED = tuple(
    VoteWeights(evidence, onward, branch, across, pixel)
    for evidence, onward, branch, across, pixel in product((1.4,), (1.0, 2.0), (0.2,), (0.2, 0.6), (0.7, 1.5, 3.0))
)
_FOLDS = 5

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A photograph's maps (4, rows, columns) and its truth, both at the maps' scale; masks that are not known are None."""

    name: str
    maps: NDArray[np.float32]
    inside: Mask
    vessel: Mask | None
    artery: Mask | None
    vein: Mask | None
    crossings: NDArray[np.float64] | None
    wide: Mask | None

    @classmethod
    def of(cls, model: VesselNet, record: PhotographRecord) -> Mapped:
        """The maps that a network makes of a record, whose photograph must be at the maps' scale already."""
        maps, inside, scale = predict_vessel_maps(model, record.pixels)
        known = scale == 1
        crossings = None
        if record.complete and record.crossings is not None:
            crossings = rescale_points(record.crossings, 1 / scale)
        masks = [mask if known else None for mask in (record.vessel, record.artery, record.vein)]
        return cls(record.name, maps, inside, *masks, crossings, record.wide)


def vessel_threshold(mapped: Iterable[Mapped]) -> float:
    """The probability from which on pixels are vessel: that of the greatest mean Dice."""
    scores = [[dice(each, t) for t in THRESHOLDS] for each in mapped if each.vessel is not None]
    return float(THRESHOLDS[int(np.mean(scores, axis=0).argmax())])


def dice(each: Mapped, threshold: float) -> float:
    """Dice of the vessel pixels inside the field."""
    assert each.vessel is not None
    found, true = each.maps[0][each.inside] >= threshold, each.vessel[each.inside]
    return float(2 * (found & true).sum() / max(1, found.sum() + true.sum()))


def kinds_right(each: Mapped, kinds: ArteryVeinMap | None) -> tuple[int, int]:
    """How many of the pixels that are artery or vein, and not both, are told right, and how many there are.

    Without `kinds` by the higher probability; with them by the vote, and where that says neither or both, by the
    higher probability.
    """
    assert each.artery is not None and each.vein is not None
    asked = (each.artery ^ each.vein) & each.inside
    told = each.maps[1] > each.maps[2]
    if kinds is not None:
        told = np.where(kinds.artery ^ kinds.vein, kinds.artery, told)
    return int((told == each.artery)[asked].sum()), int(asked.sum())


def best_votes(mapped: Sequence[Mapped], threshold: float) -> VoteWeights:
    """The weights of the votes with the largest share of kinds told right."""
    known = [each for each in mapped if each.artery is not None]
    masks = [each.maps[0] >= threshold for each in known]
    graphs = [vessel_graph(mask) for mask in masks]

    def share(votes: VoteWeights) -> float:
        kinds = [
            classify_graph(g, m, e.maps[1], e.maps[2], votes) for g, m, e in zip(graphs, masks, known, strict=True)
        ]
        counts = [kinds_right(each, told) for each, told in zip(known, kinds, strict=True)]
        return float(np.sum(counts, axis=0) @ [1, 0]) / sum(n for _, n in counts)

    return max(TRIED, key=share)


def kinds_of(each: Mapped, threshold: float, votes: VoteWeights) -> ArteryVeinMap:
    """Arteries and veins after the vote."""
    return classify_vessels(each.maps[0] >= threshold, each.maps[1], each.maps[2], votes)


def settled(mapped: Sequence[Mapped], told: str) -> tuple[CrossingSettings, float]:
    """How crossings are told, and the F1 at which they were on photographs left out of the fit of the trust.

    `told` says in words which photographs these were.
    """
    threshold = vessel_threshold(mapped)
    votes = best_votes(mapped, threshold)
    known = [each for each in mapped if each.crossings is not None]
    proposed = [find_candidates(each.maps, kinds_of(each, threshold, votes)) for each in known]
    labels = [hits(found, each) for found, each in zip(proposed, known, strict=True)]
    outcomes = []
    for k, (found, each) in enumerate(zip(proposed, known, strict=True)):
        others = [j for j in range(len(known)) if j % _FOLDS != k % _FOLDS]
        trust = fit_trust([proposed[j] for j in others], [labels[j] for j in others])
        assert each.crossings is not None
        outcomes.append(judged(found, trust, each.crossings))
    point = best_f1(outcomes)
    how = CrossingSettings(
        diameter=DIAMETER, vessel_threshold=threshold, votes=asdict(votes), confidence_weights=fit_trust(proposed, labels),
        operating_point=DecisionThreshold(
            threshold=point.threshold, rule="greatest F1 on photographs left out", data=told,
            n_positive=sum(each.truths for each in outcomes), sensitivity_bound=point.text,
        ),
    )  # fmt: skip
    return how, point.f1


def hits(found: CrossingCandidates, each: Mapped) -> Mask:
    """Which proposals are true crossings: the surest by the network's map take them first."""
    assert each.crossings is not None
    return match_detections(found.places, found.features[:, 0], each.crossings, HIT_RADIUS) >= 0


def fit_trust(found: Sequence[CrossingCandidates], labels: Sequence[Mask]) -> tuple[float, ...]:
    """The logistic model of proposals that are hits: an offset, then a weight a feature."""
    x, y = np.concatenate([each.features for each in found]), np.concatenate(labels)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    model = LogisticRegression(C=1.0, max_iter=1000).fit((x - mean) / spread, y)
    weights = model.coef_[0] / spread
    return (float(model.intercept_[0] - weights @ mean), *(float(w) for w in weights))


def judged(found: CrossingCandidates, trust: tuple[float, ...], truth: NDArray[np.float64]) -> DetectionOutcome:
    """What came of the proposals of a photograph at their confidences."""
    return score_points(found.places, found.confidence(trust), truth)
