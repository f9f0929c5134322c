"""One fit of a network: train, stop on the inner part, keep the best weights, go on after a crash.

The folder of a fit holds `epochs.csv` (one row an epoch), `last.ckpt` (only while it is going on), `best.safetensors`
(the averaged weights of the epoch with the lowest inner loss) and at the end an empty file `done`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, Literal, Protocol, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fundoscope.errors import MissingExtraError, UsageError, nearest
from fundoscope.learning.augment import Augment
from fundoscope.learning.squares import Squares, plain_batches, training_batches
from fundoscope.learning.trainer import LOG, read_rows, save_weights, seed_epoch, train_epochs, write_rows

M = TypeVar("M", bound=nn.Module)
Loss = Callable[[Tensor, Tensor], Tensor]


class Batches(Protocol):
    """Batches (input, target) of an epoch: a loader, or anything that can be gone through and counted. Where it has a `sampler`, its
    `set_epoch` is called before each epoch.
    """

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


_PAIRED = 5  # dimensions of a batch of pairs: photographs, renderings, colours, rows, columns
_COLUMNS = ("epoch", "train_loss", "inner_loss", "lr")


@dataclass(frozen=True)
class FitOptions:
    """Every number of a fit.

    `epochs` is the most; the fit stops after `patience` epochs without a lower inner loss. `optimiser` is `adamw`
    (Loshchilov 2019) or `adam` (Kingma 2015; decay in the gradient), betas 0.9 and 0.999. The learning rate rises
    linearly over the share `warm_up` of the steps and falls as a cosine to zero, or stays (`constant`). `average` is
    the decay of the running mean of the weights (Polyak 1992) at each step, 0 for none. `smoothing` is that of the
    labels (Szegedy 2016). `bfloat16` is used where the processor multiplies it. `tracker` sends the losses to
    `tensorboard` or `mlflow` as well; `csv` is epochs.csv alone. With `seconds` a fit ends after that time at the latest, and the
    learning rate falls in time for it; such a fit depends on how fast the machine is. With a `consistency` above 0 each view is shown in two renderings, and the loss
    of `ConsistentLoss` has that weight.
    """

    epochs: int = 20
    patience: int = 8
    batch: int = 16
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    optimiser: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: float = 0.1
    average: float = 0.98
    smoothing: float = 0.05
    augment: Augment = field(default_factory=Augment)
    bfloat16: bool = False
    tracker: str = "csv"
    seconds: float | None = None
    consistency: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All options as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingData:
    """What a fit learns from: `batches` of (input, target), and the `loss` (output, target) to train by.

    `inner` batches, with their own loss, choose the epoch; without them the last epoch is kept.
    """

    batches: Batches
    loss: Loss
    inner: Batches | None = None
    inner_loss: Loss = functional.cross_entropy


@dataclass(frozen=True)
class ConsistentLoss:
    """The `loss` on both renderings of a view, and `weight` times how far the two answers lie apart: the mean of both
    Kullback-Leibler divergences between their class probabilities (Jeffreys 1946, halved).
    """

    loss: Loss
    weight: float
    classes: int = 2

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of `output` (N, 2, classes or more): the first `classes` values are logits."""
        first, second = (functional.log_softmax(output[:, at, : self.classes], dim=1) for at in (0, 1))
        apart = ((first.exp() - second.exp()) * (first - second)).sum(dim=1).mean() / 2
        told = (self.loss(output[:, 0], target) + self.loss(output[:, 1], target)) / 2
        return told + self.weight * apart


def fit(
    model: M, squares: Squares, train: NDArray[np.int64], inner: NDArray[np.int64], options: FitOptions,
    folder: Path, seed: int,
) -> M:  # fmt: skip
    """Train the classifier `model` on the rows `train` of `squares`, stop on the rows `inner`; as `fit_batches`."""
    labelled = partial(functional.cross_entropy, label_smoothing=options.smoothing)
    pairs = options.consistency > 0
    data = TrainingData(
        training_batches(squares, train, options.augment, options.batch, seed, pairs=pairs),
        ConsistentLoss(labelled, options.consistency) if pairs else labelled,
        plain_batches(squares, inner, options.batch) if len(inner) else None,
    )
    return fit_batches(model, data, options, folder, seed)


def fit_batches(model: M, data: TrainingData, options: FitOptions, folder: Path, seed: int) -> M:
    """Train any network and return it with its best weights, in eval mode.

    The best weights are those of the epoch with the lowest inner loss, or of the last epoch without inner batches. A
    folder that holds a finished fit is read; one that holds a broken-off fit goes on at its last whole epoch. Raises
    `UsageError` for an unknown tracker, `MissingExtraError` for one that is not installed.
    """
    if not (folder / "done").exists():
        keep_best = [_KeepBest(folder), EarlyStopping("inner_loss", patience=options.patience)]
        callbacks = [_KeepLast(folder)] if data.inner is None else keep_best
        if options.seconds is not None:
            callbacks = [_StopInTime(options.seconds), *callbacks]
        in_bfloat16 = options.bfloat16 and multiplies_bfloat16()
        model.train()  # one that was trained before is in eval mode, and Lightning leaves it so
        with depthwise_in_32_bits(model, in_bfloat16 and not torch.cuda.is_available()):
            train_epochs(
                _Fit(model, data, options, seed, folder / "epochs.csv"), data.batches, data.inner, folder,
                epochs=options.epochs,
                callbacks=callbacks,
                precision="bf16-mixed" if in_bfloat16 else "32-true",
                logger=_logger(options.tracker, folder),
            )  # fmt: skip
        (folder / "done").touch()
        (folder / "last.ckpt").unlink(missing_ok=True)
    model.load_state_dict(load_file(folder / "best.safetensors"))
    return model.eval()


class _Fit(pl.LightningModule):
    """The training step of a network, the running mean of its weights, and one row of log an epoch."""

    def __init__(self, model: nn.Module, data: TrainingData, options: FitOptions, seed: int, log: Path) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.data, self.options, self.seed, self.log_path = data, options, seed, log
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.average), use_buffers=True)
        self._sums: dict[str, list[tuple[Tensor, int]]] = {"train": [], "inner": []}

    def on_fit_start(self) -> None:
        weights = list(self.model.parameters())
        learnt = sum(p.numel() for p in weights if p.requires_grad)
        LOG.info(
            "%s on %s: %.2f M weights, %.2f M of them trained; %d batches of up to %d, %d epochs at most, seed %d",
            type(self.model).__name__, self.device, sum(p.numel() for p in weights) / 1e6, learnt / 1e6,
            len(self.data.batches), self.options.batch, self.options.epochs, self.seed,
        )  # fmt: skip
        LOG.info("%5s  %10s  %10s  %8s", "epoch", "train loss", "inner loss", "rate")

    def on_train_epoch_start(self) -> None:
        self._sums = {"train": [], "inner": []}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            seed_epoch(self.seed, self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        views = x.flatten(0, 1) if x.ndim == _PAIRED else x
        logits = self.model(views.to(memory_format=torch.channels_last)).float()
        loss = self.data.loss(logits.unflatten(0, x.shape[:2]) if x.ndim == _PAIRED else logits, y)
        self._sums["train"].append((loss.detach(), len(y)))  # a tensor: to read it now would wait for the processor
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        # here, and not where Lightning zeroes the gradients: that comes before the optimiser's step
        self.averaged.update_parameters(self.model)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        x, y = batch
        self.averaged.eval()
        logits = self.averaged(x.to(memory_format=torch.channels_last)).float()
        self._sums["inner"].append((self.data.inner_loss(logits, y), len(y)))

    def on_validation_epoch_end(self) -> None:
        self.log("inner_loss", _mean(self._sums["inner"]))
        self.log("train_loss", _mean(self._sums["train"]))

    def on_train_epoch_end(self) -> None:
        train, inner = _mean(self._sums["train"]), _mean(self._sums["inner"])
        rate = self.trainer.optimizers[0].param_groups[0]["lr"] if self.trainer.optimizers else 0.0
        row = dict(zip(_COLUMNS, (self.current_epoch, train, inner, rate), strict=True))
        whole = [r for r in read_rows(self.log_path) if int(r["epoch"]) < self.current_epoch]  # not one cut off before
        write_rows(self.log_path, [*whole, row], _COLUMNS)
        LOG.info("%5d  %10.4f  %10.4f  %8.1e", self.current_epoch, train, inner, rate)

    def configure_optimizers(self) -> Any:
        options = self.options
        weights = [p for p in self.model.parameters() if p.requires_grad]
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimiser]
        optimiser = kind(weights, options.learning_rate, weight_decay=options.weight_decay)
        if options.schedule == "constant":
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        warm = max(1, round(options.warm_up * steps))

        began = time.monotonic()

        def factor(step: int) -> float:
            if options.seconds is not None:
                step = max(step, round(steps * min(1.0, (time.monotonic() - began) / options.seconds)))
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _mean(pairs: list[tuple[Tensor, int]]) -> float:
    return sum(float(v) * n for v, n in pairs) / sum(n for _, n in pairs) if pairs else float("nan")


class _KeepBest(pl.Callback):
    """Writes the averaged weights of the epoch with the lowest inner loss so far as `best.safetensors`."""

    def __init__(self, folder: Path) -> None:
        self.path, self.best = folder / "best.safetensors", float("inf")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["inner_loss"])
        if trainer.sanity_checking or loss >= self.best:
            return
        self.best = loss
        assert isinstance(pl_module, _Fit)
        save_weights(pl_module.averaged.module, self.path)

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a restart."""
        self.best = state_dict["best"]


class _StopInTime(pl.Callback):
    """Ends a fit after so many seconds, in the middle of an epoch."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self.began >= self.seconds:
            trainer.should_stop = True


class _KeepLast(pl.Callback):
    """Writes the averaged weights at the end, where no inner photographs choose an epoch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "best.safetensors"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, _Fit)
        save_weights(pl_module.averaged.module, self.path)


@contextmanager
def depthwise_in_32_bits(network: nn.Module, wanted: bool = True) -> Generator[None]:
    """Within it a network's depthwise convolutions work in 32 bits where the others work in bfloat16.

    On a processor their gradients take four to eight times as long in bfloat16, and a training step of an EfficientNet-Lite
    1.6 times as long.
    """
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
    for module in depthwise if wanted else ():
        module.forward = MethodType(_convolve_in_32_bits, module)
    try:
        yield
    finally:
        for module in depthwise:
            vars(module).pop("forward", None)


def _convolve_in_32_bits(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return nn.Conv2d.forward(convolution, x.float())


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; where they are emulated they would cost time."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    kinds = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, kind, lambda: False)() for kind in kinds)


def _logger(tracker: str, folder: Path) -> Any:
    """Lightning's logger of that name; epochs.csv is written in any case."""
    from lightning.pytorch import loggers

    if tracker == "csv":
        return False
    kinds = {"tensorboard": loggers.TensorBoardLogger, "mlflow": loggers.MLFlowLogger}
    if tracker not in kinds:
        raise UsageError(f"There is no tracker '{tracker}': {nearest(tracker, ('csv', *kinds))}")
    try:
        if tracker == "mlflow":
            return loggers.MLFlowLogger(experiment_name="fundoscope", run_name=str(folder), save_dir=str(folder))
        return loggers.TensorBoardLogger(str(folder), name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The tracker '{tracker}'", "track") from error


@torch.no_grad()
def predict_logits(model: nn.Module, inputs: NDArray[np.float32], batch: int = 16) -> NDArray[np.float32]:
    """Logits (n, classes) of network inputs (n, 3, S, S)."""
    model.eval()
    parts = [model(torch.from_numpy(inputs[i : i + batch])).float().numpy() for i in range(0, len(inputs), batch)]
    return np.concatenate(parts)
