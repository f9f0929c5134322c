"""The rows of one photograph, or of one patch, with the evidence behind them."""

from __future__ import annotations

from dataclasses import dataclass

from fundoscope.findings import NickingFinding, PatchFinding
from fundoscope.imaging import Pixels
from fundoscope.nicking.grading.grades import PatchGrade
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph
from fundoscope.nicking.grading.widths import CrossingWidths
from fundoscope.vessels import Narrowing
from fundoscope.vessels.measures import VesselMeasures

#: In every row of a crossing while the bundle holds no network that grades.
MEASURED_ONLY = "measured, not graded: this bundle holds no network that grades"


@dataclass(frozen=True, slots=True)
class PhotographGrading:
    """The rows of one photograph, and the evidence behind them.

    `pixels` are None where it could not be read, `mapped` is None where it was refused. `grades` are those of the
    `crossings`, in their order; none where the bundle does not grade. `measures` are None where none were asked for.
    """

    findings: tuple[NickingFinding, ...]
    pixels: Pixels | None = None
    mapped: MappedPhotograph | None = None
    crossings: tuple[CrossingWidths, ...] = ()
    grades: tuple[PatchGrade, ...] = ()
    measures: VesselMeasures | None = None


@dataclass(frozen=True, slots=True)
class PatchGrading:
    """The row of one patch file, and the evidence behind it: the file's `pixels`, cut to a square; None where unread."""

    finding: PatchFinding
    pixels: Pixels | None = None
    narrowing: Narrowing | None = None
    grade: PatchGrade | None = None

    @property
    def findings(self) -> tuple[PatchFinding]:
        """Its row, as a photograph has rows."""
        return (self.finding,)
