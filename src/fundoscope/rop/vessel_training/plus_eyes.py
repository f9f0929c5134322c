"""Simulated infants of whom half have plus disease: what the vascular index is fitted on, and other ones to test it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.learning.infant_crops import InfantVesselPhotograph
from fundoscope.outputs import written_whole
from fundoscope.simulate import Findings, SimulatedPhotograph, cameras
from fundoscope.simulate.infants import draw_camera, draw_level, draw_projection, grow_eye, photograph_eye
from fundoscope.simulate.truth import Plus

_SIZE = 640  # pixels of the longer side: a RetCam's


@dataclass(frozen=True, slots=True, eq=False)
class PlusEye:
    """One simulated photograph of the posterior pole.

    `file` are the bytes of its JPEG; `plus` is none or plus, as the photograph shows it; `planes` (rows, columns, 3), uint8, are the true vessels,
    disc and field at the scale of `imaging.local_contrast`.
    """

    file: bytes
    plus: Plus
    planes: NDArray[np.uint8]


def draw_plus_photograph(seed: int, number: int, plus: Plus) -> SimulatedPhotograph:
    """Photograph `number` of the set `seed`, of an eye with so much plus disease.

    Half of the eyes without plus disease are normal, the others have the stages and zones of those with it. Camera, light and focus are drawn
    as for all simulated infants.
    """
    rng = np.random.default_rng([seed, number, 17])
    stage, zone = int(rng.choice([1, 2, 3], p=[0.2, 0.4, 0.4])), int(rng.choice([1, 2], p=[0.25, 0.75]))
    normal = plus == "none" and rng.random() < 0.5
    findings = Findings() if normal else Findings(stage, zone, plus)
    side = "left" if rng.random() < 0.5 else "right"
    exposure = cameras.draw_exposure(draw_camera(rng).resized(_SIZE), draw_level(rng), cameras.draw_cast(rng), rng)
    eye = grow_eye(int(rng.integers(2**31)), findings, side)
    return photograph_eye(eye, exposure, draw_projection(exposure, "posterior", side, rng), "posterior")


def read_plus_eyes(folder: Path, seed: int, number: int) -> Iterator[PlusEye]:
    """So many eyes of the set `seed`, without and with plus disease in turn; those that `folder` does not hold yet are drawn into it."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(number):
        path = folder / f"{k:04}.npz"
        if not path.exists():
            drawn = draw_plus_photograph(seed, k, ("none", "plus")[k % 2])
            truth = drawn.truth
            known = InfantVesselPhotograph.from_masks(drawn.pixels, truth.vessel, truth.disc, DIAMETER)
            with written_whole(path) as beside, beside.open("wb") as file:
                np.savez(file, jpg=np.frombuffer(drawn.file, np.uint8), plus=np.array(truth.plus), planes=known.planes)
        with np.load(path) as kept:
            yield PlusEye(kept["jpg"].tobytes(), cast(Plus, str(kept["plus"])), kept["planes"])
