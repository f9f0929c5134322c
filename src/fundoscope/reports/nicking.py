"""The report of a grading of nicking: one HTML file that opens offline, written photograph by photograph, or patch by patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fundoscope.findings import NickingFinding, PatchFinding, Status
from fundoscope.imaging import Pixels
from fundoscope.reports import page
from fundoscope.reports.nicking_pictures import SIDE, boxed, looked, vessels
from fundoscope.reports.overlay import jpeg_uri, legend
from fundoscope.reports.profile import profile_of, signed
from fundoscope.reports.streamed import State, StreamedReport
from fundoscope.vessels import Narrowing

TITLES = {"photograph": "Artery-vein crossings and their nicking", "patch": "Patches of crossings and their nicking"}
#: How each grade reads; grade 0 is never called healthy.
WORDS = ("no nick seen", "mild, one side", "moderate, one side", "severe, both sides")
DISCLAIMER = (
    "No medical device. A crossing that is not marked may still be there, and a nick that was not seen is not excluded."
)

_PATCH = 160  # pixels of a patch's picture
_ADVICE = {
    Status.REJECTED: "Photograph this eye again, or have it examined. A refusal says nothing about the eye.",
    Status.FAILED: "Check the file and grade it again. Nothing is known of it.",
}

Kind = Literal["photograph", "patch"]


@dataclass(frozen=True, slots=True)
class NickingHeader:
    """What a report says of the run: `facts` of the bundle, and a `note` that holds for every row and is said once."""

    kind: Kind
    bundle: str
    date: str
    program: str
    facts: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """What is shown of a crossing: its patch (s, s, 3), RGB; the probabilities of vessel, artery and vein there, (s, s, 3), 0
    to 255; where the networks saw a pinch, (h, w); the measured vein.
    """

    pixels: Pixels
    maps: NDArray[np.uint8]
    attention: NDArray[np.float32] | None = None
    narrowing: Narrowing | None = None


@dataclass(slots=True)
class Tally:
    """What a page has shown: `rows` photographs or patches by status, `grades` crossings by grade, None where there is none."""

    rows: Counter[Status] = field(default_factory=Counter)
    grades: Counter[int | None] = field(default_factory=Counter)


class NickingReport(StreamedReport):
    """Writes the page at `path`; use it in a `with` block, and add each photograph, or each patch, as it is done.

    Raises `UsageError` where `path` cannot be written. Nothing of a row is kept but what `tally` counts.
    """

    def __init__(self, path: Path, header: NickingHeader) -> None:
        self.header, self.tally = header, Tally()
        self._page = page.shell([page.RESEARCH_USE], page.resource("nicking.js"))
        title = TITLES[header.kind]
        super().__init__(path, page.render("nicking_head.html.j2", page=self._page, title=title, header=header))
        colours = jpeg_uri(legend(480, 28), side=480, quality=92)
        facts = [*header.facts.items(), ("Use", f"{page.RESEARCH_USE}. {DISCLAIMER}")]
        self._write(page.render("nicking_guide.html.j2", header=header, legend=colours, facts=facts, words=WORDS))

    def add_photograph(
        self, number: int, findings: Sequence[NickingFinding], pixels: Pixels | None = None, cards: Sequence[Card] = ()
    ) -> Pixels | None:
        """Write one photograph with its crossings, a card each, and give back the picture with their boxes (None without
        one). `number` counts from 1.
        """
        first, crossings = findings[0], [one for one in findings if one.crossing is not None]
        self._count(first.status, crossings)
        picture, boxes = (None, []) if pixels is None else boxed(pixels, crossings)
        values = {
            "number": number, "file": first.file, "status": first.status.value,
            "reason": "" if crossings else first.reason, "advice": _ADVICE.get(first.status, ""),
            "picture": None if picture is None else {"uri": jpeg_uri(picture, SIDE), "size": picture.shape[1::-1]},
            "boxes": boxes, "eye": eye_of(crossings), "words": WORDS, "graded": not self.header.note,
            "cards": [self._card(number, one, card) for one, card in zip(crossings, cards, strict=True)],
        }  # fmt: skip
        self._write(page.render("nicking_photograph.html.j2", **values))
        return picture

    def add_patch(self, number: int, finding: PatchFinding, card: Card | None = None) -> Pixels | None:
        """Write one patch, and give back the picture of where the networks saw a pinch (None without one)."""
        self._count(finding.status, [finding] if finding.status is Status.OK else [])
        values = {
            "number": number, "file": finding.file, "status": finding.status.value, "reason": finding.reason,
            "advice": _ADVICE.get(finding.status, ""), "words": WORDS,
            "card": None if card is None else self._card(number, finding, card),
        }  # fmt: skip
        self._write(page.render("nicking_patch.html.j2", **values))
        return None if card is None or card.attention is None else looked(card.pixels, card.attention)

    def _count(self, status: Status, graded: Sequence[NickingFinding | PatchFinding]) -> None:
        self.tally.rows[status] += 1
        self.tally.grades.update(one.grade for one in graded)

    def _card(self, number: int, finding: NickingFinding | PatchFinding, card: Card) -> dict[str, Any]:
        crossing = isinstance(finding, NickingFinding)
        name = f"Crossing {finding.crossing}" if crossing else f"Patch {number}"
        return {
            "id": f"crossing-{number}-{finding.crossing}" if crossing else f"patch-{number}",
            "name": name, "finding": finding, "grade": finding.grade,
            "reason": "" if finding.reason == self.header.note else finding.reason,
            "pictures": _pictures(card, name), "profile": profile_of(card.narrowing),
            "sides": ("nearer the disc", "further from it") if crossing else ("upper", "lower"),
            "narrowed": [signed(value) for value in (finding.narrowing_1, finding.narrowing_2)],
        }  # fmt: skip

    def _summary(self, state: State) -> bytes:
        return page.render("nicking_summary.html.j2", state=state, words=WORDS, **self._counted())

    def _foot(self) -> bytes:
        return page.render("nicking_foot.html.j2", page=self._page, disclaimer=DISCLAIMER, **self._counted())

    def _counted(self) -> dict[str, Any]:
        return {"kind": self.header.kind, "tally": self.tally, "graded": not self.header.note}


def eye_of(crossings: Sequence[NickingFinding]) -> dict[str, Any]:
    """An eye in a line: how many crossings of each grade, the worst, how many were not graded, and the ratio of the median
    widths of arteries and veins over the `measured` crossings.
    """
    grades = [one.grade for one in crossings if one.grade is not None]
    widths = np.array([(one.artery_width_px, one.vein_width_px) for one in crossings if _measured(one)], float)
    artery, vein = np.median(widths, axis=0) if len(widths) else (0.0, 0.0)
    return {
        "counts": [grades.count(grade) for grade in range(len(WORDS))],
        "worst": max(grades, default=None),
        "ungraded": len(crossings) - len(grades),
        "crossings": len(crossings),
        "ratio": float(artery / vein) if vein else None,
        "measured": len(widths),
    }


def _measured(one: NickingFinding) -> bool:
    """Whether something was read off its vein's edges: else its widths are the maps'."""
    sides = [side for side in (one.narrowing_1, one.narrowing_2) if side is not None]
    return bool(one.artery_width_px and one.vein_width_px and np.isfinite(sides).any())


def _pictures(card: Card, name: str) -> list[dict[str, str]]:
    shown = [
        ("Photograph", "as photographed", card.pixels),
        ("Arteries red, veins blue", "with its arteries in red and its veins in blue", vessels(card.pixels, card.maps)),
    ]
    if card.attention is not None:
        shown.append(("Evidence for a pinch", "with what spoke for a pinch", looked(card.pixels, card.attention)))
    return [
        {"uri": jpeg_uri(pixels, _PATCH), "caption": caption, "alt": f"{name} {alt}"} for caption, alt, pixels in shown
    ]
