"""The first attempt at run 1: shorter training, and two students that begin from random weights.

    python benchmarks/rop_from_random.py [--data ../shared/data] [--out runs/weights-rop-short]

The study of `weights_rop.py` by the recipe rop/recipes/lite_short.toml (three epochs of pretraining instead of six, twelve
of the student instead of sixteen), and two more arms: the student from random weights alone, and taught. The taught one also
sees simulated photographs, so the two say nothing of what teaching gives. Its log loss on inner photographs, beside that of
the longer recipe, is why the longer one ships (inner.csv in both folders).
Writes docs/results/retcam_short. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.rop.recipes import ARM_NAMES, FOLDER, read_recipe
from fundoscope.rop.study.plan import StudyOptions
from fundoscope.rop.study.run import run_study

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "retcam_short"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds hvdropdb_retcam")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "weights-rop-short")
    given = parser.parse_args()
    table = given.out.with_suffix(".csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    Cohort.from_folders(given.data / "hvdropdb_retcam").write(table)
    recipe = read_recipe(FOLDER / "lite_short.toml")
    run_study(StudyOptions(table, given.out, recipe, networks=ARM_NAMES, seeds=3, independent=True), Console())
    shutil.rmtree(RESULTS, ignore_errors=True)
    shutil.copytree(given.out / "tables", RESULTS, ignore=shutil.ignore_patterns("out_of_fold.csv", "checklist*"))


if __name__ == "__main__":
    main()
