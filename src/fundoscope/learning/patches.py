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

from fundoscope.imaging import Pixels
from fundoscope.imaging.evened import evened, scaled
from fundoscope.learning.augment import Augment

Mask = NDArray[np.bool_]

#: What a camera can change: colour, light, sharpness, noise and encoding. Geometry is the crop's own.
CAMERAS = Augment(
    rotation=0, scale=0, shift=0, field=0, colour=0.8, light=0.2, sharpness=0.35, noise=0.35, encoding=0.25
)
_MARGIN = 40  # pixels around a crop that its local contrast is measured on, too


@dataclass(frozen=True, slots=True)
class Drawn:
    """A photograph at the scale of `imaging.evened`: `pixels` (rows, columns, 3), uint8, RGB, and `planes` (rows,
    columns, 4), uint8, 0 or 255: vessel, artery, vein, and where these are known (the field).
    """

    pixels: Pixels
    planes: NDArray[np.uint8]

    @classmethod
    def of(cls, pixels: Pixels, vessel: Mask, artery: Mask, vein: Mask) -> Drawn:
        """From a photograph of any size and its masks; vessel pixels that are neither kind teach no kind."""
        small, inside = scaled(pixels)
        planes = cv2.merge([mask.astype(np.uint8) * 255 for mask in (vessel, artery, vein)])
        size = (small.shape[1], small.shape[0])
        method = cv2.INTER_AREA if small.shape[0] < pixels.shape[0] else cv2.INTER_LINEAR
        planes = planes if small is pixels else cv2.resize(planes, size, interpolation=method)
        return cls(small, np.dstack([planes, inside.astype(np.uint8) * 255]))


@dataclass(frozen=True)
class Crops:
    """How crops are taken: `side` pixels, `number` of them an epoch, enlarged or shrunk by up to `zoom` (log)."""

    side: int = 112
    number: int = 1200
    zoom: float = 0.25
    augment: Augment = CAMERAS

    def take(self, drawn: Drawn, rng: Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Local contrast (3, side, side) and targets (4, side, side) in 0 to 1 of a crop somewhere in the field."""
        wide = self.side + 2 * _MARGIN
        matrix = self._matrix(drawn, rng, wide)
        pixels = cv2.warpAffine(drawn.pixels, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
        planes = cv2.warpAffine(drawn.planes, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
        contrast = evened(self.augment(np.asarray(pixels, np.uint8), rng), planes[..., 3] > 127)
        middle = slice(_MARGIN, _MARGIN + self.side)
        targets = np.float32(planes[middle, middle].transpose(2, 0, 1)) / 255
        return np.ascontiguousarray(contrast[:, middle, middle]), np.ascontiguousarray(targets)

    def _matrix(self, drawn: Drawn, rng: Generator, wide: int) -> NDArray[np.float64]:
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
    def __init__(self, drawn: Sequence[Drawn], crops: Crops, seed: int) -> None:
        self.drawn, self.crops, self.seed = drawn, crops, seed

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, *index))
        contrast, targets = self.crops.take(self.drawn[int(rng.integers(len(self.drawn)))], rng)
        return torch.from_numpy(contrast), torch.from_numpy(targets)


def crop_batches(
    drawn: Sequence[Drawn], crops: Crops, batch: int, seed: int, workers: int = 0
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of crops, (N, 3, side, side) and (N, 4, side, side); each epoch has others."""
    return DataLoader(
        _Examples(drawn, crops, seed), batch, sampler=_Epochs(crops.number), num_workers=workers,
        drop_last=crops.number > batch, persistent_workers=workers > 0,
    )  # fmt: skip
