"""What simulated infants teach about real ones: alone, and before the real photographs of each fold.

    python benchmarks/simulated_rop.py --study runs/weights-rop --out runs/simulated-rop [--seeds N]

`--study` is the finished study of `make weights-rop`: its pretrained network (simulated infants alone) is scored on every
RetCam photograph, and its fits (pretraining, then the fold's real photographs) are compared with the same fits begun from
ImageNet, on the same outer folds and seeds, paired by eye. Which of the two ships is read from inner photographs only.
Goes on where it was cut off; writes docs/results/simulated_rop.csv.

What stands in docs/results is of the study on RetCam alone, before the shipped study had both cameras.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load_file

from fundoscope.cli.console import Console
from fundoscope.evaluation import auc, difference, estimate
from fundoscope.evaluation.controls import nuisance_baseline, nuisance_table
from fundoscope.evaluation.controls.matched_photographs import Controls
from fundoscope.imaging import Photograph, read
from fundoscope.learning import Squares
from fundoscope.rop.recipes import UNDISTILLED, read_recipe
from fundoscope.rop.study.calibrate import CalibratedPredictions, calibrated_predictions
from fundoscope.rop.study.data import prepare_squares
from fundoscope.rop.study.networks import build_network, labelled_squares, predict_rows
from fundoscope.rop.study.plan import make_plan
from fundoscope.rop.study.predict import predict_all
from fundoscope.rop.study.pretraining import pretraining_step
from fundoscope.rop.study.questions import ROP
from fundoscope.rop.study.ship import shipped_options
from fundoscope.rop.study.train import train_all
from fundoscope.studies import Study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "simulated_rop.csv"
COLUMNS = ("what", "photographs", "n", "auc", "low", "high", "asked")
PRETRAINED = read_recipe("lite")
FROM_IMAGENET = PRETRAINED.changed(pretraining=False)
ARM = PRETRAINED.arm(UNDISTILLED)

Row = dict[str, object]
Scores = NDArray[np.float64]


class Retcam:
    """The photographs of the shipped study, its folds and groups."""

    def __init__(self, study: Path) -> None:
        console = Console()
        self.plan = make_plan(shipped_options(study.with_suffix(".csv"), study), console)
        self.data = prepare_squares(self.plan, console)
        self.numbers, self.labels = self.plan.group_numbers, self.plan.cohort.labels
        half = {group: k % 2 for k, group in enumerate(dict.fromkeys(self.numbers.tolist()))}
        self.half = np.array([half[group] for group in self.numbers.tolist()])

    def plain(self) -> Squares:
        return labelled_squares(self.data, self.plan.question(ROP))

    def alike(self) -> Squares:
        """One field mask and one distribution of colours for all."""
        photographs = [read(record.path, record.image) for record in self.plan.cohort]
        controls = Controls.fit(photographs, ("field", "colour"), side=PRETRAINED.squares.side)
        return replace(self.plain(), pixels=[controls.apply(p).pixels for p in photographs])

    def nuisance(self, squares: Squares | None = None) -> Scores:
        table = self.data.measures("nuisance")
        if squares is not None:
            table = nuisance_table(Photograph(pixels, "alike", 0, "array") for pixels in squares.pixels)
        return nuisance_baseline(table, self.labels, self.plan.fold_rows, self.numbers).p


def alone(retcam: Retcam) -> Iterator[Row]:
    """The network that saw simulated infants only."""
    model = build_network(FROM_IMAGENET, ARM)
    model.load_state_dict(load_file(retcam.plan.folder / pretraining_step(ARM) / "best.safetensors"))
    everyone = np.arange(len(retcam.labels))
    for name, squares in (("as they are", retcam.plain()), ("field and colour alike", retcam.alike())):
        logits = predict_rows(model.eval(), squares, everyone)
        margin = logits[:, 1] - logits[:, 0]
        asked = 0.75 if "alike" in name else ""
        for part, rows in (("all", everyone >= 0), ("half 1", retcam.half == 0), ("half 2", retcam.half == 1)):
            yield row("simulated infants alone", f"{name}, {part}", retcam, margin, rows) | {"asked": asked}
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


def added(retcam: Retcam, out: Path, seeds: int) -> Iterator[Row]:
    """With pretraining or without, before the same real photographs."""
    options = replace(
        retcam.plan.options, recipe=FROM_IMAGENET, networks=(UNDISTILLED,), seeds=seeds, out=out, export=False
    )
    manifest = {"recipe": FROM_IMAGENET.as_json(), "folds_of": str(retcam.plan.folder), "commands": []}
    without = replace(retcam.plan, options=options, study=Study.open(out, manifest))
    train_all(without, retcam.data, Console())
    predict_all(without, retcam.data, Console())
    plans = {
        "pretraining, then real": replace(retcam.plan, options=replace(retcam.plan.options, seeds=seeds)),
        "real alone": without,
    }
    predictions = {}
    everyone = np.ones(len(retcam.labels), bool)
    for name, plan in plans.items():
        tables = [calibrated_predictions(plan, task) for task in plan.tasks_of(ARM, ROP)]
        found = CalibratedPredictions(pd.concat(tables), seeds, len(everyone))
        inner = [auc(retcam.labels[fit.rows], fit.p) for fit in found.inner(ROP, ARM.name)]
        yield {
            "what": name,
            "photographs": f"inner, mean of {len(inner)} fits",
            "n": "",
            "auc": f"{np.mean(inner):.3f}",
        }
        predictions[name] = found.out_of_fold(ROP, ARM.name).p
        yield row(name, f"outer folds, mean of {seeds} seeds", retcam, predictions[name], everyone)
    both = list(predictions.values())
    gap = difference(retcam.labels, *both, groups=retcam.numbers, names=tuple(predictions)).estimate
    yield {
        "what": "pretraining less none, paired",
        "photographs": f"outer folds, mean of {seeds} seeds",
        "n": len(retcam.labels),
        "auc": f"{gap.value:+.3f}",
        "low": f"{gap.low:+.3f}",
        "high": f"{gap.high:+.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2, help="at most those of the study")
    given = parser.parse_args()
    retcam = Retcam(given.study)
    rows = []
    for found in (*alone(retcam), *added(retcam, given.out, given.seeds)):
        rows.append(found)
        print("  ".join(str(found.get(column, "")) for column in COLUMNS), flush=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(RESULTS)


if __name__ == "__main__":
    main()
