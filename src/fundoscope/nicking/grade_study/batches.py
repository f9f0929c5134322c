"""Batches of patches for training: a view a patch and epoch, turned and mirrored at random, each grade as often as another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from fundoscope.nicking.grade_study.views import PackedPatches, unpack_patch
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, CrossingPatch

Inputs = NDArray[np.float32]  # (n, 6, s, s)


def network_input(patch: CrossingPatch) -> Inputs:
    """A patch as a network is given it, (6, s, s): local contrast, then vessel maps."""
    return np.concatenate(patch.inputs)


def network_inputs(packed: PackedPatches, numbers: NDArray[np.int64], masked_radius: float | None = None) -> Inputs:
    """Inputs (n, 6, s, s) of packed patches by number; with a radius (vein widths) their middle is masked."""
    inputs = [network_input(unpack_patch(packed[k])) for k in numbers]
    if masked_radius is not None:
        inputs = [mask_middle(x, masked_radius) for x in inputs]
    return np.array(inputs, np.float32).reshape(-1, 6, PATCH_SIDE, PATCH_SIDE)


def mask_middle(x: Inputs, radius: float) -> Inputs:
    """An input (6, s, s) that is 0 within `radius` vein widths of the middle, where the crossing is."""
    out = x.copy()
    rows, columns = np.ogrid[: x.shape[1], : x.shape[2]]
    middle = (x.shape[1] - 1) / 2
    out[:, (rows - middle) ** 2 + (columns - middle) ** 2 < (radius * VEIN_WIDTH) ** 2] = 0
    return out


def rotate_quarters(patch: CrossingPatch, quarters: int) -> CrossingPatch:
    """A patch turned to the left by quarters of a turn."""
    return replace(
        patch,
        pixels=np.ascontiguousarray(np.rot90(patch.pixels, quarters)),
        maps=np.ascontiguousarray(np.rot90(patch.maps, quarters)),
        inside=np.rot90(patch.inside, quarters),
    )


@dataclass(frozen=True)
class TrainingPatches(Dataset[tuple[Tensor, Tensor]]):
    """The patches `numbers` (n,) of `views` (all, views, ...), with their `grades` (n,); an index is (epoch, k).

    The same seed, epoch and k give the same input.
    """

    views: PackedPatches
    numbers: NDArray[np.int64]
    grades: NDArray[np.int64]
    seed: int
    masked_radius: float | None = None

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The input (6, PATCH_SIDE, PATCH_SIDE) and the grade."""
        epoch, k = index
        rng = np.random.default_rng((self.seed, epoch, k))
        patch = unpack_patch(self.views[self.numbers[k], epoch % self.views.shape[1]])
        patch = rotate_quarters(patch, int(rng.integers(4)))
        x = network_input(patch.mirrored() if rng.random() < 0.5 else patch)
        x = x if self.masked_radius is None else mask_middle(x, self.masked_radius)
        return torch.from_numpy(x), torch.tensor(self.grades[k])


class BalancedSampler(Sampler[tuple[int, int]]):
    """Indices (epoch, k) of as many patches an epoch as there are: each grade as often, each patch of a grade as often."""

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
        order = []
        for of_grade in self.by_grade:
            times = -(-share // len(of_grade))
            order.append(np.concatenate([rng.permutation(of_grade) for _ in range(times)])[:share])
        order = np.concatenate(order)
        rng.shuffle(order)
        return iter([(self.epoch, int(k)) for k in order[: self.number]])


def training_batches(patches: TrainingPatches, batch: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Balanced batches for training."""
    sampler = BalancedSampler(patches.grades, patches.seed)
    return DataLoader(patches, batch, sampler=sampler, drop_last=len(patches.grades) > batch)


def inner_batches(inputs: Inputs, grades: NDArray[np.int64], batch: int) -> DataLoader[Any]:
    """Batches of inputs (n, 6, s, s) and grades (n,) in their order."""
    return DataLoader(TensorDataset(torch.from_numpy(inputs), torch.from_numpy(grades)), batch)
