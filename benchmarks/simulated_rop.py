"""What simulated infants teach about real ones: alone, and before the real photographs of each fold.

    python benchmarks/simulated_rop.py --study runs/weights-rop --out runs/simulated-rop [--seeds N]

`--study` is the finished study of `make weights-rop`: its rehearsed network (simulated infants alone) is scored on every
RetCam photograph, and its fits (rehearsal, then the fold's real photographs) are compared with the same fits begun from
ImageNet, on the same outer folds and seeds, paired by eye. Which of the two ships is read from inner photographs only.
Goes on where it was cut off; writes docs/results/simulated_rop.csv.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from fundoscope.cohort import Cohort, Folds, audit, make_groups
from fundoscope.evaluation import auc, difference, estimate
from fundoscope.evaluation.controls import nuisance_baseline, nuisance_table
from fundoscope.evaluation.controls.matched_photographs import Controls
from fundoscope.imaging import Photograph, read
from fundoscope.learning import SQUARE, Squares, predict_logits
from fundoscope.rop.recipes import UNDISTILLED, Recipe, recipe_of
from fundoscope.rop.study.calibrate import Fits, margins
from fundoscope.rop.study.data import Material
from fundoscope.rop.study.pretraining import step_of
from fundoscope.rop.study.questions import ROP, rop_question
from fundoscope.rop.study.train import Task, bare_network, predictions_of, run_task
from fundoscope.studies import Study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "simulated_rop.csv"
COLUMNS = ("what", "photographs", "n", "auc", "low", "high", "asked")
REHEARSED = recipe_of("lite")
FROM_IMAGENET = REHEARSED.changed(rehearsed=False)
ARM = REHEARSED.arm(UNDISTILLED)

Row = dict[str, object]
Scores = NDArray[np.float64]


class Retcam:
    """The study's photographs, folds and groups."""

    def __init__(self, study: Path) -> None:
        self.cohort = Cohort.read(study.with_suffix(".csv"))
        self.groups = make_groups(self.cohort, audit(self.cohort).pairs)
        self.numbers = np.array(self.groups.numbers)
        self.folds = Folds.read(study / "folds.json", self.cohort)
        self.photographs = [read(record.path, record.image) for record in self.cohort]
        self.labels = self.cohort.labels
        half = {group: k % 2 for k, group in enumerate(dict.fromkeys(self.numbers.tolist()))}
        self.half = np.array([half[group] for group in self.numbers.tolist()])

    def plain(self) -> Squares:
        pixels = [REHEARSED.standard.square(p, size=SQUARE) for p in self.photographs]
        return Squares(pixels, self.labels, REHEARSED.standard)

    def alike(self) -> Squares:
        """One field mask and one distribution of colours for all."""
        controls = Controls.fit(self.photographs, ("field", "colour"), side=SQUARE)
        return replace(self.plain(), pixels=[controls.apply(p).pixels for p in self.photographs])

    def nuisance(self, squares: Squares | None = None) -> Scores:
        photographs = self.photographs
        if squares is not None:
            photographs = [Photograph(pixels, "alike", 0, "array") for pixels in squares.pixels]
        pairs = [(np.array([*f.train, *f.inner]), np.array(f.test)) for f in self.folds.folds]
        return nuisance_baseline(nuisance_table(photographs), self.labels, pairs, self.numbers).p


def alone(retcam: Retcam, study: Path) -> Iterator[Row]:
    """The network that saw simulated infants only."""
    model = bare_network(FROM_IMAGENET, ARM)
    model.load_state_dict(load_file(study / step_of(ARM) / "best.safetensors"))
    everyone = np.arange(len(retcam.labels))
    for name, squares in (("as they are", retcam.plain()), ("field and colour alike", retcam.alike())):
        logits = predict_logits(model.eval(), squares.inputs(everyone)).astype(float)
        margin = logits[:, 1] - logits[:, 0]
        asked = 0.75 if "alike" in name else ""
        for part, keep in (("all", everyone >= 0), ("half 1", retcam.half == 0), ("half 2", retcam.half == 1)):
            yield row("simulated infants alone", f"{name}, {part}", retcam, margin, keep) | {"asked": asked}
        p = retcam.nuisance(None if name == "as they are" else squares)
        yield row("nuisance baseline, out of fold", f"{name}, all", retcam, p, everyone >= 0)


def row(what: str, photographs: str, retcam: Retcam, p: Scores, keep: NDArray[np.bool_]) -> Row:
    found = estimate(retcam.labels[keep], p[..., keep], groups=retcam.numbers[keep])
    return {
        "what": what,
        "photographs": photographs,
        "n": int(keep.sum()),
        "auc": f"{found.value:.3f}",
        "low": f"{found.low:.3f}",
        "high": f"{found.high:.3f}",
    }


def added(retcam: Retcam, study: Path, out: Path, seeds: int) -> Iterator[Row]:
    """Rehearsed or not, before the same real photographs."""
    rehearsed = Study(study, {})
    manifest = {"recipe": FROM_IMAGENET.as_json(), "folds_of": str(study), "commands": []}
    plain = Study.open(out, manifest)
    squares, question = retcam.plain(), rop_question(retcam.cohort)
    material = Material(
        retcam.cohort, retcam.groups, retcam.folds, [question], "", retcam.photographs, {"plain": squares}
    )
    for seed in range(seeds):
        for fold in retcam.folds.folds:
            run_task(Task(FROM_IMAGENET, ARM, ROP, seed, fold), plain, material)
            print(f"seed {seed} fold {fold.number} done", flush=True)
    arms = {"rehearsal, then real": (rehearsed, REHEARSED), "real alone": (plain, FROM_IMAGENET)}
    answers = {}
    everyone = np.ones(len(retcam.labels), bool)
    for name, (of, recipe) in arms.items():
        inner = inner_aucs(of, recipe, retcam, seeds)
        yield {
            "what": name,
            "photographs": f"inner, mean of {len(inner)} fits",
            "n": "",
            "auc": f"{np.mean(inner):.3f}",
        }
        answers[name] = Fits(of, recipe, retcam.folds.folds, seeds).out_of_fold(ARM, question).p
        yield row(name, f"outer folds, mean of {seeds} seeds", retcam, answers[name], everyone)
    both = list(answers.values())
    gap = difference(retcam.labels, *both, groups=retcam.numbers, names=tuple(answers)).estimate
    yield {
        "what": "rehearsal less none, paired",
        "photographs": f"outer folds, mean of {seeds} seeds",
        "n": len(retcam.labels),
        "auc": f"{gap.value:+.3f}",
        "low": f"{gap.low:+.3f}",
        "high": f"{gap.high:+.3f}",
    }


def inner_aucs(study: Study, recipe: Recipe, retcam: Retcam, seeds: int) -> list[float]:
    found = []
    for seed in range(seeds):
        for fold in retcam.folds.folds:
            rows, logits = margins(predictions_of(Task(recipe, ARM, ROP, seed, fold), study), "inner")
            found.append(auc(retcam.labels[rows], logits))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    retcam = Retcam(given.study)
    rows = []
    for found in (*alone(retcam, given.study), *added(retcam, given.study, given.out, given.seeds)):
        rows.append(found)
        print("  ".join(str(found.get(column, "")) for column in COLUMNS), flush=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(RESULTS)


if __name__ == "__main__":
    main()
