"""`Card`: what a bundle says of itself, the schema of `bundle.json`.

Nothing in it is optional that a clinician, an engineer or a reviewer would ask first: what it is for, what it
learnt from, where it was never tried, at which operating point it decides and who chose that, and how far the
small network on the disk strays from the one that was trained.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fundoscope.imaging import Standard

#: 1 had one stage only, 2 other names of fields (`RENAMED_SINCE_2`). Raise it with every change that an older reader would misunderstand.
SCHEMA_VERSION = 3

#: Names of a nicking card's fields in version 2, and today's: part of the card -> old name -> new name.
RENAMED_SINCE_2 = {
    "crossings": {"vessel": "vessel_threshold", "trust": "confidence_weights", "confidence": "operating_point"},
    "grades": {"least": "minimum_confidence"},
}

RESEARCH_USE_ONLY = (
    "Research use only. Not a medical device: no one's care may rest on what it says, "
    "and a negative answer excludes nothing."
)

#: A file of a bundle lies in its folder: no separators, no hidden names.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=80)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DecisionThreshold(_Record):
    """Where a probability becomes a decision, by which rule, and on whose evidence."""

    threshold: Probability  # positive at or above it
    rule: str  # "highest specificity with sensitivity of at least 0.95"
    data: str  # the data that chose it
    n_positive: int = Field(ge=0)
    sensitivity_bound: str  # in words: "33 of 33 positives, so sensitivity is above 0.89 (95 %)"


class Stage(_Record):
    """One question with two answers; the second class is the positive one."""

    name: str
    classes: tuple[str, str]
    temperature: float = Field(gt=0)
    operating_point: DecisionThreshold

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probability of the positive class, (n,): softmax of logits (n, 2) over the temperature.

        Temperature scaling, Guo et al. 2017, eq. 9; for two classes a logistic function of their difference.
        """
        margin = np.diff(np.asarray(logits, np.float64), axis=1)[:, 0] / self.temperature
        return np.exp(-np.logaddexp(0.0, -margin))

    def decisions(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each probability is at or above the operating point, (n,)."""
        return np.asarray(probabilities) >= self.operating_point.threshold


class CardFigure(_Record):
    """One measured figure with its 95 % interval, the number of photographs, and what it was measured on."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=1)
    on: str


class Parity(_Record):
    """How far the files stray from the network that was trained, on real photographs.

    `fp32_max_abs_logit` is torch against ONNX; the `int8` figures are INT8 against ONNX in fp32: the largest
    and the mean difference of a logit, the decisions that change at the operating point, and the change of
    AUC (None without labels of both classes).
    """

    n_photographs: int = Field(ge=1)
    fp32_max_abs_logit: float = Field(ge=0)
    int8_max_abs_logit: float = Field(ge=0)
    int8_mean_abs_logit: float = Field(ge=0)
    int8_flips: int = Field(ge=0)
    int8_auc_change: float | None = None


class Attribution(_Record):
    """Weights or photographs that others made: name, licence, and how to cite them."""

    name: str
    licence: str
    citation: str = ""


class FileRecord(_Record):
    """Checksum and size of one file."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class BaseCard(_Record):
    """What every bundle says of itself, whatever it grades; `files` are filled in when it is written."""

    schema_version: int = SCHEMA_VERSION
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
    task: str
    created: date = Field(default_factory=date.today)
    fundoscope: str = Field(default_factory=lambda: importlib.metadata.version("fundoscope"))
    research_use_only: str = Field(default=RESEARCH_USE_ONLY, min_length=1)
    intended_use: str
    population: Literal["infant", "adult"]

    recipe: str
    seeds: tuple[int, ...]
    commands: tuple[str, ...]
    trained_on: tuple[str, ...]
    never_tested_on: tuple[str, ...]

    figures: tuple[CardFigure, ...] = ()
    initial_weights: Attribution
    attributions: tuple[Attribution, ...] = ()
    files: dict[FileName, FileRecord] = Field(default_factory=dict)

    def sealed_json(self) -> str:
        """The text of `bundle.json`: this card and the seal over it."""
        values = self.model_dump(mode="json")
        return json.dumps({**values, "seal": seal(values)}, indent=2, ensure_ascii=False) + "\n"


class Card(BaseCard):
    """The card of a classifier, task `rop`; `parity` is filled in when it is written."""

    stage2: Literal["none", "simulated", "real"] = "none"  # what the question of treatment was learnt from

    standard: Standard
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=2)  # the second is asked where the first says yes

    parity: Parity | None = None
    parity_second: Parity | None = None  # of the second stage, where there is one


class CrossingSettings(_Record):
    """How crossings are found on the maps of vessels: thresholds, and the weights of two small models.

    `diameter` is the width in pixels to which the field is brought. A pixel is vessel from the probability
    `vessel_threshold` on. `votes` are the weights of `vessels.artery_vein.VoteWeights` by name. `confidence_weights` are
    those of the logistic model that gives a crossing its confidence: an offset, then one weight for each of
    `nicking.grading.crossing_candidates.FEATURES`. A candidate counts as a crossing from `operating_point` on.
    """

    diameter: int
    vessel_threshold: Probability
    votes: dict[str, float] = Field(default_factory=dict)
    confidence_weights: tuple[float, ...]
    operating_point: DecisionThreshold


class GradeSettings(_Record):
    """How nicking is graded: what the networks are given, and when a patch gets a grade.

    `networks` networks look at a patch of `side` pixels that spans `span` widths of its vein. A patch is graded where
    the likeliest grade has a probability of `minimum_confidence` or more, by the rule that `rule` states in words.
    `learnt_from` says which patches trained the networks.
    """

    side: int
    span: float
    networks: int = Field(ge=1)
    minimum_confidence: Probability
    rule: str
    learnt_from: str


class NickingCard(BaseCard):
    """The card of the grader of crossings, task `nicking`; `photographs` are those that its maps have seen, as
    `<set>/<name>`; parities are the largest differences, torch against the file, of a map and of a probability of a grade.
    """

    photographs: tuple[str, ...] = ()
    crossings: CrossingSettings
    grades: GradeSettings | None = None
    parity: float | None = Field(default=None, ge=0)
    parity_grades: float | None = Field(default=None, ge=0)


#: The card of each task that this program knows.
CARDS: dict[str, type[BaseCard]] = {"rop": Card, "nicking": NickingCard}


def with_todays_names(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a `bundle.json` under the names of `SCHEMA_VERSION`; a card of version 2 reads as one of today's."""
    if values["schema_version"] != 2:
        return values
    renamed = dict(values, schema_version=SCHEMA_VERSION)
    for part, names in RENAMED_SINCE_2.items():
        if isinstance(values.get(part), dict):
            renamed[part] = {names.get(name, name): value for name, value in values[part].items()}
    return renamed


def seal(values: dict[str, Any]) -> str:
    """SHA-256 of a card's values in one canonical form, whatever the file's spacing and order.

    It tells edits and damage, as the other checksums do. It is no signature: who may write it may seal it.
    """
    unsealed = {key: value for key, value in values.items() if key != "seal"}
    return hashlib.sha256(json.dumps(unsealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
