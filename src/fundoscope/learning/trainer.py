"""One way to train with Lightning: an epoch at a time, and after a crash on from the last whole epoch.

The folder of a training holds `last.ckpt`, replaced in one step after every epoch and removed at the end, a log as CSV,
and at last the weights. Every draw of a batch is named by (seed, epoch, number) and every epoch seeds torch anew, so
that a training that was killed ends with the same weights as one that was not.
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import save_file
from torch import nn

#: Where a training reports its header and its epochs, a line each, at level INFO.
LOG = logging.getLogger("fundoscope.training")


def train_epochs(
    module: pl.LightningModule, batches: Iterable[Any], inner: Iterable[Any] | None, folder: Path, **options: Any
) -> None:
    """Train through all epochs in `folder`, or go on at the last whole epoch that it holds; `options` as `make_trainer`."""
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.ckpt"
    if last.exists():
        LOG.info("%s: goes on at the last whole epoch", folder)
    with _quiet_lightning():
        make_trainer(folder, **options).fit(
            module, batches, inner, ckpt_path=str(last) if last.exists() else None, weights_only=False
        )


def make_trainer(
    folder: Path, epochs: int, callbacks: Sequence[pl.Callback] = (), precision: Any = "32-true", logger: Any = False,
    clip: float | None = None,
) -> pl.Trainer:  # fmt: skip
    """Lightning's trainer that keeps a checkpoint an epoch in `folder`; `clip` is the largest norm of a gradient."""
    checkpoint = ModelCheckpoint(folder, filename="last", save_top_k=1, monitor=None, enable_version_counter=False)
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        precision=precision,
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=clip,
        default_root_dir=folder,
        plugins=[_WriteInOneStep()],
        callbacks=[*callbacks, checkpoint],
    )


class _WriteInOneStep(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then moves it: a crash in the middle leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        beside = Path(f"{path}.part")
        super().save_checkpoint(checkpoint, beside, storage_options)
        beside.replace(path)


@contextmanager
def _quiet_lightning() -> Generator[None]:
    """Without Lightning's remarks on devices and loaders: what matters is in the log."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            yield
        finally:
            log.setLevel(level)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's weights as safetensors, in one step."""
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def use_threads(number: int) -> None:
    """Keep this process, beside which others train, to so many threads; 0 leaves it as it is."""
    if number:
        torch.set_num_threads(number)
        cv2.setNumThreads(number)


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed torch for an epoch, before its first batch: dropout and the sampling of boxes are the same after a restart.

    Not before the epoch: the loader's iterator takes a random number, and Lightning makes it before the first epoch of a
    run but within each later one, so that a run that goes on would be one number off.
    """
    torch.manual_seed(seed * 100_003 + epoch)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a log; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a log anew, in one step."""
    with path.with_suffix(".tmp").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".tmp").replace(path)
