"""The shuffled-label control on real photographs: chance without a leak, an alarm with one.

    python benchmarks/shuffles.py [--runs 20]

Twenty times the labels of the RetCam photographs are shuffled over their groups, and a tiny network is trained and
scored out of fold: the AUCs must scatter around 0.5. Then a leak is planted: every photograph gets a copy, mirrored,
that the folds are not told about. Shuffled labels must now be learnt by heart, and the control must raise its alarm.
Writes docs/results/shuffles.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, Folds, Groups, audit, make_groups
from fundoscope.evaluation.controls import shuffle_verdict
from fundoscope.imaging import Standard, read
from fundoscope.learning import Squares
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.study.shuffled_labels import auc_on_folds, shuffle_over_groups

NUMBERS = read_recipe("lite").shuffled_labels
STANDARD = Standard(size=NUMBERS.side)

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))


def folds_of(cohort: Cohort, groups: Groups) -> list[NDArray[np.int64]]:
    return [np.array(fold.test) for fold in Folds.make(cohort, groups, 5).folds]


def with_mirrored_copies(squares: Squares, folds: list[NDArray[np.int64]]) -> tuple[Squares, list[NDArray[np.int64]]]:
    """Each photograph twice, the copy mirrored and tested in the fold after its own."""
    n = len(squares.labels)
    pixels = [*squares.pixels, *(square[:, ::-1].copy() for square in squares.pixels)]
    leaking = [np.concatenate([test, folds[number - 1] + n]) for number, test in enumerate(folds)]
    return replace(squares, pixels=pixels, labels=np.tile(squares.labels, 2)), leaking


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cohort = Cohort.from_folders(DATA / "hvdropdb_retcam")
    groups = make_groups(cohort, audit(cohort).pairs)
    numbers = np.array(groups.numbers)
    folds = folds_of(cohort, groups)
    pictures = [STANDARD.square(read(record.path)) for record in cohort]
    rows = []
    for kind, runs in (("without a leak", given.runs), ("with a planted leak", max(3, given.runs // 4))):
        aucs = []
        for seed in range(runs):
            labels = shuffle_over_groups(cohort.labels, numbers, seed)
            squares, parts = Squares(pictures, labels, STANDARD), folds
            if kind == "with a planted leak":
                squares, parts = with_mirrored_copies(squares, folds)
            aucs.append(auc_on_folds(squares, parts, NUMBERS, seed))
            print(f"  {kind}, seed {seed}: AUC {aucs[-1]:.3f}", flush=True)
            rows.append({"cohort": kind, "seed": seed, "auc": round(aucs[-1], 4)})
        positives = int(labels.sum())
        print(shuffle_verdict(aucs, positives, len(labels) - positives).text)
    with (ROOT / "docs" / "results" / "shuffles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["cohort", "seed", "auc"])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
