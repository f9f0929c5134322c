"""May this photograph be graded at all? The verdict on its quality, before any grader sees it.

Asked in this order: enough pixels, enough light, a retina rather than anything else, in focus, wide enough, and of the kind
of eye the grader is for. Three support vector machines on some fifty measurements (`measures.py`) answer what needs weighing
up; they lie in `quality_table.json`, fitted by `python -m fundoscope.learning.quality_machines`. They take many enhanced
photographs for something else. A very small network is asked about those: where it sees a retina the photograph is still
refused, but for the reason that it was enhanced. It lies in `quality_network.onnx`, fitted by `python -m
fundoscope.learning.quality_fit`. `benchmarks/refusals.py` measures both on pictures that were used for neither.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import BundleError
from fundoscope.imaging.measures import measure
from fundoscope.imaging.prepared import JUDGED_SIDE, Prepared
from fundoscope.imaging.read import Pixels

EyeKind = Literal["infant", "adult"]

MIN_DIAMETER = 200.0  # pixels of the field: fewer, and an infant's vessels are narrower than one pixel
MIN_BRIGHTNESS = 30.0  # grey levels, 0 to 255, of the brightest channel's median over the field
MAX_SATURATED = 0.6  # share of the field whose green is at its limit
MIN_VISIBLE = 0.35  # share of the camera's circle that lies on the photograph
MIN_LIT = 0.45  # share of the field that is not black

#: What each code of a refusal says to a person: what is wrong, and what to do.
REASONS = {
    "too_small": "too small: the field is only {diameter:.0f} pixels across. Export the photograph at the camera's full size.",
    "too_dark": "too dark to be graded. Raise the light, and make sure that the lens touches the gel, then take it again.",
    "overexposed": "overexposed: most of the field is white. Lower the light and take it again.",
    "not_a_retina": "does not look like a photograph of a retina. Check that the right file was chosen.",
    "enhanced": (
        "looks like a photograph of a retina whose contrast or colours were changed, or by a camera that is not known here. "
        "Give it as the camera made it."
    ),
    "no_detail": (
        "no vessels can be told apart: badly out of focus, or no photograph of a retina. "
        "Check the file; if it is the right one, focus and take it again."
    ),
    "out_of_focus": "out of focus: no fine vessels can be seen. Focus, hold the camera still and take it again.",
    "too_narrow": "too little of the retina is seen. Centre the pupil, widen it if need be, and take it again.",
    "adult_eye": (
        "outside the intended use: looks like an adult's photograph. "
        "Give wide-field photographs of infants, or use the grader for adults."
    ),
    "infant_eye": (
        "outside the intended use: looks like an infant's photograph. "
        "Give adults' fundus photographs, or use the grader for infants."
    ),
}


@dataclass(frozen=True)
class QualityVerdict:
    """Whether a photograph may be graded.

    `score` is the overall quality, 0 (nothing of a retina) to 1 (sharp, lit, whole), whatever the kind of eye. `codes` are
    keys of `REASONS` and empty when `gradable`; `reasons` are their messages. `measures` holds what was measured, and the
    probabilities `p_retina`, `p_sharp` and `p_infant` of the support vector machines.
    """

    gradable: bool
    score: float
    codes: tuple[str, ...]
    measures: dict[str, float]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return in words what is wrong and what to do."""
        return tuple(REASONS[code].format(diameter=self.measures["diameter_px"]) for code in self.codes)


def judge_quality(photograph: Prepared, expects: EyeKind) -> QualityVerdict:
    """Return the verdict on a photograph, for a grader of infants' or of adults' eyes."""
    measures = measure(photograph)
    measures |= {f"p_{name}": machine.probability(measures) for name, machine in _machines().items()}
    fault = _fault_of_light(measures)
    codes = (fault,) if fault else _faults(measures, _is_narrow(photograph), expects)
    if codes == ("not_a_retina",) and quality_network().sees_retina(photograph, measures["p_retina"]):
        codes = ("enhanced",)
    return QualityVerdict(not codes, _score(measures), codes, measures)


def measured_probabilities(photograph: Prepared) -> dict[str, float]:
    """Return the support vector machines' probabilities, 0 to 1: `retina`, `sharp`, `infant`."""
    measures = measure(photograph)
    return {name: model.probability(measures) for name, model in _machines().items()}


def _fault_of_light(m: dict[str, float]) -> str | None:
    if m["diameter_px"] < MIN_DIAMETER:
        return "too_small"
    if m["brightness"] < MIN_BRIGHTNESS:
        return "too_dark"
    return "overexposed" if m["saturated"] > MAX_SATURATED else None


def _is_narrow(photograph: Prepared) -> bool:
    field = photograph.field
    return field.found and (field.visible_share < MIN_VISIBLE or field.lit_share < MIN_LIT)


def _faults(m: dict[str, float], narrow: bool, expects: EyeKind) -> tuple[str, ...]:
    """The first thing wrong; width is mentioned beside it, since both are mended by one more photograph."""
    sharp = m["p_sharp"] >= _machines()["sharp"].threshold
    if m["p_retina"] < _machines()["retina"].threshold:
        return ("not_a_retina",) if sharp else ("no_detail",)
    codes = [code for wrong, code in ((not sharp, "out_of_focus"), (narrow, "too_narrow")) if wrong]
    kind = _kind(m["p_infant"])
    if not codes and kind not in (expects, None):
        codes.append(f"{kind}_eye")
    return tuple(codes)


def _kind(p_infant: float) -> EyeKind | None:
    """Whose eye it looks like; None where the measurements leave it open (then nobody is sent away)."""
    machine = _machines()["infant"]
    if p_infant >= machine.upper:
        return "infant"
    return "adult" if p_infant < machine.threshold else None


def _score(m: dict[str, float]) -> float:
    light = min(1.0, max(0.0, (m["brightness"] - 10) / 60)) * min(1.0, (1 - m["saturated"]) / 0.7)
    return round(min(m["p_retina"], m["p_sharp"]) * light, 4)


# ---- the network


@dataclass(frozen=True, eq=False)
class QualityNetwork:
    """The network that is asked where the measurements see no retina; it lies in two files, a card and the network.

    Its probability and that of the measurements are weighed together in logits: `weights` are the network's, the
    measurements', and an offset. From `limit` on, a probability, the answer is a retina.
    """

    session: Any
    side: int
    questions: tuple[str, ...]
    weights: tuple[float, float, float]
    limit: float

    @classmethod
    def open(cls, card: Path) -> QualityNetwork:
        """Read a card (JSON) and the network beside it; raises `BundleError` where its checksum is another."""
        import onnxruntime

        facts = json.loads(card.read_text(encoding="utf-8"))
        file = card.with_name(facts["file"])
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise BundleError(f"{file} is not the file that {card.name} describes: install Fundoscope again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a third of a millisecond of work: threads would only wait for one another
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        a, b, offset = facts["weights"]
        return cls(session, facts["side"], tuple(facts["questions"]), (a, b, offset), facts["limit"])

    def probabilities(self, photograph: Prepared) -> dict[str, float]:
        """Return the probabilities, 0 to 1, that a photograph shows a retina, in focus, an infant's: `retina`, `sharp`, `infant`."""
        square = network_square(photograph.square(JUDGED_SIDE), self.side)
        (found,) = self.session.run(None, {"squares": square[None]})
        return {name: float(value) for name, value in zip(self.questions, found[0], strict=True)}

    def retina_probability(self, photograph: Prepared, measured: float) -> float:
        """Return the probability, 0 to 1, of a retina by the network and the measurements (`measured`) together."""
        a, b, offset = self.weights
        logit = a * _logit(self.probabilities(photograph)["retina"]) + b * _logit(measured) + offset
        return 1 / (1 + math.exp(-logit))

    def sees_retina(self, photograph: Prepared, measured: float) -> bool:
        """Return whether that probability reaches the limit."""
        return self.retina_probability(photograph, measured) >= self.limit


def _logit(p: float) -> float:
    """Return the log odds of a probability, cut at one in ten thousand either way."""
    p = min(1 - 1e-4, max(1e-4, p))
    return math.log(p / (1 - p))


def network_square(square: Pixels, side: int) -> Pixels:
    """Return the judged square at the network's size, (side, side, 3)."""
    return np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=1)
def quality_network() -> QualityNetwork:
    """Return the network that is shipped."""
    return QualityNetwork.open(Path(__file__).with_name("quality_network.json"))


# ---- the machines


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
        """Return the machine that `fundoscope.learning.quality_machines` wrote."""
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
        """Return the machine's probability, 0 to 1, from measurements by name."""
        x = np.array([measures[name] for name in self.names])
        z = np.clip((x - self.mean) / self.deviation, -self.limit, self.limit)
        squared = ((self.points - z) ** 2).sum(axis=1)
        score = float(self.weights @ np.exp(-self.gamma * squared)) + self.offset
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, self.slope * score + self.shift))))


@lru_cache(maxsize=1)
def _machines() -> dict[str, SupportVectorMachine]:
    table = json.loads(Path(__file__).with_name("quality_table.json").read_text(encoding="utf-8"))
    return {name: SupportVectorMachine.from_json(values) for name, values in table["models"].items()}
