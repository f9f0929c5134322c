"""Does distillation help where labels are few? Paper 000's claim at 10, 20 and 80 labelled photographs, ten draws each.

    python benchmarks/rop_few_labels.py --pack runs/rop_pack.npz --run runs/rop_networks [--workers 5] [--minutes 5] [--draws 10]
    python benchmarks/rop_few_labels.py --pack runs/rop_pack.npz --run runs/rop_networks --tables

Begins with what `rop_networks.py` pretrained. Tested are the photographs of two folds, always the same; the n labelled ones are
drawn from the other three, in the same shares of both classes. The student (MobileNetV2) learns the labels only; or Hinton's
soft labels of the teacher (MS-ROP), which saw the same n; or these on the n and on photographs without labels, real and
simulated; or from its own running mean on the same photographs (self-ensembling). At n = 20 also by logit regression and by a
hint. Equal steps, equal batches; nothing is stopped or chosen. The primary figure is the log loss at n = 20. A draw is a few
seconds on a large GPU. Writes RUN/results/few and docs/results/rop_networks/few_labels.csv.
"""

from __future__ import annotations

import argparse
import copy
import csv
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import rop_networks as job
import torch
from rop_networks import NETWORKS, PREDICTIONS, PRETRAINING, RECIPE, STUDENT, TEACHER, Fit, OutOfTimeError, Run
from rop_pack_files import read_pack
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.evaluation import Estimate, auc, results_table
from fundoscope.learning import UNLABELLED, Augment, HintonLoss, LogitRegressionLoss
from fundoscope.learning.squares import Order
from fundoscope.networks import Classifier

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "rop_networks" / "few_labels.csv"
SIZES, PRIMARY = (10, 20, 80), 20
TESTED = (0, 1)  # folds
LABELS, SOFT, MORE, SELF = "labels only", "soft labels", "soft labels, unlabelled too", "self-ensembling"
REGRESSION, HINT = "logit regression", "hint"
ARMS = (TEACHER, LABELS, SOFT, MORE, SELF)
SIMULATED = 200  # photographs without labels, beside the real ones that were not drawn
STEPS, BATCH = 80, 16  # where there are unlabelled ones, they are half of a batch
_MEAN = 0.95  # decay of the student's running mean
_CONSISTENCY = 5.0  # weight of agreeing with it


def arms_at(n: int) -> tuple[str, ...]:
    """The ways of learning that are compared at n labels."""
    return (*ARMS, REGRESSION, HINT) if n == PRIMARY else ARMS


def path_of(run: Path, n: int, draw: int, arm: str) -> Path:
    """The predictions of one fit."""
    return run / "results" / "few" / f"{n}-{draw}-{arm.replace(', ', '_').replace(' ', '_')}.csv"


def draw_rows(n: int, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n labelled rows, the others that may be learnt from without labels, and the tested ones."""
    part, _ = job._PARTS["real"]
    tested = np.isin(part.folds, TESTED)
    rng, chosen = np.random.default_rng((n, draw, 0xFE3)), []
    share = part.labels[~tested].mean()
    for label, number in ((1, round(n * share)), (0, n - round(n * share))):
        chosen.append(rng.permutation(np.flatnonzero(~tested & (part.labels == label)))[:number])
    labelled = np.sort(np.concatenate(chosen))
    return labelled, np.setdiff1d(np.flatnonzero(~tested), labelled), np.flatnonzero(tested)


def work(n: int, draw: int) -> str:
    """All ways of learning from one draw."""
    start, said = time.perf_counter(), []
    part, squares = job._PARTS["real"]
    labelled, unlabelled, tested = draw_rows(n, draw)
    teacher: Classifier | None = None
    for arm in arms_at(n):
        body = job.RUN.bodies[TEACHER if arm == TEACHER else STUDENT]
        model = job.network(Fit(arm, body, "few"), Fit("", body, PRETRAINING))
        try:
            learn(model, arm, teacher, labelled, unlabelled, draw)
        except OutOfTimeError:
            return f"{n} labels, draw {draw}: no time left"
        if arm == TEACHER:
            teacher = model.eval()
        logits = job.predict(model, squares, tested)
        rows = [(int(r), int(part.labels[r]), *map(float, x)) for r, x in zip(tested, logits, strict=True)]
        path = path_of(job.RUN.out, n, draw, arm)
        path.parent.mkdir(parents=True, exist_ok=True)
        job.write_csv(path, PREDICTIONS, rows)
        said.append(f"{arm} {auc(part.labels[tested], logits[:, 1] - logits[:, 0]):.2f}")
    return f"{n} labels, draw {draw}: {time.perf_counter() - start:.0f} s, AUC {'; '.join(said)}"


def learn(
    model: Classifier, arm: str, teacher: Classifier | None, labelled: np.ndarray, unlabelled: np.ndarray, seed: int
) -> None:
    """Train one network in one way, in place."""
    numbers, part = RECIPE.teacher_fit, job._PARTS["real"][0]
    adapt = nn.Conv2d(model.head.in_features, 256, 1).to(job.RUN.device)  # the hint's: to the teacher's maps
    weights = [*model.parameters(), *adapt.parameters()]
    optimiser = torch.optim.AdamW(
        weights, numbers.learning_rate, weight_decay=numbers.weight_decay, fused=job.RUN.device == "cuda"
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(job.rate_factor, steps=STEPS, warm=numbers.warm_up))
    mean, order, known = copy.deepcopy(model), Order(labelled, part.labels, seed), iter(())
    epoch = 0
    for step in range(STEPS):
        if time.time() > job.RUN.until:
            raise OutOfTimeError
        model.train()
        wanted, drawn = BATCH if arm not in (MORE, SELF) else BATCH // 2, []
        while len(drawn) < wanted:
            following = next(known, None)
            if following is None:
                order.set_epoch(epoch)
                epoch, known = epoch + 1, iter(list(order))
                continue
            drawn.append(following)
        y = torch.from_numpy(part.labels[[row for _, row, _ in drawn]]).to(job.RUN.device)
        x, again = views(drawn, unlabelled if wanted < BATCH else None, step, seed, twice=arm == SELF)
        y = functional.pad(y, (0, len(x) - len(y)), value=UNLABELLED)
        loss = loss_of(arm, model, teacher if arm != SELF else mean, adapt, x, again, y)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        rate.step()
        if arm == SELF:
            follow(mean, model)


def views(
    drawn: list[tuple[int, int, int]], unlabelled: np.ndarray | None, step: int, seed: int, twice: bool
) -> tuple[Tensor, Tensor]:
    """Views of the labelled ones, and behind them as many of photographs without labels; other views of the same, or the same."""
    augment = Augment(**RECIPE.teacher_fit.augment.model_dump())
    places: list[tuple[str, list[tuple[int, int, int]]]] = [("real", drawn)]
    if unlabelled is not None:
        rng = np.random.default_rng((seed, step, 0xAB))
        number = int((rng.random(BATCH // 2) < len(unlabelled) / (len(unlabelled) + SIMULATED)).sum())
        real, simulated = rng.choice(unlabelled, number), rng.choice(SIMULATED, BATCH // 2 - number)
        places += [("real", [(step, int(r), 0) for r in real]), (PRETRAINING, [(step, int(r), 0) for r in simulated])]
    both = [
        torch.cat([job._PARTS[part][1].views(rows, augment, seed + 1000 * k) for part, rows in places if rows])
        for k in range(2 if twice else 1)
    ]
    return both[0], both[-1]


def loss_of(
    arm: str, model: Classifier, teacher: Classifier | None, adapt: nn.Module, x: Tensor, again: Tensor, y: Tensor
) -> Tensor:
    """The loss of a batch; photographs without a label have -1."""
    with torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
        maps = model.features(x)
        logits, adapted = model.classify(maps).float(), adapt(maps).float()
    if arm in (TEACHER, LABELS):
        return functional.cross_entropy(logits, y)
    assert teacher is not None
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=x.is_cuda):
        taught = teacher.eval().features(again)
        answers = teacher.classify(taught).float()
    if arm == SELF:
        apart = functional.mse_loss(logits.softmax(1), answers.softmax(1))
        return functional.cross_entropy(logits, y, ignore_index=UNLABELLED) + _CONSISTENCY * apart
    target = torch.cat([y[:, None].float(), answers], dim=1)
    numbers = RECIPE.distillation
    if arm == REGRESSION:
        return LogitRegressionLoss(numbers.share)(logits, target)
    loss = HintonLoss(numbers.temperature, numbers.alpha)(logits, target)
    if arm == HINT:
        loss = loss + functional.mse_loss(adapted, taught.float()) / taught.float().square().mean().clamp_min(1e-6)
    return loss


@torch.no_grad()
def follow(mean: Classifier, model: Classifier) -> None:
    """Move the running mean towards the network, its statistics too."""
    for kept, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - _MEAN)
        else:
            kept.copy_(new)


def log_losses(run: Path, n: int, arm: str, draws: int) -> np.ndarray:
    """Log loss of each tested photograph in each draw, (draws, photographs)."""
    found = []
    for draw in range(draws):
        path = path_of(run, n, draw, arm)
        if path.exists():
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            margin = np.array([float(row["logit_1"]) - float(row["logit_0"]) for row in rows])
            sign = np.array([2 * int(row["label"]) - 1 for row in rows])
            found.append(np.logaddexp(0, -sign * margin))
    return np.array(found)


def resampled(losses: np.ndarray, groups: np.ndarray, positives: int) -> Estimate:
    """The mean with its interval: draws and groups are drawn anew, 2000 times."""
    rng, means = np.random.default_rng(0), []
    codes = np.unique(groups, return_inverse=True)[1]
    for _ in range(2000):
        often = np.bincount(rng.integers(0, codes.max() + 1, codes.max() + 1), minlength=codes.max() + 1)[codes]
        means.append((losses[rng.integers(0, len(losses), len(losses))].mean(0) @ often) / often.sum())
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(losses.mean()), float(low), float(high), losses.shape[1], positives, int(codes.max()) + 1)


def write_tables(run: Path, pack: Path, draws: int) -> None:
    """The log loss of every way, and its difference from labels only."""
    real = read_pack(pack, 64)["real"]
    tested = np.isin(real.folds, TESTED)
    groups, positives = real.groups[tested], int(real.labels[tested].sum())
    rows = []
    for n in SIZES:
        alone = log_losses(run, n, LABELS, draws)
        for arm in arms_at(n):
            losses = log_losses(run, n, arm, draws)
            if not len(losses) or len(losses) != len(alone):
                continue
            row = {"labels": n, "way": arm, "draws": len(losses), "log_loss": resampled(losses, groups, positives)}
            if arm != LABELS:
                apart = resampled(losses - alone, groups, positives)
                row |= {"less labels only": apart, "detectable": round(2.8 / 3.92 * (apart.high - apart.low), 3)}
            rows.append(row)
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values() if value is not None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the folder of rop_networks.py")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--size", type=int, default=RECIPE.standard.size)
    parser.add_argument("--teacher", default=NETWORKS[TEACHER])
    parser.add_argument("--student", default=NETWORKS[STUDENT])
    parser.add_argument("--tables", action="store_true", help="only write the table of what is there")
    given = parser.parse_args()
    if given.tables:
        write_tables(given.run, given.pack, given.draws)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bodies = {TEACHER: given.teacher, STUDENT: given.student}
    run = Run(given.run, given.pack, bodies, given.size, 1.0, device, time.time() + 60 * given.minutes)
    wanted = sorted(((n, draw) for n in SIZES for draw in range(given.draws)), key=lambda x: (x[0] != PRIMARY, x[1]))
    left = [(n, d) for n, d in wanted if not all(path_of(given.run, n, d, arm).exists() for arm in arms_at(n))]
    print(f"{device}: {len(left)} draws to do", flush=True)
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn"), job.start_worker, (run,)) as pool:
        for future in as_completed([pool.submit(work, n, draw) for n, draw in left]):
            error = future.exception()
            print(f"FAILED, {type(error).__name__}: {error}" if error else future.result(), flush=True)


if __name__ == "__main__":
    main()
