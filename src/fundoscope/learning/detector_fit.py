"""Training of a detector of crossings: whole photographs first, then patches around crossings (paper 002).

The folder of a step holds `steps.csv` (a row every ten steps), `last.ckpt` (only while the step is going on) and at the
end `weights.safetensors`. A training that was killed goes on at its last whole epoch to the same weights, as in `fit`;
so does one that stopped by itself at a given time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fundoscope.errors import StudyError, UsageError
from fundoscope.evaluation.detection.matching import Instances
from fundoscope.learning.augment import Augment
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.trainer import LOG, read_rows, save_weights, seed_epoch, train_epochs, write_rows
from fundoscope.learning.vessel_crops import CAMERAS
from fundoscope.networks.mask_rcnn import LOSSES, CrossingDetector

#: What a loader gives for a photograph: its local contrast, and the target with its boxes, labels and masks.
Example = tuple[NDArray[Any], dict[str, NDArray[Any]]]

#: The columns of `steps.csv`: losses are means over the ten steps, `seconds` one step's mean, `memory_mb` the peak.
COLUMNS = (
    "epoch", "step", "lr", "total", "classifier", "box", "mask", "objectness", "rpn", "seconds", "memory_mb",
)  # fmt: skip

_EVERY = 10  # steps a row
_LARGEST_GRADIENT = 10.0  # largest norm; a step with few crossings in it can be far steeper than the others


@dataclass(frozen=True)
class DetectorFitOptions:
    """Every number of one step of a detector's training.

    An epoch takes each photograph `cuts` times: whole if `side` is None, else a patch of `side` pixels. A patch's middle
    lies up to a third of the side from a crossing's middle; for the share `anywhere` of the patches it lies anywhere in
    the field. The learning rate rises linearly over `warm_up` steps and is multiplied by `fall` after each of the shares
    `drops` of the epochs. `optimiser` is `adamw` (Loshchilov 2019), or `sgd` with momentum 0.9 as in He 2017.
    """

    epochs: int = 50
    batch: int = 2
    side: int | None = None
    cuts: int = 1
    anywhere: float = 0.25
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    optimiser: Literal["adamw", "sgd"] = "adamw"
    warm_up: int = 50
    drops: tuple[float, ...] = (0.7, 0.9)
    fall: float = 0.1
    augment: Augment = CAMERAS

    def as_json(self) -> dict[str, Any]:
        """All options as plain values."""
        return asdict(self)

    def rate(self, step: int, epoch: int) -> float:
        """The learning rate of a step and its epoch, both counted from 0."""
        fallen = sum(epoch >= round(share * self.epochs) for share in self.drops)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warm_up)) * self.fall**fallen

    def draw_example(self, photograph: CrossingPhotograph, rng: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What the network is shown of a photograph and what it should find: turned, mirrored, cut, other colours."""
        for _ in range(int(rng.integers(4))):
            photograph = photograph.quarter_turned()
        if rng.random() < 0.5:
            photograph = photograph.mirrored()
        if self.side is None:
            shown = photograph.augmented(self.augment, rng)
            return shown.contrast, shown.target
        row, column = self._middle(photograph, self.side, rng)
        contrast, patch = photograph.patch(row, column, self.side, lambda x: x.augmented(self.augment, rng))
        return contrast, patch.target

    def _middle(self, photograph: CrossingPhotograph, side: int, rng: Generator) -> tuple[int, int]:
        """Row and column about which a patch is cut."""
        if len(photograph.boxes) and rng.random() >= self.anywhere:
            x1, y1, x2, y2 = photograph.boxes[rng.integers(len(photograph.boxes))]
            row, column = rng.integers(-(side // 3), side // 3 + 1, 2)
            return int((y1 + y2) // 2 + row), int((x1 + x2) // 2 + column)
        rows, columns = np.nonzero(photograph.inside)
        at = rng.integers(len(rows))
        return int(rows[at]), int(columns[at])


#: Paper 002's two steps: 50 epochs of whole photographs, 10 of patches; the second begins where the first fell to.
PAPER_STEPS = (
    DetectorFitOptions(epochs=50),
    DetectorFitOptions(epochs=10, batch=8, side=128, cuts=16, learning_rate=2e-4, warm_up=20),
)


def fit_detector(
    model: CrossingDetector, photographs: Sequence[CrossingPhotograph], steps: Sequence[DetectorFitOptions],
    folder: Path, seed: int, workers: int = 0, stop_at: float = math.inf,
) -> CrossingDetector:  # fmt: skip
    """Train through all steps, each in its folder `step_1`, `step_2`, ...; returns the model in eval mode.

    A finished step is read, a broken-off one goes on at its last whole epoch. The rest is as in `fit_step`.
    """
    for number, step in enumerate(steps, start=1):
        fit_step(model, photographs, step, folder / f"step_{number}", seed, workers, stop_at)
    return model.eval()


def fit_step(
    model: CrossingDetector, photographs: Sequence[CrossingPhotograph], options: DetectorFitOptions, folder: Path,
    seed: int, workers: int = 0, stop_at: float = math.inf,
) -> CrossingDetector:  # fmt: skip
    """Train through one step to its last epoch, as `fit_detector`.

    `workers` are processes that draw the examples, 0 for this one; the weights are the same for any number. No epoch begins
    after the time `stop_at` (`time.time`). Raises `UsageError` without photographs, `StudyError` where the loss is not a
    finite number or the time is over.
    """
    if not photographs:
        raise UsageError("There are no photographs to train on. Give some that have their crossings marked.")
    weights = folder / "weights.safetensors"
    if not weights.exists():
        batches = DataLoader(
            _Draws(photographs, options, seed), options.batch, sampler=_Order(len(photographs), options.cuts, seed),
            num_workers=workers, persistent_workers=workers > 0, collate_fn=_collate,
        )  # fmt: skip
        module = _DetectorFit(model, options, seed, folder / "steps.csv")
        stop = _StopInTime(folder, stop_at)
        train_epochs(module, batches, None, folder, epochs=options.epochs, clip=_LARGEST_GRADIENT, callbacks=[stop])
        save_weights(model, weights)  # its presence says that the step is finished
        (folder / "last.ckpt").unlink(missing_ok=True)
    model.load_state_dict(load_file(weights))
    return model.eval()


class _StopInTime(pl.Callback):
    """Ends a training before an epoch that would begin too late."""

    def __init__(self, folder: Path, stop_at: float) -> None:
        self.folder, self.stop_at = folder, stop_at

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if time.time() > self.stop_at:
            done = f"the time is over after {trainer.current_epoch} epochs"
            raise StudyError(f"{self.folder}: {done}. Run the same command again, and it goes on from there.")


def _collate(drawn: Sequence[Example]) -> tuple[list[NDArray[Any]], list[dict[str, NDArray[Any]]]]:
    return [contrast for contrast, _ in drawn], [target for _, target in drawn]


class _Order(Sampler[tuple[int, int, int]]):
    """(epoch, number, row): all photographs, each `cuts` times, in an order drawn from (seed, epoch)."""

    def __init__(self, photographs: int, cuts: int, seed: int) -> None:
        self.rows, self.seed, self.epoch = np.tile(np.arange(photographs), cuts), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        rows = self.rows.copy()
        np.random.default_rng((self.seed, self.epoch, 0x5EED)).shuffle(rows)
        return iter([(self.epoch, number, int(row)) for number, row in enumerate(rows)])


class _Draws(Dataset[Example]):
    """Examples as arrays: a worker would hand tensors over in shared memory, of which many machines allow little."""

    def __init__(self, photographs: Sequence[CrossingPhotograph], options: DetectorFitOptions, seed: int) -> None:
        self.photographs, self.options, self.seed = photographs, options, seed

    def __getitem__(self, index: tuple[int, int, int]) -> Example:
        epoch, number, row = index
        contrast, target = self.options.draw_example(
            self.photographs[row], np.random.default_rng((self.seed, epoch, number))
        )
        return contrast.numpy(), {name: value.numpy() for name, value in target.items()}


class _DetectorFit(pl.LightningModule):
    """The training step of a detector, and a row of log every ten steps."""

    def __init__(self, model: CrossingDetector, options: DetectorFitOptions, seed: int, log: Path) -> None:
        super().__init__()
        self.model, self.options, self.seed, self.log_path = model, options, seed, log
        self.pending: list[list[float]] = []  # losses and seconds of the steps since the last row
        self._losses: list[float] = []
        self._clock = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        options, weights = self.options, [p for p in self.model.parameters() if p.requires_grad]
        if options.optimiser == "sgd":
            return torch.optim.SGD(weights, options.learning_rate, momentum=0.9, weight_decay=options.weight_decay)
        return torch.optim.AdamW(weights, options.learning_rate, weight_decay=options.weight_decay)

    def on_train_start(self) -> None:
        # rows of steps after the last whole epoch are written again
        rows = [row for row in read_steps(self.log_path) if row["step"] <= self.trainer.global_step]
        write_rows(self.log_path, [_printed(row) for row in rows], COLUMNS)
        LOG.info("  ".join(f"{name:>10}" for name in COLUMNS))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        contrasts, targets = batch
        return (
            [torch.from_numpy(contrast) for contrast in contrasts],
            [{name: torch.from_numpy(value) for name, value in target.items()} for target in targets],
        )

    def on_train_epoch_start(self) -> None:
        self.model.train()
        self._clock = time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            seed_epoch(self.seed, self.current_epoch)
        rate = self.options.rate(self.trainer.global_step, self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: tuple[list[Tensor], list[dict[str, Tensor]]], _: int) -> Tensor:
        losses = self.model(*batch)
        first, *others = (losses[name] for name in LOSSES)
        total = sum(others, first)
        if not torch.isfinite(total):
            step = self.trainer.global_step + 1
            raise StudyError(f"{self.log_path}: the loss is {total.item()} at step {step}. Try a lower learning rate.")
        self._losses = [float(total.detach()), *(float(losses[name].detach()) for name in LOSSES)]
        return total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self.pending.append([*self._losses, now - self._clock])
        self._clock = now
        if self.trainer.global_step % _EVERY == 0:
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            means = np.mean(self.pending, axis=0).tolist()
            values = (self.current_epoch, self.trainer.global_step, rate, *means, _memory_mb())
            row = _printed(dict(zip(COLUMNS, values, strict=True)))
            write_rows(self.log_path, [*read_rows(self.log_path), row], COLUMNS)
            LOG.info("  ".join(f"{value:>10}" for value in row.values()))
            self.pending = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["pending"] = self.pending

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.pending = checkpoint["pending"]


def _printed(row: Mapping[str, float]) -> dict[str, str]:
    """Six digits; epochs and steps as whole numbers."""
    return {name: f"{value:.6g}" for name, value in row.items()}


def read_steps(path: Path) -> list[dict[str, float]]:
    """The rows of a `steps.csv`, by `COLUMNS`; none where there is no such file."""
    return [{name: float(value) for name, value in row.items()} for row in read_rows(path)]


def _memory_mb() -> float:
    """The most that was held at once, in MB: on the card if there is one, else by the process; nan where unknown."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes there, kilobytes elsewhere


@torch.no_grad()
def detect_crossings(model: CrossingDetector, contrast: Tensor) -> Instances:
    """The crossings found in local contrast (3, rows, columns), surest first, masks cut at one half."""
    device = next(model.parameters()).device
    (found,) = model.eval()([contrast.to(device)])
    masks = (found["masks"][:, 0] > 0.5).cpu().numpy()
    return Instances(found["boxes"].double().cpu().numpy(), found["scores"].double().cpu().numpy(), masks)
