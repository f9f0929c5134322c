"""What a network of grades is shown: patches as a file gives them, and as other cameras and crops could have.

Views are drawn once and kept on disk, named by (patch, view): all networks of a study see the same ones, and the maps of
vessels, which cost more than a training step, are made once. A training epoch takes one view of each patch, then turns it
by a quarter or mirrors it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fundoscope.imaging import Pixels, read
from fundoscope.learning.augment import Augment
from fundoscope.learning.vessel_crops import CAMERAS
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grading.crossing_patches import (
    PATCH_SIDE,
    VEIN_WIDTH,
    CrossingPatch,
    PredictMaps,
    crop_square,
    map_patch,
    map_patch_of_span,
    resize_square,
)
from fundoscope.vessels.grade_rule import SPAN

#: Milder than for whole photographs: a nick is a few pixels.
_CAMERAS = replace(CAMERAS, colour=0.6, sharpness=0.2, noise=0.15, encoding=0.3)
_LESS, _MORE = 0.5, 2.0  # of the usual scale, which is met at its ends as well
_SHIFT = 0.7  # vein widths off the middle, at most
_ALONE = 0.5  # share of the views whose maps are made from the patch alone, although more around it is known


@dataclass(frozen=True)
class Views:
    """How views are drawn: `number` of each patch, by a `camera`."""

    number: int = 8
    camera: Augment = _CAMERAS
    seed: int = 0

    def draw(self, row: PatchRow, maps: PredictMaps) -> Iterator[CrossingPatch]:
        """The views of a patch: its maps from what lies around it, or from the view alone, at a scale that is only guessed."""
        whole = resize_square(crop_square(read(row.path)), round(row.span * VEIN_WIDTH))
        for view in range(self.number):
            rng = np.random.default_rng((self.seed, view, _number(row)))
            turn, shift = rng.uniform(0, 360), rng.uniform(-_SHIFT, _SHIFT, 2) * VEIN_WIDTH
            zoom = float(np.exp(np.clip(rng.normal(0, 0.4), np.log(_LESS), np.log(_MORE))))
            if row.span > SPAN and rng.random() < _ALONE:
                yield map_patch(self.camera(around(whole, turn, zoom, shift), rng), maps)[1]
            else:
                width = None if np.isnan(row.vein_px) else row.vein_px
                yield map_patch_of_span(self.camera(whole, rng), maps, row.span, width).cut(
                    turn, zoom, (shift[0], shift[1])
                )


def around(whole: Pixels, turn: float = 0.0, zoom: float = 1.0, shift: ArrayLike = (0.0, 0.0)) -> Pixels:
    """The usual patch as a user would cut it from a wider one: turned, enlarged, off the middle; edges are repeated."""
    middle = whole.shape[0] / 2 - 0.5
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += PATCH_SIDE / 2 - 0.5 - middle + np.array(shift)
    return np.asarray(
        cv2.warpAffine(whole, matrix, (PATCH_SIDE, PATCH_SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def usual(row: PatchRow) -> Pixels:
    """The usual patch of a row, (PATCH_SIDE, PATCH_SIDE, 3), its vein's width `VEIN_WIDTH` pixels, as a file of a user would hold it."""
    return around(resize_square(crop_square(read(row.path)), round(row.span * VEIN_WIDTH)))


def drawn(rows: Sequence[PatchRow], maps: PredictMaps, views: Views, path: Path) -> NDArray[np.uint8]:
    """All views of all patches, (n, views, PATCH_SIDE, PATCH_SIDE, 6 + 1): pixels, maps, and what is field; kept in a file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part.npy")
        shape = (len(rows), views.number, PATCH_SIDE, PATCH_SIDE, 7)
        kept = np.lib.format.open_memmap(beside, "w+", np.uint8, shape)
        for k, row in enumerate(rows):
            for view, patch in enumerate(views.draw(row, maps)):
                kept[k, view] = packed(patch)
        kept.flush()
        beside.replace(path)
    return np.load(path, mmap_mode="r")


def packed(patch: CrossingPatch) -> NDArray[np.uint8]:
    """A patch as one array (PATCH_SIDE, PATCH_SIDE, 7)."""
    return np.dstack([patch.pixels, patch.maps, patch.inside.astype(np.uint8)])


def unpacked(array: NDArray[np.uint8]) -> CrossingPatch:
    """The patch that was packed."""
    return CrossingPatch(*(np.ascontiguousarray(p) for p in (array[..., :3], array[..., 3:6])), array[..., 6] > 0)


def inputs_of(patch: CrossingPatch) -> NDArray[np.float32]:
    """What a network is given, (6, s, s): local contrast, then maps."""
    return np.concatenate(patch.inputs)


@dataclass(frozen=True)
class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Patches by rank in `kept` (n, views, ...), with their grades (n,), named by (epoch, rank)."""

    kept: NDArray[np.uint8]
    ranks: NDArray[np.int64]
    grades: NDArray[np.int64]
    seed: int
    masked: bool = False

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(6, PATCH_SIDE, PATCH_SIDE) and the grade."""
        epoch, k = index
        rng = np.random.default_rng((self.seed, epoch, k))
        patch = unpacked(self.kept[self.ranks[k], epoch % self.kept.shape[1]])
        patch = rotate_quarters(patch, int(rng.integers(4)))
        x = inputs_of(patch.mirrored() if rng.random() < 0.5 else patch)
        return torch.from_numpy(masked(x) if self.masked else x), torch.tensor(self.grades[k])


def rotate_quarters(patch: CrossingPatch, quarters: int) -> CrossingPatch:
    """By quarters to the left."""
    return replace(
        patch,
        pixels=np.ascontiguousarray(np.rot90(patch.pixels, quarters)),
        maps=np.ascontiguousarray(np.rot90(patch.maps, quarters)),
        inside=np.rot90(patch.inside, quarters),
    )


def masked(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the middle, where the crossing is: what is told then is told by something else."""
    out = x.copy()
    rows, columns = np.ogrid[: x.shape[1], : x.shape[2]]
    middle = (x.shape[1] - 1) / 2
    out[:, (rows - middle) ** 2 + (columns - middle) ** 2 < (4 * VEIN_WIDTH) ** 2] = 0
    return out


@dataclass(frozen=True)
class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Inputs (n, 6, s, s) with their grades (n,)."""

    inputs: NDArray[np.float32]
    grades: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.grades)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One input and its grade."""
        return torch.from_numpy(self.inputs[index]), torch.tensor(self.grades[index])


class _Evened(Sampler[tuple[int, int]]):
    """As many patches an epoch as there are, each grade as often as the others."""

    def __init__(self, grades: NDArray[np.int64], seed: int) -> None:
        self.seed, self.epoch, self.number = seed, 0, len(grades)
        self.by_grade = [np.flatnonzero(grades == g) for g in np.unique(grades)]

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch, 0xE5))
        share = -(-self.number // len(self.by_grade))
        order = np.concatenate([_filled(rows, share, rng) for rows in self.by_grade])
        rng.shuffle(order)
        return iter([(self.epoch, int(k)) for k in order[: self.number]])


def _filled(rows: NDArray[np.int64], number: int, rng: Generator) -> NDArray[np.int64]:
    """So many of these, each as often as the others."""
    times = -(-number // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(times)])[:number]


def training_batches(examples: Examples, batch: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches for training, the grades evened."""
    sampler = _Evened(examples.grades, examples.seed)
    return DataLoader(examples, batch, sampler=sampler, drop_last=len(examples.grades) > batch)


def plain_batches(
    inputs: NDArray[np.float32], grades: NDArray[np.int64], batch: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of inputs (n, 6, s, s) in their order."""
    return DataLoader(Pairs(inputs, grades), batch)


def _number(row: PatchRow) -> int:
    return zlib.crc32(f"{row.photograph}/{row.path.name}".encode())
