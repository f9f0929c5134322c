"""Rows of the results tables, and the protocol `Grader` that command line, runs and servers work with.

A refusal and a failure are findings too: every photograph that is named has its row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fundoscope.errors import counted as counted  # findings are told with their numbers
from fundoscope.errors import plural as plural
from fundoscope.imaging import DicomHeader, FramePath, Source
from fundoscope.imaging.places import QUADRANTS
from fundoscope.languages import gettext_noop

ROP_COLUMNS = ("file", "status", "reason", "p_rop", "rop", "p_tr", "treatment_requiring", "quality", "seconds")

NICKING_COLUMNS = (
    "file", "status", "reason", "crossing", "row", "col", "confidence", "artery_width_px", "vein_width_px",
    "narrowing_1", "narrowing_2", "p0", "p1", "p2", "p3", "grade",
)  # fmt: skip

PATCH_COLUMNS = ("file", "status", "reason", "narrowing_1", "narrowing_2", "p0", "p1", "p2", "p3", "grade")

#: What `rop screen --vessels` adds to `ROP_COLUMNS`, at the end.
VASCULAR_COLUMNS = (
    "vascular_index", "vascular_reference", "vessel_width_dd", "vessel_tortuosity",
    *(f"width_{name}_dd" for name in QUADRANTS), *(f"tortuosity_{name}" for name in QUADRANTS),
    "witnesses", "vascular_note",
)  # fmt: skip

#: How a negative reads wherever a person reads it.
NOTHING_SEEN = gettext_noop("no ROP seen in this view; this excludes nothing")


#: A photograph: a path, the bytes of an image file, an open file, a PIL image, or an array (rows, columns[, 3]) in RGB.
PhotographSource = Source

#: One line of a results table: column -> text, number, or None where the cell is blank.
Row = dict[str, Any]


class Status(StrEnum):
    """ok: graded; rejected: read, but not graded, for the reason given; failed: could not be read."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VascularFinding:
    """What is said of the vessels around an infant's disc; None where it was not measured, and `note` says why.

    `index` is a percentile, 0 to 100, among normal photographs of the camera `reference`, or of all cameras ("pooled"). `width` is in disc
    diameters, `tortuosity` arc over chord less 1; `widths` and `bends` are the same by quadrant (`QUADRANTS`). `witnesses` says in words
    where index and network strongly disagree.
    """

    index: float | None = None
    reference: str = ""
    width: float | None = None
    tortuosity: float | None = None
    widths: Mapping[str, float | None] = field(default_factory=dict)
    bends: Mapping[str, float | None] = field(default_factory=dict)
    witnesses: str = ""
    note: str = ""

    def as_row(self) -> Row:
        """The columns of `VASCULAR_COLUMNS`."""
        quadrants = [values.get(name) for values in (self.widths, self.bends) for name in QUADRANTS]
        values = (
            self.index, self.reference, self.width, self.tortuosity, *quadrants, self.witnesses, self.note,
        )  # fmt: skip
        return {column: _cell(value) for column, value in zip(VASCULAR_COLUMNS, values, strict=True)}


@dataclass(frozen=True, slots=True)
class RopFinding:
    """The row of one infant's photograph: probabilities and quality 0 to 1, None where there is none; times in seconds.

    `vascular` is what is said of its vessels, None where that was not asked.
    """

    file: str
    status: Status
    reason: str = ""
    p_rop: float | None = None
    rop: bool | None = None
    p_tr: float | None = None
    treatment_requiring: bool | None = None
    quality: float | None = None
    seconds: float = 0.0
    vascular: VascularFinding | None = None

    def as_row(self) -> Row:
        """The columns of `ROP_COLUMNS`: numbers with 4 decimals, yes and no as words, None where blank; then those of `vascular`."""
        values = {column: getattr(self, column) for column in ROP_COLUMNS}
        values["status"] = self.status.value
        row = {column: _cell(value) for column, value in values.items()}
        return row if self.vascular is None else row | self.vascular.as_row()


@dataclass(frozen=True, slots=True)
class NickingFinding:
    """The row of one crossing, numbered from 1 in its photograph; a photograph without crossings has one row, `crossing` None.

    `row` and `col` are pixels of the file, 0-based; widths in its pixels; `narrowing` 1 - width beside the artery over
    undisturbed width, side 1 nearer the disc, both None where they were not measured, and `reason` says so; `probabilities` of grades 0 to 3, None where it was not graded.
    """

    file: str
    status: Status
    reason: str = ""
    crossing: int | None = None
    row: float | None = None
    col: float | None = None
    confidence: float | None = None
    artery_width_px: float | None = None
    vein_width_px: float | None = None
    narrowing_1: float | None = None
    narrowing_2: float | None = None
    probabilities: tuple[float, float, float, float] | None = None
    grade: int | None = None

    def as_row(self) -> Row:
        """The columns of `NICKING_COLUMNS`: numbers with 4 decimals, None where blank."""
        return _graded_row(self, NICKING_COLUMNS)


@dataclass(frozen=True, slots=True)
class PatchFinding:
    """The row of one patch; columns as in `NickingFinding`, except that side 1 is the upper one."""

    file: str
    status: Status
    reason: str = ""
    narrowing_1: float | None = None
    narrowing_2: float | None = None
    probabilities: tuple[float, float, float, float] | None = None
    grade: int | None = None

    def as_row(self) -> Row:
        """The columns of `PATCH_COLUMNS`: numbers with 4 decimals, None where blank."""
        return _graded_row(self, PATCH_COLUMNS)


def join_remarks(*remarks: str) -> str:
    """What is to be said of a row, as one text; blank ones are left out."""
    text = ""
    for remark in filter(None, remarks):
        text = f"{text}{' ' if text.endswith('.') else '; '}{remark}" if text else remark
    return text


def _graded_row(finding: NickingFinding | PatchFinding, columns: tuple[str, ...]) -> Row:
    p = dict(zip(("p0", "p1", "p2", "p3"), finding.probabilities or (None,) * 4, strict=True))
    values = {column: p[column] if column in p else getattr(finding, column) for column in columns}
    values["status"] = finding.status.value
    return {column: _cell(value) for column, value in values.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def exit_code(statuses: Iterable[Status]) -> int:
    """0 when every photograph was read (refused ones included), 1 when some could not be."""
    return 1 if any(status is Status.FAILED for status in statuses) else 0


# --- graders


class Finding(Protocol):
    """One row of a results table, whatever the grader."""

    @property
    def file(self) -> str:
        """The photograph as it was named."""
        ...

    @property
    def status(self) -> Status:
        """Whether the photograph was graded, refused or not readable."""
        ...

    @property
    def reason(self) -> str:
        """Why it was not graded, or what is remarkable; blank for an unremarkable `ok`."""
        ...

    def as_row(self) -> Row:
        """The cells of the row, in the order of the table's columns."""
        ...


@dataclass(frozen=True, slots=True)
class GradedPhotograph:
    """The rows of one photograph (at least one), and the `evidence` behind them, which only the grader's own page reads."""

    findings: tuple[Finding, ...]
    evidence: Any = None


@dataclass(frozen=True, slots=True)
class Mention:
    """One photograph named on a command line: `path` as given, and whose eye it shows where a cohort table says so.

    `location` is where the file lies when that is not `path` itself, `table` the cohort table that named it. Of a DICOM file
    `header` is what it says itself, and `frame` the number of the picture, from 1 on, where it holds several. `remark` is said
    in the photograph's row behind its own reason.
    """

    path: str
    infant: str | None = None
    eye: str | None = None
    exam: str | None = None
    location: Path | None = None
    table: Path | None = None
    header: DicomHeader | None = None
    frame: int | None = None
    remark: str = ""

    @property
    def file(self) -> Path:
        """Where the photograph lies."""
        return self.location or Path(self.path)

    @property
    def source(self) -> Path | FramePath:
        """What is read: the file, or one picture in it."""
        return self.file if self.frame is None else FramePath(self.file, self.frame)


@dataclass(frozen=True, slots=True)
class BundleIdentity:
    """Name, day and digest of a bundle: equal for two bundles only if every file of theirs is."""

    name: str
    made: str
    digest: str

    @classmethod
    def from_card(cls, name: str, made: object, card_json: str) -> BundleIdentity:
        """The identity of the bundle whose card, which holds the hashes of all its files, reads `card_json`."""
        return cls(name, str(made), hashlib.sha256(card_json.encode()).hexdigest()[:16])


class Sink(Protocol):
    """One answer file that grows photograph by photograph."""

    @property
    def position(self) -> int:
        """Length in bytes of the part of the file that holds finished photographs."""
        ...

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Write photograph `number` (from 1) and flush; gives the names of pictures made beside the file."""
        ...

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Count a photograph that an earlier, interrupted run has written."""
        ...

    def close(self, whole: bool) -> None:
        """Finish the file; `whole` is False when the run was stopped before its end."""
        ...


@runtime_checkable
class WarningSink(Sink, Protocol):
    """A sink that has something to say of all photographs together once they are done."""

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences that must be read before the answers are; empty where there is none."""
        ...


@runtime_checkable
class DrawingSink(Sink, Protocol):
    """A sink whose pictures may be drawn before its turn comes, in another thread."""

    def draw(self, graded: GradedPhotograph) -> GradedPhotograph:
        """The same photograph with the pictures among its evidence; called once, before `add`, from any thread."""
        ...


class Grader(Protocol):
    """Everything that command line, runs and servers know of a grader; a third grader needs nothing else of them."""

    @property
    def name(self) -> str:
        """The command that runs it, such as "rop screen"."""
        ...

    @property
    def noun(self) -> str:
        """What it grades, in the singular: "photograph" or "patch"."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of its rows."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that its own sinks may write."""
        ...

    @property
    def identity(self) -> BundleIdentity:
        """The bundle that answers."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Options that change its answers, as plain JSON."""
        ...

    @property
    def threads(self) -> int:
        """How many photographs it works on at once."""
        ...

    def grade_one(self, source: PhotographSource, name: str) -> GradedPhotograph:
        """The rows of one photograph; `name` is its `file` in them. May raise: see `failed`."""
        ...

    def failed(self, name: str, reason: str) -> GradedPhotograph:
        """The row of a photograph that could not be read or graded."""
        ...

    def count(self, rows: Sequence[Row]) -> Mapping[str, int]:
        """What the rows of one photograph add to each count of the summary; every count is named, in its order."""
        ...

    def open_sinks(
        self, folder: Path, started: str, positions: Mapping[str, int], skipped: str = ""
    ) -> Mapping[str, Sink]:
        """The grader's own sinks in `folder`, by the name of their file: its page with pictures, its extra tables.

        `started` is the time at which the run began, `skipped` what was left out when photographs were looked for, in words.
        A file named in `positions` is cut there and goes on.
        """
        ...
