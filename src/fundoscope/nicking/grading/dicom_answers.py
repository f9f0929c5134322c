"""The rows of a grading in DICOM's words: crossings with their places, widths and grades. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from fundoscope.bundles.card import NickingCard
from fundoscope.dicom import AnsweredPhotograph, Answerer, CodedAnswer, Concept, CrossingAnswer, DicomAnswers, Measure
from fundoscope.dicom.answers import NOT_GRADED
from fundoscope.findings import BundleIdentity, GradedPhotograph, Mention, NickingFinding, Row, Status, counted
from fundoscope.imaging import Pixels
from fundoscope.nicking.grading.evidence import PhotographGrading
from fundoscope.reports.nicking import WORDS
from fundoscope.reports.nicking_pictures import draw_boxes

TITLE = "Crossings of arteries and veins, and their nicking"
GRADE = Concept.ours("nicking", "Nicking of the vein at a crossing, grade 0 to 3")
GRADES = tuple(Concept.ours(f"nicking-{grade}", f"grade {grade}: {word}") for grade, word in enumerate(WORDS))
_WORST = Concept.ours("worst-nicking", "Worst nicking of the graded crossings")
_COUNT = Concept.ours("crossings", "Crossings of arteries and veins that were found")
_MEASURES = {
    "confidence": Measure(
        Concept.ours("confidence", "Confidence that an artery crosses a vein here"), 0, label="confidence"
    ),
    "artery_width_px": Measure(
        Concept.ours("artery-width", "Undisturbed width of the artery"), 0, "{pixels}", "artery px"
    ),
    "vein_width_px": Measure(Concept.ours("vein-width", "Undisturbed width of the vein"), 0, "{pixels}", "vein px"),
    "narrowing_1": Measure(
        Concept.ours("narrowing-1", "Narrowing of the vein, side nearer the disc"), 0, label="narrowing 1"
    ),
    "narrowing_2": Measure(
        Concept.ours("narrowing-2", "Narrowing of the vein, side further from the disc"), 0, label="narrowing 2"
    ),
    **{f"p{k}": Measure(Concept.ours(f"p-grade-{k}", f"Probability of grade {k}"), 0, label=f"p{k}") for k in range(4)},
}
_LOOK = 2  # the grade from which on a reader should look


def open_dicom_answers(
    card: NickingCard, identity: BundleIdentity, options: Mapping[str, object], folder: Path
) -> DicomAnswers:
    """The sink of a grading's DICOM answers."""
    shown = f"from a confidence of {card.crossings.operating_point.threshold:.3g}"
    answerer = Answerer.of_card("nicking grade", TITLE, card, identity, options, {"Crossings shown": shown})
    return DicomAnswers(folder, answerer, answer_of, _draw)


def answer_of(mention: Mention, rows: Sequence[Row]) -> AnsweredPhotograph:
    """The rows of a photograph as coded answers."""
    status = Status(rows[0]["status"])
    crossings = [row for row in rows if row["crossing"] is not None]
    grades = [row["grade"] for row in crossings if row["grade"] is not None]
    headline = counted(len(crossings), "crossing") if crossings else "no crossing was found; this excludes nothing"
    headline += f", the worst grade {max(grades)}" if grades else ""
    worst = NOT_GRADED if status is not Status.OK else GRADES[max(grades)] if grades else None
    high = [row["crossing"] for row in crossings if row["grade"] is not None and row["grade"] >= _LOOK]
    return AnsweredPhotograph.of_mention(
        mention, status, headline, evaluations=() if worst is None else (CodedAnswer(_WORST, worst),),
        measures=(Measure(_COUNT, len(crossings)),) if status is Status.OK else (), crossings=tuple(map(_crossing, crossings)),
        remark="" if crossings else rows[0]["reason"],
        attention=f"nicking of grade {_LOOK} or 3 at crossing {', '.join(map(str, high))}" if high else "",
    )  # fmt: skip


def _crossing(row: Row) -> CrossingAnswer:
    grade = row["grade"]
    measures = (replace(each, value=row[name]) for name, each in _MEASURES.items() if row[name] is not None)
    evaluations = () if grade is None else (CodedAnswer(GRADE, GRADES[grade]),)
    return CrossingAnswer(row["crossing"], row["row"], row["col"], tuple(measures), evaluations, row["reason"])


def _draw(graded: GradedPhotograph) -> Pixels | None:
    """The photograph with its crossings boxed; None where it was not graded."""
    grading = cast(PhotographGrading, graded.evidence)
    if grading.pixels is None or graded.findings[0].status is not Status.OK:
        return None
    crossings = [one for one in cast(tuple[NickingFinding, ...], graded.findings) if one.crossing is not None]
    return draw_boxes(grading.pixels, crossings)[0]
