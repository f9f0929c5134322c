"""How far an answer moves where a photograph's square is made at 320 pixels and then reduced, and not at once at the network's 256.

    python benchmarks/input_paths.py [--data ../shared/data] [--bundle rop]

Studies keep squares that are larger than the network's input, since augmented copies keep detail so; screening cuts the square at
once. What a study predicts and measures must go screening's way. Every RetCam and Neo photograph of HVDROPDB goes both ways
through the shipped bundle. Writes docs/results/input_paths.csv; a minute on one idle core.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from fundoscope.bundles import open_bundle
from fundoscope.cohort import Cohort
from fundoscope.evaluation import results_table

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "input_paths.csv"
SIDE = 320  # of the squares of recipe lite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--bundle", default="rop")
    given = parser.parse_args()
    bundle, rows = open_bundle(given.bundle), []
    standard = bundle.card.standard
    for camera in ("retcam", "neo"):
        cohort = Cohort.from_folders(given.data / f"hvdropdb_{camera}")
        p, log_odds = np.zeros((2, len(cohort))), np.zeros((2, len(cohort)))
        for row, record in enumerate(cohort):
            prepared = standard.prepare(record.path)
            squares = [standard.square(prepared), standard.square(prepared, size=SIDE)]
            logits, _ = bundle.run(np.stack([standard.tensor(standard.enhance(square)) for square in squares]))
            p[:, row], log_odds[:, row] = bundle.probabilities(logits), logits[:, 1] - logits[:, 0]
        called = bundle.stage.decisions(p)
        rows.append({
            "photographs": camera, "n": len(cohort), "mean change of p": float(np.abs(p[0] - p[1]).mean()),
            "largest change of p": float(np.abs(p[0] - p[1]).max()),
            "largest change of the log-odds": float(np.abs(log_odds[0] - log_odds[1]).max()),
            "decisions that change": int((called[0] != called[1]).sum()),
        })  # fmt: skip
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
