"""Screening from Python: `fundoscope.load("rop").screen(paths | arrays)`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fundoscope.bundles import Bundle, open_bundle
from fundoscope.findings import RopFinding
from fundoscope.rop.screening.screener import Screened, Screener, Source


@dataclass(frozen=True)
class RopGrader:
    """A verified bundle, ready to screen; with `allow_simulated` it also tells what it learnt from simulated eyes only."""

    bundle: Bundle
    allow_simulated: bool = False

    @classmethod
    def open(cls, bundle: str | Path, allow_simulated: bool = False) -> RopGrader:
        """The grader of a shipped bundle's name, or of a bundle's folder."""
        return cls(open_bundle(bundle), allow_simulated)

    def screen(self, photographs: Source | Iterable[Source]) -> list[RopFinding]:
        """One finding a photograph, in their order: paths, bytes of files, or arrays (rows, columns, 3) in RGB.

        A photograph that is refused or cannot be read is a finding too; nothing is raised for it.
        """
        return [screened.finding for screened in self.look(photographs)]

    def look(self, photographs: Source | Iterable[Source]) -> list[Screened]:
        """The same with the standard picture and the class activation map behind each finding."""
        one = isinstance(photographs, str | Path | bytes | np.ndarray)
        screener = Screener(self.bundle, allow_simulated=self.allow_simulated)
        return list(screener.screen([photographs] if one else photographs))  # type: ignore[list-item]
