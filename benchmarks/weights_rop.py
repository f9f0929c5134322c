"""Make the shipped ROP grader: `make weights-rop`.

Recipe `lite` on the RetCam photographs of HVDROPDB, five outer folds and two seeds: the teacher, the student that it
teaches, and the same student without a teacher, each after a rehearsal on simulated infants. (The student from random
weights, taught and alone: `rop_from_random.py`.) Then one network on all photographs, taught by the teachers of all
folds if that has the lower log loss on inner photographs, and a second stage learnt from simulated eyes. The bundle goes
to src/fundoscope/shipped/rop, the tables to docs/results/retcam. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from fundoscope.bundles.card import Attribution
from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.rop.recipes import USUAL, recipe_of
from fundoscope.rop.study.export import Origin
from fundoscope.rop.study.run import StudyOptions, run_study

ROOT = Path(__file__).resolve().parent.parent
HVDROPDB = Attribution(
    name="HVDROPDB, RetCam photographs",
    licence="CC BY 4.0",
    citation="Agrawal et al., HVDROPDB datasets for research in retinopathy of prematurity, Data in Brief 52, 2024",
)
ORIGIN = Origin(
    name="rop",
    trained_on=(
        "1200 photographs of simulated infants (fundoscope simulate), first; the question of treatment from these alone",
        "HVDROPDB: 49 normal and 49 ROP photographs by RetCam, infants unknown, stages unknown",
    ),
    never_tested_on=("any other camera", "any other hospital", "stages apart", "treatment-requiring ROP"),
    attributions=(HVDROPDB,),
    commands=("make weights-rop",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hvdropdb_retcam")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study; it is resumed")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    photographs = given.data / "hvdropdb_retcam"
    if not photographs.is_dir():
        raise SystemExit(f"{photographs} is not there. Set FUNDOSCOPE_DATA to the folder that holds hvdropdb_retcam.")
    table = given.out.with_suffix(".csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    Cohort.from_folders(photographs).write(table)
    options = StudyOptions(
        table, given.out, recipe_of("lite"), networks=USUAL, seeds=given.seeds, export=True, independent=True,
        shuffles=3, origin=ORIGIN,
    )  # fmt: skip
    run_study(options, Console())
    ship(given.out / "bundle" / ORIGIN.name, ROOT / "src" / "fundoscope" / "shipped" / ORIGIN.name)
    ship(given.out / "tables", ROOT / "docs" / "results" / "retcam")


def ship(made: Path, place: Path) -> None:
    """Copy a folder to its place in the project, replacing what was there."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made, place)
    print(f"{made} -> {place}")


if __name__ == "__main__":
    main()
