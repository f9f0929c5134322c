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

SCHEMA_VERSION = 2  # 1 had one stage only; raise it with every change that an older reader would misunderstand

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


class OperatingPoint(_Record):
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
    operating_point: OperatingPoint

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probability of the positive class, (n,): softmax of logits (n, 2) over the temperature.

        Temperature scaling, Guo et al. 2017, eq. 9; for two classes a logistic function of their difference.
        """
        margin = np.diff(np.asarray(logits, np.float64), axis=1)[:, 0] / self.temperature
        return np.exp(-np.logaddexp(0.0, -margin))

    def decisions(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each probability is at or above the operating point, (n,)."""
        return np.asarray(probabilities) >= self.operating_point.threshold


class Figure(_Record):
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


class Source(_Record):
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

    figures: tuple[Figure, ...] = ()
    initial_weights: Source
    attributions: tuple[Source, ...] = ()
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


class Crossings(_Record):
    """How crossings are told from the network's maps: the field's `diameter` in pixels at which it works, the
    probability from which on a pixel is `vessel`, the weights of `vessels.artery_vein.VoteWeights` by name, the logistic model
    `trust` (an offset, then a weight for each of `nicking.meetings.FEATURES`), and the confidence that counts.
    """

    diameter: int
    vessel: Probability
    votes: dict[str, float] = Field(default_factory=dict)
    trust: tuple[float, ...]
    confidence: OperatingPoint


class Grades(_Record):
    """How nicking is graded: `networks` answer for a patch of `side` pixels that spans `span` widths of its vein, and a
    patch is graded from a probability of `least` on, by a rule that `rule` says in words; `learnt_from` says from what.
    """

    side: int
    span: float
    networks: int = Field(ge=1)
    least: Probability
    rule: str
    learnt_from: str


class NickingCard(BaseCard):
    """The card of the grader of crossings, task `nicking`; `photographs` are those that its maps have seen, as
    `<set>/<name>`; parities are the largest differences, torch against the file, of a map and of a probability of a grade.
    """

    photographs: tuple[str, ...] = ()
    crossings: Crossings
    grades: Grades | None = None
    parity: float | None = Field(default=None, ge=0)
    parity_grades: float | None = Field(default=None, ge=0)


#: The card of each task that this program knows.
CARDS: dict[str, type[BaseCard]] = {"rop": Card, "nicking": NickingCard}


def seal(values: dict[str, Any]) -> str:
    """SHA-256 of a card's values in one canonical form, whatever the file's spacing and order.

    It tells edits and damage, as the other checksums do. It is no signature: who may write it may seal it.
    """
    bare = {key: value for key, value in values.items() if key != "seal"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
