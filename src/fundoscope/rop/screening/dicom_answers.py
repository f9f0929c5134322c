"""A screening's rows in DICOM's words: what is asked of a photograph of an infant's eye, and what is answered. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fundoscope.bundles import Bundle
from fundoscope.dicom import AnsweredPhotograph, Answerer, CodedAnswer, Concept, DicomAnswers, Measure
from fundoscope.dicom.answers import NOT_GRADED, RETINOPATHY_OF_PREMATURITY
from fundoscope.findings import (
    NOTHING_SEEN,
    BundleIdentity,
    GradedPhotograph,
    Mention,
    RopFinding,
    Row,
    Status,
)
from fundoscope.imaging import Pixels
from fundoscope.reports.overlay import overlay
from fundoscope.rop.screening.screener import RopEvidence

TITLE = "Screening for retinopathy of prematurity"
_ROP = {
    "yes": Concept.ours("rop-suspected", "ROP suspected"),
    "no": Concept.ours("rop-not-seen", NOTHING_SEEN),
    None: NOT_GRADED,
}
_TREATMENT = {
    "yes": Concept.ours("tr-rop-suspected", "treatment-requiring ROP suspected"),
    "no": Concept.ours("tr-rop-not-seen", "no treatment-requiring ROP seen; this excludes nothing"),
}
_TREATMENT_QUESTION = Concept.ours("tr-rop", "Treatment-requiring ROP")
_P_ROP = Concept.ours("p-rop", "Calibrated probability of ROP")
_P_TREATMENT = Concept.ours("p-tr-rop", "Calibrated probability of treatment-requiring ROP")
_QUALITY = Concept.ours("quality", "Quality of the photograph, 0 to 1")


def open_dicom_answers(
    bundle: Bundle, identity: BundleIdentity, options: Mapping[str, object], folder: Path
) -> DicomAnswers:
    """The sink of a screening's DICOM answers."""
    point = bundle.stage.operating_point
    threshold = f"{point.threshold:.4g}: {point.rule}, chosen on {point.data}"
    answerer = Answerer.of_card("rop screen", TITLE, bundle.card, identity, options, {"Threshold": threshold})
    return DicomAnswers(folder, answerer, answer_of, _draw)


def answer_of(mention: Mention, rows: Sequence[Row]) -> AnsweredPhotograph:
    """The row of a photograph as a coded answer."""
    (row,) = rows
    status, rop, treatment = Status(row["status"]), row["rop"], row["treatment_requiring"]
    numbers = ((_P_ROP, row["p_rop"]), (_P_TREATMENT, row["p_tr"]), (_QUALITY, row["quality"]))
    evaluations = [CodedAnswer(RETINOPATHY_OF_PREMATURITY, _ROP[rop])]
    if treatment is not None:
        evaluations.append(CodedAnswer(_TREATMENT_QUESTION, _TREATMENT[treatment]))
    headline = _TREATMENT[treatment].meaning if treatment == "yes" else _ROP[rop].meaning
    return AnsweredPhotograph.of_mention(
        mention, status, headline, evaluations=tuple(evaluations),
        measures=tuple(Measure(what, value) for what, value in numbers if value is not None), remark=row["reason"],
        attention=headline if rop == "yes" else "",
    )  # fmt: skip


def _draw(graded: GradedPhotograph) -> Pixels | None:
    """The photograph's square with its activation map; None where it was not graded."""
    evidence = cast(RopEvidence, graded.evidence)
    assert isinstance(graded.findings[0], RopFinding)
    if evidence.picture is None or evidence.activation is None:
        return None
    return overlay(evidence.picture, evidence.activation)
