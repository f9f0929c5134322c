"""The quality verdict: may this photograph be graded at all, told from measurements before any network.

Asked in this order: enough pixels, enough light, a retina rather than anything else, in focus, wide enough,
and of the kind of eye the grader is for. Three small support vector machines answer what needs weighing up;
they lie in `quality_table.json`, fitted by `benchmarks/fit_quality.py`, and what they achieve on pictures
that were not used for that is measured by `benchmarks/refusals.py`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.measures import measure
from fundoscope.imaging.prepared import Prepared

Eye = Literal["infant", "adult"]

MIN_DIAMETER = 200.0  # pixels of the field: fewer, and an infant's vessels are narrower than one pixel
MIN_BRIGHTNESS = 30.0  # grey levels, 0 to 255, of the brightest channel's median over the field
MAX_SATURATED = 0.6  # share of the field whose green is at its limit
MIN_SEEN = 0.35  # share of the camera's circle that lies on the photograph
MIN_LIT = 0.45  # share of the field that is not black

_TOO_SMALL = "too small: the field is only {:.0f} pixels across. Export the photograph at the camera's full size."
_TOO_DARK = "too dark to be graded. Raise the light, and make sure that the lens touches the gel, then take it again."
_TOO_BRIGHT = "overexposed: most of the field is white. Lower the light and take it again."
_NO_RETINA = "does not look like a photograph of a retina. Check that the right file was chosen."
_NO_DETAIL = (
    "no vessels can be told apart: badly out of focus, or no photograph of a retina. "
    "Check the file; if it is the right one, focus and take it again."
)
_BLURRED = "out of focus: no fine vessels can be seen. Focus, hold the camera still and take it again."
_NARROW = "too little of the retina is seen. Centre the pupil, widen it if need be, and take it again."
_WRONG_EYE = {
    "infant": (
        "outside the intended use: looks like an adult's photograph. "
        "Give wide-field photographs of infants, or use the grader for adults."
    ),
    "adult": (
        "outside the intended use: looks like an infant's photograph. "
        "Give adults' fundus photographs, or use the grader for infants."
    ),
}


@dataclass(frozen=True)
class QualityVerdict:
    """Whether a photograph may be graded.

    `score` is the overall quality, 0 (nothing of a retina) to 1 (sharp, lit, whole), whatever the kind of
    eye; `reasons` says in words what is wrong and what to do, and is empty when `gradable`; `measures` holds
    every measurement that was weighed, with the models' probabilities `p_retina`, `p_sharp` and `p_infant`.
    """

    gradable: bool
    score: float
    reasons: tuple[str, ...]
    measures: dict[str, float]


def judge_quality(photograph: Prepared, expects: Eye) -> QualityVerdict:
    """Return the verdict on a photograph, for a grader of infants' or of adults' eyes."""
    measures = measure(photograph)
    for name, model in _models().items():
        measures[f"p_{name}"] = model.probability(measures)
    reasons = _reasons(measures, expects)
    return QualityVerdict(not reasons, _score(measures), reasons, measures)


def measured_probabilities(photograph: Prepared) -> dict[str, float]:
    """Return the measured verdict's probabilities, 0 to 1: `retina`, `sharp`, `infant`."""
    measures = measure(photograph)
    return {name: model.probability(measures) for name, model in _models().items()}


def _reasons(m: dict[str, float], expects: Eye) -> tuple[str, ...]:
    """The first thing wrong; width is mentioned beside it, since both are mended by one more photograph."""
    if m["diameter_px"] < MIN_DIAMETER:
        return (_TOO_SMALL.format(m["diameter_px"]),)
    if m["brightness"] < MIN_BRIGHTNESS:
        return (_TOO_DARK,)
    if m["saturated"] > MAX_SATURATED:
        return (_TOO_BRIGHT,)
    models = _models()
    retina, sharp = (m[f"p_{name}"] >= models[name].threshold for name in ("retina", "sharp"))
    if not retina:
        return (_NO_RETINA,) if sharp else (_NO_DETAIL,)
    narrow = m["found"] == 1.0 and (m["seen"] < MIN_SEEN or m["lit"] < MIN_LIT)
    reasons = [text for wrong, text in ((not sharp, _BLURRED), (narrow, _NARROW)) if wrong]
    if not reasons and _kind(m["p_infant"]) not in (expects, None):
        reasons.append(_WRONG_EYE[expects])
    return tuple(reasons)


def _kind(p_infant: float) -> Eye | None:
    """Whose eye it looks like; None where the measurements leave it open (then nobody is sent away)."""
    model = _models()["infant"]
    if p_infant >= model.upper:
        return "infant"
    return "adult" if p_infant < model.threshold else None


def _score(m: dict[str, float]) -> float:
    light = min(1.0, max(0.0, (m["brightness"] - 10) / 60)) * min(1.0, (1 - m["saturated"]) / 0.7)
    return round(min(m["p_retina"], m["p_sharp"]) * light, 4)


@dataclass(frozen=True)
class SupportVectorMachine:
    """A support vector machine with Gaussian kernels (Cortes and Vapnik 1995): plain numbers from a JSON table.

    z = (x - `mean`) / `deviation`, cut at `limit` either way so that no camera leads further out than the fit
    went; score = sum of `weights` exp(-`gamma` |z - point|^2) + `offset`; the probability is the logistic of
    `slope` score + `shift` (Platt 1999). Below `threshold` the answer is no, from `upper` on it is yes.
    """

    names: tuple[str, ...]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    limit: float
    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    gamma: float
    offset: float
    slope: float
    shift: float
    threshold: float
    upper: float

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SupportVectorMachine:
        """The model that `benchmarks/fit_quality.py` wrote."""
        return cls(
            names=tuple(values["names"]),
            mean=np.array(values["mean"], float),
            deviation=np.array(values["deviation"], float),
            limit=float(values["limit"]),
            points=np.array(values["points"], float),
            weights=np.array(values["weights"], float),
            gamma=float(values["gamma"]),
            offset=float(values["offset"]),
            slope=float(values["slope"]),
            shift=float(values["shift"]),
            threshold=float(values["threshold"]),
            upper=float(values["upper"]),
        )

    def probability(self, measures: dict[str, float]) -> float:
        """The model's probability, 0 to 1, from measurements by name."""
        x = np.array([measures[name] for name in self.names])
        z = np.clip((x - self.mean) / self.deviation, -self.limit, self.limit)
        squared = ((self.points - z) ** 2).sum(axis=1)
        score = float(self.weights @ np.exp(-self.gamma * squared)) + self.offset
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, self.slope * score + self.shift))))


@lru_cache(maxsize=1)
def _models() -> dict[str, SupportVectorMachine]:
    table = json.loads(Path(__file__).with_name("quality_table.json").read_text(encoding="utf-8"))
    return {name: SupportVectorMachine.from_json(values) for name, values in table["models"].items()}
