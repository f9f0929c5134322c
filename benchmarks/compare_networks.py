"""Tables 4 and 6 of paper 000 in kind: its comparison networks, plain MobileNetV2, MN-ROP and their teacher, paired.

    python benchmarks/compare_networks.py [--out runs/compare] [--epochs 1]

Simulated photographs at 128 px, random initial weights for all, an equal budget, the same five folds, both stages. It
shows that the comparison works; it ranks nothing for real eyes, and so few steps from random weights teach large networks
next to nothing. Writes docs/results/compare.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from simulated_study import cohort_of, told

from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.networks import COMPARED_NETWORKS
from fundoscope.rop.recipes import FOLDER, USUAL_ARMS, read_recipe
from fundoscope.rop.study.plan import StudyOptions
from fundoscope.rop.study.run import run_study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "compare"
MOST = 320  # photographs: whole infants until there are this many


def fewer(table: Path) -> Path:
    """The first infants of a cohort."""
    out = table.with_name("few.csv")
    cohort = Cohort.read(table)
    enough = cohort[MOST].infant if len(cohort) > MOST else None
    kept = []
    for record in cohort:
        if record.infant == enough:
            break
        kept.append(record)
    Cohort(kept, str(out)).write(out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "compare")
    parser.add_argument("--cohort", type=Path, default=ROOT / "runs" / "simulated-study", help="its eyes are used")
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    table = fewer(cohort_of(given.cohort, 960))
    print(f"{len(Cohort.read(table))} photographs: {told(Cohort.read(table))}")
    recipe = read_recipe(FOLDER / "paper_comparison.toml").changed(size=128, epochs=given.epochs, pretraining=False)
    # mobilenetv2 is the undistilled student
    networks = (*USUAL_ARMS, *(name for name in COMPARED_NETWORKS if name != "mobilenetv2"))
    run_study(StudyOptions(table, given.out, recipe, networks=networks), Console())
    shutil.rmtree(RESULTS, ignore_errors=True)
    shutil.copytree(given.out / "tables", RESULTS, ignore=shutil.ignore_patterns("out_of_fold.csv", "checklist*"))
    shutil.copy(given.out / "report.html", RESULTS / "report.html")


if __name__ == "__main__":
    main()
