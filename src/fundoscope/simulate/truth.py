"""What is known of a simulated photograph: masks, crossings, disease, camera and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Plus = Literal["none", "pre-plus", "plus"]

#: Names of the masks, in the order of their bits in `truth/*.png` (1, 2, 4, ...).
MASKS = ("artery", "vein", "disc", "fovea", "ridge", "field")


@dataclass(frozen=True, slots=True)
class Findings:
    """Retinopathy of prematurity in an eye, or as far as one view shows it (ICROP 2021).

    `stage` 0 (none) to 3; `zone` 1 to 3, None without a stage; `plus` one of none, pre-plus, plus.
    """

    stage: int = 0
    zone: int | None = None
    plus: Plus = "none"

    @property
    def label(self) -> Literal["normal", "rop"]:
        """`rop` where a stage or plus disease is seen."""
        return "rop" if self.stage > 0 or self.plus == "plus" else "normal"

    @property
    def treatment_requiring(self) -> bool:
        """Type 1 ROP (Early Treatment for ROP Cooperative Group 2003, Arch Ophthalmol 121:1684).

        Zone I, any stage with plus; zone I, stage 3; zone II, stage 2 or 3 with plus.
        """
        plus = self.plus == "plus"
        if self.zone == 1:
            return (self.stage >= 1 and plus) or self.stage == 3
        return self.zone == 2 and self.stage >= 2 and plus


@dataclass(frozen=True, slots=True)
class CrossingTruth:
    """An artery and a vein crossing in one photograph; all lengths in its pixels, rows and columns 0-based.

    Narrowing is 1 - remaining width / undisturbed width; side 1 is nearer the disc. `artery_above` is False for the
    rarer crossing where the vein runs over the artery; `side_1_up` says whether side 1 is the upper one in the picture.
    """

    row: float
    col: float
    artery_width_px: float
    vein_width_px: float
    angle_degrees: float
    narrowing_1: float = 0.0
    narrowing_2: float = 0.0
    grade: int = 0
    artery_above: bool = True
    side_1_up: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The whole truth of one photograph; masks are (rows, columns) booleans."""

    seed: int
    camera: str
    level: str
    eye: Literal["left", "right"]
    artery: Mask
    vein: Mask
    disc: Mask
    fovea: Mask
    ridge: Mask
    field: Mask
    crossings: tuple[CrossingTruth, ...]
    seen: Findings = Findings()
    whole_eye: Findings = Findings()
    aim: str = "posterior"

    @property
    def vessel(self) -> Mask:
        """Arteries and veins together."""
        return self.artery | self.vein

    @property
    def stage(self) -> int:
        """Stage of ROP that this view shows."""
        return self.seen.stage

    @property
    def zone(self) -> int | None:
        """Zone of the ROP that this view shows."""
        return self.seen.zone

    @property
    def plus(self) -> Plus:
        """Plus disease as this view shows it."""
        return self.seen.plus

    @property
    def treatment_requiring(self) -> bool:
        """Type 1 ROP by what this view shows."""
        return self.seen.treatment_requiring

    def bits(self) -> NDArray[np.uint8]:
        """(rows, columns), uint8: bit k is set inside mask k of `MASKS`."""
        picture = np.zeros(self.artery.shape, np.uint8)
        for bit, name in enumerate(MASKS):
            picture |= getattr(self, name).astype(np.uint8) << bit
        return picture


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedPhotograph:
    """A photograph that no camera took: `pixels` (rows, columns, 3), uint8, RGB, its `truth`, and `file`, the JPEG
    bytes of which `pixels` are the decoding.
    """

    pixels: NDArray[np.uint8]
    truth: Truth
    file: bytes
