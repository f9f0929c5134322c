"""Paper 000's teacher, student and comparison networks, all taught alike: simulated infants, real photographs, treatment.

    python benchmarks/rop_networks.py --pack runs/rop_pack.npz --out runs/rop_networks [--workers 5] [--minutes 7]
    python benchmarks/rop_networks_tables.py --pack runs/rop_pack.npz --run runs/rop_networks

Recipe rop/recipes/paper_comparison.toml at 256 px: random weights, then simulated infants (normal or ROP, and in which places
of the last maps a ridge is seen, which makes up for the missing ImageNet weights), then the real photographs of two cameras in
five folds by group, then whether treatment is required, on simulated infants again; each question begins with the network of
the one before. The student learns from the fold's own teacher. No epoch is chosen: the last weights are kept, so that what is
tested is only ever looked at. For each network 25 000 photographs are seen in pretraining, 3 200 in each of the five folds,
2 500 in each of treatment's. Networks run in parallel processes, the most wanted first; it stops by itself after `--minutes`,
and the same command goes on at the first fit that is not finished. OUT/results holds predictions and learning curves (a
megabyte), OUT/weights the networks. Five to ten minutes on a large GPU; a rehearsal:
`--size 64 --budget 0.1 --networks MS-ROP=tiny+tiny MN-ROP=tiny`.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a process
import numpy as np
import torch
from rop_pack_files import PackPart, read_pack
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.evaluation import auc
from fundoscope.learning import Augment, DeviceSquares
from fundoscope.learning.squares import Order
from fundoscope.learning.trainer import save_weights
from fundoscope.networks import Classifier, build
from fundoscope.rop.recipes import FOLDER, FitNumbers, RopRecipe, read_recipe
from fundoscope.rop.study.networks import distillation_options

RECIPE = read_recipe(FOLDER / "paper_comparison.toml")
TEACHER, STUDENT, ALONE = "MS-ROP", "MN-ROP", "MobileNetV2"
#: By what each is wanted, then by what it costs; the costliest come last.
NETWORKS = {
    TEACHER: RECIPE.networks.teacher, STUDENT: RECIPE.networks.student, ALONE: RECIPE.networks.student,
    "MobileNetV1": "mobilenetv1", "ResNet18": "resnet18", "EfficientNetB2": "efficientnet_b2", "DeiT": "deit", "ViT": "vit",
    "DenseNet121": "densenet121", "ResNet-RS": "resnet_rs", "NesT": "nest", "HaloNetH2": "halonet", "SwinV2": "swinv2",
}  # fmt: skip
LAST = ("NesT", "HaloNetH2", "SwinV2")  # where the time runs out it is these that are missing
PRETRAINING, ROP, TREATMENT = "pretraining", "rop", "treatment"
FOLDS = 5
FEW = 2  # folds of the question of treatment that the comparison networks have
SEED = 0
TREATMENT_SHARE = 0.3  # of the epochs: an epoch is two and a half times as long
_RIDGE_WEIGHT = 4.0  # of a place with a ridge: one in about twenty
_CLIP = 1.0  # largest norm of a gradient
_LOOKS = 4  # times that a fit on real photographs looks at its held-out ones

CURVE = ("photographs_seen", "train_loss", "held_out_log_loss", "held_out_auc")
PREDICTIONS = ("row", "label", "logit_0", "logit_1")


class OutOfTimeError(Exception):
    """The time is over: the fit is left, and begun anew by the next run."""


@dataclass(frozen=True)
class Fit:
    """One network to train: its `name`, the `body` behind it, the question, and the fold that it is tested on."""

    name: str
    body: str
    question: str
    fold: int = 0

    @property
    def path(self) -> str:
        """Its file within results and weights, without ending."""
        return f"{self.body if self.question == PRETRAINING else self.name}/{self.question}-{self.fold}"

    def needs(self) -> list[Fit]:
        """The fits whose weights it begins with or learns from, the one it begins with first."""
        if self.question == PRETRAINING:
            return []
        if self.question == ROP:
            before = Fit(self.name, self.body, PRETRAINING)
        else:
            before = Fit(self.name, self.body, ROP, self.fold)
        taught = [Fit(TEACHER, RUN.bodies[TEACHER], self.question, self.fold)] if self.name == STUDENT else []
        return [before, *taught]


@dataclass
class Run:
    """What all fits share in one process: where things lie, at which size, on which device, and until when."""

    out: Path
    pack: Path
    bodies: dict[str, str]
    size: int
    budget: float
    device: str
    until: float

    @property
    def recipe(self) -> RopRecipe:
        """The recipe at this run's size."""
        return RECIPE.changed(size=self.size)

    def done(self, fit: Fit) -> bool:
        """Whether a fit's predictions are there."""
        return (self.out / "results" / f"{fit.path}.csv").exists()


RUN: Run
_PARTS: dict[str, tuple[PackPart, DeviceSquares]] = {}


def planned_fits(bodies: dict[str, str]) -> Iterator[Fit]:
    """All fits, the most wanted first: the paper's own three networks, the others, treatment likewise; then the costliest."""
    first, last = ([name for name in bodies if (name in LAST) == late] for late in (False, True))
    own = [name for name in bodies if name in (TEACHER, STUDENT, ALONE)]
    for names in (first, last):
        for name in names:
            yield Fit(name, bodies[name], PRETRAINING)
            yield from (Fit(name, bodies[name], ROP, fold) for fold in range(FOLDS))
        yield from (Fit(name, bodies[name], TREATMENT, fold) for name in names for fold in range(FEW))
    yield from (Fit(name, bodies[name], TREATMENT, fold) for name in own for fold in range(FEW, FOLDS))


def start_worker(run: Run) -> None:
    """Read the pack once a process."""
    global RUN
    RUN = run
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    for name, part in read_pack(run.pack, run.size).items():
        _PARTS[name] = part, DeviceSquares(part.pixels, run.recipe.standard, run.device)


def work(fit: Fit) -> str:
    """Train one network, keep its weights, its learning curve and its answers to what was held out; returns what to say of it."""
    start = time.perf_counter()
    part, squares = _PARTS["real" if fit.question == ROP else fit.question]
    labels = part.labels if fit.question != TREATMENT else part.treatment
    held_out = np.flatnonzero(part.folds == fit.fold) if fit.question != PRETRAINING else _held_out_infants(part)
    train = np.setdiff1d(np.arange(len(labels)), held_out)
    recipe, first = RUN.recipe, fit.needs()
    model = network(fit, first[0] if first else None)
    numbers = {PRETRAINING: recipe.pretraining and recipe.pretraining.fit, ROP: recipe.teacher_fit}.get(
        fit.question, recipe.student_fit
    )
    assert numbers is not None
    epochs = numbers.epochs * RUN.budget * (TREATMENT_SHARE if fit.question == TREATMENT else 1)
    numbers = numbers.model_copy(update={"epochs": max(1, round(epochs))})
    ridges = torch.from_numpy(part.ridges).to(RUN.device) if fit.question == PRETRAINING else None
    teacher = network(first[1], first[1]).eval() if len(first) > 1 else None
    try:
        curve = train_network(model, squares, labels, (train, held_out), numbers, teacher, ridges)
    except OutOfTimeError:
        return f"{fit.path}: no time left"
    save_weights(model, _made(RUN.out / "weights" / f"{fit.path}.safetensors"))
    results = _made(RUN.out / "results" / f"{fit.path}.csv")
    write_csv(results.with_name(f"{results.stem}_curve.csv"), CURVE, curve)
    logits = predict(model, squares, held_out)
    write_csv(
        results, PREDICTIONS, [(int(r), int(labels[r]), *map(float, x)) for r, x in zip(held_out, logits, strict=True)]
    )
    seen, loss, _, area = curve[-1]
    return f"{fit.path}: {time.perf_counter() - start:.1f} s, {seen} seen, loss {loss:.3f}, held-out AUC {area:.3f}"


def _held_out_infants(part: PackPart) -> np.ndarray:
    assert RECIPE.pretraining is not None
    return np.arange(0, len(part.labels), RECIPE.pretraining.held_out_every)  # one photograph an infant


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def network(fit: Fit, weights_of: Fit | None) -> Classifier:
    """The network of a fit on the device, at random or with the weights of a finished one."""
    torch.manual_seed(SEED)
    model = build(fit.body, pretrained=False, size=RUN.size, fusion_relu=RUN.recipe.networks.fusion_relu)
    if weights_of is not None:
        model.load_state_dict(load_file(RUN.out / "weights" / f"{weights_of.path}.safetensors"))
    return model.to(RUN.device, memory_format=torch.channels_last)


def train_network(
    model: Classifier, squares: DeviceSquares, labels: np.ndarray, rows: tuple[np.ndarray, np.ndarray], numbers: FitNumbers,
    teacher: Classifier | None = None, ridges: Tensor | None = None,
) -> list[tuple[int, float, float, float]]:  # fmt: skip
    """Train through all epochs on the first of `rows`, both classes equally often; returns the learning curve on the second.

    With `ridges` (n, R, R) a layer of its own, which is then thrown away, learns from the last maps where a ridge is seen.
    """
    train, held_out = rows
    augment = Augment(**numbers.augment.model_dump())
    order, soft = Order(train, labels, SEED), distillation_options(RUN.recipe).loss
    epochs, places = numbers.epochs, nn.Conv2d(model.head.in_features, 1, 1).to(RUN.device)
    steps = max(1, len(order) // numbers.batch)
    optimiser = torch.optim.AdamW(
        [*model.parameters(), *places.parameters()],
        numbers.learning_rate,
        weight_decay=numbers.weight_decay,
        fused=RUN.device == "cuda",
    )
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, partial(rate_factor, steps=epochs * steps, warm=numbers.warm_up)
    )
    curve: list[tuple[int, float, float, float]] = []
    for epoch in range(epochs):
        model.train()
        order.set_epoch(epoch)
        drawn, losses = list(order), []
        for at in range(steps):
            if time.time() > RUN.until:
                raise OutOfTimeError
            batch = drawn[at * numbers.batch : (at + 1) * numbers.batch]
            x = squares.views(batch, augment, SEED)
            y = torch.from_numpy(labels[[row for _, row, _ in batch]]).to(RUN.device)
            with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
                maps = model.features(x)
                logits, seen = model.classify(maps).float(), places(maps)[:, 0].float()
            loss = functional.cross_entropy(logits, y)
            if teacher is not None:
                with torch.no_grad():
                    target = torch.cat([y[:, None].float(), answer(teacher, x)], dim=1)
                loss = soft(logits, target)
            if ridges is not None:
                there = functional.adaptive_max_pool2d(squares.moved(ridges, batch, augment, SEED), seen.shape[1:])
                loss = loss + functional.binary_cross_entropy_with_logits(
                    seen, (there > 0.5).float(), pos_weight=torch.tensor(_RIDGE_WEIGHT, device=seen.device)
                )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimiser.step()
            rate.step()
            losses.append(loss.detach())
        if (epoch + 1) % max(1, epochs // _LOOKS) == 0 or epoch + 1 == epochs or len(held_out) > 64:
            p = torch.from_numpy(predict(model, squares, held_out)).softmax(1)[:, 1].double().numpy()
            truth = labels[held_out]
            log_loss = -np.log(np.clip(np.where(truth == 1, p, 1 - p), 1e-6, 1)).mean()
            mean_loss = float(torch.stack(losses).mean())
            curve.append(((epoch + 1) * steps * numbers.batch, mean_loss, float(log_loss), auc(truth, p)))
    return curve


def rate_factor(step: int, steps: int, warm: float) -> float:
    """Linear rise over the share `warm` of the steps, then a cosine to zero."""
    rise = max(1, round(warm * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, steps - rise))))


def answer(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, 2) in float32; the network computes in bfloat16 on a GPU."""
    with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
        return model(x).float()


@torch.no_grad()
def predict(model: nn.Module, squares: DeviceSquares, rows: np.ndarray) -> np.ndarray:
    """Logits (len(rows), 2) of the photographs as they are."""
    model.eval()
    parts = [answer(model, squares.inputs(rows[at : at + 64])).cpu().numpy() for at in range(0, len(rows), 64)]
    return np.concatenate(parts)


def write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """Write a table in one step."""
    with path.with_suffix(".part").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows)
    path.with_suffix(".part").replace(path)


def work_through(run: Run, workers: int) -> None:
    """Give the first fit that can begin to whoever is free, until all are done or the time is over."""
    waiting = [fit for fit in dict.fromkeys(planned_fits(run.bodies)) if not run.done(fit)]
    waiting = list({fit.path: fit for fit in waiting}.values())  # two networks may share a pretraining
    total, start, busy = len(waiting), time.time(), dict[Future[str], Fit]()
    print(f"{run.device}, {run.size} px, {total} fits to do, {workers} processes", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (run,)) as pool:
        while (waiting or busy) and time.time() < run.until:
            ready = [fit for fit in waiting if all(map(run.done, fit.needs()))]
            for fit in ready[: workers - len(busy)]:
                waiting.remove(fit)
                busy[pool.submit(work, fit)] = fit
            if not busy:
                break  # what is left needs a fit that failed
            finished, _ = wait(busy, timeout=5, return_when=FIRST_COMPLETED)
            for future in finished:
                fit = busy.pop(future)
                error = future.exception()
                said = f"{fit.path}: FAILED, {type(error).__name__}: {error}" if error else future.result()
                left = len(waiting) + len(busy)
                print(f"{time.time() - start:5.0f} s  {total - left:3d}/{total}  {said}", flush=True)
    undone = [fit.path for fit in planned_fits(run.bodies) if not run.done(fit)]
    print(f"{len(undone)} fits left{': ' + ', '.join(undone[:12]) if undone else ''}", flush=True)


def main() -> None:
    global RUN
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True, help="what rop_pack.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--size", type=int, default=RECIPE.standard.size)
    parser.add_argument("--budget", type=float, default=1.0, help="share of the recipe's epochs")
    parser.add_argument("--networks", nargs="+", metavar="NAME[=BODY]", default=list(NETWORKS))
    given = parser.parse_args()
    until = time.time() + 60 * given.minutes
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pairs = [name.partition("=") for name in given.networks]
    bodies = {name: body or NETWORKS.get(name, name) for name, _, body in pairs}
    RUN = Run(given.out, given.pack, bodies, given.size, given.budget, device, until)
    work_through(RUN, given.workers)


if __name__ == "__main__":
    main()
