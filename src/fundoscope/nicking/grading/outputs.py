"""The sink of a grading: report.html with its pictures, of photographs or of patches."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fundoscope.bundles.card import NickingCard
from fundoscope.findings import GradedPhotograph, Mention, NickingFinding, Row, Sink, counted
from fundoscope.nicking.grading.crossing_patches import cut_crossing
from fundoscope.nicking.grading.evidence import MEASURED_ONLY, PatchGrading, PhotographGrading
from fundoscope.nicking.grading.grades import PatchGrade
from fundoscope.reports.nicking import CrossingCard, NickingHeader, NickingReport, ReportKind
from fundoscope.reports.pictures import save_pictures
from fundoscope.reports.vessel_measures import MeasuresCard
from fundoscope.runs.folder import PICTURES
from fundoscope.vessels import Narrowing


def open_page(
    card: NickingCard,
    kind: ReportKind,
    folder: Path,
    started: str,
    positions: Mapping[str, int],
    skipped: str = "",
    mm_per_pixel: float | None = None,
) -> dict[str, Sink]:
    """`report.html` in `folder`; see `Grader.open_sinks`."""
    header = header_of(card, kind, started)
    report = NickingReport(folder / "report.html", header, positions.get("report.html"), skipped)
    return {"report.html": NickingPage(report, folder, mm_per_pixel)}


class NickingPage:
    """`report.html`, and in `pictures/` each photograph with its crossings, or each patch with its attention map."""

    def __init__(self, report: NickingReport, folder: Path, mm_per_pixel: float | None = None) -> None:
        self._report = report
        self._folder = folder
        self._mm_per_pixel = mm_per_pixel

    @property
    def position(self) -> int:
        """Length in bytes of the page without its foot."""
        return self._report.position

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Write one photograph's, or one patch's, part of the page, and its pictures."""
        grading = graded.evidence
        if isinstance(grading, PatchGrading):
            grade = grading.grade
            card = None if grade is None else _graded_card(grade, grading.narrowing)
            attention = self._report.add_patch(number, grading.finding, card)
            picture = None if card is None else card.pixels
        else:
            assert isinstance(grading, PhotographGrading)
            findings = cast(tuple[NickingFinding, ...], graded.findings)
            around = None if grading.measures is None else MeasuresCard(grading.measures, self._mm_per_pixel)
            picture = self._report.add_photograph(number, findings, grading.pixels, cards_of(grading), around)
            attention = None
        if picture is None:
            return ()
        paths = save_pictures(self._folder / PICTURES, number, Path(mention.path).stem, picture, attention)
        return [f"{PICTURES}/{path.name}" for path in paths]

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Count a photograph, or a patch, whose part of the page is there."""
        self._report.recount(rows)

    def close(self, whole: bool) -> None:
        """Write the foot and the summary."""
        self._report.close(whole)


def cards_of(grading: PhotographGrading) -> list[CrossingCard]:
    """The card of each crossing of a photograph: its patch, vessel maps, attention and measured vein."""
    if grading.mapped is None:
        return []
    if grading.grades:
        pairs = zip(grading.grades, grading.crossings, strict=True)
        return [_graded_card(grade, crossing.narrowing) for grade, crossing in pairs]
    patches = [cut_crossing(grading.mapped, crossing).middle for crossing in grading.crossings]
    return [
        CrossingCard(patch.pixels, patch.maps, None, crossing.narrowing)
        for patch, crossing in zip(patches, grading.crossings, strict=True)
    ]


def _graded_card(grade: PatchGrade, narrowing: Narrowing | None) -> CrossingCard:
    patch = grade.patch.middle
    return CrossingCard(patch.pixels, patch.maps, grade.attention[0], narrowing)


def header_of(card: NickingCard, kind: ReportKind, started: str) -> NickingHeader:
    """The head of the report: the bundle, what it was trained on, its operating point, how it grades."""
    grades = card.grades
    facts = {
        "Bundle": f"{card.name}, made {card.created.isoformat()} by fundoscope {card.fundoscope}",
        "For": card.intended_use,
        "Trained on": "; ".join(card.trained_on),
        "Never tested on": "; ".join(card.never_tested_on),
    }
    if kind == "photograph":
        point = card.crossings.operating_point
        facts["Crossings shown"] = f"from a confidence of {point.threshold:.3g}: {point.rule}, chosen on {point.data}"
    if grades is not None:
        facts["Graded"] = (
            f"by {counted(grades.networks, 'network')}, from a probability of {grades.minimum_confidence:.2f} on; {grades.rule}"
        )
        facts["Grades learnt from"] = grades.learnt_from
    program = f"fundoscope {importlib.metadata.version('fundoscope')}"
    return NickingHeader(kind, card.name, started, program, facts, MEASURED_ONLY if grades is None else "")
