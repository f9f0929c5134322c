"""Teaching a detector where crossings are: whole photographs first, then patches around crossings (paper 002).

The folder of a step holds `steps.csv` (a row every ten steps), `last.ckpt` (replaced in one go after every epoch,
removed at the end) and `weights.safetensors`. Every draw is named by (seed, epoch, number), so that a training that was
killed goes on at its last whole epoch to the same weights.
"""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fundoscope.errors import StudyError, UsageError
from fundoscope.evaluation.detection import Instances
from fundoscope.learning.augment import Augment
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.vessel_crops import CAMERAS
from fundoscope.networks.mask_rcnn import LOSSES, CrossingDetector

#: The columns of `steps.csv`: losses are means over the ten steps, `seconds` one step's mean, `memory_mb` the peak.
COLUMNS = (
    "epoch", "step", "lr", "total", "classifier", "box", "mask", "objectness", "rpn", "seconds", "memory_mb",
)  # fmt: skip

_EVERY = 10  # steps a row
_STEEPEST = 10.0  # norm of the gradient; a step with few crossings in it can be far steeper than the others


@dataclass(frozen=True)
class DetectorFitOptions:
    """Every number of one step of the training.

    An epoch takes each photograph `cuts` times: whole, or a patch of `side` pixels, whose middle lies up to a third
    of the side from a crossing's, or for the share `anywhere` anywhere in the field. The rate rises linearly over
    `warm_up` steps and is multiplied by `fall` after each of the shares `drops` of the epochs. `adamw` (Loshchilov
    2019), or `sgd` with momentum 0.9 as in He 2017.
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

    def take(self, photograph: CrossingPhotograph, rng: Generator) -> tuple[Tensor, dict[str, Tensor]]:
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
    model: CrossingDetector,
    photographs: Sequence[CrossingPhotograph],
    steps: Sequence[DetectorFitOptions],
    folder: Path,
    seed: int,
) -> CrossingDetector:
    """Train through all steps, each in its folder `step_1`, `step_2`, ...; returns the model in eval mode.

    A finished step is read, a broken-off one goes on at its last whole epoch.
    """
    for number, step in enumerate(steps, start=1):
        fit_step(model, photographs, step, folder / f"step_{number}", seed)
    return model.eval()


def fit_step(
    model: CrossingDetector,
    photographs: Sequence[CrossingPhotograph],
    options: DetectorFitOptions,
    folder: Path,
    seed: int,
) -> CrossingDetector:
    """Train through one step to its last epoch, as `fit_detector`.

    Raises `UsageError` without photographs, `StudyError` when the loss is no number any more.
    """
    if not photographs:
        raise UsageError("There are no photographs to train on. Give some that have their crossings marked.")
    weights = folder / "weights.safetensors"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        training = _Training(model, photographs, options, folder, seed)
        training.resume()
        while training.epoch < options.epochs:
            training.run_epoch()
            training.keep()
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "weights.part")
        (folder / "weights.part").replace(weights)  # its presence says that the step is finished
        training.last.unlink(missing_ok=True)
    model.load_state_dict(load_file(weights))
    return model.eval()


class _Training:
    """One step of the training: what it has done so far, and how it goes on."""

    def __init__(
        self,
        model: CrossingDetector,
        photographs: Sequence[CrossingPhotograph],
        options: DetectorFitOptions,
        folder: Path,
        seed: int,
    ) -> None:
        self.model, self.photographs, self.options, self.seed = model, photographs, options, seed
        self.log, self.last = folder / "steps.csv", folder / "last.ckpt"
        self.optimiser = _optimiser(model, options)
        self.epoch, self.step = 0, 0
        self.pending: list[list[float]] = []  # losses and seconds of the steps since the last row
        self.device = next(model.parameters()).device

    def resume(self) -> None:
        """Go on from the last whole epoch, if there is one; rows of later steps are dropped from the log."""
        if self.last.exists():
            state = torch.load(self.last, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.epoch, self.step, self.pending = state["epoch"], state["step"], state["pending"]
        rows = [row for row in read_steps(self.log) if row["step"] <= self.step]
        _write(self.log, rows)

    def keep(self) -> None:
        """Write what a restart needs; a crash in the middle leaves the epoch before."""
        progress = {"epoch": self.epoch, "step": self.step, "pending": self.pending}
        beside = self.last.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), **progress}, beside)
        beside.replace(self.last)

    def run_epoch(self) -> None:
        """All photographs once, or as often as they are cut, in an order of this epoch."""
        torch.manual_seed(self.seed * 100_003 + self.epoch)  # the boxes that are sampled: the same after a restart
        self.model.train()
        order = np.tile(np.arange(len(self.photographs)), self.options.cuts)
        np.random.default_rng((self.seed, self.epoch, 0x5EED)).shuffle(order)
        for first in range(0, len(order), self.options.batch):
            self._take_step([(first + k, int(row)) for k, row in enumerate(order[first : first + self.options.batch])])
        self.epoch += 1

    def _take_step(self, batch: list[tuple[int, int]]) -> None:
        start = time.perf_counter()
        rate = self.options.rate(self.step, self.epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        shown = [self._shown(number, row) for number, row in batch]
        losses = self.model([x for x, _ in shown], [target for _, target in shown])
        total = sum(losses[name] for name in LOSSES)
        if not torch.isfinite(total):
            raise StudyError(
                f"{self.log}: the loss is {total.item()} at step {self.step + 1}. Try a lower learning rate."
            )
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), _STEEPEST)
        self.optimiser.step()
        self.step += 1
        values = [float(total.detach()), *(float(losses[name].detach()) for name in LOSSES)]
        self.pending.append([*values, time.perf_counter() - start])
        if self.step % _EVERY == 0:
            self._write_row(rate)

    def _shown(self, number: int, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = np.random.default_rng((self.seed, self.epoch, number))
        x, target = self.options.take(self.photographs[row], rng)
        return x.to(self.device), {name: value.to(self.device) for name, value in target.items()}

    def _write_row(self, rate: float) -> None:
        means = np.mean(self.pending, axis=0)
        values = (self.epoch, self.step, rate, *means.tolist(), _memory_mb())
        _write(self.log, [dict(zip(COLUMNS, values, strict=True))], more=True)
        self.pending = []


def _optimiser(model: nn.Module, options: DetectorFitOptions) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.requires_grad]
    if options.optimiser == "sgd":
        return torch.optim.SGD(weights, options.learning_rate, momentum=0.9, weight_decay=options.weight_decay)
    return torch.optim.AdamW(weights, options.learning_rate, weight_decay=options.weight_decay)


def read_steps(path: Path) -> list[dict[str, float]]:
    """The rows of a `steps.csv`, by `COLUMNS`; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _write(path: Path, rows: Sequence[dict[str, float]], more: bool = False) -> None:
    """Write a log, or add rows to it; epochs and steps as whole numbers."""
    with path.open("a" if more else "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not more:
            writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)


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
