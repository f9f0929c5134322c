"""Photographs in, rows of crossings out, in their order, without torch.

Each photograph is read, judged (adults' eyes only), mapped and measured; one that cannot be read or graded is a row
that says why. Two cores work on one photograph, so photographs are taken one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.maps import MapsBundle, open_maps
from fundoscope.errors import PhotographError
from fundoscope.findings import NickingFinding, Status
from fundoscope.imaging import Photograph, Pixels, find_field, read
from fundoscope.imaging.quality import judge
from fundoscope.nicking.measuring import Eye, Measured, look, measure

#: In every row of a crossing while the bundle holds no network that grades.
MEASURED_ONLY = "measured, not graded: this bundle holds no network that grades"

Source = str | Path | bytes | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Graded:
    """The rows of one photograph, and what they were concluded from: None where it was not read, or not graded."""

    findings: tuple[NickingFinding, ...]
    pixels: Pixels | None = None
    eye: Eye | None = None
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class NickingGrader:
    """A verified bundle, ready to grade."""

    bundle: MapsBundle

    @classmethod
    def open(cls, bundle: str | Path = "nicking") -> NickingGrader:
        """The grader of a shipped bundle's name, or of a bundle's folder."""
        return cls(open_maps(bundle))

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
            photograph = read(source, name)
        except PhotographError as error:
            return Graded((NickingFinding(name, Status.FAILED, f"{error.cause}. {error.remedy}"),))
        return self._graded(photograph)

    def _graded(self, photograph: Photograph) -> Graded:
        field = find_field(photograph.pixels)
        verdict = judge(photograph, field, "adult")
        if not verdict.gradable:
            refused = NickingFinding(photograph.name, Status.REJECTED, " ".join(verdict.reasons))
            return Graded((refused,), photograph.pixels)
        eye = look(photograph.pixels, field, self.bundle)
        least = self.bundle.card.crossings.confidence.threshold
        measured = tuple(measure(photograph.pixels, eye, least))
        rows = tuple(_row(photograph.name, number, one) for number, one in enumerate(measured, 1))
        return Graded(rows or (NickingFinding(photograph.name, Status.OK),), photograph.pixels, eye, measured)


def _row(name: str, number: int, one: Measured) -> NickingFinding:
    found = one.narrowing
    return NickingFinding(
        name, Status.OK, one.reason or MEASURED_ONLY, number, float(one.at[0]), float(one.at[1]), one.confidence,
        None if found is None else found.artery_width, None if found is None else found.vein_width,
        None if found is None else found.side_1, None if found is None else found.side_2,
    )  # fmt: skip
