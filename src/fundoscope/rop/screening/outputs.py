"""The sinks of a screening: report.html with its pictures, and eyes.csv for photographs from a cohort table and DICOM files."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fundoscope.bundles import Bundle
from fundoscope.bundles.card import Stage
from fundoscope.evaluation.likeness import LikenessReference
from fundoscope.findings import GradedPhotograph, Mention, RopFinding, Row, Sink
from fundoscope.reports.pictures import save_jpegs
from fundoscope.reports.screening import (
    DrawnRow,
    ReportedThreshold,
    ScreeningHeader,
    ScreeningReport,
    draw_photograph,
)
from fundoscope.rop.screening.eyes import ScreenedEyes
from fundoscope.rop.screening.likeness import TALLY_FILE, LikenessTally
from fundoscope.rop.screening.screener import RopEvidence
from fundoscope.runs.folder import PICTURES
from fundoscope.runs.sinks import CsvTable

if TYPE_CHECKING:
    from fundoscope.rop.vascular import VascularIndex


def open_sinks(
    bundle: Bundle,
    second: Stage | None,
    reference: LikenessReference | None,
    folder: Path,
    started: str,
    positions: Mapping[str, int],
    skipped: str = "",
    vascular: VascularIndex | None = None,
) -> dict[str, Sink]:
    """`eyes.csv` and `report.html` in `folder`, and the tally of likeness; see `Grader.open_sinks`."""
    eyes = ScreenedEyes(bundle.card.eye_decision, vascular is not None)
    header = header_of(bundle, second, started, vascular)
    report = ScreeningReport(folder / "report.html", header, positions.get("report.html"), skipped)
    recalibration = bundle.card.recalibration
    threshold_of = "" if recalibration is None else recalibration.cohort
    tally = LikenessTally(folder / TALLY_FILE, reference, positions.get(TALLY_FILE), threshold_of)
    return {
        TALLY_FILE: tally,
        "eyes.csv": EyeTable(folder / "eyes.csv", eyes),
        "report.html": ScreeningPage(report, folder, eyes, tally),
    }


class EyeTable:
    """`eyes.csv`, a row an eye, for photographs from a cohort table and for DICOM files; it is written when the run ends."""

    position = 0

    def __init__(self, path: Path, eyes: ScreenedEyes) -> None:
        self._path = path
        self._eyes = eyes

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Count one view of an eye."""
        self.recount(mention, rows)
        return ()

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Count one view of an eye."""
        if mention.table is not None or mention.header is not None:
            self._eyes.add(mention.infant, mention.eye, mention.exam, *rows)

    def close(self, whole: bool) -> None:
        """Write the table; without a cohort table, and without DICOM files, there is none."""
        if rows := self._eyes.rows():
            table = CsvTable(self._path, self._eyes.columns)
            table.add_rows(rows)
            table.close(whole)


class ScreeningPage:
    """`report.html`, and in `pictures/` each photograph with its activation map."""

    def __init__(self, report: ScreeningReport, folder: Path, eyes: ScreenedEyes, tally: LikenessTally) -> None:
        self._report = report
        self._tally = tally
        self._folder = folder
        self._eyes = eyes

    @property
    def position(self) -> int:
        """Length in bytes of the page without its foot."""
        return self._report.position

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Write one photograph's part of the page, and its pictures."""
        (finding,), evidence = cast(tuple[RopFinding], graded.findings), cast(RopEvidence, graded.evidence)
        drawn = evidence.drawn or _draw(evidence)
        self._report.add(number, finding, drawn, evidence.size)
        if not drawn.files:
            return ()
        paths = save_jpegs(self._folder / PICTURES, number, Path(mention.path).stem, drawn.files)
        return [f"{PICTURES}/{path.name}" for path in paths]

    def draw(self, graded: GradedPhotograph) -> GradedPhotograph:
        """The photograph with its pictures drawn and encoded, beside the thread that writes."""
        evidence = cast(RopEvidence, graded.evidence)
        return replace(graded, evidence=replace(evidence, drawn=_draw(evidence)))

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Count a photograph whose part of the page is there."""
        self._report.recount(*rows)

    def close(self, whole: bool) -> None:
        """Write the table of eyes, the foot, and the summary with what is said of likeness."""
        self._report.add_likeness(self._tally.describe(), self._tally.verdict.unlike)
        self._report.add_eyes(self._eyes.rows())
        self._report.close(whole)


def _draw(evidence: RopEvidence) -> DrawnRow:
    vessels = None if evidence.vascular is None else evidence.vascular.picture()
    return draw_photograph(evidence.picture, evidence.activation, vessels)


def header_of(
    bundle: Bundle, second: Stage | None, started: str, vascular: VascularIndex | None = None
) -> ScreeningHeader:
    """The head of the report: the bundle, what it was trained on, its thresholds."""
    card = bundle.card
    return ScreeningHeader(
        bundle=card.name,
        version=f"made {card.created.isoformat()} by fundoscope {card.fundoscope}, recipe {card.recipe}",
        trained_on="; ".join(card.trained_on),
        never_tested_on="; ".join(card.never_tested_on),
        operating_point=_threshold(bundle.stage),
        temperature=bundle.stage.temperature,
        date=started,
        intended_use=card.intended_use,
        program=f"fundoscope {importlib.metadata.version('fundoscope')}",
        simulated=second is not None and card.stage2 == "simulated",
        second_stage=second is not None,
        treatment_point=None if second is None else _threshold(second),
        vascular_reference="" if vascular is None else vascular.described_reference,
        doubts=tuple(doubt for question, doubt in card.doubts.items() if question == "rop" or second is not None),
    )


def _threshold(stage: Stage) -> ReportedThreshold:
    point = stage.operating_point
    return ReportedThreshold(point.threshold, point.rule, point.data)
