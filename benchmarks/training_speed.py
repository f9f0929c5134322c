"""Photographs a second in training: our loop against a plain Lightning loop, and a distillation epoch against the student's own.

    python benchmarks/training_speed.py [--photographs FOLDER] [--n 32] [--rounds 3] [--threads 1]

The network is the student of recipe lite, all its weights trained if nothing else is said, batches of 16, as many threads everywhere.

plain                   what one writes in an afternoon: a `Dataset` that opens each file with PIL, resizes it to the network's input and
                        augments it with torchvision (turn, shift, scale, mirror, brightness, contrast, saturation); a LightningModule
                        with AdamW; Trainer(accelerator="cpu"), its loader in the same process
ours                    `fundoscope.learning.fit`: squares of 320 mapped from disk, cut once from the files (which is not counted: a study does it once
                        for all fits), our augmentation with OpenCV, contrast enhancement, channels last, averaged weights, checkpoints
ours, bfloat16          the same, `bfloat16 = true` in the recipe
..., stages frozen      each as recipe lite trains it: the three stages that it freezes are not trained
distilled               `fundoscope.learning.distil` with the teacher's kept answers, against ours

Times are of the processor and not of the clock, of one thread if nothing else is said, so that other programs beside it count little.
Each round fits each of them for three epochs, of which the first one (its warm-up, the teacher's answers) does not count. Ratios are
within a round; median and quartiles over all rounds that lie in --folder, to which each call adds some. Writes
docs/results/training_speed.csv.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from fundoscope.evaluation import results_table
from fundoscope.learning import Distillation, DistillationPlan, FitOptions, Squares, distil, fit
from fundoscope.learning.trainer import LOG
from fundoscope.networks import Classifier
from fundoscope.rop.recipes import STUDENT, read_recipe
from fundoscope.rop.study.networks import build_network, fit_options
from fundoscope.simulate import write_infants

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "training_speed.csv"
RECIPE = read_recipe("lite")
SIZE, BATCH, EPOCHS = RECIPE.standard.size, 16, 3
PLAIN, PLAIN_FROZEN = "plain Lightning loop", "plain Lightning loop, stages frozen"
#: What each is compared with, if not with the plain loop.
AGAINST = {
    "ours, stages frozen": PLAIN_FROZEN,
    "ours, bfloat16, stages frozen": PLAIN_FROZEN,
    "distilled": "ours",
}
NOBODY = np.array([], np.int64)


class PlainPhotographs(Dataset[tuple[Tensor, int]]):
    """Files, opened and augmented when they are asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = v2.Compose([
            v2.Resize((SIZE, SIZE)),
            v2.RandomAffine(180, translate=(0.04, 0.04), scale=(0.88, 1.12)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(RECIPE.standard.mean, RECIPE.standard.deviation),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[number]) as file:
            return self.transform(file.convert("RGB")), number % 2


class PlainModule(pl.LightningModule):
    """A network, cross-entropy and AdamW."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 3e-4)


class EpochEnds(pl.Callback, logging.Handler):
    """When each epoch ended, in seconds of the processor: told by Lightning, or by the log of our loop."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.times: list[float] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.times.append(time.process_time())

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 4 and isinstance(record.args[0], int):
            self.times.append(time.process_time())

    @property
    def seconds(self) -> float:
        """Of an epoch, the first one left out."""
        assert len(self.times) == EPOCHS
        return (self.times[-1] - self.times[0]) / (EPOCHS - 1)


def plain_epoch(paths: list[Path], network: Classifier) -> float:
    """Seconds of an epoch of the plain loop."""
    ends = EpochEnds()
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", callbacks=[ends], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(PlainModule(network), DataLoader(PlainPhotographs(paths), BATCH, shuffle=True, drop_last=True))
    return ends.seconds


def our_epoch(squares: Squares, options: FitOptions, network: Classifier) -> float:
    """Seconds of an epoch of our loop."""
    with tempfile.TemporaryDirectory() as folder, listening() as ends:
        fit(network, squares, np.arange(len(squares.labels)), NOBODY, options, Path(folder), 0)
        return ends.seconds


def distilled_epoch(squares: Squares, options: FitOptions) -> float:
    """Seconds of an epoch of a student that reads its teacher's kept answers."""
    with tempfile.TemporaryDirectory() as folder, listening() as ends:
        plan = DistillationPlan(student(), squares, np.arange(len(squares.labels)), NOBODY, Path(folder) / "answers")
        distil(student(), plan, Distillation(views=1), options, Path(folder) / "fit", 0)
        return ends.seconds


class listening:  # noqa: N801 - a context
    """Within it the ends of our loop's epochs are noted."""

    def __enter__(self) -> EpochEnds:
        self.ends = EpochEnds()
        LOG.addHandler(self.ends)
        LOG.setLevel(logging.INFO)
        LOG.propagate = False
        return self.ends

    def __exit__(self, *_: object) -> None:
        LOG.removeHandler(self.ends)


def student(frozen: bool = False) -> Classifier:
    """The student of recipe lite, from ImageNet; all of it is trained unless the recipe's stages are `frozen`."""
    numbers = RECIPE.networks.model_copy(update={"frozen_stages": RECIPE.networks.frozen_stages if frozen else 0})
    return build_network(RECIPE.model_copy(update={"networks": numbers}), RECIPE.arm(STUDENT))


def cut_squares(paths: list[Path], file: Path) -> Squares:
    """The squares of the files, mapped from disk as in a study; every other one is labelled ROP."""
    side = RECIPE.squares.side
    np.save(file, np.stack([RECIPE.standard.square(RECIPE.standard.prepare(path), size=side) for path in paths]))
    return Squares(np.load(file, mmap_mode="r"), np.arange(len(paths)) % 2, RECIPE.standard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photographs", type=Path, help="a folder of photographs; simulated infants' of 640x480 if left out"
    )
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "training-speed")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(given.threads)
    cv2.setNumThreads(given.threads)
    if given.photographs is None and not (given.folder / "eyes").exists():
        write_infants(given.n, given.folder / "eyes", seed=7, size=640)
    folder = given.photographs or given.folder / "eyes" / "images"
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = found[: given.n // BATCH * BATCH]
    given.folder.mkdir(parents=True, exist_ok=True)
    squares = cut_squares(paths, given.folder / "squares.npy")
    options = replace(fit_options(RECIPE.student_fit), epochs=EPOCHS, batch=BATCH, bfloat16=False)
    ways: dict[str, Callable[[], float]] = {
        PLAIN: lambda: plain_epoch(paths, student()),
        PLAIN_FROZEN: lambda: plain_epoch(paths, student(frozen=True)),
        "ours": lambda: our_epoch(squares, options, student()),
        "ours, bfloat16": lambda: our_epoch(squares, replace(options, bfloat16=True), student()),
        "ours, stages frozen": lambda: our_epoch(squares, options, student(frozen=True)),
        "ours, bfloat16, stages frozen": lambda: our_epoch(
            squares, replace(options, bfloat16=True), student(frozen=True)
        ),
        "distilled": lambda: distilled_epoch(squares, options),
    }
    kept = given.folder / f"rounds-{len(paths)}-{given.threads}.json"
    rounds: list[dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else []
    for number in range(given.rounds):
        taken = {}
        for name, epoch in ways.items():
            taken[name] = epoch()
            print(number, name, round(len(paths) / taken[name], 1), "photographs a second", flush=True)
        rounds.append(taken)
        kept.write_text(json.dumps(rounds))
    seconds = {name: np.array([each[name] for each in rounds]) for name in ways}
    rows = []
    for name, taken in seconds.items():
        base = seconds[AGAINST.get(name, PLAIN)]
        # an epoch's time to the student's own; else how many times as fast
        ratios = taken / base if name == "distilled" else base / taken
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        # `to_plain`: times as fast as the plain loop that trains all weights, whatever was changed
        rows.append({
            "loop": name, "photographs_a_processor_second": round(len(paths) / float(np.median(taken)), 1),
            "ratio": round(float(middle), 3), "ratio_quartile_1": round(float(low), 3), "ratio_quartile_3": round(float(high), 3),
            "ratio_is": "its epoch's time to ours" if name == "distilled" else f"times as fast as {AGAINST.get(name, PLAIN)}",
            "to_plain": round(float(np.median(seconds[PLAIN] / taken)), 2),
            "photographs": len(paths), "rounds": len(rounds), "threads": given.threads,
        })  # fmt: skip
        print(*rows[-1].values())
    results_table(rows, RESULTS)


if __name__ == "__main__":
    main()
