"""Infants' photographs with maps of vessels and disc, and random crops of them; every draw depends only on (seed, epoch, number)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from fundoscope.imaging import Pixels, find_field
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.imaging.prepared import scale_whole
from fundoscope.learning.vessel_crops import BLACK, MARGIN, CropOptions, CropSampler

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class InfantVesselPhotograph:
    """A photograph with the true maps of its vessels and its disc, at one scale.

    `pixels` (rows, columns, 3) are uint8 RGB. `planes` (rows, columns, 3) are uint8, 0 or 255: vessel, disc and field. `disc_known` tells
    whether the disc is; photographs of older eyes have only vessels.
    """

    pixels: Pixels
    planes: NDArray[np.uint8]
    disc_known: bool

    @classmethod
    def from_masks(cls, pixels: Pixels, vessel: Mask, disc: Mask | None, diameter: int) -> InfantVesselPhotograph:
        """A photograph and its masks (rows, columns) of one size, brought to a field `diameter` pixels across."""
        small, inside = scale_whole(pixels, find_field(pixels), diameter)
        nothing = np.zeros(vessel.shape, bool)
        planes = np.dstack([vessel, nothing if disc is None else disc]).astype(np.uint8) * 255
        size = (small.shape[1], small.shape[0])
        method = cv2.INTER_AREA if small.shape[0] < pixels.shape[0] else cv2.INTER_LINEAR
        planes = planes if small is pixels else cv2.resize(planes, size, interpolation=method)
        return cls(small, np.dstack([planes, inside.astype(np.uint8) * 255]), disc is not None)


def draw_infant_crop(
    photograph: InfantVesselPhotograph, crops: CropOptions, rng: Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Local contrast (3, side, side) of a random crop in the field, and its targets (4, side, side), 0 to 1.

    The first two planes are the truth of vessel and disc, the others the weight of each: 0 outside the field and where the truth is
    not known.
    """
    wide, middle = crops.side + 2 * MARGIN, slice(MARGIN, MARGIN + crops.side)
    matrix = crops.draw_window(photograph.planes[..., 2], rng, wide)
    pixels = cv2.warpAffine(photograph.pixels, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
    planes = cv2.warpAffine(photograph.planes, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
    beyond = crops.beyond_cut(rng, wide)
    pixels[beyond] = BLACK
    planes[beyond, :2] = 0
    contrast = local_contrast(crops.augment(np.asarray(pixels, np.uint8), rng), planes[..., 2] > 127)
    vessel, disc, field = planes[middle, middle].transpose(2, 0, 1).astype(np.float32) / 255
    targets = np.stack([vessel, disc, field, field * photograph.disc_known])
    return np.ascontiguousarray(contrast[:, middle, middle]), targets


class _InfantCrops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, photographs: Sequence[InfantVesselPhotograph], crops: CropOptions, seed: int) -> None:
        self.photographs, self.crops, self.seed = photographs, crops, seed

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, *index))
        photograph = self.photographs[int(rng.integers(len(self.photographs)))]
        contrast, targets = draw_infant_crop(photograph, self.crops, rng)
        return torch.from_numpy(contrast), torch.from_numpy(targets)


def infant_crop_batches(
    photographs: Sequence[InfantVesselPhotograph], crops: CropOptions, batch: int, seed: int, workers: int = 0
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of crops, (N, 3, side, side) and (N, 4, side, side); each epoch has others."""
    return DataLoader(
        _InfantCrops(photographs, crops, seed), batch, sampler=CropSampler(crops.number), num_workers=workers,
        drop_last=crops.number > batch, persistent_workers=workers > 0,
    )  # fmt: skip
