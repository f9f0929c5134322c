"""Batches of patches for training: a view a patch and epoch, mirrored and turned round at random, each grade as often as another.

The views lie where the network does, all together, as bytes: a step takes those of its batch by number and draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from fundoscope.networks.nick_grader import rotate_half_turn
from fundoscope.nicking.grade_study.views import STEPS, ZERO, PackedInputs
from fundoscope.nicking.grading.crossing_patches import INPUT_ZOOM, VEIN_WIDTH

Inputs = NDArray[np.float32]  # (n, 6, s, s)


def study_device() -> torch.device:
    """Where networks are trained and predict: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def views_on_device(path: Path, device: torch.device) -> Tensor:
    """The views of a file, (n, views, 6, s, s), bytes, on a device; read once a process. On a processor they stay on disk."""
    views = torch.from_numpy(np.load(path, mmap_mode="c"))
    return views if device.type == "cpu" else views.to(device)


def unpack_inputs(packed: Tensor) -> Tensor:
    """Packed inputs (..., 6, s, s) as networks are given them: local contrast, then maps from -1 to 1."""
    x = packed.float()
    return torch.cat([(x[..., :3, :, :] - ZERO) / STEPS, x[..., 3:, :, :] / 127.5 - 1], dim=-3)


def network_inputs(packed: PackedInputs, numbers: NDArray[np.int64], masked_radius: float | None = None) -> Inputs:
    """Inputs (n, 6, s, s) of packed patches by number; with a radius (vein widths) their middle is masked."""
    x = unpack_inputs(torch.from_numpy(packed[numbers]))
    return (x if masked_radius is None else mask_middle(x, masked_radius)).numpy()


def mask_middle(x: Tensor, radius: float) -> Tensor:
    """Inputs (..., s, s) that are 0 within `radius` vein widths of the middle, where the crossing is."""
    away = torch.arange(x.shape[-1], device=x.device) - (x.shape[-1] - 1) / 2
    far = torch.hypot(away[:, None], away) >= radius * INPUT_ZOOM * VEIN_WIDTH
    return x * far


@dataclass(frozen=True, eq=False)
class TrainingPatches:
    """The patches `numbers` (n,) of `views` (all, views, 6, s, s), bytes, with their `grades` (n,).

    The same seed, epoch and patch give the same input.
    """

    views: Tensor
    numbers: NDArray[np.int64]
    grades: NDArray[np.int64]
    seed: int
    masked_radius: float | None = None

    @cached_property
    def _placed(self) -> tuple[Tensor, Tensor]:
        """Numbers and grades where the views are."""
        return torch.from_numpy(self.numbers).to(self.views.device), torch.from_numpy(self.grades).to(self.views.device)

    def draw(self, epoch: int, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Inputs (b, 6, s, s) and grades (b,) of the patches `chosen` (b,), counted through `numbers`."""
        numbers, grades = self._placed
        flips = np.random.default_rng((self.seed, epoch, 0xF1)).random((2, len(self.numbers)))[:, chosen] < 0.5
        k = torch.from_numpy(chosen).to(self.views.device)
        mirrored, turned = torch.from_numpy(flips).to(self.views.device)[..., None, None, None]
        packed = self.views[numbers[k], epoch % self.views.shape[1]]
        packed = torch.where(mirrored, packed.flip(-1), packed)
        x = unpack_inputs(torch.where(turned, rotate_half_turn(packed), packed))
        return x if self.masked_radius is None else mask_middle(x, self.masked_radius), grades[k]


class BalancedSampler(Sampler[int]):
    """Numbers of as many patches an epoch as there are: each grade as often, each patch of a grade as often."""

    def __init__(self, grades: NDArray[np.int64], seed: int) -> None:
        self.seed, self.epoch, self.number = seed, 0, len(grades)
        self.by_grade = [np.flatnonzero(grades == g) for g in np.unique(grades)]

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def order(self) -> NDArray[np.int64]:
        """The patches of the epoch in their order."""
        rng = np.random.default_rng((self.seed, self.epoch, 0xE5))
        share = -(-self.number // len(self.by_grade))
        order = []
        for of_grade in self.by_grade:
            times = -(-share // len(of_grade))
            order.append(np.concatenate([rng.permutation(of_grade) for _ in range(times)])[:share])
        order = np.concatenate(order)
        rng.shuffle(order)
        return order[: self.number]


class TrainingBatches:
    """Balanced batches (x, grades) of training patches, as many an epoch as fill; Lightning sets the epoch of its `sampler`."""

    def __init__(self, patches: TrainingPatches, batch: int) -> None:
        self.patches, self.batch = patches, min(batch, len(patches.grades))
        self.sampler = BalancedSampler(patches.grades, patches.seed)

    def __len__(self) -> int:
        return len(self.patches.grades) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.sampler.order()
        for k in range(len(self)):
            yield self.patches.draw(self.sampler.epoch, order[k * self.batch : (k + 1) * self.batch])


class FixedBatches:
    """Batches of inputs (n, 6, s, s) and grades (n,) in their order, on a device."""

    def __init__(self, inputs: Inputs, grades: NDArray[np.int64], batch: int, device: torch.device) -> None:
        x, y = (torch.from_numpy(each).to(device) for each in (inputs, grades))
        self.batches = list(zip(x.split(batch), y.split(batch), strict=True))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)
