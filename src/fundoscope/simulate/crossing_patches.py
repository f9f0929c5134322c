"""Patches: the square around a crossing, 12 widths of its vein to a side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fundoscope.imaging import Pixels
from fundoscope.imaging.places import sample_square
from fundoscope.outputs import save_picture
from fundoscope.simulate.truth import CrossingTruth, SimulatedPhotograph
from fundoscope.vessels.grade_rule import SPAN

SIDE = 256  # pixels


def crossing_patch(pixels: Pixels, crossing: CrossingTruth, side: int = SIDE) -> Pixels:
    """The square (side, side, 3) around a crossing of a photograph (rows, columns, 3); black where that has no pixels."""
    return sample_square(pixels, (crossing.row, crossing.col), SPAN * crossing.vein_width_px / side, side)


_PNG = (  # files as small as by OpenCV's defaults, in two thirds of the time
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP,
)  # fmt: skip
_THINNEST = (2.0, 3.0)  # pixels of artery and vein: in thinner ones no narrowing can be seen


def write_patches(out: Path, name: str, photograph: SimulatedPhotograph) -> tuple[dict[str, Any], ...]:
    """Write the patches of a photograph into `out`/patches and return their rows of `patches.csv`.

    There, side 1 is the upper one in the patch.
    """
    rows, pixels = [], cv2.cvtColor(photograph.pixels, cv2.COLOR_RGB2BGR)
    for k, crossing in enumerate(photograph.truth.crossings, 1):
        if crossing.artery_width_px < _THINNEST[0] or crossing.vein_width_px < _THINNEST[1]:
            continue
        path = f"patches/{name}_{k:03d}.png"
        save_picture(out / path, crossing_patch(np.asarray(pixels, np.uint8), crossing), _PNG)
        upper, lower = crossing.upper_first((crossing.narrowing_1, crossing.narrowing_2))
        row = {"patch": path, "grade": crossing.grade, "narrowing_1": upper, "narrowing_2": lower}
        rows.append(row | {"image": f"images/{name}.jpg", "crossing": k})
    return tuple(rows)
