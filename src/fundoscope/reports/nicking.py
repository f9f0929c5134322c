"""The report of a grading of nicking: one HTML file that opens offline, written photograph by photograph, or patch by patch."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fundoscope.findings import NickingFinding, PatchFinding, Row, Status
from fundoscope.imaging import Pixels
from fundoscope.languages import gettext as _
from fundoscope.languages import gettext_noop
from fundoscope.reports import page
from fundoscope.reports.nicking_pictures import SIDE, draw_attention, draw_boxes, draw_vessels
from fundoscope.reports.overlay import jpeg_uri, legend
from fundoscope.reports.profile import draw_profile, signed
from fundoscope.reports.streamed import State, StreamedReport
from fundoscope.reports.vessel_measures import MeasuresCard, describe_measures
from fundoscope.vessels import Narrowing
from fundoscope.vessels.equivalents import crossing_calibre_ratio

TITLES = {
    "photograph": gettext_noop("Artery-vein crossings and their nicking"),
    "patch": gettext_noop("Patches of crossings and their nicking"),
}
#: How each grade reads; grade 0 is never called healthy.
WORDS = (
    gettext_noop("no nick seen"),
    gettext_noop("mild, one side"),
    gettext_noop("moderate, one side"),
    gettext_noop("severe, both sides"),
)
DISCLAIMER = gettext_noop(
    "No medical device. A crossing that is not marked may still be there, and a nick that was not seen is not excluded."
)

_PATCH = 160  # pixels of a patch's picture
_LISTED = 100  # photographs or patches in the table at the top, the worst: it is kept in memory until the end
_WORSE = 2  # the grade from which on a photograph or patch stands in that table
_ADVICE = {
    Status.REJECTED: gettext_noop(
        "Photograph this eye again, or have it examined. A refusal says nothing about the eye."
    ),
    Status.FAILED: gettext_noop("Check the file and grade it again. Nothing is known of it."),
}

ReportKind = Literal["photograph", "patch"]


@dataclass(frozen=True, slots=True)
class NickingHeader:
    """Facts about the run at the head of a report: `facts` of the bundle, and a `note` that holds for every row and is shown once."""

    kind: ReportKind
    bundle: str
    date: str
    program: str
    facts: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CrossingCard:
    """The pictures and the measured vein of one crossing.

    `pixels` is its patch (s, s, 3), RGB; `maps` the probabilities of vessel, artery and vein there, (s, s, 3), 0 to 255;
    `attention` (h, w) is high where something speaks for a pinch.
    """

    pixels: Pixels
    maps: NDArray[np.uint8]
    attention: NDArray[np.float32] | None = None
    narrowing: Narrowing | None = None


@dataclass(slots=True)
class NickingCounts:
    """Counts of a page: photographs or patches by status (`rows`), crossings by grade (`grades`), None for ungraded ones."""

    rows: Counter[Status] = field(default_factory=Counter)
    grades: Counter[int | None] = field(default_factory=Counter)


class NickingReport(StreamedReport):
    """Writes the page at `path`; use it in a `with` block, and add each photograph, or each patch, as it is done.

    Raises `OutputError` where `path` cannot be written. With a `position` the page goes on (see `StreamedReport`):
    `recount` then tells it of the photographs that it holds.
    """

    def __init__(self, path: Path, header: NickingHeader, position: int | None = None, skipped: str = "") -> None:
        self.header, self.counts = header, NickingCounts()
        self._nicked: list[
            tuple[int, int, str, int]
        ] = []  # a heap: worst grade, -number, file, crossings graded 2 or 3
        self._nicked_count = 0
        self._page = page.shell([page.RESEARCH_USE], page.resource("nicking.js"))
        title = _(TITLES[header.kind])
        head = page.render("nicking_head.html.j2", page=self._page, title=title, header=header)
        colours = jpeg_uri(legend(480, 28), side=480, quality=92)
        facts = [
            *header.facts.items(),
            (_("Use"), _("{stamp}. {disclaimer}").format(stamp=_(page.RESEARCH_USE), disclaimer=_(DISCLAIMER))),
        ]
        guide = page.render("nicking_guide.html.j2", header=header, legend=colours, facts=facts, words=WORDS)
        super().__init__(path, head, guide, position, skipped)

    def add_photograph(
        self,
        number: int,
        findings: Sequence[NickingFinding],
        pixels: Pixels | None = None,
        cards: Sequence[CrossingCard] = (),
        measures: MeasuresCard | None = None,
    ) -> Pixels | None:
        """Write one photograph with its crossings, a card each, and the measures of its vessels; returns the picture with
        the crossings' boxes (None without one).

        `number` counts from 1.
        """
        first, crossings = findings[0], [one for one in findings if one.crossing is not None]
        self._count(number, first.file, first.status, [one.grade for one in crossings])
        picture, boxes = (None, []) if pixels is None else draw_boxes(pixels, crossings)
        values = {
            "number": number, "file": first.file, "status": first.status.value,
            "reason": "" if crossings else first.reason, "advice": _ADVICE.get(first.status, ""),
            "picture": None if picture is None else {"uri": jpeg_uri(picture, SIDE), "size": picture.shape[1::-1]},
            "boxes": boxes, "eye": summarise_eye(crossings), "words": WORDS, "graded": not self.header.note,
            "cards": [self._card(number, one, card) for one, card in zip(crossings, cards, strict=True)],
            "measures": None if pixels is None or measures is None else describe_measures(measures, pixels),
        }  # fmt: skip
        self._write(page.render("nicking_photograph.html.j2", **values))
        return picture

    def add_patch(self, number: int, finding: PatchFinding, card: CrossingCard | None = None) -> Pixels | None:
        """Write one patch; returns the picture of what speaks for a pinch in it (None without attention)."""
        self._count(number, finding.file, finding.status, [finding.grade] if finding.status is Status.OK else [])
        values = {
            "number": number, "file": finding.file, "status": finding.status.value, "reason": finding.reason,
            "advice": _ADVICE.get(finding.status, ""), "words": WORDS,
            "card": None if card is None else self._card(number, finding, card),
        }  # fmt: skip
        self._write(page.render("nicking_patch.html.j2", **values))
        return None if card is None or card.attention is None else draw_attention(card.pixels, card.attention)

    def recount(self, rows: Sequence[Row]) -> None:
        """Count a photograph, or a patch, whose part of the page is there already, by its rows of the results table."""
        status, file = Status(rows[0]["status"]), rows[0]["file"]
        if self.header.kind == "photograph":
            rows = [row for row in rows if row["crossing"] is not None]
        grades = [row["grade"] for row in rows] if status is Status.OK else []
        self._count(self.counts.rows.total() + 1, file, status, grades)

    def _count(self, number: int, file: str, status: Status, grades: Sequence[int | None]) -> None:
        self.counts.rows[status] += 1
        self.counts.grades.update(grades)
        high = [grade for grade in grades if grade is not None and grade >= _WORSE]
        if high:
            self._nicked_count += 1
            push = heapq.heappush if len(self._nicked) < _LISTED else heapq.heappushpop
            push(self._nicked, (max(high), -number, file, len(high)))

    def _card(self, number: int, finding: NickingFinding | PatchFinding, card: CrossingCard) -> dict[str, Any]:
        crossing = isinstance(finding, NickingFinding)
        name = _("Crossing {number}") if crossing else _("Patch {number}")
        name = name.format(number=finding.crossing if crossing else number)
        return {
            "id": f"crossing-{number}-{finding.crossing}" if crossing else f"patch-{number}",
            "name": name, "finding": finding, "grade": finding.grade,
            "reason": "" if finding.reason == self.header.note else finding.reason,
            "pictures": _pictures(card, name), "profile": draw_profile(card.narrowing),
            "sides": (_("nearer the disc"), _("further from it")) if crossing else (_("upper"), _("lower")),
            "narrowed": [signed(value) for value in (finding.narrowing_1, finding.narrowing_2)],
        }  # fmt: skip

    def _summary(self, state: State) -> bytes:
        return page.render("nicking_summary.html.j2", state=state, words=WORDS, **self._counted())

    def _foot(self) -> bytes:
        rows = [
            {"number": -number, "file": file, "worst": worst, "high": high}
            for worst, number, file, high in sorted(self._nicked, reverse=True)
        ]
        left = self._nicked_count - len(rows)
        values = {"rows": rows, "left": left, "kind": self.header.kind, "words": WORDS}
        nicked = page.render("nicking_attention.html.j2", **values) if rows else b""
        return (
            b"</ol>\n"
            + nicked
            + page.render("nicking_foot.html.j2", page=self._page, disclaimer=DISCLAIMER, **self._counted())
        )

    def _counted(self) -> dict[str, Any]:
        return {"kind": self.header.kind, "counts": self.counts, "graded": not self.header.note}


def summarise_eye(crossings: Sequence[NickingFinding]) -> dict[str, Any]:
    """Counts of one eye's crossings by grade, the worst grade, and their `crossing_calibre_ratio` over `measured` crossings."""
    grades = [one.grade for one in crossings if one.grade is not None]
    ratio, measured = crossing_calibre_ratio([(one.artery_width_px, one.vein_width_px) for one in crossings])
    return {
        "by_grade": [grades.count(grade) for grade in range(len(WORDS))],
        "worst": max(grades, default=None),
        "ungraded": len(crossings) - len(grades),
        "crossings": len(crossings),
        "crossing_calibre_ratio": ratio if measured else None,
        "measured": measured,
    }


def _pictures(card: CrossingCard, name: str) -> list[dict[str, str]]:
    shown = [
        (_("Photograph"), _("{name} as photographed"), card.pixels),
        (
            _("Arteries red, veins blue"),
            _("{name} with its arteries in red and its veins in blue"),
            draw_vessels(card.pixels, card.maps),
        ),
    ]
    if card.attention is not None:
        shown.append(
            (
                _("Evidence for a pinch"),
                _("{name} with the evidence for a pinch"),
                draw_attention(card.pixels, card.attention),
            )
        )
    return [
        {"uri": jpeg_uri(pixels, _PATCH), "caption": caption, "alt": alt.format(name=name)}
        for caption, alt, pixels in shown
    ]
