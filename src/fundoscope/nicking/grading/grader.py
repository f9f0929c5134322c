"""The grader of nicking: photograph -> vessel maps -> crossings -> widths -> patches -> grades, without torch.

A patch file takes the same way from its patch on. One that cannot be read or graded is a row that says why. All cores
work on one photograph, so photographs are graded one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.errors import PhotographError
from fundoscope.findings import NickingFinding, PatchFinding, Status
from fundoscope.imaging import Pixels, Prepared, read
from fundoscope.imaging.quality import judge_quality
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import crop_square, cut_crossing, map_patch
from fundoscope.nicking.grading.grades import PatchGrade, grade_patches
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph, map_photograph
from fundoscope.nicking.grading.widths import CrossingWidths, measure_crossings, measure_patch
from fundoscope.vessels import Narrowing

#: In every row of a crossing while the bundle holds no network that grades.
MEASURED_ONLY = "measured, not graded: this bundle holds no network that grades"

Source = str | Path | bytes | NDArray[Any]


@dataclass(frozen=True, slots=True)
class PhotographGrading:
    """The rows of one photograph, and the evidence behind them.

    `pixels` are None where it could not be read, `mapped` is None where it was refused. `grades` are those of the
    `crossings`, in their order; none where the bundle does not grade.
    """

    findings: tuple[NickingFinding, ...]
    pixels: Pixels | None = None
    mapped: MappedPhotograph | None = None
    crossings: tuple[CrossingWidths, ...] = ()
    grades: tuple[PatchGrade, ...] = ()


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


@dataclass(frozen=True)
class NickingGrader:
    """A verified bundle, ready to grade."""

    bundle: NickingBundle

    @classmethod
    def open(cls, bundle: str | Path = "nicking") -> NickingGrader:
        """The grader of a shipped bundle's name, or of a bundle's folder."""
        return cls(open_nicking_bundle(bundle))

    def grade(self, photographs: Source | Iterable[Source]) -> list[NickingFinding]:
        """Rows of all crossings of photographs, in their order: paths, bytes of files, or arrays (rows, columns, 3), RGB."""
        sources: Iterable[Any] = (
            [photographs] if isinstance(photographs, str | Path | bytes | np.ndarray) else photographs
        )
        findings: list[NickingFinding] = []
        for number, source in enumerate(sources, 1):
            name = str(source) if isinstance(source, str | Path) else f"photograph {number}"
            findings += self.grade_photograph(source, name).findings
        return findings

    def grade_photograph(self, source: Source, name: str) -> PhotographGrading:
        """The rows of one photograph, a row a crossing, and the evidence behind them."""
        try:
            photograph = Prepared.read(source, name)
        except PhotographError as error:
            return PhotographGrading((NickingFinding(name, Status.FAILED, f"{error.cause}. {error.remedy}"),))
        quality = judge_quality(photograph, "adult")
        if not quality.gradable:
            refused = NickingFinding(photograph.name, Status.REJECTED, " ".join(quality.reasons))
            return PhotographGrading((refused,), photograph.pixels)

        card = self.bundle.card
        mapped = map_photograph(photograph, self.bundle)
        candidates = find_candidates(mapped.maps, mapped.artery_vein)
        crossings = measure_crossings(mapped, candidates, card.crossings)
        grades: list[PatchGrade] = []
        if card.grades is not None:
            patches = [cut_crossing(mapped, crossing) for crossing in crossings]
            grades = grade_patches(patches, [crossing.narrowing for crossing in crossings], self.bundle)

        rows = [
            _photograph_row(photograph.name, number, crossing, grades[number - 1] if grades else None)
            for number, crossing in enumerate(crossings, 1)
        ]
        findings = tuple(rows) or (NickingFinding(photograph.name, Status.OK),)
        return PhotographGrading(findings, photograph.pixels, mapped, tuple(crossings), tuple(grades))

    def grade_patch(self, source: Source, name: str) -> PatchGrading:
        """The row of one patch file, and the evidence behind it.

        Raises `BundleError` where the bundle holds no network that grades.
        """
        try:
            pixels = crop_square(read(source, name))
        except PhotographError as error:
            return PatchGrading(PatchFinding(name, Status.FAILED, f"{error.cause}. {error.remedy}"))
        maps, patch = map_patch(pixels, self.bundle.map_vessels)
        narrowing = measure_patch(pixels, maps, self.bundle.card.crossings, pixels.shape[0] / maps.shape[1])
        (grade,) = grade_patches([patch], [narrowing], self.bundle)
        sides = (None, None) if narrowing is None else (narrowing.side_1, narrowing.side_2)
        row = PatchFinding(name, Status.OK, grade.reason, *sides, grade.probabilities, grade.grade)
        return PatchGrading(row, pixels, narrowing, grade)


def _photograph_row(name: str, number: int, crossing: CrossingWidths, grade: PatchGrade | None) -> NickingFinding:
    narrowing = crossing.narrowing
    reason = crossing.reason or MEASURED_ONLY if grade is None else grade.reason or crossing.reason
    return NickingFinding(
        name, Status.OK, reason, number, float(crossing.place[0]), float(crossing.place[1]), crossing.confidence,
        None if narrowing is None else narrowing.artery_width, None if narrowing is None else narrowing.vein_width,
        None if narrowing is None else narrowing.side_1, None if narrowing is None else narrowing.side_2,
        None if grade is None else grade.probabilities, None if grade is None else grade.grade,
    )  # fmt: skip
