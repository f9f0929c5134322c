"""The cards of bundles: the schema of `bundle.json`.

A card must state what a clinician, an engineer or a reviewer asks first: what the bundle is for, what it was trained on,
where it was never tested, at which threshold it decides and which data chose that, and how far the network in the file
differs from the one that was trained.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fundoscope.imaging import Standard
from fundoscope.languages import kept_text

#: Version 1 had one stage only, version 2 other names of fields (`RENAMED_SINCE_2`), version 3 no rule for eyes, version 4 no
#: recalibration. Raise it with every change that an older reader would misunderstand.
SCHEMA_VERSION = 5

#: Names of a nicking card's fields in version 2, and today's: part of the card -> old name -> new name.
RENAMED_SINCE_2 = {
    "crossings": {"vessel": "vessel_threshold", "trust": "confidence_weights", "confidence": "operating_point"},
    "grades": {"least": "minimum_confidence"},
}

RESEARCH_USE_ONLY = (
    "Research use only. Not a medical device: no one's care may rest on what it says, "
    "and a negative answer excludes nothing."
)

#: The name of a file in the bundle's folder: no separators, not hidden.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=80)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DecisionThreshold(_Record):
    """The threshold from which a probability is a positive decision, the rule that set it, and the data it was set on."""

    threshold: Probability  # positive at or above it
    rule: str  # "highest specificity with sensitivity of at least 0.95"
    data: str  # the data on which the rule was applied
    n_positive: int = Field(ge=0)  # positives among these data
    sensitivity_bound: str  # in words: "33 of 33 positives, so sensitivity is above 0.89 (95 %)"


class Stage(_Record):
    """One question with two possible answers: names of the classes (the second is positive), temperature, threshold."""

    name: str
    classes: tuple[str, str]
    temperature: float = Field(gt=0)
    operating_point: DecisionThreshold

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probability of the positive class, (n,), of logits (n, 2).

        This is temperature scaling (Guo et al. 2017, eq. 9): the softmax of the logits divided by the temperature. For
        two classes it is a logistic function of the difference of the logits.
        """
        margin = np.diff(np.asarray(logits, np.float64), axis=1)[:, 0] / self.temperature
        return np.exp(-np.logaddexp(0.0, -margin))

    def decisions(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each probability is at or above the operating point, (n,)."""
        return np.asarray(probabilities) >= self.operating_point.threshold


#: How the views of an eye become one probability, in words, by the names of `evaluation.decisions.VIEW_RULES`.
VIEWS_IN_WORDS = {
    "any": kept_text("the highest graded view"),
    "second": kept_text("the second highest graded view, or the only one"),
    "mean": kept_text("the mean of the graded views' log-odds"),
}


EYE_RULE = kept_text(
    "an eye is suspected where {views} reaches {threshold} ({basis}); "
    "refused views are left out, and an eye without a graded view is not graded"
)
BASIS = kept_text("{rule}, chosen on {data}")
NOT_MEASURED = kept_text(
    "the photograph's threshold; NEVER MEASURED on eyes of several views, since the infants were unknown"
)


class EyeDecision(_Record):
    """How several photographs of an eye at one examination become the eye's decision: `evaluation.decisions.EyeRule`.

    `measured` says whether the rule was chosen and measured on eyes. Where no infant was known it was not: any view then
    decides, at the photograph's own threshold.
    """

    views: Literal["any", "second", "mean"]
    operating_point: DecisionThreshold
    measured: bool

    @property
    def words(self) -> str:
        """The rule in a sentence, as it stands beside each eye."""
        point = self.operating_point
        basis = BASIS.format(rule=point.rule, data=point.data) if self.measured else NOT_MEASURED
        threshold = f"{point.threshold:.4f}"
        return EYE_RULE.format(views=VIEWS_IN_WORDS[self.views], threshold=threshold, basis=basis)


class CardFigure(_Record):
    """One measured figure with its 95 % interval, the number of photographs, and what it was measured on."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=1)
    on: str


#: What the names of figures begin with that were measured where a bundle was recalibrated.
LOCAL = "local: "


class Recalibration(_Record):
    """What a bundle's temperature and thresholds were set anew on, and the bundle that it came from; its network is that one's.

    `bound` is the lower 95 % bound of the sensitivity for a photograph, or for an eye where the rule for eyes was measured, at
    the wished-for sensitivity `target`; `groups` are infants (or photographs, as `group_rule` says), `positive_groups` those
    with a graded photograph of ROP. The source's threshold and temperature are kept for comparison.
    """

    source: str
    source_created: date
    source_digest: str
    source_temperature: float
    source_threshold: Probability
    cohort: str
    cohort_sha256: Sha256
    photographs: int = Field(ge=1)
    graded: int = Field(ge=1)
    refused: int = Field(ge=0)
    refused_positives: int = Field(ge=0)
    positives: int = Field(ge=1)
    groups: int = Field(ge=1)
    positive_groups: int = Field(ge=1)
    group_rule: str
    target: Probability
    bound: Probability


def describe_doubts(figures: Sequence[CardFigure]) -> dict[str, str]:
    """What speaks against using a bundle, by its question (`rop`, `treatment`): empty where its figures are good enough.

    An AUC whose interval reaches down to 0.5 is no better than chance; one whose lower end is not above the nuisance
    baseline may come from file size, field shape and colour alone. The lower end and not the value decides, since a small
    study reaches a high value by luck.
    """
    known = {figure.name: figure for figure in figures}
    doubts = {}
    for question, before, subject in (
        ("rop", "", "this grader is"),
        ("treatment", "treatment: ", "on treatment it is"),
    ):
        found, nuisance = known.get(f"{before}auc"), known.get(f"{before}auc of the nuisance baseline")
        if found is None:
            continue
        spread = "no interval" if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
        measured = f"AUC {found.value:.2f} ({spread}), {found.on}"
        if found.low is None or found.low <= 0.5:
            doubts[question] = f"{subject} no better than chance on its own folds: {measured}"
        elif nuisance is not None and found.low <= nuisance.value:
            doubts[question] = (
                f"{subject} no better than the nuisance baseline on its own folds (which knows file size, field shape, "
                f"colour and sharpness only: AUC {nuisance.value:.2f}): {measured}"
            )
    local = known.get(f"{LOCAL}auc")
    if local is not None and (local.low is None or local.low <= 0.5):
        doubts["rop"] = (
            f"this grader is no better than chance where it was recalibrated: AUC {local.value:.2f}, {local.on}"
        )
    return doubts


class Parity(_Record):
    """How far the files differ from the network that was trained, on `n_photographs` real photographs.

    `fp32_max_abs_logit` is the largest difference of a logit, torch against ONNX in fp32. The `int8` figures compare
    INT8 with ONNX in fp32: the largest and the mean difference of a logit, the number of decisions that change at the
    threshold, and the change of AUC (None without labels of both classes).
    """

    n_photographs: int = Field(ge=1)
    fp32_max_abs_logit: float = Field(ge=0)
    int8_max_abs_logit: float = Field(ge=0)
    int8_mean_abs_logit: float = Field(ge=0)
    int8_flips: int = Field(ge=0)
    int8_auc_change: float | None = None


class Attribution(_Record):
    """Weights or photographs made by others: their name, licence, and how to cite them."""

    name: str
    licence: str
    citation: str = ""


class FileRecord(_Record):
    """Checksum and size of one file."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class BaseCard(_Record):
    """What the card of every bundle states, whatever it grades; `files` are filled in when the bundle is written."""

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
        """The text of `bundle.json`: this card and its seal (`seal`)."""
        values = self.model_dump(mode="json")
        return json.dumps({**values, "seal": seal(values)}, indent=2, ensure_ascii=False) + "\n"


class Card(BaseCard):
    """The card of a classifier, task `rop`; the parities are filled in when the bundle is written."""

    stage2: Literal["none", "simulated", "real"] = "none"  # the eyes from which the question of treatment was learnt

    standard: Standard
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=2)  # the second is asked where the first says yes
    eyes: EyeDecision | None = None  # None in bundles of before version 4; see `eye_decision`
    recalibration: Recalibration | None = None  # of a bundle whose thresholds were set anew elsewhere

    parity: Parity | None = None
    parity_second: Parity | None = None  # of the second stage, where there is one

    @property
    def eye_decision(self) -> EyeDecision:
        """The rule for eyes; of a card without one, any view at the photograph's threshold, which was never measured."""
        return self.eyes or unmeasured_eyes(self.stages[0])

    @property
    def doubts(self) -> dict[str, str]:
        """What speaks against using it, by question: see `describe_doubts`."""
        return describe_doubts(self.figures)


def unmeasured_eyes(stage: Stage) -> EyeDecision:
    """The rule for eyes of a bundle whose photographs do not tell eyes apart: each view decides as if it were alone."""
    return EyeDecision(views="any", operating_point=stage.operating_point, measured=False)


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
    """The card of the grader of crossings, task `nicking`.

    `photographs` are those that the network of vessel maps was trained on, as `<set>/<name>`. `parity` and
    `parity_grades` are the largest differences of a probability, torch against the file: on the maps, and of a grade.
    """

    photographs: tuple[str, ...] = ()
    crossings: CrossingSettings
    grades: GradeSettings | None = None
    parity: float | None = Field(default=None, ge=0)
    parity_grades: float | None = Field(default=None, ge=0)


#: The card of each task that this program knows.
CARDS: dict[str, type[BaseCard]] = {"rop": Card, "nicking": NickingCard}


def with_todays_names(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a `bundle.json` of version 2 under today's names; those of other versions as they are."""
    if values["schema_version"] != 2:
        return values
    renamed = dict(values, schema_version=SCHEMA_VERSION)
    for part, names in RENAMED_SINCE_2.items():
        if isinstance(values.get(part), dict):
            renamed[part] = {names.get(name, name): value for name, value in values[part].items()}
    return renamed


def seal(values: dict[str, Any]) -> str:
    """SHA-256 of a card's values in one canonical form, the same whatever the file's spacing and order.

    It reveals edits and damage, as the checksums of the other files do. It is no signature: whoever can write the file
    can also compute the seal.
    """
    unsealed = {key: value for key, value in values.items() if key != "seal"}
    return hashlib.sha256(json.dumps(unsealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
