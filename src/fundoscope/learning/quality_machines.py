"""Fit the second opinion on quality, `quality_table.json`: python -m fundoscope.learning.quality_machines FOLDER... [--out TABLE]

Three support vector machines on measurements. Retinas: every second RetCam photograph and DRIVE's training half, each also as
other cameras might have taken it; other things: the folders named, pictures that installed packages ship, and drawings. The
shipped table was made with the Debian packages that `quality_fit` names. Thresholds are set on photographs and sources held
out of the fit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Prepared
from fundoscope.imaging import quality as judged
from fundoscope.imaging.measures import measure
from fundoscope.imaging.quality import SupportVectorMachine
from fundoscope.learning.quality_pictures import (
    Picture,
    as_other_camera,
    as_seen_through,
    data_folder,
    drawings,
    hash_of,
    load,
    pictures_of,
    retcam,
    shipped_pictures,
    square_of,
    strongly_blurred,
)


@dataclass(frozen=True)
class MeasuredPicture:
    """One picture: what it is (`kind`), where it came from (`group`), and its measurements."""

    kind: str  # infant, adult, thin, blurred-infant, blurred-adult, foreign
    group: str
    values: dict[str, float]


def infants() -> Iterator[MeasuredPicture]:
    for f in retcam(0):
        yield from retina("infant", f, [("infant", (0.95, 1.35))] * 6)


def adults() -> Iterator[MeasuredPicture]:
    """DRIVE as 40 to 75 degree cameras might show it; and as thin vessels in a wide field, which adults never have.

    These `thin` ones stand for sharp infant cameras: RetCam alone would teach that infants' vessels are faint.
    """
    for f in sorted((data_folder() / "drive_av/training/images").iterdir()):
        looks = [("adult", (0.72, 1.15))] * 8 + [("adult", (0.58, 0.75))] * 3 + [("thin", (0.36, 0.46))] * 4
        yield from retina("adult", f, looks)


def retina(kind: str, file: Path, looks: list[tuple[str, tuple[float, float]]]) -> Iterator[MeasuredPicture]:
    """One photograph as it is, in several looks (kind, range of zoom), and blurred."""
    rng = np.random.default_rng(hash_of(file.stem))
    picture = load(file)
    assert picture is not None, file
    square = square_of(picture)
    yield MeasuredPicture(kind, file.stem, measured(picture))
    yield MeasuredPicture(f"blurred-{kind}", file.stem, measured(strongly_blurred(picture, rng)))
    for i, (look, zoom) in enumerate(looks):
        other = as_other_camera(square, zoom, rng)
        yield MeasuredPicture(look, file.stem, measured(other))
        if look == kind and i % 4 == 0:
            yield MeasuredPicture(f"blurred-{kind}", file.stem, measured(strongly_blurred(other, rng)))


def simulated() -> Iterator[MeasuredPicture]:
    """Simulated eyes: what a sharp infant camera and a hazy adult one would show, which no data here has."""
    from fundoscope.simulate import adult, infant

    for i in range(16):
        level = ("perfect", "good", "fair")[i % 3]
        baby = infant(1000 + i, camera=("full-circle", "retcam")[i % 2], level=level, size=400)
        grown = adult(1000 + i, camera=("drive", "hrf", "iostar")[i // 3 % 3], level=level, size=400)
        yield MeasuredPicture("simulated-infant", f"simulated-{i}", measured(baby.pixels))
        yield MeasuredPicture("simulated-adult", f"simulated-{i}", measured(grown.pixels))


def foreign(source: str, files: list[Path]) -> Iterator[MeasuredPicture]:
    for f in files:
        if (picture := load(f)) is not None:
            yield from foreign_copies(source, picture, np.random.default_rng(hash_of(f.name)), 2)


def drawn() -> Iterator[MeasuredPicture]:
    rng = np.random.default_rng(7)
    for name, picture in drawings(rng, 16):
        yield from foreign_copies("drawn-" + name.split("-")[0], picture, rng, 2)


def foreign_copies(source: str, picture: Picture, rng: np.random.Generator, copies: int) -> Iterator[MeasuredPicture]:
    yield MeasuredPicture("foreign", source, measured(picture))
    for _ in range(copies):
        yield MeasuredPicture("foreign", source, measured(as_seen_through(picture, rng)))


def measured(picture: Picture) -> dict[str, float]:
    picture = np.ascontiguousarray(picture)
    return measure(Prepared.read(picture))


# ---- the fit

_STRUCTURE = (
    *(f"{name}{i}_{share}" for i in range(3) for name in ("dark", "bright") for share in (95, 99)),
    *(f"dark{i}_70" for i in range(3)),
    *(f"asymmetry{i}" for i in range(3)),
    *(f"steep_{share}" for share in (50, 90, 99, 999)),
    *(f"{name}{i}" for i in range(4) for name in ("band", "tails")),
    *("slope01", "slope12", "slope23", "coherence"),
)  # fmt: skip
_SPOTS = ("spot1", "spot2", "spot3", "pit1", "pit2", "pit3")
_CALIBRE = ("calibre01_95", "calibre12_95", "calibre01_99", "calibre12_99")
_COLOUR = ("red_green", "green_blue", "ordered", "hue_long", "hue_short", "grey")
_CHANNELS = ("red_follows", "red_agrees", "blue_follows", "blue_agrees")


@dataclass(frozen=True)
class QualityQuestion:
    """A yes-or-no question: kinds that are a yes, kinds that are a no, and what it may look at."""

    yes: tuple[str, ...]
    no: tuple[str, ...]
    names: tuple[str, ...]
    limits: Callable[[dict[str, NDArray[np.float64]]], tuple[float, float]]
    gamma: float
    cost: float


def generous(scores: dict[str, NDArray[Any]]) -> tuple[float, float]:
    """One limit that refuses at most 0.5 % of held-out infants and 1 % of adults, and fewer where there is room.

    Room: halfway from those to the top 1 % of what is to be refused.
    """
    retinas = min(float(np.quantile(scores["infant"], 0.005)), float(np.quantile(scores["adult"], 0.01)))
    others = max(float(np.quantile(v, 0.99)) for kind, v in scores.items() if kind not in ("infant", "adult"))
    low = min(retinas, (retinas + others) / 2)
    return low, low


def either(scores: dict[str, NDArray[Any]]) -> tuple[float, float]:
    """Below the first an adult (0.5 % of held-out infants are), from the second on an infant (2.5 % of adults)."""
    low = float(np.quantile(scores["infant"], 0.005))
    high = float(np.quantile(scores["adult"], 0.975))
    return min(low, high), max(low, high)


QUESTIONS = {
    "retina": QualityQuestion(
        ("infant", "adult"),
        ("foreign",),
        (*_STRUCTURE, *_COLOUR, *_CHANNELS, "entropy", "flat", "lit", "dark"),
        generous,
        gamma=0.01,
        cost=20,
    ),
    "sharp": QualityQuestion(
        ("infant", "adult"),
        ("blurred-infant", "blurred-adult"),
        _STRUCTURE,
        generous,
        gamma=0.01,
        cost=20,
    ),
    "infant": QualityQuestion(
        ("infant", "thin", "simulated-infant"),
        ("adult", "simulated-adult"),
        (*_STRUCTURE, *_CALIBRE, *_SPOTS),
        either,
        gamma=0.003,
        cost=100,
    ),
}
LIMIT = 3.0  # deviations at which measurements are cut


@dataclass(frozen=True)
class FittedMachine:
    """A support vector machine on standardised measurements; `imaging.quality.SupportVectorMachine` is the same without sklearn."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    model: Any

    @classmethod
    def fit(cls, x: NDArray[np.float64], yes: NDArray[np.bool_], question: QualityQuestion) -> FittedMachine:
        from sklearn.svm import SVC

        mean, deviation = np.round(x.mean(axis=0), 5), np.round(x.std(axis=0) + 1e-4, 5)
        model = SVC(C=question.cost, gamma=question.gamma, class_weight="balanced")
        return cls(mean, deviation, model.fit(np.clip((x - mean) / deviation, -LIMIT, LIMIT), yes))

    def scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.model.decision_function(np.clip((x - self.mean) / self.deviation, -LIMIT, LIMIT))

    def table(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "limit": LIMIT,
            "points": np.round(self.model.support_vectors_, 4).tolist(),
            "weights": np.round(self.model.dual_coef_[0], 5).tolist(),
            "gamma": self.model.gamma,
            "offset": round(float(self.model.intercept_[0]), 5),
        }


def held_out_scores(
    x: NDArray[Any], yes: NDArray[Any], groups: NDArray[Any], question: QualityQuestion
) -> NDArray[np.float64]:
    """Scores by machines that saw neither a sample's photograph nor its source (eight folds of groups)."""
    names = np.unique(groups)
    part = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % 8, strict=True))
    fold = np.array([part[g] for g in groups])
    scores = np.zeros(len(x))
    for i in np.unique(fold):
        scores[fold == i] = FittedMachine.fit(x[fold != i], yes[fold != i], question).scores(x[fold == i])
    return scores


def platt(scores: NDArray[np.float64], yes: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift of the logistic that turns held-out scores into probabilities."""
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(C=1.0, class_weight="balanced").fit(scores[:, None], yes)
    return round(float(line.coef_[0, 0]), 4), round(float(line.intercept_[0]), 4)


def answer(question: QualityQuestion, samples: list[MeasuredPicture]) -> dict[str, Any]:
    """The table's entry for one question, its thresholds set on photographs and sources held out."""
    from sklearn.metrics import roc_auc_score

    used = [s for s in samples if s.kind in question.yes + question.no]
    x = np.array([[s.values[name] for name in question.names] for s in used])
    yes, kinds = np.array([s.kind in question.yes for s in used]), np.array([s.kind for s in used])
    scores = held_out_scores(x, yes, np.array([s.group for s in used]), question)
    by_kind = {kind: scores[kinds == kind] for kind in question.yes + question.no}
    low, high = question.limits(by_kind)
    slope, shift = platt(scores, yes)
    machine = FittedMachine.fit(x, yes, question)
    entry = {
        "names": list(question.names),
        "slope": slope,
        "shift": shift,
        "threshold": probability(slope * low + shift),
        "upper": probability(slope * high + shift),
        "held_out_auc": round(float(roc_auc_score(yes, scores)), 4),
        "samples": {kind: len(values) for kind, values in by_kind.items()},
        "held_out_below_threshold": {k: round(float(np.mean(v < low)), 4) for k, v in by_kind.items()},
        "held_out_below_upper": {k: round(float(np.mean(v < high)), 4) for k, v in by_kind.items()},
        **machine.table(),
    }
    check(entry, slope * machine.scores(x) + shift, used)
    return entry


def check(entry: dict[str, Any], logits: NDArray[Any], used: list[MeasuredPicture]) -> None:
    """What is written says the same as scikit-learn's machine, within a hundredth."""
    ours = np.array([SupportVectorMachine.from_json(entry).probability(s.values) for s in used])
    worst = float(np.abs(ours - 1 / (1 + np.exp(-logits))).max())
    if worst > 0.01:
        raise SystemExit(f"the table's answers differ from scikit-learn's by {worst:.2g}. Write more digits.")


def probability(logit: float) -> float:
    return round(float(1 / (1 + np.exp(-logit))), 5)


def all_samples(folders: list[Path], kept: Path) -> list[MeasuredPicture]:
    """Everything the fit looks at, about two thousand pictures; parts that `kept` holds are not measured again."""
    parts: dict[str, Callable[[], Iterator[MeasuredPicture]]] = {
        "infants": infants,
        "adults": adults,
        "simulated": simulated,
        "drawn": drawn,
        "shipped": lambda: foreign("shipped", shipped_pictures()),
    }
    for folder in folders:
        parts[folder.name] = lambda folder=folder: foreign(folder.name, pictures_of(folder, 30))
    samples = []
    kept.mkdir(parents=True, exist_ok=True)
    for name, make in parts.items():
        file = kept / f"{name}.jsonl"
        if not file.exists():
            lines = [json.dumps(asdict(sample)) for sample in make()]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        samples += [MeasuredPicture(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        print(f"{name}: {len(samples)} samples so far", flush=True)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path(judged.__file__).with_name("quality_table.json"))
    parser.add_argument("--keep", type=Path, default=Path("build/quality_machines"), help="folder of measurements made")
    args = parser.parse_args()
    write(all_samples(args.folders, args.keep), args.out)


def write(samples: list[MeasuredPicture], out: Path) -> None:
    """Fit every question and write the table; prints what each does to samples it did not see."""
    models = {}
    for name, question in QUESTIONS.items():
        models[name] = answer(question, samples)
        shown = {k: v for k, v in models[name].items() if k not in ("names", "points", "weights", "mean", "deviation")}
        print(name, json.dumps(shown))
    sources = sorted({s.group for s in samples if s.kind == "foreign"})
    table = {"made_by": "python -m fundoscope.learning.quality_machines", "foreign_sources": sources, "models": models}
    out.write_text(json.dumps(table) + "\n", encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
