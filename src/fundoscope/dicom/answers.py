"""What is answered of a study's photographs, before it becomes DICOM: coded questions and answers, numbers, crossings.

Codes are those of SNOMED CT and DICOM where these have one (PS3.16); ours have the scheme 99FUNDOSCOPE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fundoscope.bundles.card import BaseCard
from fundoscope.findings import BundleIdentity, Mention, Status
from fundoscope.imaging import DicomHeader

OUR_SCHEME = "99FUNDOSCOPE"
RESEARCH_USE = "Research use only"
NOTICE = "Research use only. No medical device. An answer that names nothing excludes nothing: a photograph shows part of a retina."


@dataclass(frozen=True, slots=True)
class Concept:
    """A coded word: its code, the scheme it is from, both of at most 16 characters, and what it means, in at most 64 (PS3.3, 8.8)."""

    code: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        assert max(len(self.code), len(self.scheme)) <= 16 and len(self.meaning) <= 64, self

    @classmethod
    def ours(cls, code: str, meaning: str) -> Concept:
        """A word of our own scheme."""
        return cls(code, OUR_SCHEME, meaning)


RETINOPATHY_OF_PREMATURITY = Concept("415297005", "SCT", "Retinopathy of prematurity")
RETINA = Concept("5665001", "SCT", "Retina")
NOT_GRADED = Concept.ours("not-graded", "not graded: nothing is known of this view")
SIDES = {"right": Concept("24028007", "SCT", "Right"), "left": Concept("7771000", "SCT", "Left")}


@dataclass(frozen=True, slots=True)
class CodedAnswer:
    """A question and its coded answer."""

    question: Concept
    answer: Concept


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with its name and its unit in UCUM: "1" for a ratio or a probability, "{pixels}"; `label` is its short name."""

    what: Concept
    value: float
    unit: str = "1"
    label: str = ""

    @property
    def heading(self) -> str:
        """The short name, where it has one."""
        return self.label or self.what.meaning


@dataclass(frozen=True, slots=True)
class CrossingAnswer:
    """What is answered of one crossing; `row` and `column` are pixels of the photograph, 0-based, of pixels' centres."""

    number: int
    row: float
    column: float
    measures: tuple[Measure, ...] = ()
    evaluations: tuple[CodedAnswer, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredPhotograph:
    """What is answered of one photograph, or of one frame of it (from 1 on; None for a file of one picture).

    `headline` says it in a few words; `remark` is the reason of its row; `attention` says why a reader should look at it,
    blank where there is no reason to. `location` is the file.
    """

    file: str
    location: Path
    header: DicomHeader
    frame: int | None
    status: Status
    headline: str
    evaluations: tuple[CodedAnswer, ...] = ()
    measures: tuple[Measure, ...] = ()
    crossings: tuple[CrossingAnswer, ...] = ()
    remark: str = ""
    attention: str = ""

    @classmethod
    def of_mention(cls, mention: Mention, status: Status, headline: str, **answers: Any) -> AnsweredPhotograph:
        """What is answered of a photograph that was graded; of one that was not, that it must be taken again."""
        assert mention.header is not None
        if status is not Status.OK:
            headline = {Status.REJECTED: "refused, not graded", Status.FAILED: "could not be read"}[status]
            answers["attention"] = f"{headline}: photograph this eye again, or have it examined"
        return cls(mention.path, mention.file, mention.header, mention.frame, status, headline, **answers)


@dataclass(frozen=True, slots=True)
class SupersededDocument:
    """A report of which another one takes the place: what it is, in words, and its UIDs."""

    what: str
    study: str
    series: str
    sop_class: str
    sop_instance: str


@dataclass(frozen=True, slots=True)
class ReadEye:
    """What a reader found in one eye (`right`, `left`): in words, and coded; `remark` is the reader's note on it."""

    eye: str
    headline: str
    evaluations: tuple[CodedAnswer, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class SignedReading:
    """What a reader found, and signed: who, of which hospital, when, in UTC. `kind` is what it is called: Reading, Correction, ...

    `digest` is SHA-256 of its content as signed. `notes` are texts of the reader. `supersedes` are the reports of the same study
    whose place it takes.
    """

    kind: str
    reader: str
    organisation: str
    signed_at: datetime
    digest: str
    eyes: tuple[ReadEye, ...]
    notes: tuple[str, ...] = ()
    supersedes: tuple[SupersededDocument, ...] = ()

    @property
    def statements(self) -> list[str]:
        """By whom it was signed, and what it supersedes, in whole sentences."""
        signed = f"{self.kind}, read and signed by {self.reader}, {self.organisation}, on {self.signed_at:%Y-%m-%d %H:%M} UTC."
        return [signed, *(f"It supersedes {one.what} ({one.sop_instance})." for one in self.supersedes)]


def describe_version(bundle: BundleIdentity) -> str:
    """Day and digest of a bundle; the day is left out where it is not known."""
    return f"made {bundle.made}, digest {bundle.digest}" if bundle.made else f"digest {bundle.digest}"


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers: the command, the bundle, the program with its version, and options that change answers.

    `facts` are told in the document: what the bundle is for, what it was trained on and never tested on.
    """

    command: str
    bundle: BundleIdentity
    program: str
    title: str
    options: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_card(
        cls, command: str, title: str, card: BaseCard, identity: BundleIdentity, options: Mapping[str, object],
        facts: Mapping[str, str],
    ) -> Answerer:  # fmt: skip
        """The answerer of a bundle: its card's facts, and `facts` after them."""
        own = {
            "For": card.intended_use, "Trained on": "; ".join(card.trained_on), "Never tested on": "; ".join(card.never_tested_on),
        }  # fmt: skip
        return cls(command, identity, f"fundoscope {version('fundoscope')}", title, options, {**own, **facts})
