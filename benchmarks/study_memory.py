"""Peak memory of a study up to the point where training begins.

    python benchmarks/study_memory.py [--photographs 2000 10000] [--drawn 200] [--folder runs/study-memory]

Simulated infants' photographs of 640x480, repeated by hard links until there are as many as asked for: the audit, the folds,
and the squares on disk (plain and in every control), each in a process of its own, whose peak resident memory the system
tells. The copies of a photograph belong to its infant. Writes docs/results/study_memory.csv; ten thousand photographs take
16 GB of disk while it runs.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort
from fundoscope.simulate import write_infants

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "study_memory.csv"
COLUMNS = ("photographs", "step", "peak MB", "seconds", "MB on disk")
SEED = 11


def repeated(eyes: Path, photographs: int) -> Path:
    """A cohort table of so many photographs: hard links to the drawn ones, in their infants."""
    cohort = Cohort.read(eyes / "cohort.csv")
    folder = eyes.with_name(f"{eyes.name}-{photographs}")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    with (folder / "cohort.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "infant"])
        for number in range(photographs):
            record = cohort[number % len(cohort)]
            image = f"images/{number:05d}{record.path.suffix}"
            os.link(record.path, folder / image)
            table.writerow([image, record.label, record.infant])
    return folder / "cohort.csv"


def work(step: str, table: Path, out: Path) -> None:
    """One step of the study, in this process."""
    from fundoscope.rop.recipes import read_recipe
    from fundoscope.rop.study.data import prepare_squares
    from fundoscope.rop.study.plan import StudyOptions, StudyPlan, make_plan
    from fundoscope.rop.study.questions import rop_question
    from fundoscope.studies import Study

    options = StudyOptions(table, out, read_recipe("lite"))
    if step == "audit and folds":
        make_plan(options, Console())
    else:
        from fundoscope.cohort import Folds

        cohort = Cohort.read(table)
        folds = Folds.read(out / "folds.json", cohort)
        plan = StudyPlan(options, Study(out, {}), cohort, folds.groups, folds, [rop_question(cohort)])
        prepare_squares(plan, Console())


def measured(step: str, table: Path, out: Path) -> dict[str, object]:
    """Peak memory and seconds of one step, in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--work", step, str(table), str(out)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
    return {"step": step, "peak MB": int(done.stdout), "seconds": round(seconds), "MB on disk": round(disk)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, nargs="+", default=[2000, 10000])
    parser.add_argument("--drawn", type=int, default=200, help="different photographs")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "study-memory")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work[0], Path(given.work[1]), Path(given.work[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    eyes = given.folder / "eyes"
    if not (eyes / "cohort.csv").exists():
        shutil.rmtree(eyes, ignore_errors=True)
        write_infants(given.drawn, eyes, SEED, workers=2, size=640)
    rows = []
    for photographs in given.photographs:
        table, out = repeated(eyes, photographs), given.folder / f"study-{photographs}"
        shutil.rmtree(out, ignore_errors=True)
        for step in ("audit and folds", "squares"):
            rows.append({"photographs": photographs} | measured(step, table, out))
            print(*rows[-1].values(), flush=True)
        shutil.rmtree(out)
        shutil.rmtree(table.parent)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
