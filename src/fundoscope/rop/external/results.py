"""What `results.json` of an external validation holds: names that a study has too mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fundoscope.rop.study.results import QuestionResults, Row


@dataclass(frozen=True)
class ExternalSample:
    """Whose photographs were evaluated: how many, how they are grouped, what the audit found of them, by kind.

    `infants` is None where the table does not tell them apart; `histograms` count infants' columns by class.
    """

    photographs: int
    rop: int
    failed: int
    infants: int | None
    groups: int
    groups_rule: str
    cohort_sha256: str
    audit: dict[str, int]
    histograms: dict[str, Row]


@dataclass(frozen=True)
class TrainingOverlap:
    """Which photographs of the cohort the bundle learnt from, as far as its hashes tell.

    `known_photographs` is how many it remembers, None where it carries no hashes and nothing could be looked up.
    `photographs` is a row a photograph found again; `figures` the grader's on all photographs, without these, and without all
    of their groups, empty where none was found.
    """

    known_photographs: int | None
    photographs: list[Row]
    figures: list[Row]


@dataclass(frozen=True)
class ExternalResults:
    """All that an external validation found. `bundle` says who answered, `summary` are the lines that a person waits for.

    `promised` sets the figures of the bundle's card beside those found here, `refusals` counts what became of the photographs
    by class, `refusal_figures` what refusals do to sensitivity and specificity. The other fields are as in `StudyResults`.
    """

    summary: list[str]
    exported: str
    bundle: dict[str, Any]
    prevalences: list[float]
    sample: ExternalSample
    overlap: TrainingOverlap
    promised: list[Row]
    refusals: list[Row]
    refusal_figures: list[Row]
    questions: list[QuestionResults]
    units: list[Row]
    unit_rules: str
    cascade: list[Row]
    subgroups: list[Row]
    predictive_values: list[Row]
    doubts: list[str]
