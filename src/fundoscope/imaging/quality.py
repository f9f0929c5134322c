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
from dataclasses import dataclass, replace
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
from fundoscope.languages import kept_text

EyeKind = Literal["infant", "adult"]

MIN_DIAMETER = 200.0  # pixels of the field: fewer, and an infant's vessels are narrower than one pixel
MIN_BRIGHTNESS = 30.0  # grey levels, 0 to 255, of the brightest channel's median over the field
MAX_SATURATED = 0.6  # share of the field whose green is at its limit
MIN_VISIBLE = 0.35  # share of the camera's circle that lies on the photograph
MIN_LIT = 0.45  # share of the field that is not black

#: What each code of a refusal says to a person: what is wrong, and what to do.
REASONS = {
    "several_fields": kept_text("shows {fields} fields of view. Give each photograph as a file of its own."),
    "bright_border": kept_text(
        "a bright border: it surrounds the picture up to the field, or no round field was found inside. "
        "If this is a photograph of a retina, give it without the border."
    ),
    "too_small": kept_text(
        "too small: the field is only {diameter:.0f} pixels across. Export the photograph at the camera's full size."
    ),
    "too_dark": kept_text(
        "too dark to be graded. Raise the light, and make sure that the lens touches the gel, then take it again."
    ),
    "overexposed": kept_text("overexposed: most of the field is white. Lower the light and take it again."),
    "not_a_retina": kept_text("does not look like a photograph of a retina. Check that the right file was chosen."),
    "enhanced": kept_text(
        "looks like a photograph of a retina whose contrast or colours were changed, or by a camera that is not known here. "
        "Give it as the camera made it."
    ),
    "no_detail": kept_text(
        "no vessels can be told apart: badly out of focus, or no photograph of a retina. "
        "Check the file; if it is the right one, focus and take it again."
    ),
    "out_of_focus": kept_text(
        "out of focus: no fine vessels can be seen. Focus, hold the camera still and take it again."
    ),
    "too_narrow": kept_text(
        "too little of the retina is seen. Centre the pupil, widen it if need be, and take it again."
    ),
    "adult_eye": kept_text(
        "outside the intended use: looks like an adult's photograph. "
        "Give wide-field photographs of infants, or use the grader for adults."
    ),
    "infant_eye": kept_text(
        "outside the intended use: looks like an infant's photograph. "
        "Give adults' fundus photographs, or use the grader for infants."
    ),
}

#: What each warning says: the photograph is graded all the same.
WARNINGS = {
    "swapped_channels": kept_text(
        "red and blue look exchanged (BGR instead of RGB), so this answer may be wrong. Exchange them and grade again."
    ),
}

MAX_BLUER = 0.03  # share of the light by which blue may exceed red: no real photograph of ours has more blue than red
#: How many fields of view, in words.
NUMBERS = {
    2: kept_text("two"),
    3: kept_text("three"),
    4: kept_text("four"),
}  # more fields are so small on the reduced copy that some may be missed


@dataclass(frozen=True)
class QualityVerdict:
    """Whether a photograph may be graded.

    `score` is the overall quality, 0 (nothing of a retina) to 1 (sharp, lit, whole), whatever the kind of eye. `codes` are
    keys of `REASONS` and empty when `gradable`; `reasons` are their messages. `measures` holds what was measured, and the
    probabilities `p_retina`, `p_sharp` and `p_infant` of the support vector machines. `warnings` are keys of `WARNINGS`, of
    photographs that are gradable, or would be without the fault; `remarks` are their messages.
    """

    gradable: bool
    score: float
    codes: tuple[str, ...]
    measures: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return in words what is wrong and what to do."""
        fields = int(self.measures["fields"])
        words = {"diameter": self.measures["diameter_px"], "fields": NUMBERS.get(fields, kept_text("many"))}
        return tuple(REASONS[code].format(**words) for code in self.codes)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return the warnings in words."""
        return tuple(WARNINGS[code] for code in self.warnings)


def judge_quality(photograph: Prepared, expects: EyeKind) -> QualityVerdict:
    """Return the verdict on a photograph, for a grader of infants' or of adults' eyes."""
    measures = measure(photograph)
    measures |= {f"p_{name}": machine.probability(measures) for name, machine in _machines().items()}
    measures["fields"] = float(photograph.field.count)
    fault = _fault_of_picture(photograph) or _fault_of_light(measures)
    codes = (fault,) if fault else _faults(measures, _is_narrow(photograph), expects)
    if codes == ("not_a_retina",) and quality_network().sees_retina(photograph, measures["p_retina"]):
        codes = ("enhanced",)
    swapped = _looks_swapped(photograph, measures, codes)
    return QualityVerdict(not codes, _score(measures), codes, measures, ("swapped_channels",) if swapped else ())


def measured_probabilities(photograph: Prepared) -> dict[str, float]:
    """Return the support vector machines' probabilities, 0 to 1: `retina`, `sharp`, `infant`."""
    measures = measure(photograph)
    return {name: model.probability(measures) for name, model in _machines().items()}


def _fault_of_picture(photograph: Prepared) -> str | None:
    if photograph.field.count > 1:
        return "several_fields"
    return "bright_border" if photograph.field.bright_border else None


def _looks_swapped(photograph: Prepared, m: dict[str, float], codes: tuple[str, ...]) -> bool:
    """Whether red and blue look exchanged: more blue than red; and where no retina was seen, one is after exchanging them.

    Haemoglobin and the retina's pigment take up blue; so even pale, greenish and purple fundi, and the laser's false
    colours, are redder than blue, and grey ones are neither.
    """
    if m["red_green"] + m["green_blue"] >= -MAX_BLUER:  # their sum is the mean of (red - blue) / (red + green + blue)
        return False
    if not codes or "out_of_focus" in codes or "too_narrow" in codes:
        return True
    if not {"not_a_retina", "enhanced", "no_detail", "adult_eye", "infant_eye"} & set(codes):
        return False
    shown = replace(photograph.photograph, pixels=np.ascontiguousarray(photograph.pixels[..., ::-1]))
    machine = _machines()["retina"]
    return machine.probability(measure(Prepared(shown, photograph.field))) >= machine.threshold


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
