"""Photographs in, rows of crossings out, in their order, without torch; and patches in, a row each.

Each photograph is read, its quality judged (adults' eyes only), mapped, its crossings measured and graded; one that
cannot be read or graded is a row that says why. Two cores work on one photograph, so photographs are taken one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from fundoscope.nicking.grading.crossing_patches import MAPPED, mapped, patch_at, square
from fundoscope.nicking.grading.grades import Judged, judge_patches
from fundoscope.nicking.grading.measure import Eye, Measured, look, measure
from fundoscope.nicking.grading.patch_widths import measured_patch
from fundoscope.vessels import Narrowing

#: In every row of a crossing while the bundle holds no network that grades.
MEASURED_ONLY = "measured, not graded: this bundle holds no network that grades"

_THINNEST = 2.0  # pixels at the maps' scale: no vein is taken for thinner

Source = str | Path | bytes | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Graded:
    """The rows of one photograph, and what they were concluded from: None where it was not read, or not graded."""

    findings: tuple[NickingFinding, ...]
    pixels: Pixels | None = None
    eye: Eye | None = None
    measured: tuple[Measured, ...] = ()
    judged: tuple[Judged, ...] = ()


@dataclass(frozen=True, slots=True)
class GradedPatch:
    """The row of one patch, and what it was concluded from; `pixels` of its file, cut to a square."""

    finding: PatchFinding
    pixels: Pixels | None = None
    narrowing: Narrowing | None = None
    judged: Judged | None = None

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
        one = isinstance(photographs, str | Path | bytes | np.ndarray)
        sources = [photographs] if one else photographs
        return [finding for graded in self.look(sources) for finding in graded.findings]  # type: ignore[arg-type]

    def look(self, sources: Iterable[Source]) -> Iterator[Graded]:
        """The same, a photograph at a time, with what the rows were concluded from."""
        for number, source in enumerate(sources, 1):
            name = str(source) if isinstance(source, str | Path) else f"photograph {number}"
            yield self.look_at(source, name)

    def look_at(self, source: Source, name: str) -> Graded:
        """Read, judge and measure one photograph."""
        try:
            photograph = Prepared.read(source, name)
        except PhotographError as error:
            return Graded((NickingFinding(name, Status.FAILED, f"{error.cause}. {error.remedy}"),))
        return self._graded(photograph)

    def _graded(self, photograph: Prepared) -> Graded:
        verdict = judge_quality(photograph, "adult")
        if not verdict.gradable:
            refused = NickingFinding(photograph.name, Status.REJECTED, " ".join(verdict.reasons))
            return Graded((refused,), photograph.pixels)
        eye = look(photograph, self.bundle)
        least = self.bundle.card.crossings.operating_point.threshold
        measured = tuple(measure(photograph.pixels, eye, least))
        judged = self._judged(photograph.pixels, eye, measured)
        told: list[Judged | None] = [*judged] or [None] * len(measured)
        rows = tuple(
            _row(photograph.name, number, one, said)
            for number, (one, said) in enumerate(zip(measured, told, strict=True), 1)
        )
        return Graded(rows or (NickingFinding(photograph.name, Status.OK),), photograph.pixels, eye, measured, judged)

    def _judged(self, pixels: Pixels, eye: Eye, measured: tuple[Measured, ...]) -> tuple[Judged, ...]:
        """What the graders say of each crossing; nothing where the bundle has none."""
        if self.bundle.card.grades is None:
            return ()
        patches = [patch_at(pixels, eye.inside, eye.maps, one.at, vein_width(one, eye), eye.scale) for one in measured]
        return tuple(judge_patches(patches, [one.narrowing for one in measured], self.bundle))

    def look_at_patch(self, source: Source, name: str) -> GradedPatch:
        """Read, measure and grade one patch; raises `BundleError` where the bundle holds no network that grades."""
        try:
            pixels = square(read(source, name))
        except PhotographError as error:
            return GradedPatch(PatchFinding(name, Status.FAILED, f"{error.cause}. {error.remedy}"))
        maps, patch = mapped(pixels, self.bundle.map_vessels)
        narrowing = measured_patch(pixels, maps, self.bundle.card.crossings, pixels.shape[0] / maps.shape[1])
        (judged,) = judge_patches([patch], [narrowing], self.bundle)
        sides = (None, None) if narrowing is None else (narrowing.side_1, narrowing.side_2)
        row = PatchFinding(name, Status.OK, judged.reason, *sides, judged.p, judged.grade)
        return GradedPatch(row, pixels, narrowing, judged)


def vein_width(one: Measured, eye: Eye) -> float:
    """Width of a crossing's vein in the file's pixels, by its strand; a wide vein's where it could not be followed."""
    if one.crossing is None:
        return MAPPED * eye.scale
    return max(2 * float(np.median(one.crossing.second.radius)), _THINNEST * eye.scale)


def _row(name: str, number: int, one: Measured, said: Judged | None) -> NickingFinding:
    found = one.narrowing
    reason = one.reason or MEASURED_ONLY if said is None else said.reason or one.reason
    return NickingFinding(
        name, Status.OK, reason, number, float(one.at[0]), float(one.at[1]), one.confidence,
        None if found is None else found.artery_width, None if found is None else found.vein_width,
        None if found is None else found.side_1, None if found is None else found.side_2,
        None if said is None else said.p, None if said is None else said.grade,
    )  # fmt: skip
