"""Photographs with their vessels drawn, and random crops of them, every draw named by (seed, epoch, number).

As in `data`, no draw depends on an earlier one, so that a training that was killed goes on with the same crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fundoscope.datasets import PhotographRecord
from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.imaging.places import rescale_points
from fundoscope.learning.augment import Augment

Points = NDArray[np.float64]

#: What a camera can change: colour, light, sharpness, noise and encoding. Geometry is the crop's own.
CAMERAS = Augment(
    rotation=0, scale=0, shift=0, field=0, colour=0.8, light=0.2, sharpness=0.35, noise=0.35, encoding=0.25
)
#: Deviation in pixels of the bump that marks a crossing: half the width of a wide vein.
BUMP = 3.5
_RARE = 6.0  # times more than an empty place: the middle of a crossing counts
_MARGIN = 40  # pixels around a crop that its local contrast is measured on, too


@dataclass(frozen=True, slots=True, eq=False)
class VesselPhotograph:
    """A photograph at the scale of `imaging.local_contrast`: `pixels` (rows, columns, 3), uint8, RGB, and `planes` (rows,
    columns, 4), uint8, 0 or 255: vessel, artery, vein, and the field. `crossings` (n, 2), row and column at that scale,
    or None where not all are known; `known` says whether vessels, and whether their kinds, are.
    """

    pixels: Pixels
    planes: NDArray[np.uint8]
    crossings: Points | None
    known: tuple[bool, bool]

    @classmethod
    def from_record(cls, record: PhotographRecord) -> VesselPhotograph:
        """From a photograph of any size and what its set says of it."""
        pixels = record.pixels
        small, inside = scale_to_diameter(pixels)
        nothing = np.zeros(record.field.shape, bool)
        masks = [nothing if mask is None else mask for mask in (record.vessel, record.artery, record.vein)]
        if not record.complete and record.crossing_map is not None:
            masks[1:] = [mask & ~record.crossing_map for mask in masks[1:]]  # there "both" may also mean "unknown"
        planes = cv2.merge([mask.astype(np.uint8) * 255 for mask in masks])
        size = (small.shape[1], small.shape[0])
        method = cv2.INTER_AREA if small.shape[0] < pixels.shape[0] else cv2.INTER_LINEAR
        planes = planes if small is pixels else cv2.resize(planes, size, interpolation=method)
        crossings = None
        if record.complete and record.crossings is not None:
            crossings = rescale_points(record.crossings, small.shape[0] / pixels.shape[0])
        known = (record.vessel is not None, record.artery is not None)
        return cls(small, np.dstack([planes, inside.astype(np.uint8) * 255]), crossings, known)


@dataclass(frozen=True)
class CropOptions:
    """How crops are taken: `side` pixels, `number` of them an epoch, enlarged or shrunk by up to `zoom` (log)."""

    side: int = 112
    number: int = 1200
    zoom: float = 0.25
    augment: Augment = CAMERAS

    def draw_crop(self, drawn: VesselPhotograph, rng: Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Local contrast (3, side, side) of a crop somewhere in the field, and (8, side, side) in 0 to 1: targets of
        vessel, artery, vein and crossing, then how much each of them counts.
        """
        wide = self.side + 2 * _MARGIN
        matrix = self._matrix(drawn, rng, wide)
        pixels = cv2.warpAffine(drawn.pixels, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
        planes = cv2.warpAffine(drawn.planes, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
        contrast = local_contrast(self.augment(np.asarray(pixels, np.uint8), rng), planes[..., 3] > 127)
        middle = slice(_MARGIN, _MARGIN + self.side)
        *masks, field = planes[middle, middle].transpose(2, 0, 1).astype(np.float32) / 255
        targets = np.stack([*masks, self._bumps(drawn.crossings, matrix)])
        return np.ascontiguousarray(contrast[:, middle, middle]), np.concatenate(
            [targets, _weights(drawn, targets, field)]
        )

    def _bumps(self, crossings: Points | None, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """A Gaussian of height 1 at each crossing, (side, side): where two are near, the higher."""
        if crossings is None or not len(crossings):
            return np.zeros((self.side, self.side), np.float32)
        across = crossings[:, ::-1] @ matrix[:, :2].T + matrix[:, 2] - _MARGIN  # column, row
        places = np.arange(self.side)
        columns, rows = (np.exp(-0.5 * ((places - at[:, None]) / BUMP) ** 2) for at in across.T)
        return (rows[:, :, None] * columns[:, None, :]).max(axis=0).astype(np.float32)

    def _matrix(self, drawn: VesselPhotograph, rng: Generator, wide: int) -> NDArray[np.float64]:
        """Photograph to window: a turn by any angle, often a mirror, a zoom, about a point in the field."""
        rows, columns = np.nonzero(drawn.planes[::8, ::8, 3])
        at = int(rng.integers(len(rows)))
        row, column = 8 * rows[at] + rng.integers(8), 8 * columns[at] + rng.integers(8)
        turn = cv2.getRotationMatrix2D((float(column), float(row)), rng.uniform(0, 360), self._factor(rng))
        turn[:, 2] += [wide / 2 - column, wide / 2 - row]
        if rng.random() < 0.5:
            turn[0] *= -1
            turn[0, 2] += wide - 1
        return np.asarray(turn, float)

    def _factor(self, rng: Generator) -> float:
        return float(np.exp(rng.uniform(-self.zoom, self.zoom)))


def _weights(drawn: VesselPhotograph, targets: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each target counts, (4, side, side): nothing outside the field or where it is not known; a vessel that
    is neither artery nor vein (RITE's white) says nothing of either; places near a crossing count more, as they are few.
    """
    vessels, kinds = drawn.known
    kindless = np.clip(targets[0] - targets[1:3].max(axis=0), 0, 1)
    of_kind = field * (1 - kindless) * kinds
    crossing = field * (1 + _RARE * targets[3]) * (drawn.crossings is not None)
    return np.stack([field * vessels, of_kind, of_kind, crossing])


class _Epochs(Sampler[tuple[int, int]]):
    """(epoch, number) for each crop of an epoch."""

    def __init__(self, number: int) -> None:
        self.number, self.epoch = number, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, number) for number in range(self.number)])


class _Examples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, drawn: Sequence[VesselPhotograph], crops: CropOptions, seed: int) -> None:
        self.drawn, self.crops, self.seed = drawn, crops, seed

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, *index))
        contrast, targets = self.crops.draw_crop(self.drawn[int(rng.integers(len(self.drawn)))], rng)
        return torch.from_numpy(contrast), torch.from_numpy(targets)


def crop_batches(
    drawn: Sequence[VesselPhotograph], crops: CropOptions, batch: int, seed: int, workers: int = 0
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of crops, (N, 3, side, side) and (N, 8, side, side); each epoch has others."""
    return DataLoader(
        _Examples(drawn, crops, seed), batch, sampler=_Epochs(crops.number), num_workers=workers,
        drop_last=crops.number > batch, persistent_workers=workers > 0,
    )  # fmt: skip
