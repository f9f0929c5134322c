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
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, CrossingPatch

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


def attention(grader: NickGrader, patches: Sequence[CrossingPatch]) -> NDArray[np.float32]:
    """Class activation of each stream (n, streams, PATCH_SIDE, PATCH_SIDE), 0 where nothing speaks for a pinch."""
    x = torch.from_numpy(np.array([inputs_of(patch) for patch in patches]))
    with torch.no_grad():
        maps = grader.eval().activation_maps(grader.stream_maps(x))
    streams = [[patch.unposed(m) for patch, m in zip(patches, stream.numpy(), strict=True)] for stream in maps]
    return np.stack(streams, axis=1)


def flanks(patch: CrossingPatch) -> NDArray[np.bool_]:
    """The vein on both sides of the artery, near the middle of the patch, by its maps; (PATCH_SIDE, PATCH_SIDE)."""
    rows, columns = np.ogrid[:PATCH_SIDE, :PATCH_SIDE]
    away = np.hypot(rows - (PATCH_SIDE - 1) / 2, columns - (PATCH_SIDE - 1) / 2) / VEIN_WIDTH
    vein = (patch.maps[..., _VEIN] > 127) & (patch.maps[..., _VEIN] >= patch.maps[..., _KIND])
    there = vein & (away < _FLANK) & (away > _ARTERY)
    return cv2.dilate(there.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def pointed(activation: Plane, patch: CrossingPatch) -> Pointed | None:
    """What an activation (PATCH_SIDE, PATCH_SIDE) does there; None where it is empty, or no vein was seen."""
    there = flanks(patch)
    if not there.any() or activation.sum() <= 0:
        return None
    return Pointed(float(activation[there].sum() / activation.sum()), float(there.mean()))
