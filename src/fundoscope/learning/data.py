"""From standard squares in memory to batches, every random draw named by (seed, epoch, photograph).

Because no draw depends on what was drawn before it, a run that was killed and goes on sees the same batches as one
that was not, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fundoscope.imaging import Pixels, Standard
from fundoscope.learning.augment import Augment

#: Pixels of the squares that augmentation works on; larger than the network's input, so that turns keep detail.
SQUARE = 320


@dataclass(frozen=True)
class Squares:
    """Photographs as squares before contrast enhancement: `pixels` uint8 RGB, `labels` 0 or 1, one entry a row."""

    pixels: Sequence[Pixels]
    labels: NDArray[np.int64]
    standard: Standard

    def inputs(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Network input (len(rows), 3, S, S) of these photographs as they are."""
        standard = self.standard
        return np.stack([standard.tensor(standard.enhance(self.pixels[row])) for row in rows])


class _Epochs(Sampler[tuple[int, int]]):
    """(epoch, row) in an order drawn from (seed, epoch); the rarer class repeated until the classes are even."""

    def __init__(self, rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int, shuffle: bool) -> None:
        self.rows, self.labels, self.seed, self.shuffle, self.epoch = rows, labels, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        counts = np.bincount(self.labels[self.rows], minlength=2)
        return 2 * int(counts.max()) if self.shuffle and counts.all() else len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if not self.shuffle:
            return iter([(0, int(row)) for row in self.rows])
        rng = np.random.default_rng((self.seed, self.epoch, 0x5EED))
        if not np.bincount(self.labels[self.rows], minlength=2).all():  # one class, or none known: each row once
            return iter([(self.epoch, int(row)) for row in rng.permutation(self.rows)])
        order = []
        for label in (0, 1):
            rows = rng.permutation(self.rows[self.labels[self.rows] == label])
            order.append(np.resize(rows, len(self) // 2))
        return iter([(self.epoch, int(row)) for row in rng.permutation(np.concatenate(order))])


class _Examples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, squares: Squares, augment: Augment | None, seed: int) -> None:
        self.squares, self.augment, self.seed = squares, augment, seed

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, row = index
        square, standard = self.squares.pixels[row], self.squares.standard
        if self.augment is not None:
            square = self.augment(square, np.random.default_rng((self.seed, epoch, row)))
        label = torch.tensor(int(self.squares.labels[row]))
        return torch.from_numpy(standard.tensor(standard.enhance(square))), label


def in_new_order(rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int) -> _Epochs:
    """(epoch, row) of these rows, in an order drawn from (seed, epoch): both classes equally often where all are labelled."""
    return _Epochs(rows, np.clip(labels, 0, None), seed, shuffle=True)


def training_batches(
    squares: Squares, rows: NDArray[np.int64], augment: Augment, batch: int, seed: int, workers: int = 0
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Augmented batches of these rows, both classes equally often, in a new order each epoch."""
    sampler = _Epochs(rows, squares.labels, seed, shuffle=True)
    return DataLoader(
        _Examples(squares, augment, seed), batch, sampler=sampler, num_workers=workers, drop_last=len(sampler) > batch,
        persistent_workers=workers > 0,
    )  # fmt: skip


def plain_batches(
    squares: Squares, rows: NDArray[np.int64], batch: int
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """These rows as they are, in their order."""
    return DataLoader(_Examples(squares, None, 0), batch, sampler=_Epochs(rows, squares.labels, 0, shuffle=False))
