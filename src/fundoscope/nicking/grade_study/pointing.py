"""Where a grader looks: the class activation of each stream, and how much of it lies on the vein beside the artery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.training_views import inputs_of
from fundoscope.nicking.grading.crossing_patches import SIDE, WIDTH, Patch

_FLANK = 2.5  # vein widths from the crossing within which the vein's flanks lie,
_ARTERY = 0.5  # and up to which the artery does
_VEIN, _KIND = 2, 1  # channels of a patch's maps

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Pointed:
    """The share of an attention map's mass on the venous flanks, and the flanks' share of the patch."""

    mass: float
    area: float

    @property
    def score(self) -> float:
        """How many times as much as by chance."""
        return self.mass / self.area


def attention(grader: NickGrader, patches: Sequence[Patch]) -> NDArray[np.float32]:
    """Class activation of each stream (n, streams, SIDE, SIDE), 0 where nothing speaks for a pinch."""
    x = torch.from_numpy(np.array([inputs_of(patch) for patch in patches]))
    with torch.no_grad():
        maps = grader.eval().activation_maps(grader.stream_maps(x))
    streams = [[patch.back(m) for patch, m in zip(patches, stream.numpy(), strict=True)] for stream in maps]
    return np.stack(streams, axis=1)


def flanks(patch: Patch) -> NDArray[np.bool_]:
    """The vein on both sides of the artery, near the middle of the patch, by its maps; (SIDE, SIDE)."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    away = np.hypot(rows - (SIDE - 1) / 2, columns - (SIDE - 1) / 2) / WIDTH
    vein = (patch.maps[..., _VEIN] > 127) & (patch.maps[..., _VEIN] >= patch.maps[..., _KIND])
    there = vein & (away < _FLANK) & (away > _ARTERY)
    return cv2.dilate(there.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def pointed(activation: Plane, patch: Patch) -> Pointed | None:
    """What an activation (SIDE, SIDE) does there; None where it is empty, or no vein was seen."""
    there = flanks(patch)
    if not there.any() or activation.sum() <= 0:
        return None
    return Pointed(float(activation[there].sum() / activation.sum()), float(there.mean()))
