"""Photographs with maps of their vessels, and random crops of them; every draw depends only on (seed, epoch, number).

As in `squares`, no draw depends on an earlier one, so that a training that was killed goes on with the same crops.
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

#: Augmentation by what another camera changes: colour, light, sharpness, noise and encoding. `CropOptions` adds geometry.
CAMERAS = Augment(
    rotation=0, scale=0, shift=0, field=0, colour=0.8, light=0.2, sharpness=0.35, noise=0.35, encoding=0.25
)
#: Standard deviation in pixels of the Gaussian that marks a crossing: half the width of a wide vein.
BUMP = 3.5
#: Pixels: vessels of this width weigh as the background does in the maps of arteries and veins.
USUAL_WIDTH = 4.0
_CROSSING_WEIGHT = 6.0  # the middle of a crossing counts this much more than a pixel without one, as crossings are few
BLACK = 2  # grey level of a camera's surround
MARGIN = 40  # pixels around a crop on which its local contrast is measured, too


@dataclass(frozen=True, slots=True, eq=False)
class VesselPhotograph:
    """A photograph with the true maps of its vessels, at the scale of `imaging.local_contrast`.

    `pixels` (rows, columns, 3) are uint8 RGB. `planes` (rows, columns, 4) are uint8, 0 or 255: vessel, artery, vein, and
    the field. `crossings` (n, 2) are rows and columns at that scale, or None where not all are known. `known` tells
    whether vessels are known, and whether arteries and veins are told apart. `soft` (rows, columns, 4), uint8, are the
    probabilities of `networks.VESSEL_MAPS` that another network gives, 255 for certain; None where none was asked.
    """

    pixels: Pixels
    planes: NDArray[np.uint8]
    crossings: Points | None
    known: tuple[bool, bool]
    soft: NDArray[np.uint8] | None = None

    @classmethod
    def from_record(cls, record: PhotographRecord) -> VesselPhotograph:
        """A photograph of any size with its maps, brought to one scale; maps that its data set lacks are empty."""
        nothing = np.zeros(record.field.shape, bool)
        masks = [nothing if mask is None else mask for mask in (record.vessel, record.artery, record.vein)]
        if not record.complete and record.crossing_map is not None:
            masks[1:] = [mask & ~record.crossing_map for mask in masks[1:]]  # there "both" may also mean "unknown"
        known = (record.vessel is not None, record.artery is not None)
        return cls.from_masks(record.pixels, masks, record.crossings if record.complete else None, known)

    @classmethod
    def from_masks(
        cls, pixels: Pixels, masks: Sequence[NDArray[np.bool_]], crossings: Points | None, known: tuple[bool, bool]
    ) -> VesselPhotograph:
        """A photograph and its masks of vessel, artery and vein, of one size, brought to one scale."""
        small, inside = scale_to_diameter(pixels)
        planes = cv2.merge([mask.astype(np.uint8) * 255 for mask in masks])
        size = (small.shape[1], small.shape[0])
        method = cv2.INTER_AREA if small.shape[0] < pixels.shape[0] else cv2.INTER_LINEAR
        planes = planes if small is pixels else cv2.resize(planes, size, interpolation=method)
        if crossings is not None:
            crossings = rescale_points(crossings, small.shape[0] / pixels.shape[0])
        return cls(small, np.dstack([planes, inside.astype(np.uint8) * 255]), crossings, known)


@dataclass(frozen=True)
class CropOptions:
    """How crops are drawn: `number` an epoch, of `side` pixels, zoomed by a factor between exp(-`zoom`) and exp(`zoom`).

    With the probability `cut` a crop is black beyond a straight line, as where a camera cuts its field flat and nobody
    noticed: there is no vessel. Vessels weigh (`USUAL_WIDTH` / their width) ** `thin` in the maps of arteries and veins.
    """

    side: int = 112
    number: int = 1200
    zoom: float = 0.25
    cut: float = 0.0
    thin: float = 0.0
    augment: Augment = CAMERAS

    def draw_crop(
        self, photograph: VesselPhotograph, rng: Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Local contrast (3, side, side) of a random crop in the field, and its targets (8, side, side), 0 to 1.

        The first four planes are the truth of vessel, artery, vein and crossing, the next four the weight of each. Where
        the photograph has `soft` maps, their four planes and their common weight follow: (13, side, side).
        """
        wide = self.side + 2 * MARGIN
        matrix = self.draw_window(photograph.planes[..., 3], rng, wide)
        pixels = cv2.warpAffine(photograph.pixels, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
        planes = cv2.warpAffine(photograph.planes, matrix, (wide, wide), flags=cv2.INTER_LINEAR)
        beyond = self.beyond_cut(rng, wide)
        pixels[beyond] = BLACK
        contrast = local_contrast(self.augment(np.asarray(pixels, np.uint8), rng), planes[..., 3] > 127)
        middle = slice(MARGIN, MARGIN + self.side)
        *masks, field = planes[middle, middle].transpose(2, 0, 1).astype(np.float32) / 255
        truth = np.stack([*masks, self._bumps(photograph.crossings, matrix)])
        truth[:, beyond[middle, middle]] = 0
        parts = [truth, _weights(photograph, truth, field, self.thin)]
        if photograph.soft is not None:
            soft = cv2.warpAffine(photograph.soft, matrix, (wide, wide), flags=cv2.INTER_LINEAR)[middle, middle]
            soft[beyond[middle, middle]] = 0
            parts += [soft.transpose(2, 0, 1).astype(np.float32) / 255, field[None]]
        return np.ascontiguousarray(contrast[:, middle, middle]), np.concatenate(parts)

    def beyond_cut(self, rng: Generator, wide: int) -> NDArray[np.bool_]:
        """The pixels of the window (wide, wide) beyond a straight line; none where the crop is not cut."""
        if not self.cut or rng.random() >= self.cut:
            return np.zeros((wide, wide), bool)
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, self.side / 2)
        at = np.arange(wide) - (wide - 1) / 2
        return at[:, None] * np.sin(angle) + at[None, :] * np.cos(angle) > distance

    def _bumps(self, crossings: Points | None, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """A Gaussian of height 1 at each crossing, (side, side); where two overlap, the higher counts."""
        if crossings is None or not len(crossings):
            return np.zeros((self.side, self.side), np.float32)
        across = crossings[:, ::-1] @ matrix[:, :2].T + matrix[:, 2] - MARGIN  # column, row
        places = np.arange(self.side)
        columns, rows = (np.exp(-0.5 * ((places - at[:, None]) / BUMP) ** 2) for at in across.T)
        return (rows[:, :, None] * columns[:, None, :]).max(axis=0).astype(np.float32)

    def draw_window(self, field: NDArray[np.uint8], rng: Generator, wide: int) -> NDArray[np.float64]:
        """Affine map (2, 3) from photograph to a window of `wide` pixels: rotation, zoom and in half of the draws a mirror, about a
        point in the `field` (rows, columns).
        """
        rows, columns = np.nonzero(field[::8, ::8])
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


def _weights(
    photograph: VesselPhotograph, targets: NDArray[np.float32], field: NDArray[np.float32], thin: float
) -> NDArray[np.float32]:
    """The weight of each target, (4, side, side): 0 outside the field and where the truth is not known.

    A vessel that is neither artery nor vein in its data set (RITE's white) has weight 0 for these two. Pixels near a
    crossing weigh more, since they are few.
    """
    vessels, kinds = photograph.known
    kindless = np.clip(targets[0] - targets[1:3].max(axis=0), 0, 1)
    of_kind = field * (1 - kindless) * kinds
    if thin and kinds:
        of_kind *= _weight_by_width(targets[0], thin)
    crossing = field * (1 + _CROSSING_WEIGHT * targets[3]) * (photograph.crossings is not None)
    return np.stack([field * vessels, of_kind, of_kind, crossing])


def _weight_by_width(vessel: NDArray[np.float32], exponent: float) -> NDArray[np.float32]:
    """(`USUAL_WIDTH` / width) ** exponent at vessels (rows, columns), widths up to 8 pixels; 1 elsewhere."""
    factor = (USUAL_WIDTH / vessel_widths(vessel).clip(max=8)) ** exponent
    return np.where(vessel > 0.1, factor, 1).astype(np.float32)


def vessel_widths(vessel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The width in pixels (rows, columns), at least 1, of a vessel map (0 to 1), at vessels and three pixels around them.

    It is the diameter of the widest disc in the vessel within three pixels.
    """
    radius = cv2.distanceTransform((vessel > 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.maximum(2 * cv2.dilate(radius, np.ones((7, 7), np.uint8)) - 1, 1).astype(np.float32)


class CropSampler(Sampler[tuple[int, int]]):
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
    def __init__(self, photographs: Sequence[VesselPhotograph], crops: CropOptions, seed: int) -> None:
        self.photographs, self.crops, self.seed = photographs, crops, seed
        self.planes = 13 if any(each.soft is not None for each in photographs) else 8

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, *index))
        contrast, targets = self.crops.draw_crop(self.photographs[int(rng.integers(len(self.photographs)))], rng)
        without_soft = np.zeros((self.planes - len(targets), *targets.shape[1:]), np.float32)
        return torch.from_numpy(contrast), torch.from_numpy(np.concatenate([targets, without_soft]))


def crop_batches(
    photographs: Sequence[VesselPhotograph], crops: CropOptions, batch: int, seed: int, workers: int = 0
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of crops, (N, 3, side, side) and (N, 8, side, side); each epoch has others.

    Where any photograph has soft maps the targets are (N, 13, side, side), with weight 0 for those that have none.
    """
    return DataLoader(
        _Examples(photographs, crops, seed), batch, sampler=CropSampler(crops.number), num_workers=workers,
        drop_last=crops.number > batch, persistent_workers=workers > 0, pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
