"""The report of a screening: one HTML file that opens offline, written row by row.

Each row goes to the file as it comes: see `streamed`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fundoscope.findings import NOTHING_SEEN, RopFinding, Row, Status
from fundoscope.imaging import Pixels
from fundoscope.languages import gettext as _
from fundoscope.reports import page, wording
from fundoscope.reports.overlay import FULL_SCALE, Activation, jpeg_uri, legend, overlay, strongest
from fundoscope.reports.pictures import encode_pictures, save_pictures
from fundoscope.reports.streamed import State, StreamedReport
from fundoscope.reports.wording import ReportedThreshold, ScreeningHeader

__all__ = [
    "DrawnRow",
    "ReportedThreshold",
    "ScreeningCounts",
    "ScreeningHeader",
    "ScreeningReport",
    "draw_photograph",
    "save_pictures",
]

_LISTED = 100  # photographs in the table at the top, the gravest: it is kept in memory until the end
_SIDE = 224  # pixels of an embedded picture: two of about 10 KB each a row


@dataclass(slots=True)
class ScreeningCounts:
    """How many photographs came to which end; `unseen` are those below the threshold, `refused` were not graded."""

    suspected: int = 0
    unseen: int = 0
    refused: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All photographs, whatever their end."""
        return self.suspected + self.unseen + self.refused + self.failed


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """The pictures of one photograph, encoded for the page and as files; what was not there is blank.

    Addresses are `data:` addresses of JPEGs; `place` says where most evidence is, in words; `files` are JPEG files by the
    ending of their names' stems (see `save_jpegs`).
    """

    photograph: str = ""
    evidence: str = ""
    place: str = ""
    vessels: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


def draw_photograph(
    picture: Pixels | None, activation: Activation | None = None, vessels: Pixels | None = None
) -> DrawnRow:
    """Draw and encode the pictures of one photograph; any thread may do it, also while the page is written.

    `picture` is the standard square, uint8 RGB, None where nothing could be read; `activation` (h, w) in logit differences,
    None where nothing was graded; `vessels` a picture of the vessels around the disc, where they were measured.
    """
    around = "" if vessels is None else jpeg_uri(vessels, _SIDE)
    if picture is None:
        return DrawnRow(vessels=around)
    laid = None if activation is None else overlay(picture, activation)
    evidence = "" if laid is None else jpeg_uri(laid, _SIDE)
    place = "" if activation is None else strongest(activation)
    return DrawnRow(jpeg_uri(picture, _SIDE), evidence, place, around, encode_pictures(picture, laid))


class ScreeningReport(StreamedReport):
    """Writes the page at `path`; use it in a `with` block, and `add` each photograph as it is done.

    Raises `OutputError` where `path` cannot be written. `counts` holds the summary at any time. With a `position` the page
    goes on (see `StreamedReport`): `recount` then tells it of the photographs that it holds.
    """

    def __init__(self, path: Path, header: ScreeningHeader, position: int | None = None, skipped: str = "") -> None:
        self.header = header
        self.counts = ScreeningCounts()
        self._page = page.shell(header.stamps, page.resource("screening.js"))
        self._eyes = 0
        self._attention: list[tuple[tuple[int, float, int], dict[str, Any]]] = []  # a heap of the gravest
        self._grave = 0
        self._rows_open = True
        self._likeness, self._unlike = "", False
        head = page.render(
            "screening_head.html.j2",
            page=self._page,
            title=_(wording.TITLE),
            header=header,
            simulated=_(wording.SIMULATED_TEXT),
        )
        super().__init__(path, head, page.render("screening_guide.html.j2", **self._guide()), position, skipped)

    def add(
        self,
        number: int,
        finding: RopFinding,
        drawn: DrawnRow = DrawnRow(),
        original_size: tuple[int, int] | None = None,
    ) -> None:
        """Write one photograph's row; `number` counts from 1, `original_size` is (rows, columns)."""
        values = {
            "number": number,
            "side": _SIDE,
            "pictures": _pictures(number, finding.file, drawn),
            **wording.describe_photograph(finding, self.header, original_size),
        }
        self._write(page.render("screening_row.html.j2", **values))
        treatment = finding.treatment_requiring if self.header.second_stage else None
        self._count(number, finding.file, finding.status, finding.p_rop, finding.rop, treatment, finding.reason)

    def recount(self, row: Row) -> None:
        """Count a photograph whose part of the page is there already, by its row of the results table."""
        words = {"yes": True, "no": False, None: None}
        treatment = words[row["treatment_requiring"]] if self.header.second_stage else None
        number = self.counts.total + 1
        status, rop = Status(row["status"]), words[row["rop"]]
        self._count(number, row["file"], status, row["p_rop"], rop, treatment, row["reason"])

    def _count(self, number: int, file: str, status: Status, p: float | None, rop: bool | None, *more: Any) -> None:
        kind = wording.kind_of(status, rop)
        setattr(self.counts, kind, getattr(self.counts, kind) + 1)
        grave = wording.describe_attention(number, file, status, p, rop, *more)
        if grave is not None:
            self._grave += 1
            push = heapq.heappush if len(self._attention) < _LISTED else heapq.heappushpop
            push(self._attention, grave)

    def add_eyes(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the table of eyes, after the last photograph: a mapping an eye, with the keys of the first.

        Under `decision` (or `rop`), yes and no, True and False are put into words, and a blank reads "not
        graded"; columns that are blank throughout are left out, and a rule shared by all is shown once.
        """
        if not rows:
            return
        self._close_rows()
        self._eyes = len(rows)
        self._write(page.render("screening_eyes.html.j2", **wording.describe_eyes(rows)))

    def add_likeness(self, text: str, unlike: bool) -> None:
        """Say in the summary whether the photographs look like those that the bundle learnt from; as a warning if `unlike`."""
        self._likeness, self._unlike = text, unlike

    def _close_rows(self) -> None:
        if self._rows_open:
            self._write(b"</ol>\n")
            self._rows_open = False

    def _foot(self) -> bytes:
        self._close_rows()
        rows = [values for _, values in sorted(self._attention, reverse=True)]
        left = self._grave - len(rows)
        attention = page.render("screening_attention.html.j2", rows=rows, left=left) if rows else b""
        values = {"page": self._page, "headline": self._headline(), "disclaimer": _(wording.DISCLAIMER)}
        return attention + page.render("screening_foot.html.j2", **values)

    def _headline(self) -> str:
        counts = self.counts
        return wording.describe_counts(
            counts.suspected + counts.unseen, counts.suspected, counts.refused, counts.failed
        )

    def _summary(self, state: State) -> bytes:
        values = {"state": state, "counts": self.counts, "eyes": self._eyes, "nothing_seen": _(NOTHING_SEEN)}
        values |= {"headline": self._headline(), "attention": self._grave > 0}
        values |= {"likeness": self._likeness, "unlike": self._unlike}
        return page.render("screening_summary.html.j2", **values)

    def _guide(self) -> dict[str, Any]:
        return {
            "legend": jpeg_uri(legend(480, 28), side=480, quality=92),
            "full_scale": f"{FULL_SCALE:g}",
            "threshold": f"{self.header.operating_point.threshold:.2f}",
            "nothing_seen": _(NOTHING_SEEN),
            "facts": wording.describe_bundle(self.header),
            "vascular_reference": self.header.vascular_reference,
        }


def _pictures(number: int, file: str, drawn: DrawnRow) -> list[dict[str, str]]:
    name = page.printable(Path(file).name)
    place = drawn.place
    evidence = _("Evidence, strongest: {place}").format(place=_(place)) if place else _("No place speaks for ROP")
    shown = [
        (
            drawn.photograph,
            _("Photograph {number}, {name}, cropped to its field of view").format(number=number, name=name),
            _("Photograph"),
        ),
        (
            drawn.evidence,
            _("Photograph {number} with its activation map. {caption}").format(number=number, caption=evidence),
            evidence,
        ),
        (
            drawn.vessels,
            _("Photograph {number}: the vessels that were measured around the disc").format(number=number),
            _("Vessels measured around the disc"),
        ),
    ]
    return [{"uri": uri, "alt": alt, "caption": caption} for uri, alt, caption in shown if uri]
