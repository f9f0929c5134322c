"""From standard squares to batches; every random draw depends only on (seed, epoch, photograph, copy).

No draw depends on an earlier one. So a training that was killed and goes on has the same batches as one that was not,
with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from fundoscope.imaging import Pixels, Standard
from fundoscope.imaging.renderings import render
from fundoscope.learning.augment import Augment, render_by_chance

Input = NDArray[np.float32]

#: Side in pixels of the squares that are augmented; larger than the network's input, so that rotation keeps detail.
SQUARE = 320

#: The label of a photograph without one; a student learns from it by its teacher's logits alone.
UNLABELLED = -1

Index = tuple[int, int, int]  # epoch, row, and how often the row came before in this epoch


@dataclass(frozen=True)
class Squares:
    """Photographs as squares before contrast enhancement.

    `pixels` are uint8 RGB (side, side, 3) each, `labels` (n,) are 0, 1 or `UNLABELLED`; `standard` makes network input
    of them.
    """

    pixels: Sequence[Pixels]
    labels: NDArray[np.int64]
    standard: Standard

    def input(
        self, row: int, rng: np.random.Generator | None = None, augment: Augment | None = None, turns: int = 0
    ) -> Input:
        """Network input (3, S, S) of one photograph, as it is or as `augment` draws it from `rng`.

        It is first rotated `turns` times by 90 degrees, as copies of the rarer class are (paper 000, section 2.1).
        """
        square = np.rot90(self.pixels[row], turns % 4).copy() if turns else self.pixels[row]
        if augment is not None and rng is not None:
            square = augment(square, rng)
        return self.standard.tensor(self.standard.enhance(square))

    def pair(self, row: int, rng: np.random.Generator, augment: Augment, turns: int = 0) -> Input:
        """Network input (2, 3, S, S): the view that `input` draws, and the same view in another rendering."""
        square = np.rot90(self.pixels[row], turns % 4).copy() if turns else self.pixels[row]
        view = augment(square, rng)
        return np.stack(
            [self.standard.tensor(self.standard.enhance(each)) for each in (view, render_by_chance(view, rng))]
        )

    def rendered(self, name: str) -> Squares:
        """The same photographs in the rendering of that name, made when they are asked for."""
        return replace(self, pixels=_RenderedPixels(self.pixels, name))

    def inputs(self, rows: NDArray[np.int64]) -> Input:
        """Network input (len(rows), 3, S, S) of these photographs as they are."""
        return np.stack([self.input(int(row)) for row in rows])

    def with_labels(self, labels: NDArray[np.int64]) -> Squares:
        """The same photographs with the labels of another question."""
        return replace(self, labels=labels)

    def joined(self, others: Squares) -> Squares:
        """These photographs, followed by the others as unlabelled ones."""
        unlabelled = np.full(len(others.labels), UNLABELLED)
        pixels = [*self.pixels, *others.pixels]
        return replace(self, pixels=pixels, labels=np.concatenate([self.labels, unlabelled]))


class Order(Sampler[Index]):
    """Indices (epoch, row, copy) of an epoch in an order drawn from (seed, epoch), both classes equally often.

    Rows of the rarer class are repeated, as copies numbered from 0, until the classes have equal numbers. Of the rows
    without a label at most as many are drawn as there are labelled ones. Without `shuffle`: each row once, as given.
    """

    def __init__(self, rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int, shuffle: bool = True) -> None:
        self.rows, self.seed, self.shuffle, self.epoch = rows, seed, shuffle, 0
        self.classes = [rows[labels[rows] == label] for label in (0, 1)]
        self.unlabelled = rows[labels[rows] == UNLABELLED]

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if not self.shuffle:
            return len(self.rows)
        return self._labelled + self._unlabelled

    @property
    def _labelled(self) -> int:
        counts = [len(rows) for rows in self.classes]
        return 2 * max(counts) if all(counts) else sum(counts)

    @property
    def _unlabelled(self) -> int:
        return min(len(self.unlabelled), self._labelled or len(self.unlabelled))

    def possible_copies(self) -> list[tuple[int, int]]:
        """Every (row, copy) that some epoch may draw: how often a row is repeated depends on its class alone."""
        wanted = max(len(rows) for rows in self.classes) if all(map(len, self.classes)) else 0
        labelled = [
            (int(row), copy)
            for rows in self.classes
            for copy in range(-(-wanted // max(1, len(rows))) or 1)
            for row in rows
        ]
        return labelled + [(int(row), 0) for row in self.unlabelled]

    def __iter__(self) -> Iterator[Index]:
        if not self.shuffle:
            return iter([(0, int(row), 0) for row in self.rows])
        rng = np.random.default_rng((self.seed, self.epoch, 0x5EED))
        drawn = [(int(row), 0) for row in rng.permutation(self.unlabelled)[: self._unlabelled]]
        wanted = max(len(rows) for rows in self.classes) if all(map(len, self.classes)) else 0
        for rows in self.classes:
            if len(rows):
                order = np.resize(rng.permutation(rows), wanted or len(rows))
                drawn += [(int(row), number // len(rows)) for number, row in enumerate(order)]
        return iter([(self.epoch, *drawn[at]) for at in rng.permutation(len(drawn))])


class _RenderedPixels(Sequence[Pixels]):
    """Squares that are rendered as they are read."""

    def __init__(self, pixels: Sequence[Pixels], name: str) -> None:
        self.pixels, self.name = pixels, name

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: Any) -> Any:
        return render(np.asarray(self.pixels[row]), self.name)


class _Examples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    def __init__(self, squares: Squares, augment: Augment | None, seed: int, pairs: bool = False) -> None:
        self.squares, self.augment, self.seed, self.pairs = squares, augment, seed, pairs

    def __getitem__(self, index: Index) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, row, copy = index
        rng = np.random.default_rng((self.seed, epoch, row, copy))
        if self.pairs and self.augment is not None:
            x = self.squares.pair(row, rng, self.augment, turns=copy)
        else:
            x = self.squares.input(row, rng, self.augment, turns=copy)
        return torch.from_numpy(x), torch.tensor(int(self.squares.labels[row]))


def training_batches(
    squares: Squares,
    rows: NDArray[np.int64],
    augment: Augment,
    batch: int,
    seed: int,
    workers: int = 0,
    pairs: bool = False,
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Augmented batches of these rows, both classes equally often, in a new order each epoch; inputs are (N, 3, S, S), with
    `pairs` (N, 2, 3, S, S), each view beside another rendering of it.
    """
    order = Order(rows, squares.labels, seed)
    return DataLoader(
        _Examples(squares, augment, seed, pairs), batch, sampler=order, num_workers=workers, drop_last=len(order) > batch,
        persistent_workers=workers > 0,
    )  # fmt: skip


def plain_batches(
    squares: Squares, rows: NDArray[np.int64], batch: int
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """These rows as they are, in their order."""
    return DataLoader(_Examples(squares, None, 0), batch, sampler=Order(rows, squares.labels, 0, shuffle=False))
