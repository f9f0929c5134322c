"""What vessels alone tell of the need for treatment, beside the shipped second stage: the same SIMULATED photographs.

    python benchmarks/treatment_baseline.py [--out runs/treatment-baseline] [--bundle rop]

Draws the fresh eyes on which the second stage is measured anew (by the simulator as it is now). A logistic model of the
width and tortuosity of vessels, five folds by infant, stands against the second stage of the bundle (INT8), paired by infant.
It goes on where it was cut off; six minutes of one core. Writes docs/results/treatment_baseline.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fundoscope.bundles import open_bundle
from fundoscope.cli.console import Console
from fundoscope.evaluation import results_table
from fundoscope.evaluation.controls import NotMade
from fundoscope.learning import UNLABELLED
from fundoscope.rop.recipes import read_recipe
from fundoscope.rop.study.simulated_treatment import fresh_eyes, predict_from_vessels, score_by_stage_and_zone
from fundoscope.studies import Study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "treatment_baseline.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "treatment-baseline")
    parser.add_argument("--bundle", default="rop")
    given = parser.parse_args()
    bundle, recipe, console = open_bundle(given.bundle), read_recipe("lite"), Console()
    if bundle.second is None:
        raise SystemExit(f"bundle '{given.bundle}' has one stage only.")
    study = Study.open(given.out, {"recipe": recipe.as_json(), "commands": []})
    fresh = fresh_eyes(recipe, study, console)
    rows = np.flatnonzero(fresh.treatment != UNLABELLED)
    batches = [fresh.squares.inputs(part) for part in np.array_split(rows, max(1, len(rows) // 16))]
    logits = np.concatenate([bundle.run_stages(batch, 2)[1][0] for batch in batches])
    vessels = predict_from_vessels(fresh, rows)
    if isinstance(vessels, NotMade):
        raise SystemExit(f"The baseline {vessels}")
    p, threshold = bundle.second.probabilities(logits), bundle.second.operating_point.threshold
    table = results_table(score_by_stage_and_zone(fresh, rows, p, threshold, vessels), RESULTS)
    for row in table:
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
