"""The shipped ROP grader on the one real camera that it never saw: the Neo photographs of HVDROPDB.

    python benchmarks/second_camera.py [--data ../shared/data] [--bundle rop]

Every photograph goes the way of `fundoscope rop screen`; a refused one is counted, and graded all the same in the second
row. Intervals by group: photographs of one eye, which the audit finds, stay together. The nuisance baseline (file size,
field, colour, sharpness) is fitted and tested on these photographs alone, five folds by group. Writes
docs/results/second_camera.csv; a few minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from fundoscope.bundles import open_bundle
from fundoscope.cohort import Cohort, Folds, audit, make_groups
from fundoscope.evaluation import difference, estimates, results_table
from fundoscope.evaluation.controls import nuisance_baseline, nuisance_table
from fundoscope.imaging import read
from fundoscope.imaging.quality import judge_quality

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "second_camera.csv"
METRICS = ("auc", "sensitivity", "specificity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds hvdropdb_neo")
    parser.add_argument("--bundle", default="rop")
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "neo.csv"
        Cohort.from_folders(given.data / "hvdropdb_neo").write(table)
        cohort = Cohort.read(table)
        groups = make_groups(cohort, audit(cohort).pairs)
        folds = [([*fold.train, *fold.inner], fold.test) for fold in Folds.make(cohort, groups, 5)]
        p, gradable = np.zeros(len(cohort)), np.zeros(len(cohort), bool)
        for row, record in enumerate(cohort):
            prepared = bundle.card.standard.prepare(record.path, record.image)
            gradable[row] = judge_quality(prepared, "infant").gradable
            standard = bundle.card.standard
            logits, _ = bundle.run(standard.tensor(standard.enhance(standard.square(prepared)))[None])
            p[row] = bundle.probabilities(logits)[0]
        measures = nuisance_table(read(record.path, record.image) for record in cohort)
    y, numbers, threshold = cohort.labels, np.array(groups.numbers), bundle.stage.operating_point.threshold
    nuisance = nuisance_baseline(measures, y, folds, numbers).p
    refused = {"refused": int((~gradable).sum()), "refused with ROP": int((~gradable & (y == 1)).sum())}
    rows = []
    for what, keep in (("graded, as screening does", gradable), ("all, refused ones too", np.ones(len(y), bool))):
        network = estimates(y[keep], p[keep], metrics=METRICS, threshold=threshold, groups=numbers[keep])
        alone = estimates(y[keep], nuisance[keep], metrics=METRICS, groups=numbers[keep])
        apart = difference(
            y[keep], p[keep], nuisance[keep], groups=numbers[keep], names=("the network", "the nuisance baseline")
        )
        rows += [
            {"grader": f"bundle '{given.bundle}' of {bundle.card.created}", "photographs": what, **network,
             "threshold": threshold, **refused, "auc less the nuisance baseline's": apart},
            {"grader": "nuisance baseline, out of fold", "photographs": what, **alone, "threshold": 0.5},
        ]  # fmt: skip
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
