"""What `results.json` holds: every figure of a study with its n and interval, as dataclasses and as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fundoscope.bundles.card import CardFigure
from fundoscope.evaluation import Difference, Estimate
from fundoscope.studies import write_json

RESULTS, CURVES, SHUFFLED, NETWORKS = "results.json", "curves.csv", "shuffled_labels.json", "networks.csv"

#: Tables that only some studies have.
_OPTIONAL = ("cameras", "other_camera", "renderings")

#: Sections of the page that show photographs; `maps_section` has those of activation maps.
SEEN_SECTION, TREATMENT_SECTION = "What the networks see", "ROP without and with need of treatment"

#: A row of a table: names, numbers, `Estimate`s and `Difference`s by column.
Row = dict[str, Any]


def maps_section(question: str) -> str:
    """The section of the page that shows a question's activation maps."""
    return f"Maps behind the answers: {question}"


@dataclass(frozen=True)
class Sample:
    """Whose photographs were studied and how they were divided.

    `checks` say what was looked up of the division, whether it held, and what was seen; `folds` is a row a fold and part;
    `histograms` count infants' columns by class, where the table has them.
    """

    photographs: int
    rop: int
    infants: int | None
    groups: int
    groups_rule: str
    partition: str
    missing_question: str
    checks: list[Row]
    folds: list[Row]
    histograms: dict[str, Row]


@dataclass(frozen=True)
class Headline:
    """What a study says first of a question: how good, how sure, against which baseline.

    `network` is the one that is exported; its `auc`, `sensitivity`, `specificity` and the `baseline`'s `baseline_auc` are on
    photographs that screening grades, all of them where it grades too few; `difference` is paired. `verdict` is `above` where
    the interval of the difference is, `below` where the network's AUC is the lower one, `not shown to be above` between; else it says why there is no baseline.
    """

    network: str
    basis: str
    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    baseline: str
    baseline_auc: Estimate | None
    difference: Difference | None
    verdict: str


@dataclass(frozen=True)
class QuestionResults:
    """The figures of one question on the `n` photographs whose answer is known.

    `graders` is a row a network and a baseline with every metric; `graded` the same on the photographs that screening grades
    alone, `refused` how many it refuses of the `n`; `headline` what is to be said first. `differences` a row a network, less the `reference`,
    paired; `operating_points` a row a target sensitivity. `confusions` counts truth by decision of single arms (seed 0);
    `abstention` says in words what the folds' bands of doubt leave. `calibration` has `ece` and `calibration_slope` of the
    reference's mean over seeds.
    """

    name: str
    classes: tuple[str, str]
    reference: str
    n: int
    positives: int
    groups: int
    networks: list[str]
    headline: Headline
    refused: int
    graders: list[Row]
    graded: list[Row]
    differences: list[Row]
    confusions: dict[str, list[list[int]]]
    operating_points: list[Row]
    calibration: Row
    abstention: str
    coverage_area: float
    error_of_all: float


@dataclass(frozen=True)
class StudyResults:
    """All that a study found. `summary` are the lines that a person waits for; `card` the figures of the bundle's card,
    `doubts` what they say against using it. `cameras`, `other_camera` and `renderings` are the tables of
    `rop.study.cameras`; the file has no such key where a study has none.
    """

    summary: list[str]
    exported: str
    seeds: int
    prevalences: list[float]
    sample: Sample
    networks: list[Row]
    questions: list[QuestionResults]
    inner_log_losses: list[Row]
    controls: list[Row]
    int8: list[Row]
    units: list[Row]
    unit_rules: str
    cascade: list[Row]
    subgroups: list[Row]
    predictive_values: list[Row]
    shuffled_labels: Row | None
    card: list[Row]
    doubts: list[str]
    cameras: list[Row] = field(default_factory=list)
    other_camera: list[Row] = field(default_factory=list)
    renderings: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it as JSON: an estimate becomes value, low, high, n, positives, groups; what is undefined is null."""
        plain = as_plain(self)
        write_json(path, {name: value for name, value in plain.items() if value or name not in _OPTIONAL})


def as_plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, Difference):
        plain = {"first": value.first, "second": value.second, "verdict": value.verdict}
        return as_plain(value.estimate) | as_plain(plain)
    if isinstance(value, Estimate):
        plain = {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
        return {name: each for name, each in plain.items() if name not in ("points", "note") or each}
    if is_dataclass(value):
        return {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(name): as_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_plain(each) for each in value]
    if isinstance(value, np.generic):
        return as_plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def card_figures(rows: Sequence[Mapping[str, Any]]) -> list[CardFigure]:
    """The figures under `card` of `results.json` as a card holds them, rounded; without an interval where there is none."""
    figures = []
    for row in rows:
        estimate = row["estimate"]
        low, high = (None if estimate[end] is None else round(estimate[end], 4) for end in ("low", "high"))
        value = round(estimate["value"], 4)
        figures.append(CardFigure(name=row["name"], value=value, low=low, high=high, n=estimate["n"], on=row["on"]))
    return figures


def read_results(folder: Path) -> dict[str, Any]:
    """The plain values of a study's `results.json`."""
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))
