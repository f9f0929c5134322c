"""What is known of a simulated photograph: masks, crossings, disease, camera and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Plus = Literal["none", "pre-plus", "plus"]
Side = Literal["left", "right"]

#: Names of the masks, in the order of their bits in `truth/*.png` (1, 2, 4, ...).
MASKS = ("artery", "vein", "disc", "fovea", "ridge", "field")


@dataclass(frozen=True, slots=True)
class Findings:
    """Retinopathy of prematurity in an eye, or in the part of it that one photograph shows (ICROP 2021).

    `stage` 0 (none) to 3; `zone` 1 to 3, None without a stage; `plus` one of none, pre-plus, plus.
    """

    stage: int = 0
    zone: int | None = None
    plus: Plus = "none"

    @property
    def label(self) -> Literal["normal", "rop"]:
        """`rop` where there is a stage or plus disease, else `normal`."""
        return "rop" if self.stage > 0 or self.plus == "plus" else "normal"

    @property
    def treatment_requiring(self) -> bool:
        """Whether this is type 1 ROP (Early Treatment for ROP Cooperative Group 2003, Arch Ophthalmol 121:1684).

        Zone I, any stage with plus; zone I, stage 3; zone II, stage 2 or 3 with plus.
        """
        plus = self.plus == "plus"
        if self.zone == 1:
            return (self.stage >= 1 and plus) or self.stage == 3
        return self.zone == 2 and self.stage >= 2 and plus


@dataclass(frozen=True, slots=True)
class CrossingTruth:
    """An artery and a vein that cross in one photograph; lengths in its pixels, rows and columns 0-based.

    Narrowing is 1 - remaining width / undisturbed width; side 1 is nearer the disc. `artery_above` is False where the
    vein runs over the artery, which is rarer; `side_1_up` says whether side 1 is the upper one in the photograph. The
    narrowing that is seen is made of a loss of calibre and a loss of contrast (fade), 0 to 1 each:
    1 - narrowing = (1 - calibre) (1 - fade).
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
    calibre_1: float = 0.0
    calibre_2: float = 0.0
    fade_1: float = 0.0
    fade_2: float = 0.0

    def upper_first(self, sides: tuple[float, float]) -> tuple[float, float]:
        """Values of side 1 and 2, in the order of the upper and the lower side."""
        return sides if self.side_1_up else sides[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All that is known of one photograph; masks are (rows, columns) booleans.

    `in_view` is the disease that this photograph shows, `of_eye` the disease of the whole eye; `aim` is where the camera
    was pointed.
    """

    seed: int
    camera: str
    level: str
    eye: Side
    artery: Mask
    vein: Mask
    disc: Mask
    fovea: Mask
    ridge: Mask
    field: Mask
    crossings: tuple[CrossingTruth, ...]
    in_view: Findings = Findings()
    of_eye: Findings = Findings()
    aim: str = "posterior"

    @property
    def vessel(self) -> Mask:
        """Arteries and veins together, (rows, columns)."""
        return self.artery | self.vein

    @property
    def stage(self) -> int:
        """Stage of ROP that this photograph shows."""
        return self.in_view.stage

    @property
    def zone(self) -> int | None:
        """Zone of the ROP that this photograph shows."""
        return self.in_view.zone

    @property
    def plus(self) -> Plus:
        """Plus disease that this photograph shows."""
        return self.in_view.plus

    @property
    def treatment_requiring(self) -> bool:
        """Whether this photograph alone shows type 1 ROP."""
        return self.in_view.treatment_requiring

    def bits(self) -> NDArray[np.uint8]:
        """All masks in one picture (rows, columns), uint8: bit k is set inside mask k of `MASKS`."""
        picture = np.zeros(self.artery.shape, np.uint8)
        for bit, name in enumerate(MASKS):
            picture |= getattr(self, name).astype(np.uint8) << bit
        return picture


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedPhotograph:
    """A simulated photograph: `pixels` (rows, columns, 3), uint8, RGB; its `truth`; and `file`, the bytes of the JPEG
    from which the pixels were decoded.
    """

    pixels: NDArray[np.uint8]
    truth: Truth
    file: bytes
