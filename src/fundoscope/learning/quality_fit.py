"""Fit the network that is asked whether a picture is a retina, and write it with its card.

    python -m fundoscope.learning.quality_fit FOLDER_OF_OTHER_THINGS... [--work build/quality] [--out FOLDER]

Step one makes the pictures (`quality_pictures`) and keeps their squares; step two trains, an epoch at a time; step three weighs
it against the measurements on photographs and sources held out, and writes the network. Each step goes on where it was cut off. The shipped
network was made with the pictures of these Debian packages, each unpacked into a folder of its name with `dpkg-deb -x`:
gnome-backgrounds, lomiri-wallpapers-16.04, mate-backgrounds, opencv-doc, stellarium-data, openclipart-png, sway-backgrounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor
from torch.nn import functional

from fundoscope.bundles.onnx_files import export_onnx
from fundoscope.imaging import Prepared
from fundoscope.imaging import quality as judged
from fundoscope.imaging.prepared import JUDGED_SIDE
from fundoscope.learning import quality_pictures as pictures
from fundoscope.learning.quality_pictures import QualityPicture
from fundoscope.networks.quality_net import QUESTIONS, QualityNet

RECIPE = Path(__file__).with_name("quality_recipe.toml")
SMALLEST = 48  # pixels of the shorter side of a picture

Recipe = dict[str, Any]


# ---- step one: squares


def make_squares(folders: list[Path], work: Path, recipe: Recipe) -> None:
    """Write `work`/NAME.npz for each part, unless it is there.

    Each holds `squares` (n, side, side, 3), uint8, `kind`, `group`, and `teacher` (n, 3): the measured verdict's probabilities.
    """
    numbers = recipe["pictures"]
    parts: dict[str, Callable[[], Iterator[QualityPicture]]] = {
        "infants": pictures.infants,
        "adults": pictures.adults,
        "simulated": lambda: pictures.simulated(0, numbers["simulated"]),
        "drawn": lambda: pictures.drawn(7, numbers["drawn"], numbers["copies"]),
        "shipped": lambda: pictures.foreign("shipped", pictures.shipped_pictures(), numbers["copies"]),
    }
    for folder in folders:
        files = pictures.pictures_of(folder, numbers["per_folder"])
        parts[folder.name] = lambda folder=folder, files=files: pictures.foreign(folder.name, files, numbers["copies"])
    work.mkdir(parents=True, exist_ok=True)
    for name, make in parts.items():
        file = work / f"{name}.npz"
        if file.exists():
            continue
        samples = (sample for sample in make() if min(sample.picture.shape[:2]) >= SMALLEST)
        squares, kinds, groups, teacher = zip(*(_row(s, recipe["network"]["side"]) for s in samples), strict=True)
        unfinished = work / f"{name}.unfinished.npz"
        np.savez(unfinished, squares=np.stack(squares), kind=kinds, group=groups, teacher=np.stack(teacher))
        unfinished.rename(file)
        print(f"{name}: {len(squares)} pictures", flush=True)


def _row(sample: QualityPicture, side: int) -> tuple[NDArray[np.uint8], str, str, NDArray[np.float32]]:
    photograph = Prepared.read(np.ascontiguousarray(sample.picture))
    square = judged.network_square(photograph.square(JUDGED_SIDE), side)
    probabilities = judged.measured_probabilities(photograph)
    return square, sample.kind, sample.group, np.array([probabilities[name] for name in QUESTIONS], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class QualityPictures:
    """All pictures of a fit: squares (n, side, side, 3), uint8; what each shows; the photograph or source; the teacher (n, 3)."""

    squares: NDArray[np.uint8]
    kind: NDArray[np.str_]
    group: NDArray[np.str_]
    teacher: NDArray[np.float32]

    @classmethod
    def load(cls, work: Path, side: int) -> QualityPictures:
        """Read the files that `make_squares` wrote."""
        files = [np.load(file) for file in sorted(work.glob("*.npz")) if "unfinished" not in file.name]
        squares = np.concatenate([_at_side(file["squares"], side) for file in files])
        kind, group, teacher = (np.concatenate([file[name] for file in files]) for name in ("kind", "group", "teacher"))
        return cls(squares, kind, group, teacher)

    def held_out(self, recipe: Recipe) -> NDArray[np.bool_]:
        """Return which pictures the fit does not see: some sources, and a share of the photographs, drawn by name."""
        settings = recipe["held_out"]
        drawn = np.array(
            [pictures.hash_of(f"held out {name}") % 1000 < 1000 * settings["photographs"] for name in self.group]
        )
        return np.where(self.kind == "foreign", np.isin(self.group, settings["sources"]), drawn)

    def answers(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return what is known of each picture, (n, 3), 0 or 1, and which of it is known, (n, 3)."""
        foreign = self.kind == "foreign"
        blurred = np.char.startswith(self.kind, "blurred")
        infant = np.char.endswith(self.kind, "infant") | (self.kind == "thin")
        answers = np.stack([~foreign, ~blurred, infant], axis=1).astype(np.float32)
        known = np.stack([~blurred, ~foreign, ~foreign & ~blurred], axis=1)
        return answers, known


def _at_side(squares: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if squares.shape[1] == side:
        return squares
    return np.stack([cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA) for square in squares])


# ---- step two: training


def train(data: QualityPictures, recipe: Recipe, work: Path) -> QualityNet:
    """Train on the pictures that are not held out; `work`/network.pt keeps the state after each epoch."""
    settings = recipe["training"]
    torch.manual_seed(settings["seed"])
    network = QualityNet(recipe["network"]["width"]).to(memory_format=torch.channels_last)
    rows = np.flatnonzero(~data.held_out(recipe))
    answers, known = (torch.from_numpy(part) for part in data.answers())
    share = _sampling_shares(data.kind[rows], settings["shares"])
    batches = len(rows) // settings["batch"]
    optimiser = torch.optim.AdamW(network.parameters(), settings["rate"], weight_decay=settings["decay"])
    work.mkdir(parents=True, exist_ok=True)
    state, first = work / "network.pt", 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        first = kept["epoch"] + 1
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
    # enhanced photographs are what the teacher gets wrong
    trusted = torch.from_numpy(~np.char.startswith(data.kind, "enhanced")).float() * settings["teacher"]
    for epoch in range(first, settings["epochs"]):
        rng = np.random.default_rng((settings["seed"], epoch))
        network.train()
        total = 0.0
        for step in range(batches):
            optimiser.param_groups[0]["lr"] = settings["rate"] * _rate_at((epoch + step / batches) / settings["epochs"])
            at = rng.choice(rows, settings["batch"], p=share)
            logits = network(_augmented(data.squares[at], rng))
            hard = functional.binary_cross_entropy_with_logits(logits, answers[at], reduction="none") * known[at]
            soft = functional.binary_cross_entropy_with_logits(
                logits, torch.from_numpy(data.teacher[at]), reduction="none"
            )
            loss = hard.sum() / known[at].sum() + (soft.mean(1) * trusted[at]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        kept = {"epoch": epoch, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(kept, state.with_suffix(".unfinished"))
        state.with_suffix(".unfinished").rename(state)
        print(f"epoch {epoch + 1}/{settings['epochs']}  loss {total / batches:.4f}", flush=True)
    return network.eval()


def _rate_at(done: float) -> float:
    """Return the learning rate, in units of the highest, when a share `done` of the training is: linear rise, then a cosine."""
    return 0.04 + 9.6 * done if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9)


def _sampling_shares(kinds: NDArray[np.str_], wanted: dict[str, float]) -> NDArray[np.float64]:
    """Return the probability of drawing each picture, so that each family of kinds has its wanted share."""
    family = np.array([kind.split("-")[0] for kind in kinds])
    weight = np.zeros(len(kinds))
    for name, share in wanted.items():
        weight[family == name] = share / max(1, np.count_nonzero(family == name))
    return weight / weight.sum()


def _augmented(squares: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Return a batch (n, 3, side, side), 0..1, turned and mirrored at random, its channels a little brighter or darker."""
    x = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
    turns, mirrored = rng.integers(0, 4, len(x)), rng.random(len(x)) < 0.5
    x = torch.stack(
        [torch.rot90(one.flip(2) if m else one, int(t), (1, 2)) for one, t, m in zip(x, turns, mirrored, strict=True)]
    )
    gain = torch.from_numpy(
        rng.uniform(0.8, 1.2, (len(x), 1, 1, 1)) * rng.uniform(0.92, 1.08, (len(x), 3, 1, 1))
    ).float()
    return (x * gain).clamp(0, 1).contiguous(memory_format=torch.channels_last)


# ---- step three: limits, network, card


@torch.no_grad()
def predict(network: QualityNet, squares: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return probabilities (n, 3) of squares (n, side, side, 3)."""
    batches = np.array_split(squares, max(1, len(squares) // 64))
    return np.concatenate([AnswersSquares(network)(torch.from_numpy(batch)).numpy() for batch in batches]).astype(float)


@dataclass(frozen=True, slots=True)
class Appeal:
    """How network and measurements are weighed together, and the probability from which a picture is a retina after all."""

    weights: tuple[float, float, float]
    limit: float

    def probability(self, network: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the combined probability (n,) of a retina from both probabilities (n,)."""
        a, b, offset = self.weights
        return expit(a * _logits(network) + b * _logits(measured) + offset)


def fit_appeal(p: NDArray[np.float64], held_out: QualityPictures, recipe: Recipe) -> Appeal:
    """Weigh network (`p`, (n, 3)) and measurements on held-out pictures by logistic regression, and set the limit.

    No held-out picture of something else that the measurements call sharp may reach the limit, which lies `margin` in logits
    beyond the nearest.
    """
    from sklearn.linear_model import LogisticRegression

    plain, foreign = ~np.char.startswith(held_out.kind, "blurred"), held_out.kind == "foreign"
    measured = held_out.teacher.astype(float)
    x = np.stack([_logits(p[:, 0]), _logits(measured[:, 0])], axis=1)
    line = LogisticRegression(class_weight="balanced").fit(x[plain], ~foreign[plain])
    by_network, by_measures = (round(float(weight), 4) for weight in line.coef_[0])
    weights = (by_network, by_measures, round(float(line.intercept_[0]), 4))
    rivals = foreign & (measured[:, 0] < 0.5) & (measured[:, 1] >= 0.5)
    nearest = float(line.decision_function(x[rivals]).max()) if rivals.any() else 0.0
    return Appeal(weights, round(float(expit(max(0.0, nearest) + recipe["held_out"]["margin"])), 5))


def _logits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log odds of probabilities, cut at one in ten thousand either way, as `imaging.quality` does."""
    return logit(np.clip(p, 1e-4, 1 - 1e-4))


def describe_held_out(p: NDArray[np.float64], held_out: QualityPictures, appeal: Appeal) -> dict[str, Any]:
    """Return the AUC of each question on held-out pictures, and a row a kind: how many, and the shares called a retina."""
    from sklearn.metrics import roc_auc_score

    measured = held_out.teacher.astype(float)
    both = appeal.probability(p[:, 0], measured[:, 0])
    answers, known = held_out.answers()
    auc = {
        name: {
            "network": round(float(roc_auc_score(answers[known[:, k], k], p[known[:, k], k])), 4),
            "measured": round(float(roc_auc_score(answers[known[:, k], k], measured[known[:, k], k])), 4),
        }
        for k, name in enumerate(QUESTIONS)
    }
    auc["retina"]["both"] = round(float(roc_auc_score(answers[known[:, 0], 0], both[known[:, 0]])), 4)
    by_measures = measured[:, 0] >= 0.5
    kinds = {
        kind: {
            "n": int(np.count_nonzero(held_out.kind == kind)),
            "retina_by_measures": round(float(by_measures[held_out.kind == kind].mean()), 4),
            "retina_with_appeal": round(float((by_measures | (both >= appeal.limit))[held_out.kind == kind].mean()), 4),
        }
        for kind in sorted(set(held_out.kind.tolist()))
    }
    return {"auc": auc, "kinds": kinds}


class AnswersSquares(torch.nn.Module):
    """The network as it ships: squares (n, side, side, 3), uint8, to probabilities (n, 3)."""

    def __init__(self, network: QualityNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, squares: Tensor) -> Tensor:
        """Return probabilities in the order of `QUESTIONS`."""
        return torch.sigmoid(self.network(squares.permute(0, 3, 1, 2).float() / 255))


def write_network(network: QualityNet, data: QualityPictures, recipe: Recipe, out: Path) -> Path:
    """Write `out`/quality_network.onnx and its card, quality_network.json; returns the card's path."""
    chosen = data.held_out(recipe)
    held_out = QualityPictures(data.squares[chosen], data.kind[chosen], data.group[chosen], data.teacher[chosen])
    p = predict(network, held_out.squares)
    appeal = fit_appeal(p, held_out, recipe)
    side, file = recipe["network"]["side"], out / "quality_network.onnx"
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    export_onnx(
        AnswersSquares(network.cpu()).eval(), example, file, names=("squares", "probabilities"),
        sizes={0: torch.export.Dim("n")},
    )  # fmt: skip
    kinds, counts = np.unique(data.kind[~chosen], return_counts=True)
    card = {
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "side": side,
        "questions": list(QUESTIONS),
        "weights": list(appeal.weights),
        "limit": appeal.limit,
        "made_by": "python -m fundoscope.learning.quality_fit",
        "what": "Asked where the measurements of quality_table.json see no retina: says whether the refusal is called 'enhanced'. It makes and lifts none.",
        "parameters": sum(part.numel() for part in network.parameters()),
        "trained_on": {"pictures": dict(zip(kinds.tolist(), counts.tolist(), strict=True))},
        "other_things": sorted(set(data.group[data.kind == "foreign"].tolist())),
        "held_out": describe_held_out(p, held_out, appeal),
        "never_tested_on": "infants' cameras other than RetCam and Neo",
        "use": "research use only",
        "recipe": recipe,
    }
    path = out / "quality_network.json"
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Make the pictures, train, and write the network: what the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument(
        "--work", type=Path, default=Path("build/quality"), help="folder of squares and of the state of training"
    )
    parser.add_argument("--out", type=Path, default=Path(judged.__file__).parent)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    given = parser.parse_args()
    recipe = tomllib.loads(given.recipe.read_text(encoding="utf-8"))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    make_squares(given.folders, given.work, recipe)
    data = QualityPictures.load(given.work, recipe["network"]["side"])
    print(f"{len(data.kind)} pictures, {data.held_out(recipe).sum()} held out", flush=True)
    card = write_network(train(data, recipe, given.work), data, recipe, given.out)
    facts = json.loads(card.read_text(encoding="utf-8"))
    print(json.dumps({name: facts[name] for name in ("weights", "limit", "held_out")}, indent=1))
    print(f"{card} and {facts['file']}: {card.with_name(facts['file']).stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
