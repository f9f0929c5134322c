"""One fit, on Lightning: train, stop on the inner part, keep the best weights, go on after a crash.

The folder of a fit holds `epochs.csv` (one row an epoch), `last.ckpt` (replaced in one step after every epoch, removed
at the end) and `best.safetensors` (the averaged weights of the epoch with the lowest inner loss).
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from fundoscope.errors import MissingExtraError, UsageError, nearest
from fundoscope.learning.augment import Augment
from fundoscope.learning.squares import Squares, plain_batches, training_batches

M = TypeVar("M", bound=nn.Module)
Loss = Callable[[Tensor, Tensor], Tensor]
Batches = DataLoader[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class FitOptions:
    """Every number of a fit in one place.

    `epochs` at most, stopped after `patience` epochs without a lower inner loss. `adamw` (Loshchilov 2019) or `adam`
    (Kingma 2015; decay in the gradient) with betas .9 and .999; the rate rises linearly over the share `warm_up` of the
    steps and falls as a cosine to zero, or stays (`constant`). `average` is the decay of the running mean of the weights
    (Polyak 1992) at each step, 0 for none; `smoothing` of the labels (Szegedy 2016). `bfloat16` where the processor
    multiplies it. `tracker` is where losses go besides epochs.csv: `tensorboard` or `mlflow`, by Lightning's own loggers.
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

    def as_json(self) -> dict[str, Any]:
        """All options as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingData:
    """What is fitted to what: batches (input, target), the `loss` (output, target) to train by, and `inner` batches
    with the loss that chooses an epoch, or none.
    """

    batches: Batches
    loss: Loss
    inner: Batches | None = None
    inner_loss: Loss = functional.cross_entropy


class _Fit(pl.LightningModule):
    """The training step of a network, its running mean, and one row of log an epoch."""

    def __init__(self, model: nn.Module, material: TrainingData, options: FitOptions, seed: int, log: Path) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.material, self.options, self.seed, self.log_path = material, options, seed, log
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.average), use_buffers=True)
        self._sums: dict[str, list[tuple[float, int]]] = {"train": [], "inner": []}

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.seed * 100_003 + self.current_epoch)  # dropout: the same after a restart
        self._sums = {"train": [], "inner": []}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        logits = self.model(x.to(memory_format=torch.channels_last)).float()
        loss = self.material.loss(logits, y)
        self._sums["train"].append((float(loss.detach()), len(y)))
        return loss

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        self.averaged.update_parameters(self.model)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        x, y = batch
        self.averaged.eval()
        logits = self.averaged(x.to(memory_format=torch.channels_last)).float()
        self._sums["inner"].append((float(self.material.inner_loss(logits, y)), len(y)))

    def on_validation_epoch_end(self) -> None:
        self.log("inner_loss", _mean(self._sums["inner"]))
        self.log("train_loss", _mean(self._sums["train"]))

    def on_train_epoch_end(self) -> None:
        means = {name: _mean(pairs) for name, pairs in self._sums.items()}
        rate = self.trainer.optimizers[0].param_groups[0]["lr"] if self.trainer.optimizers else 0.0
        row = {"epoch": self.current_epoch, "train_loss": means["train"], "inner_loss": means["inner"], "lr": rate}
        _append(self.log_path, row)

    def configure_optimizers(self) -> Any:
        options = self.options
        weights = [p for p in self.model.parameters() if p.requires_grad]
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimiser]
        optimiser = kind(weights, options.learning_rate, weight_decay=options.weight_decay)
        if options.schedule == "constant":
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        warm = max(1, round(options.warm_up * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, warm, steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _rate(step: int, warm: int, steps: int) -> float:
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))


def _mean(pairs: list[tuple[float, int]]) -> float:
    return sum(v * n for v, n in pairs) / sum(n for _, n in pairs) if pairs else float("nan")


def _append(path: Path, row: dict[str, float]) -> None:
    """Add a row, or replace the row of an epoch that was begun before a crash."""
    rows = [r for r in _rows(path) if int(r["epoch"]) < row["epoch"]]
    with path.with_suffix(".tmp").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows([*rows, row])
    path.with_suffix(".tmp").replace(path)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class _InOneStep(TorchCheckpointIO):
    """Checkpoints written beside, then moved: a crash in the middle leaves the last whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write to a sibling file, then replace."""
        beside = Path(f"{path}.part")
        super().save_checkpoint(checkpoint, beside, storage_options)
        beside.replace(path)


class _KeepBest(pl.Callback):
    """The averaged weights of the epoch with the lowest inner loss so far, as `best.safetensors`."""

    def __init__(self, folder: Path) -> None:
        self.path, self.best = folder / "best.safetensors", float("inf")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = float(trainer.callback_metrics["inner_loss"])
        if trainer.sanity_checking or loss >= self.best:
            return
        self.best = loss
        _save(pl_module, self.path)

    def state_dict(self) -> dict[str, Any]:
        """What a restart needs."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a restart."""
        self.best = state_dict["best"]


class _KeepLast(pl.Callback):
    """The averaged weights at the end, where no inner photographs choose an epoch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "best.safetensors"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _save(pl_module, self.path)


def _save(module: pl.LightningModule, path: Path) -> None:
    assert isinstance(module, _Fit)
    averaged = module.averaged.module
    state = {name: value.contiguous() for name, value in averaged.state_dict().items()}
    save_file(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def fit(
    model: M, squares: Squares, train: NDArray[np.int64], inner: NDArray[np.int64], options: FitOptions,
    folder: Path, seed: int,
) -> M:  # fmt: skip
    """Train the classifier `model` on the rows `train`, stop on the rows `inner`; as `fit_batches`."""
    material = TrainingData(
        training_batches(squares, train, options.augment, options.batch, seed),
        partial(functional.cross_entropy, label_smoothing=options.smoothing),
        plain_batches(squares, inner, options.batch) if len(inner) else None,
    )
    return fit_batches(model, material, options, folder, seed)


def fit_batches(model: M, material: TrainingData, options: FitOptions, folder: Path, seed: int) -> M:
    """Train any network, stop on the inner batches; returns it with its best weights, in eval mode.

    With no inner batches it trains to the last epoch and keeps the averaged weights it ends with.
    A folder that holds a finished fit is read, one that holds a broken-off fit goes on at its last whole epoch.
    """
    best, last = folder / "best.safetensors", folder / "last.ckpt"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        module = _Fit(model, material, options, seed, folder / "epochs.csv")
        with _quiet():
            _trainer(folder, options, stopping=material.inner is not None).fit(
                module,
                material.batches,
                material.inner,
                ckpt_path=str(last) if last.exists() else None,
                weights_only=False,
            )
        (folder / "done").touch()
        last.unlink(missing_ok=True)
    model.load_state_dict(load_file(best))
    return model.eval()


@contextmanager
def _quiet() -> Generator[None]:
    """Without Lightning's remarks on devices and loaders: what matters is in epochs.csv."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        try:
            yield
        finally:
            log.setLevel(level)


def multiplies_bfloat16() -> bool:
    """Whether it is an instruction here; where it is emulated it would cost time."""
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


def _trainer(folder: Path, options: FitOptions, stopping: bool) -> pl.Trainer:
    choose = [_KeepBest(folder), EarlyStopping("inner_loss", patience=options.patience)]
    return pl.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if options.bfloat16 and multiplies_bfloat16() else "32-true",
        logger=_logger(options.tracker, folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        plugins=[_InOneStep()],
        callbacks=[
            *(choose if stopping else [_KeepLast(folder)]),
            ModelCheckpoint(folder, filename="last", save_top_k=1, monitor=None, enable_version_counter=False),
        ],
    )


@torch.no_grad()
def predict_logits(model: nn.Module, inputs: NDArray[np.float32], batch: int = 16) -> NDArray[np.float32]:
    """Logits (n, classes) of network inputs (n, 3, S, S)."""
    model.eval()
    parts = [model(torch.from_numpy(inputs[i : i + batch])).float().numpy() for i in range(0, len(inputs), batch)]
    return np.concatenate(parts)
